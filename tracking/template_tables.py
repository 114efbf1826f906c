"""The tables of templates; they belong to those of schema.py."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

from tracking.columns import EMPTY_OBJECT, INSTANT, metadata

templates = Table(
    "templates",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("job_type", Text, nullable=False),
    Column("version", Integer, nullable=False, comment="the newest one"),
    Column("created_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    UniqueConstraint("organization_id", "name", name="templates_named"),
)

template_versions = Table(
    "template_versions",
    metadata,
    Column("template_id", Uuid, ForeignKey("templates.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("payload", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("metadata", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("priority", SmallInteger, comment="null = as the handler says"),
    Column("max_retries", Integer, comment="null = as the handler says"),
    Column("permission", Text, comment="needed besides the handler's own; null = none"),
    Column("schedule", JSONB, nullable=False, server_default=EMPTY_OBJECT, comment="when its schedules are due"),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("priority BETWEEN 0 AND 9", name="template_versions_priority_range"),
)
