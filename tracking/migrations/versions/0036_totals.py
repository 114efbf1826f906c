"""Totals: what happens is counted from here on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

RANGE = "moved_at >= timestamptz '1970-01-01Z' AND moved_at < timestamptz '3000-01-01Z'"


def upgrade() -> None:
    op.create_table(
        "totals",
        sa.Column("measure", sa.Text, primary_key=True),
        sa.Column("job_type", sa.Text, primary_key=True),
        sa.Column(
            "queue", sa.Text, primary_key=True, comment="'' = of jobs that were removed before they were counted"
        ),
        sa.Column("outcome", sa.Text, primary_key=True, comment="'' = the measure has none"),
        sa.Column("up_to", sa.Float(53), primary_key=True, comment="seconds: the upper bound of its bucket"),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False, server_default=text("0"), comment="of all of them together"),
        postgresql_with={
            "fillfactor": "50",
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": "2000",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_table(
        "totals_position",
        sa.Column("is_only", sa.Boolean, primary_key=True, server_default=sa.true()),
        sa.Column("history_id", sa.BigInteger, nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.CheckConstraint(text(RANGE), name="totals_position_times_range"),
    )
    op.execute("INSERT INTO totals_position (history_id) SELECT coalesce(pg_sequence_last_value('history_id_seq'), 0)")


def downgrade() -> None:
    op.drop_table("totals_position")
    op.drop_table("totals")
