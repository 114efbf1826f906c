"""The tables of who is let in without a token, and with which tokens nobody is; they belong to those of schema.py."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, Table, Text, UniqueConstraint, Uuid, func
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
    Column("token_id", Text, comment="`jti` of the token that it was got with"),
    Column("issued_at", INSTANT, comment="`iat` of that token; null = it was got with none"),
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
    Column("token_id", Text, comment="`jti` of the token that it was opened with"),
    Column("issued_at", INSTANT, comment="`iat` of that token; null = it was opened with none"),
)

# Which tokens are taken no more: one by its `jti`, or those of a `sub`.
denied_tokens = Table(
    "denied_tokens",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("organization_id", Text, comment="null = of any organization"),
    Column("token_id", Text, comment="`jti`"),
    Column("user_id", Text, comment="`sub`"),
    Column("issued_before", INSTANT, comment="only those of a user that are older; null = all of them"),
    Column("expires_at", INSTANT, comment="when all of them have expired; null = there are new ones"),
    Column("reason", Text),
    Column("denied_by", Text, nullable=False),
    Column("denied_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("num_nonnulls(token_id, user_id) = 1", name="denied_tokens_of_one"),
    CheckConstraint("issued_before IS NULL OR user_id IS NOT NULL", name="denied_tokens_before"),
    UniqueConstraint(
        *("organization_id", "token_id", "user_id"), name="denied_tokens_once", postgresql_nulls_not_distinct=True
    ),
)
