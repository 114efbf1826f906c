"""What happens to workflows and schedules, numbered as the history is; and whose start is told, instead of whose end.

Of workflows that have begun already nobody is told that they do.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

EVENTS = (
    "'workflow.started', 'workflow.completed', 'workflow.failed', 'workflow.cancelled', "
    "'schedule.fired', 'schedule.skipped', 'schedule.failed'"
)


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False, comment="whose workflow or schedule it is"),
        sa.Column("project_id", sa.Text),
        sa.Column("job_type", sa.Text, comment="that a schedule makes; null = of a workflow"),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Uuid, nullable=False, comment="the workflow or schedule"),
        sa.Column("detail", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
        sa.CheckConstraint(f"event IN ({EVENTS})", name="events_known"),
        sa.CheckConstraint(
            "at >= timestamptz '1970-01-01Z' AND at < timestamptz '3000-01-01Z'", name="events_times_range"
        ),
        sa.CheckConstraint("jsonb_typeof(detail) = 'object'", name="events_objects"),
    )
    op.create_index("events_by_organization", "events", ["organization_id", "id"])
    op.create_index("events_aged", "events", ["at"])
    op.execute(
        """
        UPDATE workflows SET told_at = clock_timestamp()
        WHERE completed_at IS NOT NULL
           OR EXISTS (SELECT FROM workflow_jobs JOIN jobs ON jobs.id = job_id
                      WHERE workflow_id = workflows.id AND workflow_jobs.run = workflows.run AND attempt > 0)"""
    )
    op.alter_column(
        "workflows",
        "told_at",
        existing_type=sa.DateTime(timezone=True),
        comment="when it was told that this run has begun",
        existing_comment="when those who listen were told of its end",
    )
    op.drop_index("workflows_untold", "workflows")
    op.create_index(
        "workflows_unbegun",
        "workflows",
        ["id"],
        postgresql_where=sa.text("completed_at IS NULL AND told_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("workflows_unbegun", "workflows")
    op.create_index(
        "workflows_untold",
        "workflows",
        ["id"],
        postgresql_where=sa.text("completed_at IS NOT NULL AND told_at IS NULL"),
    )
    op.alter_column(
        "workflows",
        "told_at",
        existing_type=sa.DateTime(timezone=True),
        comment="when those who listen were told of its end",
        existing_comment="when it was told that this run has begun",
    )
    op.drop_table("events")
