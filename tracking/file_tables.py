"""The table of uploaded files; it belongs to those of schema.py. Their contents are in a store."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Table, Text, Uuid, func

from tracking.columns import INSTANT, metadata

files = Table(
    "files",
    metadata,
    Column("id", Uuid, primary_key=True, comment="the name of the file in the store"),
    Column("organization_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("name", Text, nullable=False, comment="what its owner calls it; leads to no file"),
    Column("size", BigInteger, nullable=False, comment="bytes"),
    Column("sha256", Text, nullable=False, comment="hexadecimal"),
    Column("created_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("expires_at", INSTANT, nullable=False),
    CheckConstraint("size >= 0", name="files_size"),
    # every, room; and a cleanup job: those of an organization
    Index("files_by_organization", "organization_id", "created_at", "id"),
)
