"""Dead letters: messages that no worker could run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("receipt", sa.Uuid(), nullable=False, comment="one per message, so that it can be kept again"),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("task_name", sa.Text(), comment="as the message says, if that could be read"),
        sa.Column("task_id", sa.Text(), comment="as the message says, if that could be read"),
        sa.Column("content_type", sa.Text()),
        sa.Column(
            "headers",
            postgresql.JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="plain values only, shortened",
        ),
        sa.Column("body", sa.LargeBinary(), comment="its first 64 KiB; null = not kept"),
        sa.Column("size", sa.Integer(), nullable=False, comment="bytes of the whole body"),
        sa.Column("redelivered", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("receipt"),
    )


def downgrade() -> None:
    op.drop_table("dead_letters")
