"""Schedules, what became of their due times, and what the leader cleans up by itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

RANGE = "{0} >= timestamptz '1970-01-01Z' AND {0} < timestamptz '3000-01-01Z'"
OF_HANDLER = "null = as the handler says"
GRANTED = "permission of the handler that whoever set it has shown; null = none was needed"


def upgrade() -> None:
    empty, now = sa.text("'{}'::jsonb"), sa.func.clock_timestamp()
    op.create_table(
        "schedules",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False, comment="in whose name its jobs are made"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("job_type", sa.Text, nullable=False),
        sa.Column("payload", JSONB, nullable=False, server_default=empty),
        sa.Column("priority", sa.SmallInteger, comment=OF_HANDLER),
        sa.Column("max_retries", sa.Integer, comment=OF_HANDLER),
        sa.Column("project_id", sa.Text),
        sa.Column("metadata", JSONB, nullable=False, server_default=empty),
        sa.Column("cron", sa.Text, comment="five fields; null = it is due at an interval"),
        sa.Column("timezone", sa.Text, comment="of the cron expression, IANA"),
        sa.Column("every_seconds", sa.Integer, comment="the interval"),
        sa.Column("catch_up", sa.Text, nullable=False),
        sa.Column("overlap", sa.Text, nullable=False),
        sa.Column("granted", sa.Text, comment=GRANTED),
        _instant("anchor", comment="from where the interval is counted"),
        _instant("since", comment="the due times until then are dealt with"),
        _instant("next_at", nullable=True, comment="the first due time after since; null = there is none"),
        sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("paused_by", sa.Text),
        _instant("paused_at", nullable=True),
        sa.Column(
            "version", sa.Integer, nullable=False, server_default=sa.text("1"), comment="grows when people change it"
        ),
        sa.Column("changed_by", sa.Text, nullable=False),
        _instant("created_at", server_default=now),
        _instant("updated_at", server_default=now),
        sa.CheckConstraint(
            "(cron IS NULL) = (every_seconds IS NOT NULL) AND (cron IS NULL) = (timezone IS NULL)",
            name="schedules_due_in_one_way",
        ),
        sa.CheckConstraint("every_seconds > 0", name="schedules_interval_range"),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name="schedules_priority_range"),
        sa.CheckConstraint(
            "paused = (paused_at IS NOT NULL) AND paused = (paused_by IS NOT NULL)", name="schedules_paused"
        ),
        sa.CheckConstraint(
            "jsonb_typeof(payload) = 'object' AND jsonb_typeof(metadata) = 'object'", name="schedules_objects"
        ),
        _in_range("schedules", "anchor", "since", "next_at", "paused_at", "created_at", "updated_at"),
        sa.UniqueConstraint("organization_id", "name", name="schedules_named"),
        postgresql_with=VACUUMED,
    )
    op.create_index("schedules_due", "schedules", ["next_at"], postgresql_where=sa.text("NOT paused"))
    op.create_table(
        "schedule_outcomes",
        sa.Column("schedule_id", sa.Uuid, primary_key=True),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            primary_key=True,
            comment="of several to which the same has happened, the first",
        ),
        _instant("last_due_at", comment="of these, the last"),
        sa.Column("count", sa.BigInteger, nullable=False, server_default=sa.text("1"), comment="of these"),
        sa.Column("became", sa.Text, nullable=False),
        sa.Column("job_id", sa.Uuid),
        sa.Column("reason", sa.Text),
        sa.Column("actor", sa.Text, comment="who has asked for it; null = it was due"),
        _instant("at", server_default=now),
        sa.CheckConstraint("(became = 'job') = (job_id IS NOT NULL)", name="schedule_outcomes_job"),
        _in_range("schedule_outcomes", "due_at", "last_due_at", "at"),
    )
    of_jobs = sa.text("job_id IS NOT NULL")
    op.create_index("schedule_outcomes_jobs", "schedule_outcomes", ["schedule_id", "due_at"], postgresql_where=of_jobs)
    op.create_index("schedule_outcomes_aged", "schedule_outcomes", ["at"])
    op.create_table(
        "clean_ups",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("every_seconds", sa.Integer, nullable=False),
        _instant("began_at"),
        _instant("ended_at", server_default=now),
        sa.Column("removed", sa.BigInteger, comment="rows; null = it has failed"),
        sa.Column("error", sa.Text, comment="why it has failed"),
        _in_range("clean_ups", "began_at", "ended_at"),
    )


def downgrade() -> None:
    for table in ("clean_ups", "schedule_outcomes", "schedules"):
        op.drop_table(table)


VACUUMED = {
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_vacuum_cost_delay": "0",
}


def _instant(name: str, **options: object) -> sa.Column[object]:
    given = {"nullable": False, **options}
    return sa.Column(name, sa.DateTime(timezone=True), **given)  # type: ignore[arg-type]


def _in_range(table: str, *names: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(" AND ".join(RANGE.format(name) for name in names), name=f"{table}_times_range")
