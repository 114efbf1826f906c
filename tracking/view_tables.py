"""The table of saved views; it belongs to those of schema.py."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Table, Text, UniqueConstraint, Uuid, func

from tracking.columns import INSTANT, metadata

saved_views = Table(
    "saved_views",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("search", Text, nullable=False, comment="as it is typed at the page of the jobs"),
    Column("created_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("length(name) <= 200 AND length(search) <= 500", name="saved_views_lengths"),
    # every; how many somebody has
    UniqueConstraint("organization_id", "user_id", "name", name="saved_views_named"),
)
