"""Jobs as they were at a time, by their history: what has happened since is left out.

Payload, metadata and limits are the ones of now: no history keeps them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, ColumnElement, Connection, and_, literal_column, select, text

from tracking.columns import columns_of
from tracking.models import JobRecord, Scope
from tracking.reads.answers import HistoryEntry, Stats
from tracking.schema import history, jobs
from tracking.sql import SCOPE, in_life, listed
from tracking.states import ACTIVE, FINISHED, Event, Hold, Status

MOST_ENTRIES = 200  # of the history of one job, the latest ones until then
MOST_LOOKED_UP = 10_000  # jobs that were active, and those that were active and have ended, whose history counts ask


def as_they_were(connection: Connection, found: Sequence[JobRecord], at: datetime) -> list[JobRecord]:
    """These jobs, which were there, as they were then, in their order."""
    changed = [job for job in found if job.updated_at > at]
    entries = _entries_until(connection, changed, at) if changed else {}
    return [job if job.updated_at <= at else as_it_was(job, entries.get(job.id) or [_accepted(job)]) for job in found]


def _entries_until(connection: Connection, found: Sequence[JobRecord], at: datetime) -> dict[UUID, list[HistoryEntry]]:
    """The history of jobs until then, oldest first."""
    rows = connection.execute(UNTIL, {"ids": [job.id for job in found], "at": at, "most": MOST_ENTRIES})
    entries: dict[UUID, list[HistoryEntry]] = {}
    for row in rows:
        entries.setdefault(row.job_id, []).append(HistoryEntry.of(row))
    return entries


def as_it_was(job: JobRecord, entries: Sequence[HistoryEntry]) -> JobRecord:
    """A job as its history says that it was after the last of these entries, oldest first; there is one at least."""
    last = entries[-1]
    moved = _latest(entries, lambda entry: entry.from_status is not entry.to_status) or last
    again = _latest(entries, lambda entry: entry.event is Event.RETRIED)
    begun = _latest(entries, lambda entry: entry.event is Event.STARTED)
    has_begun = begun is not None and (again is None or begun.id > again.id)
    told = _latest(entries, lambda entry: entry.event is Event.PROGRESS and (again is None or entry.id > again.id))
    steps = _latest(entries, lambda entry: entry.event is Event.PROGRESS and bool(entry.detail.get("total")))
    news: dict[str, Any] = told.detail if told else {}
    is_over, has_succeeded = last.to_status in FINISHED, last.to_status is Status.SUCCEEDED
    urgent = _latest(entries, lambda entry: entry.detail.get("priority") is not None)
    failed = _latest(entries, lambda entry: entry.event is Event.FAILED and (again is None or entry.id > again.id))
    error: dict[str, Any] = failed.detail if failed and not has_succeeded else {}
    why = moved.detail.get("reason") if moved.event is Event.CANCELLED else None
    return job._replace(
        status=last.to_status,
        hold=None if is_over else Hold.EXTERNAL if job.external else _hold(entries),
        due_at=_due_at(last, moved),
        priority=urgent.detail["priority"] if urgent else job.priority,
        attempt=last.attempt,
        dispatch=last.dispatch,
        retry_count=sum(_is_retry(entry) for entry in entries),
        worker=begun.actor if begun else None,
        lease=None,
        started_at=begun.at if begun and has_begun else None,
        completed_at=moved.at if is_over else None,
        cancel_requested_at=moved.at if last.to_status is Status.CANCELLED else None,
        cancel_seen_at=None,
        stopping=False,
        result=job.result if has_succeeded else None,
        typed_result=job.typed_result if has_succeeded else None,
        error_type=error.get("errorType"),
        error_message=error.get("error", why),
        progress=100 if has_succeeded else news.get("percentage", 0),
        progress_detail=news.get("detail"),
        message=news.get("message"),
        current_step=news.get("current", 0),
        total_steps=steps.detail["total"] if steps else 0,
        updated_at=last.at,
    )


def until(entries: Sequence[HistoryEntry], at: datetime) -> list[HistoryEntry]:
    """Those that were written until then."""
    return [entry for entry in entries if entry.at <= at]


def stats(
    connection: Connection, scope: Scope, at: datetime, *, window: timedelta | None, project_id: str | None = None
) -> Stats:
    """The counts as they were then, of one organization; `window` None: of all that had finished until then.

    Of the jobs that were active then at most MOST_LOOKED_UP are counted twice over: those that still are, and others.
    """
    given = {**scope.parameters, "at": at, "window": window, "project_id": project_id, "most": MOST_LOOKED_UP}
    groups = connection.execute(STATS, given).all()
    by_status: Counter[str] = Counter()
    for group in groups:
        by_status[group.status] += group.number
    queued = [group for group in groups if group.status == Status.QUEUED]
    pending = [group for group in queued if group.hold in (None, Hold.ORGANIZATION_LIMIT)]
    succeeded = [group for group in groups if group.status == Status.SUCCEEDED and group.ran is not None]
    return Stats(
        total=by_status.total(),
        total_active=sum(by_status[status] for status in ACTIVE),
        pending=sum(group.number for group in pending),
        scheduled=sum(group.number for group in queued if group.hold == Hold.SCHEDULE),
        running=by_status[Status.RUNNING],
        retrying=by_status[Status.RETRYING],
        completed=by_status[Status.SUCCEEDED],
        failed=by_status[Status.FAILED],
        cancelled=by_status[Status.CANCELLED],
        held=sum(group.number for group in groups if group.hold not in (None, Hold.EXTERNAL)),
        oldest_pending_age=max((at - group.since for group in pending), default=None),
        average_duration=succeeded[0].ran if succeeded else None,
    )


def ways_to_have_been(statuses: Sequence[Status], at: datetime) -> list[list[ColumnElement[bool]]]:
    """Conditions of which a job fulfils one when it was in one of these statuses then; each has an index.

    What had ended until then, and has not been retried since, is so still. Of all others the history is asked.
    """
    then = select(history.c.to_status).where(
        history.c.job_id == jobs.c.id, literal_column(in_life("jobs")), history.c.at <= at
    )
    was = then.order_by(history.c.id.desc()).limit(1).scalar_subquery().in_([str(status) for status in statuses])
    over = [str(status) for status in statuses if status in FINISHED]
    rest = [_in(ACTIVE) & was, and_(jobs.c.completed_at.is_not(None), jobs.c.completed_at > at, was)]
    ended = [and_(_in(over), jobs.c.completed_at.is_not(None), jobs.c.completed_at <= at)] if over else []
    return [[way] for way in (*ended, *rest)]


def _in(statuses: Sequence[str]) -> ColumnElement[bool]:
    return literal_column(f"jobs.status IN ({listed([str(each) for each in statuses])})", Boolean)


def _accepted(job: JobRecord) -> HistoryEntry:
    """What the first entry says of a job whose row is older by a moment."""
    detail: dict[str, Any] = {}
    return HistoryEntry(0, job.id, Event.CREATED, None, Status.QUEUED, 0, 1, job.user_id, detail, job.created_at)


def _latest(entries: Sequence[HistoryEntry], is_one: Callable[[HistoryEntry], bool]) -> HistoryEntry | None:
    return next((entry for entry in reversed(entries) if is_one(entry)), None)


def _due_at(last: HistoryEntry, moved: HistoryEntry) -> datetime | None:
    due_at = moved.detail.get("dueAt") if last.to_status is Status.RETRYING else None
    return datetime.fromisoformat(due_at) if due_at else None


def _is_retry(entry: HistoryEntry) -> bool:
    is_move = entry.from_status is not entry.to_status
    return is_move and (entry.to_status is Status.RETRYING or entry.event is Event.RETRIED)


def _hold(entries: Sequence[HistoryEntry]) -> Hold | None:
    """What a job waited for: the last entry that tells of it says so, or tells that it was sent."""
    told = _latest(entries, lambda entry: entry.event in TELLS_OF_A_HOLD)
    if told is None:
        return None
    if told.event is Event.FAILED:
        return Hold.BACKOFF
    name = told.detail.get("next" if told.event is Event.DUE else "hold")
    return Hold(name) if name and told.event is not Event.STARTED else None


TELLS_OF_A_HOLD = (*(Event.CREATED, Event.HELD, Event.DUE, Event.STARTED, Event.FAILED, Event.RELEASED, Event.RETRIED),)

UNTIL = text(
    f"""
    SELECT entry.* FROM jobs CROSS JOIN LATERAL (
        SELECT {columns_of(history)} FROM history WHERE job_id = jobs.id AND {in_life("jobs")} AND at <= :at
        ORDER BY id DESC LIMIT :most) AS entry
    WHERE jobs.id = ANY(CAST(:ids AS uuid[]))
    ORDER BY entry.job_id, entry.id"""
)

_OF_PROJECT = "(CAST(:project_id AS text) IS NULL OR project_id = :project_id)"
_MINE = f"{SCOPE} AND {_OF_PROJECT} AND created_at <= :at"

# The entry before `at` that says the status and the hold. What had ended then, and stayed so, has no need of it.
STATS = text(
    f"""
    WITH others AS MATERIALIZED (
        (SELECT id, created_at FROM jobs WHERE {_MINE} AND status IN ({listed(ACTIVE)}) LIMIT :most)
        UNION ALL
        (SELECT id, created_at FROM jobs WHERE {_MINE} AND completed_at IS NOT NULL AND completed_at > :at LIMIT :most)
    ), were AS (
        SELECT last.* FROM others CROSS JOIN LATERAL (
            SELECT to_status AS status, at AS since,
                   CASE WHEN to_status IN ({listed(FINISHED)}) THEN NULL
                        WHEN event = '{Event.DUE}' THEN detail ->> 'next' WHEN event = '{Event.FAILED}' THEN 'backoff'
                        ELSE detail ->> 'hold' END AS hold
            FROM history
            WHERE job_id = others.id AND {in_life("others")} AND at <= :at
              AND event IN ({listed((*TELLS_OF_A_HOLD, Event.COMPLETED, Event.CANCELLED))})
            ORDER BY history.id DESC LIMIT 1) AS last
    )
    SELECT status, hold, count(*) AS number, min(since) AS since, CAST(NULL AS interval) AS ran
    FROM were
    WHERE status IN ({listed(ACTIVE)}) OR CAST(:window AS interval) IS NULL OR since > :at - CAST(:window AS interval)
    GROUP BY status, hold
    UNION ALL
    SELECT status, NULL, count(*), min(completed_at), avg(completed_at - started_at)
    FROM jobs
    WHERE {SCOPE} AND {_OF_PROJECT} AND completed_at IS NOT NULL AND completed_at <= :at
      AND completed_at > CASE WHEN CAST(:window AS interval) IS NULL THEN CAST('-infinity' AS timestamptz)
                              ELSE :at - CAST(:window AS interval) END
    GROUP BY status"""
)
