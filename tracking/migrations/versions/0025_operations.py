"""Bulk operations: what somebody wants done to many jobs, and what became of each of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
NOW = sa.func.clock_timestamp()
EMPTY = sa.text("'{}'::jsonb")
ZERO = sa.text("0")
IN_RANGE = "{0} >= timestamptz '1970-01-01Z' AND {0} < timestamptz '3000-01-01Z'"
TIMES = ("canary_until", "worked_at", "due_at", "created_at", "updated_at", "completed_at")


def _vacuumed_after(dead_rows: int) -> dict[str, str]:
    return {
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": str(dead_rows),
        "autovacuum_vacuum_cost_delay": "0",
    }


def upgrade() -> None:
    op.create_table(
        "operations",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False, comment="who has asked for it"),
        sa.Column("whose", sa.Text, comment="whose jobs; null = those of the whole organization"),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("asked", JSONB, nullable=False, server_default=EMPTY, comment="the filter, or how many ids"),
        sa.Column("priority", sa.SmallInteger, comment="that the jobs get; null = their own"),
        sa.Column("force", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("denied", JSONB, nullable=False, server_default=EMPTY, comment="types refused, each with its code"),
        sa.Column("canary", sa.Integer, comment="how many are retried first; null = there is no canary"),
        sa.Column("canary_until", INSTANT, comment="when these must have ended; null = not all are retried yet"),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, comment="why it has stopped"),
        sa.Column("matched", sa.Integer, nullable=False),
        sa.Column("succeeded", sa.Integer, nullable=False, server_default=ZERO),
        sa.Column("refused", sa.Integer, nullable=False, server_default=ZERO),
        sa.Column("failed", sa.Integer, nullable=False, server_default=ZERO),
        sa.Column("worked_to", sa.Uuid, comment="of this round, the last job; null = it begins"),
        sa.Column("worked_at", INSTANT, comment="when it had its last turn"),
        sa.Column("due_at", INSTANT, nullable=False, server_default=NOW, comment="of its next turn"),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("request_hash", sa.Text),
        sa.Column("created_at", INSTANT, nullable=False, server_default=NOW),
        sa.Column("updated_at", INSTANT, nullable=False, server_default=NOW),
        sa.Column("completed_at", INSTANT),
        sa.CheckConstraint("action IN ('cancel', 'retry', 'delete', 'reprioritize')", name="operations_action_known"),
        sa.CheckConstraint(
            "state IN ('canary', 'running', 'completed', 'stopped', 'aborted')", name="operations_state_known"
        ),
        sa.CheckConstraint("succeeded + refused + failed <= matched", name="operations_counted"),
        sa.CheckConstraint("(completed_at IS NULL) = (state IN ('canary', 'running'))", name="operations_completed"),
        sa.CheckConstraint(" AND ".join(map(IN_RANGE.format, TIMES)), name="operations_times_range"),
        sa.CheckConstraint(
            "jsonb_typeof(asked) = 'object' AND jsonb_typeof(denied) = 'object'", name="operations_objects"
        ),
        postgresql_with=_vacuumed_after(1000),
        if_not_exists=True,
    )
    op.create_index("operations_listed", "operations", ["organization_id", "created_at", "id"], if_not_exists=True)
    op.create_index(
        "operations_worked_on",
        "operations",
        ["organization_id"],
        postgresql_where=sa.text("state IN ('canary', 'running')"),
        if_not_exists=True,
    )
    op.create_index(
        "operations_idempotency",
        "operations",
        ["organization_id", "user_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
        if_not_exists=True,
    )
    op.create_index(
        "operations_completed_at",
        "operations",
        ["completed_at"],
        postgresql_where=sa.text("completed_at IS NOT NULL"),
        if_not_exists=True,
    )
    op.create_table(
        "operation_jobs",
        sa.Column("operation_id", sa.Uuid, primary_key=True),
        sa.Column("job_id", sa.Uuid, primary_key=True),
        sa.Column("outcome", sa.Text, comment="null = it was not done yet"),
        sa.Column("code", sa.Text, comment="why not"),
        sa.Column("detail", sa.Text, comment="the same in words"),
        sa.Column("is_canary", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("at", INSTANT),
        sa.CheckConstraint(
            "outcome IS NULL OR outcome IN ('succeeded', 'refused', 'failed')", name="operation_jobs_outcome_known"
        ),
        sa.CheckConstraint(IN_RANGE.format("at"), name="operation_jobs_times_range"),
        postgresql_with={"fillfactor": "60", **_vacuumed_after(20_000)},
        if_not_exists=True,
    )
    op.create_index(
        "operation_jobs_canary",
        "operation_jobs",
        ["operation_id"],
        postgresql_where=sa.text("is_canary"),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("operation_jobs")
    op.drop_table("operations")
