"""Tickets: rights for one request of a browser, which cannot send a token."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# As tracking/schema.py had it when this was written.
IN_RANGE = "{0} >= timestamptz '1970-01-01Z' AND {0} < timestamptz '3000-01-01Z'"


def upgrade() -> None:
    until = "when what it gives ends; null = as long as its purpose says"
    in_range = " AND ".join(IN_RANGE.format(name) for name in ("rights_until", "expires_at"))
    op.create_table(
        "tickets",
        sa.Column("digest", sa.LargeBinary, primary_key=True, comment="SHA-256 of the ticket"),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("permissions", ARRAY(sa.Text), nullable=False),
        sa.Column("rights_until", sa.DateTime(timezone=True), comment=until),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(in_range, name="tickets_times_range"),
    )
    op.create_index("tickets_expired", "tickets", ["expires_at"])


def downgrade() -> None:
    op.drop_table("tickets")
