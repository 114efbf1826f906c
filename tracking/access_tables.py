"""The tables of who is let in without a token; they belong to those of schema.py."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, Table, Text, func
from sqlalchemy.dialects.postgresql import ARRAY

from tracking.columns import INSTANT, metadata

# Rights that one request takes over from another one, once: where a browser cannot send a token.
tickets = Table(
    "tickets",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of the ticket"),
    Column("purpose", Text, nullable=False),
    Column("organization_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("permissions", ARRAY(Text), nullable=False),
    Column("rights_until", INSTANT, comment="when what it gives ends; null = as long as its purpose says"),
    Column("expires_at", INSTANT, nullable=False),
    # issue: removes what was never spent
    Index("tickets_expired", "expires_at"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of what its cookie holds"),
    Column("organization_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("permissions", ARRAY(Text), nullable=False, comment="of the token that it was opened with"),
    Column("created_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("seen_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("expires_at", INSTANT, nullable=False),
)
