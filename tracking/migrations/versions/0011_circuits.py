"""A circuit is that of a job type in one organization, for each key that its handler names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    """Apply. What has failed before does not count, and every circuit is closed."""
    key = "named by its handler; '' = none"
    op.add_column("jobs", sa.Column("circuit_key", sa.Text, nullable=False, server_default=sa.text("''"), comment=key))
    counts = "of the circuit in which this end of an attempt counts; null = in none"
    op.add_column("history", sa.Column("circuit_key", sa.Text, comment=counts))
    op.drop_index("history_of_attempts", "history")
    op.create_index(
        "history_of_attempts",
        "history",
        ["job_type", "organization_id", "circuit_key", "id"],
        postgresql_where=sa.text("circuit_key IS NOT NULL"),
    )
    op.drop_table("circuits")
    op.create_table(
        "circuits",
        sa.Column("job_type", sa.Text, primary_key=True),
        sa.Column(
            "organization_id",
            sa.Text,
            primary_key=True,
            comment="'' = of all of them, while those of several are open",
        ),
        sa.Column("key", sa.Text, primary_key=True, comment="named by the handler, a host say; '' = the whole type"),
        *_state(),
        sa.Column("turn", sa.Text, comment="of all organizations: whose job tried last"),
    )


def downgrade() -> None:
    op.drop_table("circuits")
    op.create_table("circuits", sa.Column("job_type", sa.Text, primary_key=True), *_state())
    op.drop_index("history_of_attempts", "history")
    op.create_index(
        "history_of_attempts",
        "history",
        ["job_type", "id"],
        postgresql_where=sa.text("event IN ('completed', 'failed') AND from_status = 'running'"),
    )
    op.drop_column("history", "circuit_key")
    op.drop_column("jobs", "circuit_key")


def _state() -> list[sa.Column[object]]:
    return [
        sa.Column("failures", sa.Integer, nullable=False, comment="in a row, that opened it"),
        sa.Column("pause", sa.Interval, nullable=False, comment="from its opening to the next probe"),
        sa.Column("opened_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("probe_at", INSTANT, nullable=False, comment="when one job may try"),
        sa.Column("probe_id", sa.Uuid, comment="the job that tries"),
    ]
