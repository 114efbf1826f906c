"""The tables of what has been counted; they belong to those of schema.py."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Table, Text, func, text, true

from tracking.columns import INSTANT, metadata, vacuumed_after

# Numbers that only grow, whatever becomes of the jobs that they are of.
totals = Table(
    "totals",
    metadata,
    Column("measure", Text, primary_key=True),
    Column("job_type", Text, primary_key=True),
    Column("queue", Text, primary_key=True, comment="'' = of jobs that were removed before they were counted"),
    Column("outcome", Text, primary_key=True, comment="'' = the measure has none"),
    Column("up_to", Float(53), primary_key=True, comment="seconds: the upper bound of its bucket"),
    Column("number", BigInteger, nullable=False),
    Column("seconds", Float(53), nullable=False, server_default=text("0"), comment="of all of them together"),
    postgresql_with={"fillfactor": "50", **vacuumed_after(2_000)},
)

# At most one row: up to where the history has been counted.
totals_position = Table(
    "totals_position",
    metadata,
    Column("is_only", Boolean, primary_key=True, server_default=true()),
    Column("history_id", BigInteger, nullable=False),
    Column("moved_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
)
