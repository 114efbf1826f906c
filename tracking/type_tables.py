"""The table of types whose work is done elsewhere; it belongs to those of schema.py."""

from __future__ import annotations

from sqlalchemy import Column, Interval, Table, Text, func

from tracking.columns import INSTANT, metadata

# Types of jobs whose work is done elsewhere, beside those that the code knows.
external_types = Table(
    "external_types",
    metadata,
    Column("name", Text, primary_key=True),
    Column("permission", Text, comment="needed besides jobs.create_jobs; null = none"),
    Column("silence", Interval, comment="without a report after which a job is given up; null = the platform's"),
    Column("added_by", Text, nullable=False),
    Column("added_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
)
