"""What became of the due times of schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking import events
from tracking.columns import columns_of
from tracking.event_tables import EventType
from tracking.schedule_tables import outcomes
from tracking.schedules.values import Became, Outcome
from tracking.sql import array
from tracking.states import Status


def note(
    connection: Connection,
    schedule_id: UUID,
    due: Sequence[datetime],
    became: Became,
    *,
    reason: str,
    actor: str | None,
) -> None:
    """Write what became of due times in a row, oldest first, that made no job.

    What has happened to the one before them as well, and nobody has asked for, is one outcome with them.
    """
    if not due:
        return
    parameters = {
        "schedule_id": schedule_id,
        "due_at": due[0],
        "last_due_at": due[-1],
        "count": len(due),
        "became": became,
        "reason": reason,
        "actor": actor,
    }
    written = connection.execute(PROLONG, parameters).first() or connection.execute(NOTE, parameters).first()
    if written is not None:
        event = EventType.SCHEDULE_FAILED if became is Became.FAILED else EventType.SCHEDULE_SKIPPED
        events.of_due_times(connection, schedule_id, event, due[0], due[-1], count=len(due), reason=reason, actor=actor)


def note_job(connection: Connection, schedule_id: UUID, due_at: datetime, job_id: UUID, *, actor: str | None) -> bool:
    """Write that this due time makes this job. False when something has become of it already."""
    parameters = {"schedule_id": schedule_id, "due_at": due_at, "job_id": job_id, "actor": actor}
    if connection.execute(NOTE_JOB, parameters).first() is None:
        return False
    events.of_due_times(
        connection, schedule_id, EventType.SCHEDULE_FIRED, due_at, due_at, count=1, job_id=job_id, actor=actor
    )
    return True


def foretold(connection: Connection, schedule_id: UUID, after: datetime) -> set[datetime]:
    """The due times after this moment of which it is known already what becomes of them: they are to be skipped."""
    return set(connection.execute(FORETOLD, {"schedule_id": schedule_id, "after": after}).scalars())


def latest(connection: Connection, schedule_ids: Sequence[UUID], number: int) -> Mapping[UUID, Sequence[Outcome]]:
    """The newest outcomes of each of these schedules, newest first, at most so many of each."""
    found: dict[UUID, list[Outcome]] = {}
    for row in connection.execute(LATEST, {"ids": array(schedule_ids), "number": number}):
        found.setdefault(row.schedule_id, []).append(_outcome(row))
    return found


def page(connection: Connection, schedule_id: UUID, *, before: datetime | None, size: int) -> Sequence[Outcome]:
    """The outcomes of a schedule, newest first, of due times before that one (None: the newest)."""
    parameters = {"schedule_id": schedule_id, "before": before, "size": size}
    return [_outcome(row) for row in connection.execute(PAGE, parameters)]


def forget(connection: Connection, older_than: timedelta, limit: int) -> int:
    """Delete outcomes that are older, the oldest first, at most `limit`; returns how many."""
    return connection.execute(FORGET, {"older_than": older_than, "limit": limit}).rowcount


def _outcome(row: Any) -> Outcome:
    return Outcome(
        due_at=row.due_at,
        last_due_at=row.last_due_at,
        count=row.count,
        became=Became(row.became),
        job_id=row.job_id,
        status=Status(row.status) if row.status else None,
        reason=row.reason,
        actor=row.actor,
        at=row.at,
    )


_LAST = "(SELECT max(due_at) FROM schedule_outcomes WHERE schedule_id = :schedule_id)"

PROLONG = text(
    f"""
    UPDATE schedule_outcomes SET last_due_at = :last_due_at, count = count + :count, at = clock_timestamp()
    WHERE schedule_id = :schedule_id AND due_at = {_LAST} AND became = :became AND reason = :reason
      AND actor IS NULL AND CAST(:actor AS text) IS NULL AND last_due_at < CAST(:due_at AS timestamptz)
    RETURNING due_at"""
)

NOTE = text(
    """
    INSERT INTO schedule_outcomes (schedule_id, due_at, last_due_at, count, became, reason, actor)
    VALUES (:schedule_id, :due_at, :last_due_at, :count, :became, :reason, :actor)
    ON CONFLICT DO NOTHING
    RETURNING due_at"""
)

NOTE_JOB = text(
    f"""
    INSERT INTO schedule_outcomes (schedule_id, due_at, last_due_at, became, job_id, actor)
    VALUES (:schedule_id, :due_at, :due_at, '{Became.JOB}', :job_id, :actor)
    ON CONFLICT DO NOTHING
    RETURNING due_at"""
)

FORETOLD = text("SELECT due_at FROM schedule_outcomes WHERE schedule_id = :schedule_id AND due_at > :after")

LATEST = text(
    f"""
    SELECT found.*, jobs.status
    FROM unnest(CAST(:ids AS uuid[])) AS asked (id)
    CROSS JOIN LATERAL (SELECT {columns_of(outcomes)} FROM schedule_outcomes WHERE schedule_id = asked.id
                        ORDER BY due_at DESC LIMIT :number) AS found
    LEFT JOIN jobs ON jobs.id = found.job_id
    ORDER BY found.schedule_id, found.due_at DESC"""
)

PAGE = text(
    f"""
    SELECT found.*, jobs.status
    FROM (SELECT {columns_of(outcomes)} FROM schedule_outcomes
          WHERE schedule_id = :schedule_id
            AND (CAST(:before AS timestamptz) IS NULL OR due_at < CAST(:before AS timestamptz))
          ORDER BY due_at DESC LIMIT :size) AS found
    LEFT JOIN jobs ON jobs.id = found.job_id
    ORDER BY found.due_at DESC"""
)

FORGET = text(
    """
    DELETE FROM schedule_outcomes
    WHERE (schedule_id, due_at) IN (SELECT schedule_id, due_at FROM schedule_outcomes
                                    WHERE at < clock_timestamp() - CAST(:older_than AS interval)
                                    ORDER BY at LIMIT :limit)"""
)
