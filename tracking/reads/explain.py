"""Why a job does not run, which worker runs it, or who or what ended it: read from the rows as they are now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, func, literal, select, text

from tracking import workers
from tracking.admission import circuits, organizations, pauses, queue_pauses, turns, within
from tracking.admission.job_limits import Per
from tracking.admission.rule import (
    Limits,
    blocked_by,
    gates_of,
    is_before,
    is_met,
    is_served,
    joins_line,
    next_hold,
    shared_with,
)
from tracking.admission.within import Bound
from tracking.errors import JobNotFound
from tracking.models import JobRecord, Scope
from tracking.reads import lists, reasons, waiting
from tracking.reads.reasons import Awaited, Reason
from tracking.schema import IN_FLIGHT
from tracking.sql import SCOPE, listed
from tracking.states import FINISHED, IN_LINE, WAITING, Hold, Status, When
from tracking.tenancy import unconfined
from tracking.workers import Serving

MOST_SLOTS = 10_000  # of one organization that are looked at
MOST_NAMED = 20  # jobs that are named in a reason; the others are only counted


@dataclass(frozen=True, slots=True)
class Explanation:
    """A job and all reasons for where it is; the first is the one that matters."""

    job: JobRecord
    reasons: Sequence[Reason]


def explain(connection: Connection, job_id: UUID, scope: Scope, limits: Limits) -> Explanation:
    """All that can be said about where a job is. Raises JobNotFound, also for one outside the scope.

    Other jobs are named only when they are in `scope`; the rest, of other users and organizations, are only counted.
    """
    job = lists.get(connection, job_id, scope)
    alive = workers.serving(connection, job.queue, job.lease, limits.lease_timeout)
    if job.hold is Hold.EXTERNAL:
        by = job.worker if job.status is Status.RUNNING else None
        return Explanation(job, [reasons.External(by, job.updated_at)])
    if job.status in WAITING:
        return Explanation(job, _waiting(connection, job, scope, limits, alive))
    if job.status in FINISHED:
        return Explanation(job, [*_stopping(job, alive), _end(connection, job)])
    return Explanation(job, [_running(job, alive)])


def _waiting(connection: Connection, job: JobRecord, scope: Scope, limits: Limits, alive: Serving) -> Sequence[Reason]:
    with unconfined(connection):  # others may have what it waits for
        gets_slot = turns.gets_slot(connection, job, limits.parameters, MOST_SLOTS)
        bounds = within.bounds(connection, job.id)
        is_within = within.is_within(connection, job.id, bounds, limits.parameters)
        about = {"id": job.id, "gets_slot": gets_slot, "is_within": is_within, **limits.parameters}
        blocked = connection.execute(BLOCKED, about).scalar()
    found: list[Reason] = [
        *_unserved(job, alive),
        *_limits(bounds, blocked),
        *_line(connection, job, scope, limits, blocked),
        *_dependency(connection, job, scope),
        *_due(connection, job),
        *_pauses(connection, job),
        *_circuit(connection, job),
        *_dispatched(connection, job, alive),
    ]
    if job.hold is not None and blocked is None:
        found.append(reasons.Lifting(job.hold))
    first = _first(job.hold, blocked)
    return sorted(found, key=lambda reason: first.index(reason.kind) if reason.kind in first else len(first))


def _first(hold: Hold | None, blocked: str | None) -> Sequence[str]:
    """The kinds of reasons that come before all others: without a worker neither a slot nor a message helps."""
    if blocked in IN_LINE:
        return ("no_worker", blocked)
    if blocked is not None:
        return (blocked,)
    return ("no_worker",) if hold is None else ("lifting",)


def _unserved(job: JobRecord, alive: Serving) -> Iterator[Reason]:
    if not alive.consumers:
        yield reasons.Unserved(job.queue)


def _limits(bounds: Sequence[Bound], blocked: str | None) -> Iterator[Reason]:
    if blocked != Hold.LIMIT:
        return
    full = [bound for bound in bounds if bound.room is not None and bound.room <= 0]
    for bound in full or bounds:
        limit, is_own = bound.limit, bound.limit.per is not Per.PLATFORM
        yield reasons.Limited(
            per=limit.per,
            job_type=limit.job_type,
            key=bound.key,
            concurrency=limit.concurrency,
            executing=bound.executing if is_own and limit.concurrency is not None else None,
            rate=limit.rate,
            period=None if limit.period is None else limit.period.total_seconds(),
            sent=bound.sent if is_own and limit.rate is not None else None,
        )


def _line(
    connection: Connection, job: JobRecord, scope: Scope, limits: Limits, blocked: str | None
) -> Iterator[Reason]:
    if blocked != Hold.ORGANIZATION_LIMIT:
        return
    limit, executing = organizations.slots(connection, job.organization_id, limits)
    about = {"id": job.id, "is_full": 0 < limit <= executing, **limits.parameters}
    before = connection.execute(BEFORE_IN_LINE, about).scalar_one()
    visible = {**scope.parameters, "most": MOST_NAMED}
    holders = connection.execute(HOLDERS, visible).scalars().all()
    place, is_capped = min(before + 1, reasons.LAST_PLACE), before >= reasons.LAST_PLACE
    yield reasons.InLine(limit, executing, place, holders, is_capped)


def _dependency(connection: Connection, job: JobRecord, scope: Scope) -> Iterator[Reason]:
    awaited = waiting.awaited(connection, job)
    if not awaited and job.attempt == 0:  # else it has started, so they were fulfilled
        awaited = job.depends_on
    if not awaited:
        return
    wanted = {"ids": awaited, "id": job.id, **scope.parameters}
    rows = connection.execute(UNFINISHED, wanted).all()
    if rows:
        visible = [
            Awaited(row.id, Status(row.status) if row.status else None, When(row.ending))
            for row in rows
            if row.is_visible
        ]
        yield reasons.Dependency(len(awaited), len(rows), visible[:MOST_NAMED])


def _due(connection: Connection, job: JobRecord) -> Iterator[Reason]:
    if job.due_at is None or not connection.execute(select(literal(job.due_at) > func.clock_timestamp())).scalar_one():
        return
    if job.status is Status.RETRYING:
        yield reasons.BackOff(job.due_at, job.attempt, job.error_type, job.error_message)
    else:
        yield reasons.Scheduled(job.due_at)


def _pauses(connection: Connection, job: JobRecord) -> Iterator[Reason]:
    for pause in pauses.of(connection, job.organization_id, job.job_type):
        yield reasons.Paused(pause.job_type, pause.everywhere, pause.shown_by, pause.reason, pause.paused_at)
    held = queue_pauses.of(connection, job.queue)
    if held is not None:
        yield reasons.Paused(None, True, None, held.reason, held.paused_at, held.queue)  # noqa: FBT003 - everywhere


def _circuit(connection: Connection, job: JobRecord) -> Iterator[Reason]:
    for circuit in circuits.opened(connection, job.organization_id, job.job_type, job.circuit_key):
        if circuit.probe_id != job.id:
            key, until = circuit.key or None, circuit.probe_at
            yield reasons.CircuitOpen(job.job_type, key, circuit.everywhere, circuit.state, circuit.failures, until)


def _dispatched(connection: Connection, job: JobRecord, alive: Serving) -> Iterator[Reason]:
    if job.hold is not None:
        return
    if job.dispatched_at is None:
        yield reasons.Unsent(job.queue, job.updated_at)
    elif alive.consumers:
        position = {"priority": job.priority, "dispatched_at": job.dispatched_at, "id": job.id}
        where = {"organization_id": job.organization_id, "queue": job.queue}
        before = connection.execute(BEFORE_IN_QUEUE, {**where, **position}).scalar_one()
        yield reasons.Sent(job.queue, before + 1, alive.consumers, job.dispatched_at)


def _running(job: JobRecord, alive: Serving) -> Reason:
    return reasons.Running(job.worker or "", job.attempt, job.started_at or job.updated_at, alive.is_alive)


def _stopping(job: JobRecord, alive: Serving) -> Iterator[Reason]:
    if job.stopping:
        since = job.cancel_requested_at or job.updated_at
        yield reasons.Stopping(job.worker or "", since, job.cancel_seen_at, alive.is_alive)


def _end(connection: Connection, job: JobRecord) -> Reason:
    last = lists.last_move(connection, job.id, job.status)
    if last is None:
        raise JobNotFound  # removed meanwhile
    if job.status is Status.SUCCEEDED:
        return reasons.Succeeded(job.attempt, last.actor, last.at)
    if job.status is Status.FAILED:
        return reasons.Failed(job.attempt, job.error_type, job.error_message, last.actor, last.at)
    return reasons.Cancelled(last.actor, last.detail.get("reason"), last.at)


BLOCKED = text(f"SELECT {blocked_by('jobs')} FROM jobs WHERE id = :id")

# Those that something else stops step aside for others, but not for one that is stopped itself. Of those in line only
# a pause or a circuit stops one, as they came through all else before; without any of these an index counts them.
# While the organization has a slot to spare, only those that wait for the same workers come before it.
_EARLIER = f"""
        SELECT FROM this JOIN jobs AS earlier USING (organization_id)
        WHERE earlier.hold = 'organization_limit' AND {is_before("earlier", "this")} AND {is_served("earlier")}
          AND (:is_full OR earlier.queue = this.queue OR earlier.queue = ANY(this.shared))"""

BEFORE_IN_LINE = text(
    f"""
    WITH this AS MATERIALIZED (
        SELECT *, {next_hold("jobs", joins="true")} NOT IN ({listed(IN_LINE)}) AS is_stopped,
               {joins_line("jobs.organization_id", "jobs.queue")} AS joins, {shared_with("jobs.queue")} AS shared,
               {gates_of("jobs.organization_id")}
        FROM jobs WHERE id = :id
    )
    SELECT count(*) FROM (
        {_EARLIER} AND (this.is_stopped OR this.joins AND NOT (this.has_pauses OR this.has_circuits))
        UNION ALL
        {_EARLIER} AND NOT this.is_stopped AND (this.has_pauses OR this.has_circuits)
          AND {next_hold("earlier", joins="this.joins", gates="this")} = 'organization_limit'
        LIMIT {reasons.LAST_PLACE}) AS before"""
)

HOLDERS = text(f"SELECT id FROM jobs WHERE {SCOPE} AND {IN_FLIGHT} ORDER BY started_at, id LIMIT :most")

UNFINISHED = text(
    f"""
    SELECT wanted.id, dependency.status, coalesce({SCOPE}, true) AS is_visible,
           coalesce(wanted.ending, '{When.SUCCEEDED}') AS ending
    FROM unnest(CAST(:ids AS uuid[]), (SELECT depends_when FROM jobs WHERE jobs.id = :id))
         WITH ORDINALITY AS wanted (id, ending, number)
    LEFT JOIN jobs AS dependency ON dependency.id = wanted.id
    WHERE wanted.id IS NOT NULL AND ({is_met("dependency", "wanted.ending")}) IS NOT TRUE
    ORDER BY number"""
)

# Only jobs of its own organization count: how much others send is not shown.
BEFORE_IN_QUEUE = text(
    f"""
    SELECT count(*) FROM jobs
    WHERE organization_id = :organization_id AND {IN_FLIGHT}
      AND status IN ({listed(WAITING)}) AND hold IS NULL AND queue = :queue AND dispatched_at IS NOT NULL
      AND (priority > :priority OR priority = :priority AND (dispatched_at, id) < (:dispatched_at, :id))"""
)
