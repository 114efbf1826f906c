"""What was revoked by remote control before its job was submitted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    named = "the name of a stamp; empty = the value is a job's id"
    op.create_table(
        "revocations",
        sa.Column("stamp", sa.Text, primary_key=True, comment=named),
        sa.Column("value", JSONB, primary_key=True),
        sa.Column("revoked_by", sa.Text, nullable=False),
        sa.Column(
            "revoked_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("clock_timestamp()")
        ),
    )


def downgrade() -> None:
    op.drop_table("revocations")
