"""Letting waiting jobs through, and holding them back again: the verbs that follow the rule (rule.py).

Slots are given away one organization at a time, under a lock that ends with the transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, zip_longest
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Connection, delete, text

from tracking.admission.rule import (
    ALIVE,
    IS_GATED,
    LINES,
    SENT,
    first_in_line,
    has_room,
    in_flight,
    is_broken,
    is_contended,
    is_dependent,
    is_paused,
    is_served,
    is_uncalled,
    joins_line,
    limit_of,
    lines_of,
    next_hold,
)
from tracking.models import UNCALLED, Fence, JobRecord
from tracking.schema import IN_FLIGHT, organizations
from tracking.settings import settings
from tracking.sql import listed, move, record
from tracking.states import WAITING, Event, Status

ACTOR = "admission"
BY_ADMISSION = f"'{ACTOR}'"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many jobs of one organization may execute at once, unless it has a number of its own; 0 = any number.

    A worker that was silent for `lease_timeout` offers no slots.
    """

    concurrency: int
    lease_timeout: timedelta = timedelta(seconds=20)

    @classmethod
    def configured(cls) -> Self:
        """What the settings say."""
        return cls(settings().organization_limit, timedelta(seconds=settings().lease_timeout))

    @property
    def parameters(self) -> dict[str, Any]:
        """As the statements want them."""
        return {"limit": self.concurrency, "lease_timeout": self.lease_timeout}


UNLIMITED = Limits(0)


def lock_line(connection: Connection, organization_id: str) -> None:
    """Until the transaction ends, nobody else gives slots of this organization away."""
    connection.execute(LOCK, {"lines": LINES, "organization_id": organization_id})


def admit(
    connection: Connection, organization_id: str, limits: Limits, batch: int, most: int | None = None
) -> list[JobRecord]:
    """Give the free slots of an organization to the first in its line; returns those jobs, ready to be dispatched.

    Wants a transaction of its own. Looks at some `batch` of them at most, for others wait for the lock, and lets
    `most` of them through. When there is no slot, a job that was sent and has not started gives way to one that is
    more urgent.
    """
    lock_line(connection, organization_id)
    admitted: list[JobRecord] = []
    looked_at, most = 0, batch if most is None else most
    parameters = {"organization_id": organization_id, **limits.parameters}
    while looked_at < batch and len(admitted) < most:
        rows = connection.execute(ADMIT, {**parameters, "batch": min(batch, most - len(admitted))}).all()
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


def lift_due(connection: Connection, limits: Limits, batch: int) -> list[JobRecord]:
    """Lift the holds whose time has come; returns the jobs with what they wait for next. Safe to run concurrently."""
    return _records(connection, LIFT_DUE, limits, batch=batch)


def lift_gated(connection: Connection, limits: Limits, batch: int) -> list[JobRecord]:
    """The same for jobs whose pause is over or whose circuit has closed."""
    return _records(connection, LIFT_GATED, limits, batch=batch)


def lift_dependents(connection: Connection, limits: Limits, batch: int, job_id: UUID | None = None) -> list[JobRecord]:
    """The same for jobs whose dependencies have all succeeded; of one dependency, or of all."""
    return _records(connection, LIFT_DEPENDENTS, limits, batch=batch, job_id=job_id)


def cancel_dependents(connection: Connection, batch: int, job_id: UUID | None = None) -> list[JobRecord]:
    """Cancel the jobs that wait for one that failed or was cancelled, and those that wait for them in turn."""
    cancelled: list[JobRecord] = []
    roots: list[UUID | None] = [job_id]
    while roots:
        parameters = {"batch": batch, "job_id": roots.pop()}
        found = [record(row) for row in connection.execute(CANCEL_DEPENDENTS, parameters)]
        cancelled += found
        roots += [job.id for job in found]
    return cancelled


def hold_back(connection: Connection, fence: Fence) -> JobRecord | None:
    """Hold a job that was already sent when its type or organization was paused or its circuit opened.

    If that is over by now, the job is to be sent again. None when this dispatch of it does not wait.
    """
    row = connection.execute(HOLD_BACK, fence.parameters).first()
    return record(row) if row is not None else None


def take_back_crowd(connection: Connection, limits: Limits, batch: int) -> list[JobRecord]:
    """Put what was sent to a queue beyond its workers' free slots back into the line, but one job of each organization.

    So much is there after workers have gone, and when others come to one that was alone and has no limit.
    """
    return _records(connection, TAKE_BACK_CROWD, limits, batch=batch)


def take_back_unserved(connection: Connection, limits: Limits, batch: int) -> list[JobRecord]:
    """Put jobs that were sent to a queue whose last worker has died back into the line: they held slots for nothing."""
    return _records(connection, TAKE_BACK_UNSERVED, limits, batch=batch)


def set_limit(connection: Connection, organization_id: str, concurrency: int, *, actor: str) -> list[JobRecord]:
    """Let this many jobs of an organization execute at once, 0 for any number.

    Jobs that were sent but have not started go back into the line when they are too many; returns them. Wants a
    transaction of its own.
    """
    parameters = {"organization_id": organization_id, "concurrency": concurrency, "actor": actor}
    lock_line(connection, organization_id)
    connection.execute(SET_LIMIT, parameters)
    return _records(connection, BACK_IN_LINE, UNLIMITED, organization_id=organization_id)


def reset_limit(connection: Connection, organization_id: str, limits: Limits) -> list[JobRecord]:
    """Let an organization have the platform's limit again; otherwise like `set_limit`."""
    lock_line(connection, organization_id)
    connection.execute(delete(organizations).where(organizations.c.id == organization_id))
    return _records(connection, BACK_IN_LINE, limits, organization_id=organization_id)


def overbooked(connection: Connection, limits: Limits) -> list[str]:
    """The organizations with more jobs sent than their limit, as after it was lowered for all of them."""
    return list(connection.execute(OVERBOOKED, limits.parameters).scalars())


def take_back_excess(connection: Connection, organization_id: str, limits: Limits) -> list[JobRecord]:
    """Put what was sent above an organization's limit and has not started back into its line.

    Wants a transaction of its own.
    """
    lock_line(connection, organization_id)
    return _records(connection, BACK_IN_LINE, limits, organization_id=organization_id)


def in_turns(jobs: Sequence[JobRecord]) -> list[JobRecord]:
    """One of each organization, then the next one of each, and so on."""
    lines: dict[str, list[JobRecord]] = {}
    for job in jobs:
        lines.setdefault(job.organization_id, []).append(job)
    return [job for job in chain.from_iterable(zip_longest(*lines.values())) if job is not None]


def _records(connection: Connection, sql: Any, limits: Limits, **parameters: Any) -> list[JobRecord]:
    return [record(row) for row in connection.execute(sql, {**parameters, **limits.parameters})]


LOCK = text("SELECT pg_advisory_xact_lock(:lines, hashtext(:organization_id))")

ADMIT = text(
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


# The rule is asked before the UPDATE: in its condition it has the planner read the whole table. Whether others stand in
# line is looked up once for each organization, not for each job.
def _lift(which: str) -> Any:
    return text(
        move(
            f"CASE WHEN {IS_GATED} THEN '{Event.HELD}' ELSE '{Event.DUE}' END",
            """hold = next, dispatched_at = NULL, sent_priority = NULL,
            dispatch = dispatch + CASE held WHEN 'backoff' THEN 1 ELSE 0 END""",
            f"jsonb_build_object('hold', CASE WHEN {IS_GATED} THEN hold ELSE held END)",
            given=f"""found AS (
        SELECT * FROM jobs
        WHERE {which}
        LIMIT :batch
        FOR UPDATE SKIP LOCKED
    ), lines AS MATERIALIZED (
        SELECT organization_id, {joins_line("whose.organization_id")} AS joins
        FROM (SELECT DISTINCT organization_id FROM found) AS whose
    )""",
            locked=f"""SELECT id, status AS from_status, hold AS held, {next_hold("found", joins="lines.joins")} AS next
        FROM found JOIN lines USING (organization_id)""",
            guard="held IS DISTINCT FROM next",
            returning="jobs.*, locked.from_status, locked.held",
            by=BY_ADMISSION,
        )
    )


LIFT_DUE = _lift("hold IN ('schedule', 'backoff') AND due_at <= clock_timestamp() ORDER BY due_at")

LIFT_GATED = _lift(
    f"""hold IN ('circuit', 'paused')
          AND NOT CASE hold WHEN 'paused' THEN {is_paused("jobs")} ELSE {is_broken("jobs")} END"""
)

_DEPENDS = """hold = 'dependency'
          AND (CAST(:job_id AS uuid) IS NULL OR depends_on @> ARRAY[CAST(:job_id AS uuid)])"""

LIFT_DEPENDENTS = _lift(f"{_DEPENDS} AND NOT {is_uncalled('jobs')} AND NOT {is_dependent('jobs')}")

CANCEL_DEPENDENTS = text(
    move(
        Event.CANCELLED,
        f"""hold = NULL, due_at = NULL, cancel_requested_at = clock_timestamp(), completed_at = clock_timestamp(),
            error_type = '{UNCALLED}', error_message = 'its dependency ' || broken || ' is ' || how""",
        f"jsonb_build_object('by', '{ACTOR}', 'reason', error_message, 'dependency', broken)",
        locked=f"""SELECT jobs.id, jobs.status AS from_status, broken.id AS broken, broken.status AS how
        FROM jobs CROSS JOIN LATERAL (
            SELECT wanted.id, coalesce(dependency.status, 'gone') AS status
            FROM unnest(jobs.depends_on) AS wanted (id) LEFT JOIN jobs AS dependency ON dependency.id = wanted.id
            WHERE dependency.id IS NULL OR dependency.status IN ('{Status.FAILED}', '{Status.CANCELLED}')
            LIMIT 1) AS broken
        WHERE jobs.status IN ({listed(WAITING)}) AND {_DEPENDS}
        LIMIT :batch
        FOR UPDATE OF jobs SKIP LOCKED""",
        to=Status.CANCELLED,
        out_of=WAITING,
        returning="jobs.*, locked.from_status, locked.broken",
        by=BY_ADMISSION,
    )
)

HOLD_BACK = text(
    move(
        Event.HELD,
        f"""hold = CASE WHEN {is_paused("jobs")} THEN 'paused' WHEN {is_broken("jobs")} THEN 'circuit' END,
            dispatched_at = NULL""",
        "jsonb_build_object('hold', hold)",
        find=f"id = :id AND dispatch = :dispatch AND hold IS NULL AND status IN ({listed(WAITING)})",
        by=BY_ADMISSION,
        logs="moved WHERE hold IS NOT NULL",
    )
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

# Of each organization the least urgent and newest first, and of whoever has most there.
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
