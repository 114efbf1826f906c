"""How many jobs of an organization may wait at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

RANGE = "changed_at >= timestamptz '1970-01-01Z' AND changed_at < timestamptz '3000-01-01Z'"


def upgrade() -> None:
    op.create_table(
        "waiting_limits",
        sa.Column("organization_id", sa.Text, primary_key=True),
        sa.Column("most", sa.Integer, nullable=False, comment="jobs that may wait at once; 0 = any number"),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.CheckConstraint("most >= 0", name="waiting_limits_range"),
        sa.CheckConstraint(RANGE, name="waiting_limits_times_range"),
    )


def downgrade() -> None:
    op.drop_table("waiting_limits")
