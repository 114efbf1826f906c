"""Events of workflows and schedules: each is written in the transaction of what it tells of, as history is of jobs.

Who follows the history (tracking.reads.tail) meets them in it, by their ids.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, text

from tracking.event_tables import EventType
from tracking.removals import noted
from tracking.values import in_milliseconds


def of_due_times(
    connection: Connection,
    schedule_id: UUID,
    event: EventType,
    first: datetime,
    last: datetime,
    *,
    count: int,
    actor: str | None,
    job_id: UUID | None = None,
    reason: str | None = None,
) -> None:
    """Write what became of `count` due times of a schedule in a row. `actor`: who has asked; None: it was due."""
    said: dict[str, Any] = {"dueAt": in_milliseconds(first)}
    if count > 1:
        said |= {"lastDueAt": in_milliseconds(last), "count": count}
    told = {"jobId": None if job_id is None else str(job_id), "reason": reason, "by": actor}
    said |= {name: value for name, value in told.items() if value is not None}
    connection.execute(OF_SCHEDULE, {"schedule_id": schedule_id, "event": event, "said": Jsonb(said)})


def forget(connection: Connection, older_than: timedelta, limit: int) -> int:
    """Delete events that are older, the oldest first, at most `limit`; returns how many."""
    return int(connection.execute(FORGET, {"older_than": older_than, "limit": limit}).scalar_one())


OF_SCHEDULE = text(
    """
    INSERT INTO events (id, organization_id, user_id, project_id, job_type, event, subject_id, detail)
    SELECT nextval('history_id_seq'), organization_id, user_id, project_id, job_type, :event, id,
           jsonb_build_object('name', name) || CAST(:said AS jsonb)
    FROM schedules WHERE id = :schedule_id"""
)

FORGET = text(
    f"""
    WITH gone AS (
        DELETE FROM events
        WHERE id IN (SELECT id FROM events WHERE at < clock_timestamp() - CAST(:older_than AS interval)
                     ORDER BY at LIMIT :limit)
        RETURNING id, organization_id
    ), {noted("gone")}
    SELECT count(*) FROM gone"""
)
