"""The tables of limits; they belong to those of schema.py."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Interval,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)

from tracking.columns import INSTANT, metadata

organizations = Table(
    "organizations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("concurrency", Integer, nullable=False, comment="jobs that may execute at once; 0 = any number"),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("concurrency >= 0", name="organizations_concurrency_range"),
)

waiting_limits = Table(
    "waiting_limits",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("most", Integer, nullable=False, comment="jobs that may wait at once; 0 = any number"),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("most >= 0", name="waiting_limits_range"),
)

# How great an organization's share is of workers that several want.
organization_weights = Table(
    "organization_weights",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("weight", SmallInteger, nullable=False, comment="jobs that it has served while another has one"),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("weight BETWEEN 1 AND 100", name="organization_weights_range"),
)

# Queues of which nothing starts. A table of its own: to who does not know it, a pause of no type and no organization
# would be one of everything.
paused_queues = Table(
    "paused_queues",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("paused_by", Text, nullable=False),
    Column("reason", Text),
    Column("paused_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
)

# What an organization has of its own stands instead of what all have.
job_limits = Table(
    "job_limits",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("organization_id", Text, comment="null = all of them"),
    Column("job_type", Text, comment="null = all of them, together"),
    Column("per", Text, nullable=False, comment="what has a count of its own"),
    Column("key_path", Text, comment="where the payload has the key, such as account.id"),
    Column("concurrency", Integer, comment="jobs that may execute at once; null = any number"),
    Column("rate", Integer, comment="jobs that may be sent in each period; null = any number"),
    Column("period", Interval, comment="of the rate"),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    UniqueConstraint("job_type", "organization_id", "per", name="job_limits_once", postgresql_nulls_not_distinct=True),
    CheckConstraint("per IN ('platform', 'organization', 'key')", name="job_limits_per_known"),
    CheckConstraint(
        "per <> 'platform' OR organization_id IS NULL AND job_type IS NOT NULL", name="job_limits_platform"
    ),
    CheckConstraint("(per = 'key') = (key_path IS NOT NULL)", name="job_limits_key"),
    CheckConstraint("per <> 'key' OR job_type IS NOT NULL", name="job_limits_key_of_type"),
    CheckConstraint("job_type IS NOT NULL OR concurrency IS NULL", name="job_limits_of_organization"),
    CheckConstraint("concurrency > 0 AND rate > 0", name="job_limits_range"),
    CheckConstraint("(rate IS NULL) = (period IS NULL) AND period > interval '0'", name="job_limits_period"),
)

# A row for each job that was sent under a rate, as long as it counts there.
limit_admissions = Table(
    "limit_admissions",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("limit_id", Uuid, ForeignKey("job_limits.id", ondelete="CASCADE"), nullable=False),
    Column("organization_id", Text, nullable=False, comment="'' = of all of them together"),
    Column("key", Text, nullable=False, comment="'' = of all of them together"),
    Column("expires_at", INSTANT, nullable=False),
    Index("limit_admissions_counted", "limit_id", "organization_id", "key", "expires_at"),
    Index("limit_admissions_expired", "expires_at"),
)

# When the turn of an organization was under a limit that all share.
limit_turns = Table(
    "limit_turns",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("limit_id", Uuid, ForeignKey("job_limits.id", ondelete="CASCADE"), primary_key=True),
    Column("served_at", INSTANT, nullable=False, server_default=text("clock_timestamp()")),
)
