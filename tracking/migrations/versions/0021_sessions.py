"""Sessions of the dashboard."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

# As tracking/schema.py had it when this was written.
IN_RANGE = "{0} >= timestamptz '1970-01-01Z' AND {0} < timestamptz '3000-01-01Z'"


def upgrade() -> None:
    in_range = " AND ".join(IN_RANGE.format(name) for name in ("created_at", "seen_at", "expires_at"))
    now = sa.text("clock_timestamp()")
    op.create_table(
        "sessions",
        sa.Column("digest", sa.LargeBinary, primary_key=True, comment="SHA-256 of what its cookie holds"),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("permissions", ARRAY(sa.Text), nullable=False, comment="of the token that it was opened with"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(in_range, name="sessions_times_range"),
    )


def downgrade() -> None:
    op.drop_table("sessions")
