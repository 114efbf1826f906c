"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "groups",
        sa.Column("id", sa.Text(), nullable=False, comment="of a canvas group whose results a chord waits for"),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "history",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("from_status", sa.Text(), nullable=True),
        sa.Column("to_status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False, comment="a user, a worker, or a part of the platform"),
        sa.Column(
            "detail", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("history_by_job", "history", ["job_id", "id"], unique=False)
    op.create_index("history_by_organization", "history", ["organization_id", "id"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False, comment="the current dispatch; fences older ones out"),
        sa.Column("organization_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=True),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column(
            "hold", sa.Text(), nullable=True, comment="what a waiting job waits for; null = sent, or about to be"
        ),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True, comment="when a schedule or backoff hold ends"),
        sa.Column(
            "priority",
            sa.SmallInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="0-9, higher is more urgent",
        ),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("retry_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column(
            "losses", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="workers lost while running it"
        ),
        sa.Column(
            "payload", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "metadata", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "delivery",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="how to send it again exactly",
        ),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("root_id", sa.Uuid(), nullable=True),
        sa.Column("group_id", sa.Text(), nullable=True),
        sa.Column("group_index", sa.Integer(), nullable=True),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("progress", sa.SmallInteger(), server_default=sa.text("0"), nullable=False, comment="percent"),
        sa.Column("progress_detail", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("current_step", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("total_steps", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True, comment="name of the worker of the last attempt"),
        sa.Column("lease", sa.Uuid(), nullable=True, comment="that worker's row in workers"),
        sa.Column(
            "claim_id",
            sa.Uuid(),
            nullable=True,
            comment="one per delivery, so that a claim whose reply was lost can be asked again",
        ),
        sa.Column(
            "stopping",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="cancelled, its body not yet over",
        ),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_hash", sa.Text(), nullable=True),
        sa.Column(
            "scheduled_at", sa.DateTime(timezone=True), nullable=True, comment="when its submitter wanted it to start"
        ),
        sa.Column(
            "dispatched_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the broker confirmed the current dispatch",
        ),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True, comment="of the last attempt"),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint(
            "(completed_at IS NULL) = (status IN ('queued', 'running', 'retrying'))",
            name="jobs_completed_when_finished",
        ),
        sa.CheckConstraint("(progress = 100) = (status = 'succeeded')", name="jobs_progress_complete"),
        sa.CheckConstraint(
            "hold IS NULL OR (hold IN ('schedule', 'backoff', 'dependency', 'organization_limit', 'circuit', 'paused')"
            " AND status IN ('queued', 'retrying'))",
            name="jobs_hold_known",
        ),
        sa.CheckConstraint("status <> 'running' OR started_at IS NOT NULL", name="jobs_started_when_running"),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'retrying', 'succeeded', 'failed', 'cancelled')", name="jobs_status_known"
        ),
        sa.CheckConstraint(
            "completed_at >= created_at AND completed_at >= started_at", name="jobs_completed_after_started"
        ),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name="jobs_priority_range"),
        sa.CheckConstraint("progress BETWEEN 0 AND 100", name="jobs_progress_range"),
        sa.CheckConstraint("started_at >= created_at", name="jobs_started_after_created"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task_id"),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index(
        "jobs_active",
        "jobs",
        ["organization_id", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'running', 'retrying')"),
    )
    op.create_index(
        "jobs_by_group", "jobs", ["group_id"], unique=False, postgresql_where=sa.text("group_id IS NOT NULL")
    )
    op.create_index("jobs_by_organization", "jobs", ["organization_id", "created_at", "id"], unique=False)
    op.create_index(
        "jobs_by_project",
        "jobs",
        ["organization_id", "project_id", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("project_id IS NOT NULL"),
    )
    op.create_index("jobs_by_type", "jobs", ["organization_id", "job_type", "created_at", "id"], unique=False)
    op.create_index("jobs_by_user", "jobs", ["organization_id", "user_id", "created_at", "id"], unique=False)
    op.create_index(
        "jobs_due", "jobs", ["due_at"], unique=False, postgresql_where=sa.text("hold IN ('schedule', 'backoff')")
    )
    op.create_index(
        "jobs_finished",
        "jobs",
        ["organization_id", "completed_at", "id"],
        unique=False,
        postgresql_where=sa.text("completed_at IS NOT NULL"),
    )
    op.create_index(
        "jobs_idempotency",
        "jobs",
        ["organization_id", "user_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_index(
        "jobs_leased", "jobs", ["lease"], unique=False, postgresql_where=sa.text("status = 'running' OR stopping")
    )
    op.create_index(
        "jobs_undispatched",
        "jobs",
        ["updated_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'retrying') AND hold IS NULL AND dispatched_at IS NULL"),
    )
    op.create_table(
        "workers",
        sa.Column("lease", sa.Uuid(), nullable=False, comment="new at every start of a worker"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("queues", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("lease"),
    )


def downgrade() -> None:
    op.drop_table("workers")
    op.drop_index(
        "jobs_undispatched",
        table_name="jobs",
        postgresql_where=sa.text("status IN ('queued', 'retrying') AND hold IS NULL AND dispatched_at IS NULL"),
    )
    op.drop_index("jobs_leased", table_name="jobs", postgresql_where=sa.text("status = 'running' OR stopping"))
    op.drop_index("jobs_idempotency", table_name="jobs", postgresql_where=sa.text("idempotency_key IS NOT NULL"))
    op.drop_index("jobs_finished", table_name="jobs", postgresql_where=sa.text("completed_at IS NOT NULL"))
    op.drop_index("jobs_due", table_name="jobs", postgresql_where=sa.text("hold IN ('schedule', 'backoff')"))
    op.drop_index("jobs_by_user", table_name="jobs")
    op.drop_index("jobs_by_type", table_name="jobs")
    op.drop_index("jobs_by_project", table_name="jobs", postgresql_where=sa.text("project_id IS NOT NULL"))
    op.drop_index("jobs_by_organization", table_name="jobs")
    op.drop_index("jobs_by_group", table_name="jobs", postgresql_where=sa.text("group_id IS NOT NULL"))
    op.drop_index(
        "jobs_active", table_name="jobs", postgresql_where=sa.text("status IN ('queued', 'running', 'retrying')")
    )
    op.drop_table("jobs")
    op.drop_index("history_by_organization", table_name="history")
    op.drop_index("history_by_job", table_name="history")
    op.drop_table("history")
    op.drop_table("groups")
