"""Admission: limits of organizations, dependencies, circuits, pauses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
INDEXES = ("jobs_in_flight", "jobs_in_line", "jobs_dependents", "jobs_gated")


def upgrade() -> None:
    op.add_column(
        "jobs",
        sa.Column(
            "depends_on",
            postgresql.ARRAY(sa.Uuid()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="jobs to succeed first",
        ),
    )
    op.create_table(
        "organizations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False, comment="jobs that may execute at once; 0 = any number"),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("changed_at", INSTANT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("concurrency >= 0", name="organizations_concurrency_range"),
    )
    op.create_table(
        "pauses",
        sa.Column("organization_id", sa.Text(), comment="null = all of them"),
        sa.Column("job_type", sa.Text(), comment="null = all of them"),
        sa.Column("paused_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("paused_at", INSTANT, server_default=NOW, nullable=False),
        sa.UniqueConstraint("organization_id", "job_type", name="pauses_once", postgresql_nulls_not_distinct=True),
    )
    op.create_table(
        "circuits",
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False, comment="in a row, that opened it"),
        sa.Column("pause", sa.Interval(), nullable=False, comment="from its opening to the next probe"),
        sa.Column("opened_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("probe_at", INSTANT, nullable=False, comment="when one job may try"),
        sa.Column("probe_id", sa.Uuid(), comment="the job that tries"),
        sa.PrimaryKeyConstraint("job_type"),
    )
    _index_jobs()
    op.create_index(
        "history_of_attempts",
        "history",
        ["job_type", "id"],
        postgresql_where=sa.text("event IN ('completed', 'failed') AND from_status = 'running'"),
    )


def downgrade() -> None:
    op.drop_index("history_of_attempts", "history")
    for index in INDEXES:
        op.drop_index(index, "jobs")
    for table in ("circuits", "pauses", "organizations"):
        op.drop_table(table)
    op.drop_column("jobs", "depends_on")


def _index_jobs() -> None:
    op.create_index(
        "jobs_in_flight",
        "jobs",
        ["organization_id"],
        postgresql_where=sa.text("(status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping)"),
    )
    op.create_index(
        "jobs_in_line",
        "jobs",
        ["organization_id", sa.text("priority DESC"), "created_at", "id"],
        postgresql_where=sa.text("hold = 'organization_limit'"),
    )
    op.create_index(
        "jobs_dependents",
        "jobs",
        ["depends_on"],
        postgresql_using="gin",
        postgresql_where=sa.text("hold = 'dependency'"),
    )
    op.create_index(
        "jobs_gated",
        "jobs",
        ["hold", "job_type"],
        postgresql_where=sa.text("hold IN ('dependency', 'circuit', 'paused')"),
    )
