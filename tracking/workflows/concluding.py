"""Keeping what a workflow was when it ended: its jobs are removed before it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.event_tables import EventType
from tracking.sql import listed
from tracking.states import ACTIVE, Status
from tracking.workflow_tables import WorkflowStatus
from tracking.workflows.state import WITH_STATE, WORKER_MS, nodes

MOST_KEYS = 10  # of jobs that have failed, of which an event tells


def conclude(connection: Connection, batch: int, workflow_id: UUID | None = None) -> Sequence[UUID]:
    """Keep how those ended of which no job goes on, at most `batch`, or this one. Wants a transaction.

    Who retries one of their jobs meanwhile waits for that, and opens the workflow again.
    """
    found = connection.execute(OVER, {"batch": batch, "id": workflow_id}).scalars().all()
    if not found:
        return []
    # Other statements: they see what was done before the first one had the locks.
    connection.execute(BEGUN, {"batch": batch, "ids": list(found)})
    ended = connection.execute(CONCLUDE, {"ids": list(found)}).scalars().all()
    if ended:
        connection.execute(KEEP_ENDS, {"ids": list(ended)})
        connection.execute(TELL_ENDS, {"ids": list(ended)})
    return ended


def tell_begun(connection: Connection, batch: int) -> int:
    """Tell once of each run of a workflow that a job of it has begun, of at most `batch`; returns of how many."""
    return connection.execute(BEGUN, {"batch": batch, "ids": None}).rowcount


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
    SET status = status_now, completed_at = last_end, updated_at = clock_timestamp(),
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

_OF_RUN = (
    "workflow_jobs JOIN jobs ON jobs.id = job_id WHERE workflow_id = workflows.id AND workflow_jobs.run = workflows.run"
)

BEGUN = text(
    f"""
    WITH begun AS (
        SELECT id FROM workflows
        WHERE completed_at IS NULL AND told_at IS NULL
          AND (CAST(:ids AS uuid[]) IS NULL OR id = ANY(CAST(:ids AS uuid[])))
          AND (SELECT true FROM {_OF_RUN} AND attempt > 0 LIMIT 1)
        ORDER BY id
        LIMIT :batch
        FOR UPDATE SKIP LOCKED
    ), told AS (
        UPDATE workflows SET told_at = clock_timestamp() FROM begun WHERE workflows.id = begun.id RETURNING workflows.*
    )
    INSERT INTO events (id, organization_id, user_id, project_id, event, subject_id, detail)
    SELECT nextval('history_id_seq'), organization_id, user_id, project_id, '{EventType.WORKFLOW_STARTED}', id,
           jsonb_build_object('name', name, 'run', run)
    FROM told"""
)

_TOOK = f"(SELECT floor(1000 * extract(EPOCH FROM workflows.completed_at - min(jobs.started_at))) FROM {_OF_RUN})"

# Of those that have just ended, and whose ends were kept.
TELL_ENDS = text(
    f"""
    INSERT INTO events (id, organization_id, user_id, project_id, event, subject_id, detail)
    SELECT nextval('history_id_seq'), organization_id, user_id, project_id,
           CASE status WHEN '{WorkflowStatus.SUCCEEDED}' THEN '{EventType.WORKFLOW_COMPLETED}'
                       WHEN '{WorkflowStatus.FAILED}' THEN '{EventType.WORKFLOW_FAILED}'
                       ELSE '{EventType.WORKFLOW_CANCELLED}' END,
           id,
           jsonb_build_object('name', name, 'run', run, 'duration', {_TOOK}, 'jobs', ended.jobs)
           || CASE status WHEN '{WorkflowStatus.FAILED}' THEN jsonb_build_object('failed', ended.failed)
                          WHEN '{WorkflowStatus.CANCELLED}'
                          THEN jsonb_build_object('by', cancelled_by, 'reason', reason)
                          ELSE '{{}}' END
    FROM workflows
    CROSS JOIN LATERAL (
        SELECT (SELECT jsonb_object_agg(ended, number)
                FROM (SELECT ended, count(*) AS number FROM workflow_jobs
                      WHERE workflow_id = workflows.id GROUP BY ended) AS counted) AS jobs,
               (SELECT jsonb_agg(key ORDER BY place)
                FROM (SELECT key, place FROM workflow_jobs
                      WHERE workflow_id = workflows.id AND ended = '{Status.FAILED}'
                      ORDER BY place LIMIT {MOST_KEYS}) AS first) AS failed) AS ended
    WHERE id = ANY(CAST(:ids AS uuid[]))
    ORDER BY completed_at, id"""
)

# Of each workflow by itself: a join would read all jobs, of those that are kept as well.
FORGET = text(
    """
    WITH old AS (
        SELECT id FROM workflows
        WHERE completed_at < clock_timestamp() - CAST(:older_than AS interval)
          AND NOT EXISTS (SELECT FROM workflow_jobs CROSS JOIN LATERAL (
                              SELECT FROM jobs WHERE jobs.id = job_id
                              OFFSET 0) AS kept
                          WHERE workflow_id = workflows.id
                          OFFSET 0)
        ORDER BY completed_at
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ), jobs_of AS (
        DELETE FROM workflow_jobs USING old WHERE workflow_id = old.id
    )
    DELETE FROM workflows USING old WHERE workflows.id = old.id
    RETURNING workflows.id"""
)
