"""The tables of limits; they belong to those of schema.py."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Integer, Table, Text, func

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
