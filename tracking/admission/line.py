"""The line of each organization: who gets its slots, and who goes back into it.

Slots are given away one organization at a time, under a lock that ends with the transaction: a verb that takes it wants
a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, text

from tracking import audit
from tracking.admission import within
from tracking.admission.first import SEVERAL, first_in_line, has_place, pools_of
from tracking.admission.holds import _records
from tracking.admission.rule import (
    ALIVE,
    BY_ADMISSION,
    LINES,
    SENT,
    UNLIMITED,
    Limits,
    distinct,
    has_own_room,
    in_flight,
    is_served,
    joins_line,
    limit_of,
    lines_of,
    next_hold,
    weight_of,
)
from tracking.audit import Deed
from tracking.audited import Action
from tracking.db import run
from tracking.limit_tables import organizations
from tracking.models import JobRecord
from tracking.origins import Origin
from tracking.schema import IN_FLIGHT
from tracking.sql import JOB, array, for_driver, listed, move, record
from tracking.states import WAITING, Event, Status

MOST_COUNTED = 2000  # jobs of an organization in a queue, to tell who has most there


def lock_line(connection: Connection, organization_id: str) -> None:
    """Lock the slots of this organization until the transaction ends: no other transaction gives them away."""
    run(connection, (LOCK, {"lines": LINES, "organization_id": organization_id}))


def admit(
    connection: Connection,
    organization_id: str,
    limits: Limits,
    batch: int,
    most: int | None = None,
    *,
    is_limited: bool = True,
    has_turn: bool = True,
) -> list[JobRecord]:
    """Give the free slots of an organization to the first in its line; returns those jobs, ready to be dispatched.

    Looks at `batch` jobs at most, because others wait for the lock, and lets `most` through at most. Without a free
    slot, a job that was sent and has not started gives way to a more urgent one. `is_limited`: whether there may be
    limits of types; those of its jobs that have room there stand in the line with the others; `has_turn`: also under
    limits that organizations share.
    """
    admitted: list[JobRecord] = []
    looked_at, most = 0, batch if most is None else most
    lock = (LOCK, {"lines": LINES, "organization_id": organization_id})
    about = {"organization_id": organization_id, "batch": 1, **limits.parameters}
    while looked_at < batch and len(admitted) < most:
        wanted = min(batch, most - len(admitted))
        chosen: list[UUID] = []
        if is_limited:
            run(connection, lock)
            chosen = within.choose(connection, organization_id, limits.parameters, wanted, has_turn=has_turn)
        _, rows = run(connection, lock, (ADMIT, _looks([organization_id], wanted, limits, within=chosen)))
        admitted += [record(row) for row in rows if row.hold is None]
        within.count(connection, [row.id for row in rows if row.hold is None and row.id in chosen])
        looked_at += len(rows)
        if not rows and (admitted or not connection.execute(GIVE_WAY, about).scalar()):
            break
        if rows and all(row.hold is None for row in rows):
            break  # otherwise some of them met a gate and their slots are still free
    return admitted


@dataclass(frozen=True, slots=True)
class Ahead:
    """How many `jobs` of these queues a worker is about to begin, also beyond its free slots, if they are short."""

    queues: Sequence[str] = ()
    jobs: int = 0


NOBODY = Ahead()


@dataclass(frozen=True, slots=True)
class Filled:
    """What has become of free slots: `alone` are jobs of organizations that share no worker with others at present.

    The messages of the `others` have to take their places in the order of arrival. `left`: organizations whose lines
    are still to be looked at.
    """

    alone: list[JobRecord] = field(default_factory=list)
    others: list[JobRecord] = field(default_factory=list)
    left: set[str] = field(default_factory=set)


def fill(connection: Connection, freed: Mapping[str, int], limits: Limits, batch: int, ahead: Ahead = NOBODY) -> Filled:
    """Give the slots that this transaction has freed to the first in line; `freed`: how many of each organization.

    An organization that is alone gets as many more as a worker is about to begin, `ahead`, within its limit.

    Waits for no lock, so that the transaction may hold others: an organization whose slots somebody else gives away is
    left to a later look, like one whose next job cannot have its slot.
    """
    given = {"lines": LINES, "organizations": array(sorted(freed))}
    [rows] = run(connection, (TRY_LOCK, given))
    locked = [row.organization_id for row in rows if row.is_locked]
    filled = Filled(left={*freed} - {*locked})
    looks = [(locked, batch)] if len(freed) == 1 else _rounds(locked, freed)
    found = run(connection, *((ADMIT, _looks(whose, most, limits, ahead)) for whose, most in looks)) if locked else []
    for row in chain.from_iterable(found):
        if row.hold is not None:  # it has met a gate, and its slot is still free
            filled.left.add(row.organization_id)
        else:
            (filled.others if row.is_contended else filled.alone).append(record(row))
    return filled


def _rounds(organizations: Sequence[str], freed: Mapping[str, int]) -> list[tuple[Sequence[str], int]]:
    """Who gets how many in turns: each one, then two more, and so on, as far as its own slots have become free."""
    looks, most = [], 1
    while organizations:
        looks.append((organizations, most))
        most *= 2
        organizations = [each for each in organizations if freed[each] >= most]
    return looks


def _looks(
    organizations: Sequence[str], batch: int, limits: Limits, ahead: Ahead = NOBODY, within: Sequence[UUID] = ()
) -> dict[str, Any]:
    """The parameters of ADMIT: of each organization `batch` at most, and of its limited jobs those within limits."""
    wanted = {"organizations": array(organizations), "batch": batch, "within": list(within)}
    return {**wanted, **limits.parameters, "ahead": ahead.jobs, "queues": array(ahead.queues)}


def with_room(connection: Connection, limits: Limits) -> list[str]:
    """The organizations with jobs in line and a free slot."""
    return list(connection.execute(WITH_ROOM, limits.parameters).scalars())


def take_back_crowd(connection: Connection, limits: Limits, batch: int) -> list[JobRecord]:
    """Put what was sent to a queue beyond its workers' free slots back into the line.

    Of each organization as many stay as its weight says. It happens after workers have gone, and when other
    organizations come beside one that was alone and has no limit.
    """
    return _records(connection, TAKE_BACK_CROWD, limits, batch=batch, most_counted=MOST_COUNTED)


def take_back_unserved(connection: Connection, limits: Limits, batch: int) -> list[JobRecord]:
    """Put jobs that were sent to a queue whose last worker has died back into the line: they held slots for nothing."""
    return _records(connection, TAKE_BACK_UNSERVED, limits, batch=batch)


def set_limit(
    connection: Connection, organization_id: str, concurrency: int, *, actor: str, origin: Origin | None = None
) -> list[JobRecord]:
    """Let this many jobs of an organization execute at once, 0 for any number.

    Jobs that were sent but have not started go back into the line when they are too many; returns them.
    """
    parameters = {"organization_id": organization_id, "concurrency": concurrency, "actor": actor}
    lock_line(connection, organization_id)
    connection.execute(SET_LIMIT, parameters)
    audit.write(connection, origin, _limited(organization_id, actor, concurrency))
    return _records(connection, BACK_IN_LINE, UNLIMITED, organization_id=organization_id)


def reset_limit(
    connection: Connection,
    organization_id: str,
    limits: Limits,
    *,
    actor: str,
    origin: Origin | None = None,
) -> list[JobRecord]:
    """Let an organization have the platform's limit again; otherwise like `set_limit`."""
    lock_line(connection, organization_id)
    connection.execute(delete(organizations).where(organizations.c.id == organization_id))
    audit.write(connection, origin, _limited(organization_id, actor, None))
    return _records(connection, BACK_IN_LINE, limits, organization_id=organization_id)


def _limited(organization_id: str, actor: str, concurrency: int | None) -> Deed:
    return Deed(Action.SET_LIMIT, actor, organization_id, organization_id, detail={"limit": concurrency})


def overbooked(connection: Connection, limits: Limits) -> list[str]:
    """The organizations with more jobs sent than their limit, as after it was lowered for all of them."""
    return list(connection.execute(OVERBOOKED, limits.parameters).scalars())


def take_back_excess(connection: Connection, organization_id: str, limits: Limits) -> list[JobRecord]:
    """Put what was sent above an organization's limit and has not started back into its line."""
    lock_line(connection, organization_id)
    return _records(connection, BACK_IN_LINE, limits, organization_id=organization_id)


def in_turns(jobs: Sequence[JobRecord]) -> list[JobRecord]:
    """One of each organization, then the next one of each, and so on."""
    lines: dict[str, list[JobRecord]] = {}
    for job in jobs:
        lines.setdefault(job.organization_id, []).append(job)
    return [job for job in chain.from_iterable(zip_longest(*lines.values())) if job is not None]


LOCK = for_driver("SELECT pg_advisory_xact_lock(:lines, hashtext(:organization_id))")

TRY_LOCK = for_driver(
    """
    SELECT organization_id, pg_try_advisory_xact_lock(:lines, hashtext(organization_id)) AS is_locked
    FROM unnest(CAST(:organizations AS text[])) AS organization_id"""
)

_IS_WITHIN = "jobs.id = ANY(CAST(:within AS uuid[]))"
_LIMITED = f"SELECT organization_id, id, queue, priority, created_at FROM jobs WHERE hold = 'limit' AND {_IS_WITHIN}"
_AHEAD = """CASE WHEN places.queue = ANY(CAST(:queues AS text[])) AND NOT contended
                         THEN CAST(:ahead AS int) ELSE 0 END"""
_IS_CONTENDED = """(SELECT contended FROM rooms
                     WHERE rooms.organization_id = jobs.organization_id AND rooms.queue = jobs.queue)"""

ADMIT = for_driver(
    move(
        f"CASE WHEN hold IS NULL THEN '{Event.DUE}' ELSE '{Event.HELD}' END",
        f"""hold = (SELECT CASE WHEN next.hold = 'organization_limit' OR next.hold = 'limit' AND {_IS_WITHIN} THEN NULL
                    ELSE next.hold END FROM (SELECT {next_hold("jobs", joins="true")} AS hold) AS next),
            limit_key = CASE WHEN {_IS_WITHIN} THEN limit_key END, dispatched_at = NULL,
            sent_priority = CASE WHEN {_IS_CONTENDED} THEN 0 ELSE priority END""",
        "jsonb_build_object('hold', coalesce(hold, held))",
        given=first_in_line(besides=_LIMITED, ahead=_AHEAD, whose=SEVERAL),
        locked="""SELECT id, status AS from_status, hold AS held FROM jobs
        WHERE id IN (SELECT id FROM first) AND hold IN ('organization_limit', 'limit')
        FOR UPDATE SKIP LOCKED""",
        returning=f"{JOB}, locked.from_status, locked.held",
        by=BY_ADMISSION,
        answer="""SELECT moved.*, contended AS is_contended FROM moved JOIN rooms USING (organization_id, queue)
    ORDER BY organization_id COLLATE "C", priority DESC, created_at, id""",
    )
)


# For the most urgent one in line to each queue that nothing else stops.
GIVE_WAY = text(
    f"""
    WITH RECURSIVE {first_in_line()}
    SELECT coalesce(bool_or(give_way(:organization_id, head.queue, head.priority)), false)
    FROM rooms CROSS JOIN LATERAL (
        SELECT jobs.queue, jobs.priority FROM jobs
        WHERE organization_id = :organization_id AND hold = 'organization_limit' AND jobs.queue = rooms.queue
        ORDER BY priority DESC, created_at, id LIMIT 1) AS head
    WHERE head.priority > 0"""
)


_PLACE = ("organization_id", "queue")

WITH_ROOM = text(
    f"""
    WITH RECURSIVE {distinct("lines", _PLACE, "hold = 'organization_limit'")}, {pools_of("lines")}
    SELECT DISTINCT organization_id
    FROM (SELECT DISTINCT ON (organization_id, first) organization_id, pools.* FROM lines JOIN pools USING (queue))
        AS places
    WHERE {has_own_room("places.organization_id")} AND {has_place("places.organization_id", "places")}"""
)


OVERBOOKED = text(
    f"""
    WITH RECURSIVE {lines_of(IN_FLIGHT)}
    SELECT organization_id FROM lines
    WHERE organization_id IS NOT NULL AND {limit_of("lines.organization_id")} > 0
      AND {limit_of("lines.organization_id")} < {in_flight("lines.organization_id")}
      AND EXISTS (SELECT FROM jobs
                  WHERE jobs.organization_id = lines.organization_id AND {IN_FLIGHT}
                    AND jobs.status IN ({listed(WAITING)}))"""
)

SET_LIMIT = text(
    """
    INSERT INTO organizations (id, concurrency, changed_by) VALUES (:organization_id, :concurrency, :actor)
    ON CONFLICT (id) DO UPDATE
    SET concurrency = excluded.concurrency, changed_by = excluded.changed_by, changed_at = clock_timestamp()"""
)


# The messages are still with the broker, and are refused at the claim until it is their jobs' turn again; for good when
# the places that they have in the order of arrival are given away.
def _back_in_line(locked: str, *, given: str = "", reason: str = "NULL", dispatch: str = "dispatch") -> Any:
    return text(
        move(
            Event.HELD,
            f"hold = 'organization_limit', dispatch = {dispatch}, dispatched_at = NULL, limit_key = NULL",
            f"jsonb_build_object('hold', hold, 'reason', {reason})",
            given=given,
            locked=locked,
            guard=f"from_status IN ({listed(WAITING)})",
            by=BY_ADMISSION,
        )
    )


# Of each organization by itself: together, what was sent would be read whole.
TAKE_BACK_UNSERVED = _back_in_line(
    f"""SELECT id, status AS from_status FROM jobs
        WHERE {SENT} AND id = ANY(ARRAY(
            SELECT unserved.id FROM lines CROSS JOIN LATERAL (
                SELECT jobs.id FROM jobs
                WHERE jobs.organization_id = lines.organization_id AND {SENT} AND NOT {is_served("jobs")}
                LIMIT :batch) AS unserved
            WHERE {limit_of("lines.organization_id")} > 0
            LIMIT :batch))
        FOR UPDATE SKIP LOCKED""",
    given=lines_of("hold = 'organization_limit'"),
    reason="'no living worker consumes the queue ' || queue",
)

_SLOTS = f"(SELECT sum(concurrency) FROM workers WHERE {ALIVE} AND sent.queue = ANY(workers.queues))"
_EXCESS = f"""
    (SELECT count(*) FROM (
        SELECT FROM jobs
        WHERE {IN_FLIGHT} AND queue = ANY(ARRAY(SELECT unnest(queues) FROM workers
                                                WHERE {ALIVE} AND sent.queue = ANY(workers.queues)))
        LIMIT coalesce({_SLOTS}, 0) + :batch) AS taken)
    - {_SLOTS}"""
# The same as SENT, said so that only the index of what is in flight has it, in this order: by another one, all that was
# sent would be sorted for each organization.
_IS_SENT = f"{IN_FLIGHT} AND NOT stopping AND status <> '{Status.RUNNING}'"
_OF_SENT = f"jobs.organization_id = crowded.organization_id AND jobs.queue = crowded.queue AND {SENT}"

# From the organization that has most there, of its jobs the least urgent and newest first. Those that have more than
# MOST_COUNTED count alike. Neither what is sent to other queues is read, nor more of a crowd than is taken back.
TAKE_BACK_CROWD = _back_in_line(
    f"""SELECT id, status AS from_status FROM jobs
        WHERE {SENT} AND id = ANY(ARRAY(SELECT id FROM crowd WHERE turn <= excess LIMIT :batch))
        FOR UPDATE SKIP LOCKED""",
    given=f"""{distinct("sent", _PLACE, _IS_SENT)}, queues AS MATERIALIZED (
        SELECT queue, {_EXCESS} AS excess FROM (SELECT DISTINCT queue FROM sent) AS sent
    ), crowded AS MATERIALIZED (
        SELECT sent.organization_id, queue, excess, {weight_of("sent.organization_id")} AS weight
        FROM sent JOIN queues USING (queue)
        WHERE excess > 0 AND {joins_line("sent.organization_id", "sent.queue")}
    ), surplus AS (
        SELECT newest.id, crowded.queue, crowded.excess, counted.number - newest.behind AS place
        FROM crowded CROSS JOIN LATERAL (
            SELECT count(*) AS number FROM (SELECT FROM jobs WHERE {_OF_SENT} LIMIT :most_counted) AS these
        ) AS counted CROSS JOIN LATERAL (
            SELECT id, row_number() OVER (ORDER BY priority, created_at DESC, id DESC) - 1 AS behind
            FROM (SELECT id, priority, created_at FROM jobs WHERE {_OF_SENT}
                  ORDER BY priority, created_at DESC, id DESC LIMIT :batch) AS last
        ) AS newest
        WHERE counted.number - newest.behind > crowded.weight
    ), crowd AS (
        SELECT id, excess, row_number() OVER (PARTITION BY queue ORDER BY place DESC) AS turn FROM surplus
    )""",
    reason="'the workers have no free slot for it'",
    dispatch="dispatch + 1",
)

# The least urgent and newest first.
BACK_IN_LINE = _back_in_line(
    f"""SELECT id, status AS from_status FROM jobs
        WHERE organization_id = :organization_id AND hold IS NULL AND status IN ({listed(WAITING)})
        ORDER BY priority, created_at DESC, id DESC
        LIMIT (SELECT CASE WHEN {limit_of(":organization_id")} > 0
                           THEN greatest(0, count(*) - {limit_of(":organization_id")}) ELSE 0 END
               FROM jobs WHERE organization_id = :organization_id AND {IN_FLIGHT})
        FOR UPDATE"""
)
