"""The reads: one job, pages of jobs, what is recent, counts, history. Each runs on an index named in schema.py."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    func,
    literal,
    select,
    tuple_,
    union_all,
)

from tracking.errors import InvalidValue, JobNotFound
from tracking.models import Fence, JobRecord, Scope
from tracking.reads import search
from tracking.reads.answers import AttemptRecord, Filters, HistoryEntry, Page, Stats
from tracking.schedule_tables import outcomes
from tracking.schema import history, jobs
from tracking.sql import record
from tracking.states import ACTIVE, Event, Hold, Status

NO_FILTERS = Filters()
RECENT_WINDOW = timedelta(hours=1)
CLOCK_SET_BACK = timedelta(hours=1)  # as in `in_life` of tracking/sql.py
TIMELINE_LIMIT = 1000
RETRIES = 100
MOST_COUNTED = 10_000  # jobs of a list, and of its numbered pages: counting a million takes a core for 0.1 s
NEWEST_FIRST = (jobs.c.created_at.desc(), jobs.c.id.desc())

# Where a page ends: microseconds since 1970, and the last job.
CURSOR = "[0-9]{1,17}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def get(connection: Connection, job_id: UUID, scope: Scope) -> JobRecord:
    """One job. Raises JobNotFound, also for one outside the scope."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id, *_visible(scope))).one_or_none()
    if row is None:
        raise JobNotFound
    return record(row)


def find(connection: Connection, job_id: UUID) -> JobRecord | None:
    """One job whatever its owner: for the platform's own code. None when there is none."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    return record(row) if row is not None else None


def is_current(connection: Connection, fence: Fence, attempt: int) -> bool:
    """Whether this attempt runs now: its job was not cancelled, given to another attempt, or ended."""
    mine = (
        jobs.c.id == fence.job_id,
        jobs.c.dispatch == fence.dispatch,
        jobs.c.attempt == attempt,
        jobs.c.status == Status.RUNNING,
    )
    return connection.execute(select(literal(1)).select_from(jobs).where(*mine)).first() is not None


def page(connection: Connection, scope: Scope, filters: Filters = NO_FILTERS, *, number: int, size: int) -> Page:
    """Page `number` (from 1) of the matching jobs, newest first, with the total: both end at MOST_COUNTED jobs."""
    matching = matches(connection, scope, filters)
    counted = select(literal(1)).select_from(jobs).where(*matching).limit(MOST_COUNTED + 1).subquery()
    total = connection.execute(select(func.count()).select_from(counted)).scalar_one()
    start = (number - 1) * size
    shown = max(0, min(size, MOST_COUNTED - start))  # none on a page behind the last one, which has its cursor
    first, kept = min(start, MOST_COUNTED - 1), max(shown, 1)
    # The ids first, from an index: the rows before the page are not read.
    ids = select(jobs.c.id).where(*matching).order_by(*NEWEST_FIRST).offset(first).limit(kept + 1).subquery()
    found = _newest(connection, select(jobs).join(ids, jobs.c.id == ids.c.id), kept + 1)
    return Page(found[:shown], min(total, MOST_COUNTED), _cursor(found, kept), total > MOST_COUNTED)


def after(
    connection: Connection, scope: Scope, filters: Filters = NO_FILTERS, *, cursor: str | None, size: int
) -> Page:
    """The matching jobs that follow `cursor` (None: the first ones), newest first: deep reading at constant cost."""
    matching = matches(connection, scope, filters)
    if cursor is not None:
        matching.append(tuple_(jobs.c.created_at, jobs.c.id) < tuple_(*map(literal, _position(cursor))))
    found = _newest(connection, select(jobs).where(*matching), size + 1)
    return Page(found[:size], None, _cursor(found, size))


def retries(connection: Connection, job_id: UUID, scope: Scope) -> Sequence[JobRecord]:
    """The jobs that repeat this one with another payload, oldest first, at most RETRIES."""
    repeating = select(jobs).where(jobs.c.retry_of == job_id, *_visible(scope))
    return [record(row) for row in connection.execute(repeating.order_by(jobs.c.created_at, jobs.c.id).limit(RETRIES))]


def recent(
    connection: Connection,
    scope: Scope,
    *,
    limit: int,
    job_type: str | None = None,
    status: Status | None = None,
    project_id: str | None = None,
) -> Sequence[JobRecord]:
    """Active jobs, then those finished in the last hour.

    Active first, then more urgent first, then oldest first (active) or newest first (finished).
    """
    wanted = Filters(job_type=job_type, project_id=project_id, statuses=(status,) if status else ())
    filters = matches(connection, scope, wanted)
    active = (
        select(jobs)
        .where(*filters, _status_in(ACTIVE))
        .order_by(jobs.c.priority.desc(), jobs.c.created_at, jobs.c.id)
        .limit(limit)
    )
    found = [record(row) for row in connection.execute(active)]
    if len(found) < limit:
        finished = (
            select(jobs)
            .where(*filters, jobs.c.completed_at > func.now() - RECENT_WINDOW)
            .where(jobs.c.id.not_in([job.id for job in found]))  # one may have ended since the first statement
            .order_by(jobs.c.priority.desc(), jobs.c.completed_at.desc(), jobs.c.id)
            .limit(limit - len(found))
        )
        found += [record(row) for row in connection.execute(finished)]
    return found


def finished(
    connection: Connection, scope: Scope, filters: Filters = NO_FILTERS, *, cursor: str | None, size: int
) -> Page:
    """Finished jobs, last finished first, that follow `cursor` (None: the first ones)."""
    matching = [*matches(connection, scope, filters), jobs.c.completed_at.is_not(None)]
    if cursor is not None:
        matching.append(tuple_(jobs.c.completed_at, jobs.c.id) < tuple_(*map(literal, _position(cursor))))
    statement = select(jobs).where(*matching).order_by(jobs.c.completed_at.desc(), jobs.c.id.desc()).limit(size + 1)
    found = [record(row) for row in connection.execute(statement)]
    last = found[size - 1] if len(found) > size else None
    return Page(found[:size], None, _encode(last.completed_at, last.id) if last and last.completed_at else None)


def stats(
    connection: Connection, scope: Scope, *, window: timedelta | None = RECENT_WINDOW, project_id: str | None = None
) -> Stats:
    """Counts of active jobs, and of those that finished within the window; None: whenever that was."""
    visible = matches(connection, scope, Filters(project_id=project_id))
    columns = (
        *(jobs.c.status, jobs.c.hold, jobs.c.attempt, jobs.c.due_at, jobs.c.scheduled_at),
        *(jobs.c.created_at, jobs.c.started_at, jobs.c.completed_at, jobs.c.updated_at),
    )
    counted = union_all(
        select(*columns).where(*visible, _status_in(ACTIVE)),
        select(*columns).where(
            *visible,
            jobs.c.completed_at.is_not(None) if window is None else jobs.c.completed_at > func.now() - window,
        ),
    ).subquery()

    queued = counted.c.status == Status.QUEUED
    is_later = and_(queued, counted.c.due_at > func.now())
    is_ready = and_(queued, func.coalesce(counted.c.due_at <= func.now(), True), _is_let_through(counted.c.hold))
    # Since when it waits: a job that has run before waits since it was put back, not since it was created.
    ready_since = case(
        (counted.c.attempt > 0, counted.c.updated_at), else_=func.greatest(counted.c.created_at, counted.c.scheduled_at)
    )

    def count(status: Status) -> ColumnElement[int]:
        return func.count().filter(counted.c.status == status)

    row = connection.execute(
        select(
            func.count().label("total"),
            func.count().filter(counted.c.status.in_(ACTIVE)).label("total_active"),
            func.count().filter(is_ready).label("pending"),
            func.count().filter(is_later).label("scheduled"),
            count(Status.RUNNING).label("running"),
            count(Status.RETRYING).label("retrying"),
            count(Status.SUCCEEDED).label("completed"),
            count(Status.FAILED).label("failed"),
            count(Status.CANCELLED).label("cancelled"),
            func.count().filter(counted.c.hold != Hold.EXTERNAL).label("held"),
            (func.now() - func.min(ready_since).filter(is_ready)).label("oldest"),
            func.avg(counted.c.completed_at - counted.c.started_at)
            .filter(counted.c.status == Status.SUCCEEDED)
            .label("average"),
        )
    ).one()
    return Stats(
        total=row.total,
        total_active=row.total_active,
        pending=row.pending,
        scheduled=row.scheduled,
        running=row.running,
        retrying=row.retrying,
        completed=row.completed,
        failed=row.failed,
        cancelled=row.cancelled,
        held=row.held,
        oldest_pending_age=row.oldest,
        average_duration=row.average,
    )


def timeline(connection: Connection, job_id: UUID) -> Sequence[HistoryEntry]:
    """A job's history, oldest first: its last thousand reports, and its last thousand rows of any other kind.

    The caller checks who may see the job.
    """
    last = _history_of(job_id).order_by(history.c.id.desc()).limit(TIMELINE_LIMIT)
    reports, others = last.where(history.c.event == Event.PROGRESS), last.where(history.c.event != Event.PROGRESS)
    rows = [*connection.execute(reports), *connection.execute(others)]
    return [_entry(row) for row in sorted(rows, key=lambda row: row.id)]


def last_move(connection: Connection, job_id: UUID, to_status: Status) -> HistoryEntry | None:
    """The history row of how a job came to this status the last time. None when it never did, or was removed."""
    statement = (
        _history_of(job_id)
        .where(history.c.to_status == to_status, history.c.from_status != to_status)
        .order_by(history.c.id.desc())
        .limit(1)
    )
    row = connection.execute(statement).first()
    return _entry(row) if row is not None else None


def _history_of(job_id: UUID) -> Select[Any]:
    """The rows of a job that is there. The time lets the partitions before it be left out."""
    created = select(jobs.c.created_at - CLOCK_SET_BACK).where(jobs.c.id == job_id).scalar_subquery()
    return select(history).where(history.c.job_id == job_id, history.c.at >= created)


def attempts(entries: Sequence[HistoryEntry]) -> Sequence[AttemptRecord]:
    """The attempts that a job's history tells of, oldest first."""
    found: dict[int, AttemptRecord] = {}
    for entry in entries:
        if entry.event is Event.STARTED:
            found[entry.attempt] = AttemptRecord(entry.attempt, entry.dispatch, entry.actor, entry.at)
        elif entry.from_status is Status.RUNNING and entry.to_status is not Status.RUNNING and entry.attempt in found:
            found[entry.attempt] = _ended(found[entry.attempt], entry)
    return list(found.values())


def _ended(attempt: AttemptRecord, entry: HistoryEntry) -> AttemptRecord:
    return AttemptRecord(
        attempt=attempt.attempt,
        dispatch=attempt.dispatch,
        worker=attempt.worker,
        started_at=attempt.started_at,
        completed_at=entry.at,
        outcome=entry.event,
        error_type=entry.detail.get("errorType"),
        error_message=entry.detail.get("error"),
        traceback=entry.detail.get("traceback"),
    )


def _entry(row: Row[Any]) -> HistoryEntry:
    return HistoryEntry(
        id=row.id,
        job_id=row.job_id,
        event=Event(row.event),
        from_status=Status(row.from_status) if row.from_status else None,
        to_status=Status(row.to_status),
        attempt=row.attempt,
        dispatch=row.dispatch,
        actor=row.actor,
        detail=row.detail,
        at=row.at,
    )


def _is_let_through(hold: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a due job waits for nothing but a slot, a worker or the leader, or for those who work elsewhere."""
    return func.coalesce(hold.in_([Hold.ORGANIZATION_LIMIT, Hold.SCHEDULE, Hold.EXTERNAL]), True)


def _visible(scope: Scope) -> list[ColumnElement[bool]]:
    mine = [jobs.c.organization_id == scope.organization_id]
    return mine if scope.user_id is None else [*mine, jobs.c.user_id == scope.user_id]


def matches(connection: Connection, scope: Scope, filters: Filters) -> list[ColumnElement[bool]]:
    """The conditions of a query for the jobs of a scope that match."""
    conditions = _visible(scope)
    equal = {jobs.c.job_type: filters.job_type, jobs.c.project_id: filters.project_id, jobs.c.user_id: filters.user_id}
    conditions += [column == value for column, value in equal.items() if value is not None]
    if filters.statuses:
        conditions.append(_status_in(filters.statuses))
    conditions += _between(jobs.c.created_at, filters.created_from, filters.created_to)
    conditions += _between(jobs.c.completed_at, filters.completed_from, filters.completed_to)
    if filters.completed_to is not None:  # follows from a CHECK: a list is in the order of creation
        conditions.append(jobs.c.created_at < filters.completed_to)
    if filters.ids:
        conditions.append(jobs.c.id.in_(filters.ids))
    if filters.schedule_id is not None:
        made = select(outcomes.c.job_id).where(outcomes.c.schedule_id == filters.schedule_id)
        conditions.append(jobs.c.id.in_(made.where(outcomes.c.job_id.is_not(None))))
    if filters.search:
        conditions += search.conditions(connection, scope, filters.search)
    return conditions


def _status_in(statuses: Sequence[Status]) -> ColumnElement[bool]:
    # Literals, not parameters: only then can the planner use the partial indexes on status.
    return jobs.c.status.in_([literal(str(status), literal_execute=True) for status in statuses])


def _between(
    column: ColumnElement[datetime | None] | ColumnElement[datetime], start: datetime | None, end: datetime | None
) -> list[ColumnElement[bool]]:
    lower = [column >= start] if start is not None else []
    return [*lower, column < end] if end is not None else lower


def _newest(connection: Connection, statement: Select[Any], limit: int) -> list[JobRecord]:
    ordered = statement.order_by(*NEWEST_FIRST).limit(limit)
    return [record(row) for row in connection.execute(ordered)]


def _cursor(found: Sequence[JobRecord], size: int) -> str | None:
    return _encode(found[size - 1].created_at, found[size - 1].id) if len(found) > size else None


def _encode(at: datetime, job_id: UUID) -> str:
    return f"{(at - EPOCH) // timedelta(microseconds=1)}-{job_id}"


def _position(cursor: str) -> tuple[datetime, UUID]:
    if not re.fullmatch(CURSOR, cursor):
        raise InvalidValue("cursor is not one that this server gave")
    microseconds, _, job_id = cursor.partition("-")
    return EPOCH + timedelta(microseconds=int(microseconds)), UUID(job_id)
