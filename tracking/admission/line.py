"""The line of each organization: who gets its slots, and who goes back into it.

Slots are given away one organization at a time, under a lock that ends with the transaction: a verb that takes it wants
a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

from sqlalchemy import Connection, delete, text

from tracking import audit
from tracking.admission.holds import _records
from tracking.admission.rule import (
    ALIVE,
    BY_ADMISSION,
    LINES,
    SENT,
    UNLIMITED,
    Limits,
    first_in_line,
    has_room,
    in_flight,
    is_contended,
    is_served,
    joins_line,
    limit_of,
    lines_of,
    next_hold,
)
from tracking.audit import Deed
from tracking.audited import Action
from tracking.db import run
from tracking.limit_tables import organizations
from tracking.models import JobRecord
from tracking.origins import Origin
from tracking.schema import IN_FLIGHT
from tracking.sql import for_driver, listed, move, record
from tracking.states import WAITING, Event


def lock_line(connection: Connection, organization_id: str) -> None:
    """Lock the slots of this organization until the transaction ends: no other transaction gives them away."""
    run(connection, (LOCK, {"lines": LINES, "organization_id": organization_id}))


def admit(
    connection: Connection, organization_id: str, limits: Limits, batch: int, most: int | None = None
) -> list[JobRecord]:
    """Give the free slots of an organization to the first in its line; returns those jobs, ready to be dispatched.

    Looks at `batch` jobs at most, because others wait for the lock, and lets `most` through at most. Without a free
    slot, a job that was sent and has not started gives way to a more urgent one.
    """
    admitted: list[JobRecord] = []
    looked_at, most = 0, batch if most is None else most
    parameters = {"organization_id": organization_id, **limits.parameters}
    lock = (LOCK, {"lines": LINES, "organization_id": organization_id})
    while looked_at < batch and len(admitted) < most:
        _, rows = run(connection, lock, (ADMIT, {**parameters, "batch": min(batch, most - len(admitted))}))
        admitted += [record(row) for row in rows if row.hold is None]
        looked_at += len(rows)
        if not rows and (admitted or not connection.execute(GIVE_WAY, {**parameters, "batch": 1}).scalar()):
            break
        if rows and all(row.hold is None for row in rows):
            break  # otherwise some of them met a gate and their slots are still free
    return admitted


def with_room(connection: Connection, limits: Limits) -> list[str]:
    """The organizations with jobs in line and a free slot."""
    return list(connection.execute(WITH_ROOM, limits.parameters).scalars())


def take_back_crowd(connection: Connection, limits: Limits, batch: int) -> list[JobRecord]:
    """Put what was sent to a queue beyond its workers' free slots back into the line, but one job of each organization.

    That happens after workers have gone, and when other organizations come beside one that was alone and has no limit.
    """
    return _records(connection, TAKE_BACK_CROWD, limits, batch=batch)


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

ADMIT = for_driver(
    move(
        f"CASE WHEN hold IS NULL THEN '{Event.DUE}' ELSE '{Event.HELD}' END",
        f"""hold = nullif({next_hold("jobs", joins="true")}, 'organization_limit'), dispatched_at = NULL,
            sent_priority = CASE WHEN (SELECT {is_contended(":organization_id")}) THEN 0 ELSE priority END""",
        "jsonb_build_object('hold', coalesce(hold, 'organization_limit'))",
        given=first_in_line(),
        locked="""SELECT id, status AS from_status FROM jobs
        WHERE id IN (SELECT id FROM first) AND hold = 'organization_limit'
        FOR UPDATE SKIP LOCKED""",
        by=BY_ADMISSION,
        answer="SELECT * FROM moved ORDER BY priority DESC, created_at, id",
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


WITH_ROOM = text(
    f"""
    WITH RECURSIVE lines AS (
        (SELECT organization_id, queue FROM jobs WHERE hold = 'organization_limit'
         ORDER BY organization_id, queue LIMIT 1)
        UNION ALL
        SELECT next.* FROM lines CROSS JOIN LATERAL (
            SELECT organization_id, queue FROM jobs
            WHERE hold = 'organization_limit'
              AND (jobs.organization_id, jobs.queue) > (lines.organization_id, lines.queue)
            ORDER BY organization_id, queue LIMIT 1) AS next
    )
    SELECT DISTINCT organization_id FROM lines WHERE {has_room("lines")}"""
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
            f"hold = 'organization_limit', dispatch = {dispatch}, dispatched_at = NULL",
            f"jsonb_build_object('hold', hold, 'reason', {reason})",
            given=given,
            locked=locked,
            guard=f"from_status IN ({listed(WAITING)})",
            by=BY_ADMISSION,
        )
    )


TAKE_BACK_UNSERVED = _back_in_line(
    f"""SELECT jobs.id, jobs.status AS from_status
        FROM lines JOIN jobs USING (organization_id)
        WHERE {limit_of("lines.organization_id")} > 0 AND {IN_FLIGHT}
          AND jobs.status IN ({listed(WAITING)}) AND NOT {is_served("jobs")}
        LIMIT :batch
        FOR UPDATE OF jobs SKIP LOCKED""",
    given=lines_of("hold = 'organization_limit'"),
    reason="'no living worker consumes the queue ' || queue",
)

_EXCESS = f"""
    (SELECT count(*) FROM jobs
     WHERE {IN_FLIGHT} AND queue = ANY(ARRAY(SELECT unnest(queues) FROM workers
                                             WHERE {ALIVE} AND surplus.queue = ANY(workers.queues))))
    - (SELECT sum(concurrency) FROM workers WHERE {ALIVE} AND surplus.queue = ANY(workers.queues))"""

# From the organization that has most there, and of its jobs the least urgent and newest first.
TAKE_BACK_CROWD = _back_in_line(
    f"""SELECT id, status AS from_status FROM jobs
        WHERE {SENT} AND id IN (SELECT id FROM crowd JOIN excess USING (queue) WHERE turn <= number LIMIT :batch)
        FOR UPDATE SKIP LOCKED""",
    given=f"""{lines_of(SENT)}, surplus AS (
        SELECT sent.* FROM lines CROSS JOIN LATERAL (
            SELECT id, queue, row_number() OVER (PARTITION BY queue ORDER BY priority DESC, created_at, id) AS place
            FROM jobs WHERE jobs.organization_id = lines.organization_id AND {SENT}) AS sent
        WHERE lines.organization_id IS NOT NULL AND place > 1
          AND {joins_line("lines.organization_id")}
    ), crowd AS (
        SELECT id, queue, row_number() OVER (PARTITION BY queue ORDER BY place DESC) AS turn FROM surplus
    ), excess AS (
        SELECT queue, {_EXCESS} AS number FROM (SELECT DISTINCT queue FROM surplus) AS surplus
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
