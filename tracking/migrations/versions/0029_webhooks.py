"""Webhooks, and how far the history was looked at for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

RANGE = "{0} >= timestamptz '1970-01-01Z' AND {0} < timestamptz '3000-01-01Z'"
TIMES = ("former_until", "failing_since", "created_at", "updated_at")


def upgrade() -> None:
    now = sa.func.clock_timestamp()
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("events", ARRAY(sa.Text), nullable=False),
        sa.Column("job_types", ARRAY(sa.Text), comment="null = all"),
        sa.Column("project_id", sa.Text, comment="null = all, and what has none"),
        sa.Column("description", sa.Text),
        sa.Column("secret", sa.Text, nullable=False, comment="base64; it signs, so it is kept as it is"),
        sa.Column("former_secret", sa.Text, comment="it signs as well until former_until"),
        sa.Column("former_until", sa.DateTime(timezone=True)),
        sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("disabled_because", sa.Text),
        sa.Column("failing_since", sa.DateTime(timezone=True), comment="of the first failure after the last success"),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.CheckConstraint("(former_secret IS NULL) = (former_until IS NULL)", name="webhooks_former_secret"),
        sa.CheckConstraint(" AND ".join(RANGE.format(name) for name in TIMES), name="webhooks_times_range"),
    )
    op.create_index("webhooks_by_organization", "webhooks", ["organization_id", "created_at", "id"])
    op.create_table(
        "webhook_position",
        sa.Column("is_only", sa.Boolean, primary_key=True, server_default=sa.true()),
        sa.Column("history_id", sa.BigInteger, nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.CheckConstraint("is_only", name="webhook_position_once"),
        sa.CheckConstraint(RANGE.format("moved_at"), name="webhook_position_times_range"),
    )


def downgrade() -> None:
    op.drop_table("webhook_position")
    op.drop_table("webhooks")
