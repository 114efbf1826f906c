"""A chord's group keeps the shape of its header, and what was added to it while it ran."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("groups", "size", nullable=True, comment="null = not known yet")
    joined = "members that joined while it ran"
    op.add_column("groups", sa.Column("added", sa.Integer, nullable=False, server_default=sa.text("0"), comment=joined))
    saved = "its result in Celery's tuple form, when a chord needs its shape or a caller asked"
    op.add_column("groups", sa.Column("saved", JSONB, comment=saved))


def downgrade() -> None:
    op.execute("DELETE FROM groups WHERE size IS NULL")
    op.drop_column("groups", "saved")
    op.drop_column("groups", "added")
    op.alter_column("groups", "size", nullable=False, comment=None)
