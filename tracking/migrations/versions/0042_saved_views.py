"""Saved views: searches that users keep under names. A new table, which nobody reads yet: nothing waits for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "saved_views",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("search", sa.Text, nullable=False, comment="as it is typed at the page of the jobs"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.CheckConstraint("length(name) <= 200 AND length(search) <= 500", name="saved_views_lengths"),
        sa.CheckConstraint(
            "created_at >= timestamptz '1970-01-01Z' AND created_at < timestamptz '3000-01-01Z'",
            name="saved_views_times_range",
        ),
        sa.UniqueConstraint("organization_id", "user_id", "name", name="saved_views_named"),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("saved_views")
