"""The messages of waiting jobs: which are to be sent, which were, and which the broker has lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.fingerprints import printed
from tracking.models import Fence, JobRecord
from tracking.sql import JOB, listed, move, record
from tracking.states import WAITING, Event, Status


def undispatched(connection: Connection, older_than: timedelta, limit: int) -> list[JobRecord]:
    """Jobs that were accepted at least `older_than` ago and whose message the broker has not confirmed."""
    return [record(row) for row in connection.execute(UNDISPATCHED, {"age": older_than, "limit": limit})]


def mark_dispatched(connection: Connection, fences: Iterable[Fence]) -> None:
    """Record that the broker has confirmed these dispatches."""
    connection.execute(MARK_DISPATCHED, _unnested(list(fences)))


def redispatch(connection: Connection, fence: Fence) -> bool:
    """Have the message of a waiting job sent again. False when this dispatch of it does not wait."""
    return connection.execute(REDISPATCH, fence.parameters).first() is not None


def waiting_queues(connection: Connection, age: timedelta) -> list[tuple[str, datetime]]:
    """The queues with a job that was sent `age` ago and still waits for a worker, and the time of this answer."""
    return [(row.queue, row.at) for row in connection.execute(WAITING_QUEUES, {"age": age})]


def missing(connection: Connection, queue: str, at: datetime, age: timedelta, *, ready: int, limit: int) -> list[Fence]:
    """Jobs whose message the broker has probably lost.

    If more jobs wait on `queue` than messages were `ready` there, the difference, oldest dispatch first; at most
    `limit`. Jobs dispatched less than `age` before `at`, the time of that count, are not taken for lost.
    """
    parameters = {"queue": queue, "at": at, "age": age, "ready": ready, "limit": limit}
    return [Fence(row.id, row.dispatch) for row in connection.execute(MISSING, parameters)]


def send_again(connection: Connection, fences: Sequence[Fence]) -> list[UUID]:
    """Have the messages of waiting jobs sent once more, with the same numbers; returns the jobs."""
    return list(connection.execute(SEND_AGAIN, _unnested(fences)).scalars())


def fail_waiting(
    connection: Connection, fence: Fence, *, actor: str, error_type: str, message: str, job_type: str | None = None
) -> bool:
    """Fail a job that no worker can ever run. False when this dispatch of it does not wait, or is of another type."""
    why = {"actor": actor, "error_type": error_type, "error_message": message}
    parameters = {**fence.parameters, **why, "job_type": job_type}
    return connection.execute(FAIL_WAITING, parameters).first() is not None


def _unnested(fences: Sequence[Fence]) -> dict[str, Any]:
    return {"job_ids": [each.job_id for each in fences], "dispatches": [each.dispatch for each in fences]}


_FENCES = "unnest(CAST(:job_ids AS uuid[]), CAST(:dispatches AS int[]))"
_IS_SENT = f"status IN ({listed(WAITING)}) AND hold IS NULL AND dispatched_at IS NOT NULL"

# What a producer has just accepted it sends itself; what was released, nobody else will.
UNDISPATCHED = text(
    f"""
    SELECT {JOB} FROM jobs
    WHERE status IN ({listed(WAITING)}) AND hold IS NULL AND dispatched_at IS NULL
      AND (status = '{Status.QUEUED}' AND started_at IS NOT NULL
           OR updated_at <= clock_timestamp() - CAST(:age AS interval))
    ORDER BY created_at
    LIMIT :limit"""
)


def _locked(condition: str) -> str:
    """SQL, a CTE: the rows of these dispatches. Two batches of the same rows lock them in one order: no deadlock.

    Each is looked up by itself, as in `each_locked`: a join would compare each of them with all that was sent.
    """
    return f"""locked AS (
        SELECT found.id
        FROM (SELECT * FROM {_FENCES} AS each (job_id, number)
              ORDER BY job_id LIMIT cardinality(CAST(:job_ids AS uuid[]))) AS each
        CROSS JOIN LATERAL (SELECT id FROM jobs
                            WHERE id = each.job_id AND dispatch = each.number AND {condition} FOR NO KEY UPDATE
                           ) AS found
    )"""


MARK_DISPATCHED = text(
    f"""
    WITH {_locked("dispatched_at IS NULL")}
    UPDATE jobs SET dispatched_at = clock_timestamp() FROM locked WHERE jobs.id = locked.id"""
)

REDISPATCH = text(
    f"""
    UPDATE jobs SET dispatched_at = NULL, updated_at = clock_timestamp()
    WHERE id = :id AND dispatch = :dispatch AND status IN ({listed(WAITING)})
    RETURNING id"""
)

WAITING_QUEUES = text(
    f"""
    SELECT queue, statement_timestamp() AS at FROM jobs
    WHERE {_IS_SENT}
    GROUP BY queue
    HAVING min(dispatched_at) < statement_timestamp() - CAST(:age AS interval)"""
)

# What was sent before `at` and waits still, was ready or on its way to a worker when the broker was asked after `at`.
MISSING = text(
    f"""
    WITH waiting AS (
        SELECT id, dispatch, dispatched_at FROM jobs WHERE {_IS_SENT} AND queue = :queue AND dispatched_at < :at
    )
    SELECT id, dispatch FROM waiting
    WHERE dispatched_at < :at - CAST(:age AS interval)
    ORDER BY dispatched_at
    LIMIT least(:limit, greatest(0, (SELECT count(*) FROM waiting) - :ready))"""
)

# Its last change was long ago: upkeep finds it at once.
SEND_AGAIN = text(
    f"""
    WITH {_locked(_IS_SENT)}
    UPDATE jobs SET dispatched_at = NULL FROM locked WHERE jobs.id = locked.id
    RETURNING jobs.id"""
)

FAIL_WAITING = text(
    move(
        Event.FAILED,
        f"""hold = NULL, due_at = NULL, error_type = :error_type, error_message = :error_message,
            {printed(":error_type", ":error_message")}, completed_at = clock_timestamp()""",
        "jsonb_build_object('errorType', error_type, 'error', error_message, 'willRetry', false)",
        find="""id = :id AND dispatch = :dispatch AND NOT external
          AND job_type = coalesce(CAST(:job_type AS text), job_type)""",
        to=Status.FAILED,
        out_of=WAITING,
        answer="SELECT id FROM moved",
    )
)
