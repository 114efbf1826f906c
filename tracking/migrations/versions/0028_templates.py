"""Templates with all their versions, and schedules that name one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

RANGE = "{0} >= timestamptz '1970-01-01Z' AND {0} < timestamptz '3000-01-01Z'"
OF_HANDLER = "null = as the handler says"
SHOWN = "permission of the template that whoever set it has shown; null = none was needed"


def upgrade() -> None:
    empty, now = sa.text("'{}'::jsonb"), sa.func.clock_timestamp()
    op.create_table(
        "templates",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("job_type", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False, comment="the newest one"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.UniqueConstraint("organization_id", "name", name="templates_named"),
        sa.CheckConstraint(RANGE.format("created_at"), name="templates_times_range"),
    )
    op.create_table(
        "template_versions",
        sa.Column("template_id", sa.Uuid, sa.ForeignKey("templates.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("payload", JSONB, nullable=False, server_default=empty),
        sa.Column("metadata", JSONB, nullable=False, server_default=empty),
        sa.Column("priority", sa.SmallInteger, comment=OF_HANDLER),
        sa.Column("max_retries", sa.Integer, comment=OF_HANDLER),
        sa.Column("permission", sa.Text, comment="needed besides the handler's own; null = none"),
        sa.Column("schedule", JSONB, nullable=False, server_default=empty, comment="when its schedules are due"),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name="template_versions_priority_range"),
        sa.CheckConstraint(
            "jsonb_typeof(payload) = 'object' AND jsonb_typeof(metadata) = 'object'"
            " AND jsonb_typeof(schedule) = 'object'",
            name="template_versions_objects",
        ),
        sa.CheckConstraint(RANGE.format("changed_at"), name="template_versions_times_range"),
    )
    op.add_column("schedules", sa.Column("template", sa.Text, comment="by name; null = it says everything itself"))
    op.add_column("schedules", sa.Column("granted_template", sa.Text, comment=SHOWN))


def downgrade() -> None:
    op.drop_column("schedules", "granted_template")
    op.drop_column("schedules", "template")
    op.drop_table("template_versions")
    op.drop_table("templates")
