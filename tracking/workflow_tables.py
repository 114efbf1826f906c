"""The tables of workflows; they belong to those of schema.py."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import CheckConstraint, Column, Index, Integer, SmallInteger, Table, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import BigInteger

from tracking.columns import EMPTY_OBJECT, INSTANT, metadata, once_by_key, one_of, vacuumed_after
from tracking.states import FINISHED, Status

SKIPPED = "skipped"  # a job that was cancelled because what it waits for cannot come any more


class WorkflowStatus(StrEnum):
    """Where a workflow is, by its jobs. The last three are its ends."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


workflows = Table(
    "workflows",
    metadata,
    Column("id", Uuid, primary_key=True, comment="its jobs have it as their root"),
    Column("organization_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("project_id", Text),
    Column("run", Integer, nullable=False, server_default=text("1"), comment="grows with each retry"),
    Column("status", Text, nullable=False, comment="as its jobs said when it ended; until then running"),
    Column("worker_ms", BigInteger, comment="of all its jobs, when it ended"),
    Column("cancelled_by", Text, comment="who has cancelled this run"),
    Column("reason", Text, comment="why"),
    Column("idempotency_key", Text),
    Column("request_hash", Text),
    Column("created_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("updated_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("completed_at", INSTANT, comment="of the last of its jobs; null = it goes on, or nobody has looked yet"),
    Column("told_at", INSTANT, comment="when it was told that this run has begun"),
    CheckConstraint(one_of("status", WorkflowStatus), name="workflows_status_known"),
    CheckConstraint(f"(completed_at IS NULL) = (status = '{Status.RUNNING}')", name="workflows_completed_when_ended"),
    CheckConstraint("run > 0", name="workflows_run_range"),
    # list
    Index("workflows_listed", "organization_id", "created_at", "id"),
    # the leader: which may have ended; and which may have begun
    Index("workflows_open", "id", postgresql_where=text("completed_at IS NULL")),
    Index("workflows_unbegun", "id", postgresql_where=text("completed_at IS NULL AND told_at IS NULL")),
    once_by_key("workflows"),
    # retention
    Index("workflows_completed_at", "completed_at", postgresql_where=text("completed_at IS NOT NULL")),
    postgresql_with=vacuumed_after(1000),
)

# What was asked for, by its keys, and the job that does it in the latest run. No foreign keys: it outlives its job.
workflow_jobs = Table(
    "workflow_jobs",
    metadata,
    Column("workflow_id", Uuid, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("place", Integer, nullable=False, comment="after all that it waits for"),
    Column("job_id", Uuid, nullable=False),
    Column("run", Integer, nullable=False, server_default=text("1"), comment="in which this job was made"),
    Column("job_type", Text, nullable=False),
    Column("payload", JSONB, nullable=False, server_default=EMPTY_OBJECT, comment="with the names of results in it"),
    Column("after", JSONB, nullable=False, comment="keys, each with the end that is waited for"),
    Column("priority", SmallInteger, comment="null = as the handler says"),
    Column("max_retries", Integer, comment="null = as the handler says"),
    Column("scheduled_at", INSTANT),
    Column("message", Text),
    Column("metadata", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("ended", Text, comment="how, when the workflow had ended: jobs are removed before it"),
    CheckConstraint("priority BETWEEN 0 AND 9", name="workflow_jobs_priority_range"),
    CheckConstraint("jsonb_typeof(after) = 'array'", name="workflow_jobs_after_list"),
    CheckConstraint(
        f"ended IS NULL OR {one_of('ended', (*map(str, FINISHED), SKIPPED))}", name="workflow_jobs_ended_known"
    ),
    # what belongs to a job
    Index("workflow_jobs_by_job", "job_id", unique=True),
    postgresql_with=vacuumed_after(5000),
)
