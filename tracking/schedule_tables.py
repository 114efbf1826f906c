"""The tables of schedules; they belong to those of schema.py."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import BigInteger, Boolean

from tracking.columns import EMPTY_OBJECT, INSTANT, metadata, vacuumed_after

schedules = Table(
    "schedules",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("user_id", Text, nullable=False, comment="in whose name its jobs are made"),
    Column("name", Text, nullable=False),
    Column("job_type", Text, nullable=False),
    Column("payload", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("priority", SmallInteger, comment="null = as the handler says"),
    Column("max_retries", Integer, comment="null = as the handler says"),
    Column("project_id", Text),
    Column("metadata", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("cron", Text, comment="five fields; null = it is due at an interval"),
    Column("timezone", Text, comment="of the cron expression, IANA"),
    Column("every_seconds", Integer, comment="the interval"),
    Column("catch_up", Text, nullable=False),
    Column("overlap", Text, nullable=False),
    Column("template", Text, comment="by name; null = it says everything itself"),
    Column("granted", Text, comment="permission of the handler that whoever set it has shown; null = none was needed"),
    Column(
        "granted_template",
        Text,
        comment="permission of the template that whoever set it has shown; null = none was needed",
    ),
    Column("anchor", INSTANT, nullable=False, comment="from where the interval is counted"),
    Column("since", INSTANT, nullable=False, comment="the due times until then are dealt with"),
    Column("next_at", INSTANT, comment="the first due time after since; null = there is none"),
    Column("paused", Boolean, nullable=False, server_default=false()),
    Column("paused_by", Text),
    Column("paused_at", INSTANT),
    Column("version", Integer, nullable=False, server_default=text("1"), comment="grows when people change it"),
    Column("changed_by", Text, nullable=False),
    Column("created_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("updated_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint(
        "(cron IS NULL) = (every_seconds IS NOT NULL) AND (cron IS NULL) = (timezone IS NULL)",
        name="schedules_due_in_one_way",
    ),
    CheckConstraint("every_seconds > 0", name="schedules_interval_range"),
    CheckConstraint("priority BETWEEN 0 AND 9", name="schedules_priority_range"),
    CheckConstraint("paused = (paused_at IS NOT NULL) AND paused = (paused_by IS NOT NULL)", name="schedules_paused"),
    # list of one organization
    UniqueConstraint("organization_id", "name", name="schedules_named"),
    # the leader: what is due
    Index("schedules_due", "next_at", postgresql_where=text("NOT paused")),
    postgresql_with=vacuumed_after(1000),
)

# No foreign key: removing a schedule does not wait for its outcomes, which go with their time.
outcomes = Table(
    "schedule_outcomes",
    metadata,
    Column("schedule_id", Uuid, primary_key=True),
    Column("due_at", INSTANT, primary_key=True, comment="of several to which the same has happened, the first"),
    Column("last_due_at", INSTANT, nullable=False, comment="of these, the last"),
    Column("count", BigInteger, nullable=False, server_default=text("1"), comment="of these"),
    Column("became", Text, nullable=False),
    Column("job_id", Uuid),
    Column("reason", Text),
    Column("actor", Text, comment="who has asked for it; null = it was due"),
    Column("at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("(became = 'job') = (job_id IS NOT NULL)", name="schedule_outcomes_job"),
    # overlap, and the list of a schedule's jobs
    Index("schedule_outcomes_jobs", "schedule_id", "due_at", postgresql_where=text("job_id IS NOT NULL")),
    # retention
    Index("schedule_outcomes_aged", "at"),
)

# What the leader cleans up by itself, as it last did.
clean_ups = Table(
    "clean_ups",
    metadata,
    Column("name", Text, primary_key=True),
    Column("every_seconds", Integer, nullable=False),
    Column("began_at", INSTANT, nullable=False),
    Column("ended_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("removed", BigInteger, comment="rows; null = it has failed"),
    Column("error", Text, comment="why it has failed"),
)
