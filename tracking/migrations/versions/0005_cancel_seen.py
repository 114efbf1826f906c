"""When a worker heard of a cancel."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column(
        "cancel_seen_at", sa.DateTime(timezone=True), comment="when the worker that ran it heard of that"
    )
    op.add_column("jobs", column)


def downgrade() -> None:
    op.drop_column("jobs", "cancel_seen_at")
