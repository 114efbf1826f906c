"""The reads: one job, pages of jobs, what is recent, counts, history. Each runs on an index named in schema.py."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Interval,
    Row,
    Select,
    Text,
    and_,
    any_,
    case,
    cast,
    func,
    literal,
    null,
    select,
    tuple_,
    union_all,
)

from tracking.errors import InvalidValue, JobNotFound
from tracking.models import Fence, JobRecord, Scope
from tracking.reads import everywhere, past
from tracking.reads.answers import AttemptRecord, Filters, HistoryEntry, Page, Stats
from tracking.reads.everywhere import of_each
from tracking.reads.matching import (
    IS_OVER,
    Place,
    Way,
    bounded,
    is_spread,
    matches,
    of_all,
    status_in,
    visible_to,
    ways_to,
)
from tracking.schema import history, jobs
from tracking.sql import record
from tracking.states import ACTIVE, Event, Hold, Status

NO_FILTERS = Filters()
RECENT_WINDOW = timedelta(hours=1)
CLOCK_SET_BACK = timedelta(hours=1)  # as in `in_life` of tracking/sql.py
TIMELINE_LIMIT = 1000
RETRIES = 100
MOST_COUNTED = 10_000  # jobs of a list, and of its numbered pages: counting a million takes a core for 0.1 s
MOST_FOUND = 1_000  # the same where something is searched, or everywhere: that may take a look at each row
ACTIVE_FIRST = (jobs.c.priority.desc(), jobs.c.created_at, jobs.c.id)
LAST_FIRST = (jobs.c.completed_at.desc(), jobs.c.id.desc())
ENDED_FIRST = (jobs.c.priority.desc(), jobs.c.completed_at.desc(), jobs.c.id)
NEWEST_FIRST = (jobs.c.created_at.desc(), jobs.c.id.desc())

# Where a page ends: microseconds since 1970, and the last job.
CURSOR = "[0-9]{1,17}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def get(connection: Connection, job_id: UUID, scope: Scope) -> JobRecord:
    """One job. Raises JobNotFound, also for one outside the scope."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id, *visible_to(scope))).one_or_none()
    if row is None:
        raise JobNotFound
    return record(row)


def get_as_of(connection: Connection, job_id: UUID, scope: Scope, at: datetime) -> JobRecord:
    """One job as it was then. Raises JobNotFound, also for one that was not there yet."""
    job = get(connection, job_id, scope)
    if job.created_at > at:
        raise JobNotFound
    return past.as_they_were(connection, [job], at)[0]


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
    """Page `number` (from 1) of the matching jobs, newest first, with the total: both end at `most_counted` jobs.

    Where no index has what is searched for, both end where the look ends as well, see `bounded`; the cursor goes on.
    """
    (ways, end), most, spread = bounded(connection, scope, filters), most_counted(filters), is_spread(scope, filters)
    most = min(most, MOST_FOUND) if spread else most
    some = of_all(ways, lambda way: select(jobs.c.id).where(*way).limit(most + 1), spread=spread)
    counted = some.limit(most + 1).subquery()
    total = connection.execute(select(func.count()).select_from(counted)).scalar_one()
    start = (number - 1) * size
    shown = max(0, min(size, most - start))  # none on a page behind the last one, which has its cursor
    first, kept = min(start, most - 1), max(shown, 1)
    found = _first(connection, ways, jobs.c.created_at, first, kept + 1, spread=spread)
    jobs_of_page = _then(connection, found[:shown], filters)
    return Page(jobs_of_page, min(total, most), _cursor(found, kept, end), total > most or end is not None, end)


def most_counted(filters: Filters) -> int:
    """How many jobs of a list are counted, and are on numbered pages."""
    return MOST_FOUND if filters.search else MOST_COUNTED


def after(
    connection: Connection, scope: Scope, filters: Filters = NO_FILTERS, *, cursor: str | None, size: int
) -> Page:
    """The matching jobs that follow `cursor` (None: the first ones), newest first: deep reading at constant cost.

    Where no index has what is searched for, there may be fewer than `size`, or none, and a cursor that goes on.
    """
    follows = []
    if cursor is not None:
        follows = [tuple_(jobs.c.created_at, jobs.c.id) < tuple_(*map(literal, _position(cursor)))]
    ways, end = bounded(connection, scope, filters, *follows)
    found = _first(connection, ways, jobs.c.created_at, 0, size + 1, spread=is_spread(scope, filters))
    return Page(_then(connection, found[:size], filters), None, _cursor(found, size, end), looked_until=end)


def retries(connection: Connection, job_id: UUID, scope: Scope) -> Sequence[JobRecord]:
    """The jobs that repeat this one with another payload, oldest first, at most RETRIES."""
    repeating = select(jobs).where(jobs.c.retry_of == job_id, *visible_to(scope))
    return [record(row) for row in connection.execute(repeating.order_by(jobs.c.created_at, jobs.c.id).limit(RETRIES))]


def recent(
    connection: Connection,
    scope: Scope,
    *,
    limit: int,
    job_type: str | None = None,
    status: Status | None = None,
) -> Sequence[JobRecord]:
    """Active jobs, then those finished in the last hour.

    Active first, then more urgent first, then oldest first (active) or newest first (finished). Of those that have
    finished everywhere, the newest ones are taken.
    """
    wanted = Filters(job_type=job_type, statuses=(status,) if status else ())
    filters = matches(connection, scope, wanted)
    found = _in_order(connection, scope, [*filters, status_in(ACTIVE)], ACTIVE_FIRST, limit)
    if len(found) < limit:
        ended = [*filters, jobs.c.completed_at > func.now() - RECENT_WINDOW]
        ended.append(jobs.c.id.not_in([job.id for job in found]))  # one may have ended since the first statement
        order = LAST_FIRST if scope.is_everywhere else ENDED_FIRST
        finished = _in_order(connection, scope, ended, order, limit - len(found))
        found += sorted(finished, key=lambda job: -job.priority)
    return found


def _in_order(
    connection: Connection, scope: Scope, conditions: Way, order: everywhere.Order, limit: int
) -> list[JobRecord]:
    found = select(jobs).where(*conditions).limit(limit)
    if scope.is_everywhere:
        found = select(jobs).where(_is_one_of(everywhere.first(conditions, order, limit)))
    return [record(row) for row in connection.execute(found.order_by(*order))]


def finished(
    connection: Connection, scope: Scope, filters: Filters = NO_FILTERS, *, cursor: str | None, size: int
) -> Page:
    """Finished jobs, last finished first, that follow `cursor` (None: the first ones)."""
    over: list[ColumnElement[bool]] = [IS_OVER]
    if cursor is not None:
        over.append(tuple_(jobs.c.completed_at, jobs.c.id) < tuple_(*map(literal, _position(cursor))))
    ways = [[*way, *over] for way in ways_to(connection, scope, filters, IS_OVER)]
    found = _first(connection, ways, jobs.c.completed_at, 0, size + 1, spread=is_spread(scope, filters))
    last = found[size - 1] if len(found) > size else None
    return Page(found[:size], None, _encode(last.completed_at, last.id) if last and last.completed_at else None)


def stats(
    connection: Connection, scope: Scope, *, window: timedelta | None = RECENT_WINDOW, project_id: str | None = None
) -> Stats:
    """Counts of active jobs, and of those that finished within the window; None: whenever that was."""
    visible = matches(connection, scope, Filters(project_id=project_id))
    is_queued = jobs.c.status == Status.QUEUED
    is_later = and_(is_queued, jobs.c.due_at > func.now()).label("is_later")
    has_run = and_(is_queued, jobs.c.attempt > 0).label("has_run")
    since = func.greatest(jobs.c.created_at, jobs.c.scheduled_at).label("since")
    # An index has all of it, which holds nothing that a report changes.
    columns = (jobs.c.id, jobs.c.status, jobs.c.hold, is_later, has_run, since)
    active = _all(scope, select(*columns).where(*visible, status_in(ACTIVE))).subquery()
    kind, none = (active.c.status, active.c.hold, active.c.is_later), cast(null(), Interval)
    # A job that has run before waits since it was put back, not since it was created: the rows of these few are read.
    again = jobs.alias("again")
    put_back = select(again.c.updated_at).where(again.c.id == active.c.id).scalar_subquery()
    waiting_since = case((active.c.has_run, put_back), else_=active.c.since)
    within = jobs.c.completed_at.is_not(None) if window is None else jobs.c.completed_at > func.now() - window
    ran = (jobs.c.completed_at - jobs.c.started_at).label("ran")
    ended = _all(scope, select(jobs.c.status, ran).where(*visible, within)).subquery()
    groups = union_all(
        select(
            *(*kind, func.count().label("number")),
            (func.now() - func.min(waiting_since)).label("age"),
            none.label("ran"),
        ).group_by(*kind),
        select(
            *(ended.c.status, cast(null(), Text), cast(null(), Boolean), func.count(), none),
            func.avg(ended.c.ran),
        ).group_by(ended.c.status),
    )
    return _stats(connection.execute(groups).all())


def _all(scope: Scope, found: Select[Any]) -> Select[Any]:
    return of_each(found) if scope.is_everywhere else found


def _stats(groups: Sequence[Row[Any]]) -> Stats:
    """Put together from counts by status, hold and whether it is due later; the finished ones by status alone."""
    by_status: Counter[str] = Counter()
    for group in groups:
        by_status[group.status] += group.number
    ready = [
        each for each in groups if each.status == Status.QUEUED and not each.is_later and _is_let_through(each.hold)
    ]
    succeeded = [each.ran for each in groups if each.status == Status.SUCCEEDED]
    return Stats(
        total=by_status.total(),
        total_active=sum(by_status[status] for status in ACTIVE),
        pending=sum(each.number for each in ready),
        scheduled=sum(each.number for each in groups if each.is_later),
        running=by_status[Status.RUNNING],
        retrying=by_status[Status.RETRYING],
        completed=by_status[Status.SUCCEEDED],
        failed=by_status[Status.FAILED],
        cancelled=by_status[Status.CANCELLED],
        held=sum(each.number for each in groups if each.hold not in (None, Hold.EXTERNAL)),
        oldest_pending_age=max((each.age for each in ready if each.age is not None), default=None),
        average_duration=succeeded[0] if succeeded else None,
    )


def timeline(connection: Connection, job_id: UUID) -> Sequence[HistoryEntry]:
    """A job's history, oldest first: its last thousand reports, and its last thousand rows of any other kind.

    The caller checks who may see the job.
    """
    last = _history_of(job_id).order_by(history.c.id.desc()).limit(TIMELINE_LIMIT)
    reports, others = last.where(history.c.event == Event.PROGRESS), last.where(history.c.event != Event.PROGRESS)
    rows = [*connection.execute(reports), *connection.execute(others)]
    return [HistoryEntry.of(row) for row in sorted(rows, key=lambda row: row.id)]


def last_move(connection: Connection, job_id: UUID, to_status: Status) -> HistoryEntry | None:
    """The history row of how a job came to this status the last time. None when it never did, or was removed."""
    statement = (
        _history_of(job_id)
        .where(history.c.to_status == to_status, history.c.from_status != to_status)
        .order_by(history.c.id.desc())
        .limit(1)
    )
    row = connection.execute(statement).first()
    return HistoryEntry.of(row) if row is not None else None


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


def _is_let_through(hold: str | None) -> bool:
    """Whether a due job waits for nothing but a slot, a worker or the leader."""
    return hold in (None, Hold.ORGANIZATION_LIMIT, Hold.SCHEDULE)


def _first(
    connection: Connection, ways: Sequence[Way], by: ColumnElement[Any], offset: int, limit: int, *, spread: bool
) -> list[JobRecord]:
    """The jobs that match in any way, the latest first; `spread`: of each organization in turn.

    Their ids first, which an index has: the rows before the page are not read.
    """
    are_several = spread or len(ways) > 1

    def latest(way: Way) -> Select[Any]:
        found = select(jobs.c.id, by.label("at")).where(*way).order_by(by.desc(), jobs.c.id.desc())
        return found.limit(offset + limit) if are_several else found.offset(offset).limit(limit)

    found = of_all(ways, latest, spread=spread)
    if are_several:
        found = found.order_by(found.selected_columns.at.desc(), found.selected_columns.id.desc())
        found = found.offset(offset).limit(limit)
    ids = select(found.subquery().c.id)
    rows = connection.execute(select(jobs).where(_is_one_of(ids)).order_by(by.desc(), jobs.c.id.desc()))
    return [record(row) for row in rows]


def _is_one_of(ids: Select[Any]) -> ColumnElement[bool]:
    """Whether the job is one of these, which are looked for once.

    In a join, a planner that thinks the table is empty may look for them anew for each row, until the time limit.
    """
    return jobs.c.id == any_(func.array(ids.scalar_subquery()))


def _then(connection: Connection, found: Sequence[JobRecord], filters: Filters) -> Sequence[JobRecord]:
    return found if filters.as_of is None else past.as_they_were(connection, found, filters.as_of)


def _cursor(found: Sequence[JobRecord], size: int, end: Place | None) -> str | None:
    """Behind the page, or where there is no more of it, behind what was looked at."""
    if len(found) > size:
        return _encode(found[size - 1].created_at, found[size - 1].id)
    return None if end is None else _encode(*end)


def _encode(at: datetime, job_id: UUID) -> str:
    return f"{(at - EPOCH) // timedelta(microseconds=1)}-{job_id}"


def _position(cursor: str) -> tuple[datetime, UUID]:
    if not re.fullmatch(CURSOR, cursor):
        raise InvalidValue("cursor is not one that this server gave")
    microseconds, _, job_id = cursor.partition("-")
    return EPOCH + timedelta(microseconds=int(microseconds)), UUID(job_id)
