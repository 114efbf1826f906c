"""Workflows; which end of another job one waits for; and which jobs belong to one root."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

RANGE = "{0} >= timestamptz '1970-01-01Z' AND {0} < timestamptz '3000-01-01Z'"
OF_HANDLER = "null = as the handler says"
IS_VALID = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('jobs_by_root')")
AFTER_SUCCESS = "jobs to succeed first"
AFTER_END = "jobs to end first"


def vacuumed(after: int) -> dict[str, str]:
    return {
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": str(after),
        "autovacuum_vacuum_cost_delay": "0",
    }


def upgrade() -> None:
    op.add_column(
        "jobs",
        sa.Column("depends_when", ARRAY(sa.Text), comment="which end of each of them it waits for; null = success"),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "unresolved", sa.Boolean, nullable=False, server_default=sa.false(), comment="its payload names results"
        ),
    )
    op.alter_column("jobs", "depends_on", comment=AFTER_END, existing_comment=AFTER_SUCCESS)
    _create_workflows()
    _create_jobs()
    with op.get_context().autocommit_block():
        if op.get_bind().execute(IS_VALID).scalar() is not True:
            op.execute("DROP INDEX CONCURRENTLY IF EXISTS jobs_by_root")
            op.execute("CREATE INDEX CONCURRENTLY jobs_by_root ON jobs (root_id) WHERE root_id <> id")


def _create_workflows() -> None:
    now = sa.func.clock_timestamp()
    op.create_table(
        "workflows",
        sa.Column("id", sa.Uuid, primary_key=True, comment="its jobs have it as their root"),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text),
        sa.Column("run", sa.Integer, nullable=False, server_default=text("1"), comment="grows with each retry"),
        sa.Column("status", sa.Text, nullable=False, comment="as its jobs said when it ended; until then running"),
        sa.Column("worker_ms", sa.BigInteger, comment="of all its jobs, when it ended"),
        sa.Column("cancelled_by", sa.Text, comment="who has cancelled this run"),
        sa.Column("reason", sa.Text, comment="why"),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("request_hash", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.Column(
            "completed_at",
            sa.DateTime(timezone=True),
            comment="of the last of its jobs; null = it goes on, or nobody has looked yet",
        ),
        sa.Column("told_at", sa.DateTime(timezone=True), comment="when those who listen were told of its end"),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="workflows_status_known"
        ),
        sa.CheckConstraint("(completed_at IS NULL) = (status = 'running')", name="workflows_completed_when_ended"),
        sa.CheckConstraint("run > 0", name="workflows_run_range"),
        sa.CheckConstraint(
            " AND ".join(RANGE.format(name) for name in ("created_at", "updated_at", "completed_at", "told_at")),
            name="workflows_times_range",
        ),
        postgresql_with=vacuumed(1000),
    )
    op.create_index("workflows_listed", "workflows", ["organization_id", "created_at", "id"])
    for name, column, condition in (
        ("workflows_open", "id", "completed_at IS NULL"),
        ("workflows_untold", "id", "completed_at IS NOT NULL AND told_at IS NULL"),
        ("workflows_completed_at", "completed_at", "completed_at IS NOT NULL"),
    ):
        op.create_index(name, "workflows", [column], postgresql_where=text(condition))
    op.create_index(
        "workflows_idempotency",
        "workflows",
        ["organization_id", "user_id", "idempotency_key"],
        unique=True,
        postgresql_where=text("idempotency_key IS NOT NULL"),
    )


def _create_jobs() -> None:
    empty = text("'{}'::jsonb")
    op.create_table(
        "workflow_jobs",
        sa.Column("workflow_id", sa.Uuid, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("place", sa.Integer, nullable=False, comment="after all that it waits for"),
        sa.Column("job_id", sa.Uuid, nullable=False),
        sa.Column("run", sa.Integer, nullable=False, server_default=text("1"), comment="in which this job was made"),
        sa.Column("job_type", sa.Text, nullable=False),
        sa.Column("payload", JSONB, nullable=False, server_default=empty, comment="with the names of results in it"),
        sa.Column("after", JSONB, nullable=False, comment="keys, each with the end that is waited for"),
        sa.Column("priority", sa.SmallInteger, comment=OF_HANDLER),
        sa.Column("max_retries", sa.Integer, comment=OF_HANDLER),
        sa.Column("scheduled_at", sa.DateTime(timezone=True)),
        sa.Column("message", sa.Text),
        sa.Column("metadata", JSONB, nullable=False, server_default=empty),
        sa.Column("ended", sa.Text, comment="how, when the workflow had ended: jobs are removed before it"),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name="workflow_jobs_priority_range"),
        sa.CheckConstraint("jsonb_typeof(after) = 'array'", name="workflow_jobs_after_list"),
        sa.CheckConstraint(
            "ended IS NULL OR ended IN ('succeeded', 'failed', 'cancelled', 'skipped')",
            name="workflow_jobs_ended_known",
        ),
        sa.CheckConstraint(
            "jsonb_typeof(payload) = 'object' AND jsonb_typeof(metadata) = 'object'", name="workflow_jobs_objects"
        ),
        sa.CheckConstraint(RANGE.format("scheduled_at"), name="workflow_jobs_times_range"),
        postgresql_with=vacuumed(5000),
    )
    op.create_index("workflow_jobs_by_job", "workflow_jobs", ["job_id"], unique=True)


def downgrade() -> None:
    op.drop_index("jobs_by_root", "jobs")
    op.drop_table("workflow_jobs")
    op.drop_table("workflows")
    op.alter_column("jobs", "depends_on", comment=AFTER_SUCCESS, existing_comment=AFTER_END)
    op.drop_column("jobs", "unresolved")
    op.drop_column("jobs", "depends_when")
