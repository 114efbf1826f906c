"""Notes of what was removed of the history and of events; of what was removed until now nothing is known."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "removals",
        sa.Column("organization_id", sa.Text, comment="null = of any, before there were notes"),
        sa.Column("last_id", sa.BigInteger, nullable=False, comment="of the rows that were removed the highest id"),
    )
    op.create_index("removals_by_organization", "removals", ["organization_id", "last_id"])
    op.execute(
        """
        INSERT INTO removals (last_id)
        SELECT last_id FROM pg_sequence_last_value('history_id_seq') AS last_id WHERE last_id IS NOT NULL"""
    )


def downgrade() -> None:
    op.drop_table("removals")
