"""Queues that are paused. A new table, of which earlier workers know nothing: they run what is in such a queue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "paused_queues",
        sa.Column("queue", sa.Text, primary_key=True),
        sa.Column("paused_by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.CheckConstraint(
            "paused_at >= timestamptz '1970-01-01Z' AND paused_at < timestamptz '3000-01-01Z'",
            name="paused_queues_times_range",
        ),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("paused_queues")
