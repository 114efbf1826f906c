"""Keeping what a workflow was when it ended: its jobs are removed before it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.sql import listed
from tracking.states import ACTIVE
from tracking.workflow_tables import WorkflowStatus
from tracking.workflows.state import WITH_STATE, WORKER_MS, nodes


def conclude(connection: Connection, batch: int, workflow_id: UUID | None = None) -> Sequence[UUID]:
    """Keep how those ended of which no job goes on, at most `batch`, or this one. Wants a transaction.

    Who retries one of their jobs meanwhile waits for that, and opens the workflow again.
    """
    found = connection.execute(OVER, {"batch": batch, "id": workflow_id}).scalars().all()
    if not found:
        return []
    # Another statement: it sees what was done before the first one had the locks.
    ended = connection.execute(CONCLUDE, {"ids": list(found)}).scalars().all()
    if ended:
        connection.execute(KEEP_ENDS, {"ids": list(ended)})
    return ended


def forget(connection: Connection, older_than: timedelta, limit: int) -> int:
    """Delete workflows that ended longer ago and of which no job is kept, at most `limit`; returns how many."""
    return len(connection.execute(FORGET, {"older_than": older_than, "limit": limit}).all())


OVER = text(
    f"""
    SELECT id FROM workflows
    WHERE completed_at IS NULL AND (CAST(:id AS uuid) IS NULL OR id = :id)
      AND (SELECT true FROM workflow_jobs JOIN jobs ON jobs.id = job_id
           WHERE workflow_id = workflows.id AND (jobs.status IN ({listed(ACTIVE)}) OR jobs.stopping)
           LIMIT 1) IS NULL
    ORDER BY id
    LIMIT :batch
    FOR UPDATE SKIP LOCKED"""
)

_GOES_ON = f"('{WorkflowStatus.QUEUED}', '{WorkflowStatus.RUNNING}')"

CONCLUDE = text(
    f"""
    WITH ended AS (
        SELECT workflows.id, status_now, coalesce(last_end, clock_timestamp()) AS last_end, {WORKER_MS} AS worker_ms
        FROM {WITH_STATE} WHERE workflows.id = ANY(CAST(:ids AS uuid[]))
    )
    UPDATE workflows
    SET status = status_now, completed_at = last_end, updated_at = clock_timestamp(), told_at = NULL,
        worker_ms = greatest(workflows.worker_ms, ended.worker_ms)
    FROM ended
    WHERE workflows.id = ended.id AND status_now NOT IN {_GOES_ON} AND completed_at IS NULL
    RETURNING workflows.id"""
)

KEEP_ENDS = text(
    f"""
    UPDATE workflow_jobs SET ended = status_now
    FROM ({nodes("node.workflow_id = ANY(CAST(:ids AS uuid[]))")}) AS found
    WHERE workflow_jobs.workflow_id = found.workflow_id AND workflow_jobs.key = found.key"""
)

FORGET = text(
    """
    WITH old AS (
        SELECT id FROM workflows
        WHERE completed_at < clock_timestamp() - CAST(:older_than AS interval)
          AND NOT EXISTS (SELECT FROM workflow_jobs JOIN jobs ON jobs.id = job_id WHERE workflow_id = workflows.id)
        ORDER BY completed_at
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ), jobs_of AS (
        DELETE FROM workflow_jobs USING old WHERE workflow_id = old.id
    )
    DELETE FROM workflows USING old WHERE workflows.id = old.id
    RETURNING workflows.id"""
)
