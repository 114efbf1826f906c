"""The tables of what sync jobs pull; they belong to those of schema.py."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKeyConstraint, Integer, Table, Text, Uuid, false, func, text
from sqlalchemy.dialects.postgresql import JSONB

from tracking.columns import INSTANT, metadata

# How far the pulling of each collection is: written with the records of each page.
collections = Table(
    "collections",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("source", Text, nullable=False, comment="digest of where and how it is pulled; another source begins anew"),
    Column("job_id", Uuid, nullable=False, comment="which pulls it, or has pulled it last"),
    Column("attempt", Integer, nullable=False, comment="of that job; an overtaken attempt writes nothing"),
    Column(
        "run", BigInteger, nullable=False, server_default=text("1"), comment="number of the pull from its beginning"
    ),
    Column("position", JSONB, comment="of the next page; null = the first"),
    Column("pages", Integer, nullable=False, server_default=text("0"), comment="of this run that were read"),
    Column("complete", Boolean, nullable=False, server_default=false(), comment="this run has seen the last page"),
    Column("started_at", INSTANT, nullable=False, server_default=func.clock_timestamp(), comment="of this run"),
    Column("updated_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
)

records = Table(
    "collection_records",
    metadata,
    # write, each: the records of a collection by their keys
    Column("organization_id", Text, primary_key=True),
    Column("collection", Text, primary_key=True),
    Column("key", Text, primary_key=True, comment="the values of its key fields, as a JSON array"),
    Column("record", JSONB, nullable=False),
    Column("run", BigInteger, nullable=False, comment="in which it was seen last"),
    Column("changed_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    ForeignKeyConstraint(
        ["organization_id", "collection"],
        ["collections.organization_id", "collections.name"],
        name="collection_records_collection",
        ondelete="CASCADE",
    ),
)
