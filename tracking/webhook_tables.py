"""The tables of webhooks; they belong to those of schema.py. What is delivered are jobs."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Index, Table, Text, Uuid, func, text, true
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from tracking.columns import INSTANT, metadata

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("events", ARRAY(Text), nullable=False),
    Column("job_types", ARRAY(Text), comment="null = all"),
    Column("project_id", Text, comment="null = all, and what has none"),
    Column("description", Text),
    Column("secret", Text, nullable=False, comment="base64; it signs, so it is kept as it is"),
    Column("former_secret", Text, comment="it signs as well until former_until"),
    Column("former_until", INSTANT),
    Column(
        "earlier_secrets",
        JSONB,
        nullable=False,
        server_default=text("'[]'"),
        comment="[{secret, until}]: those before former_secret that sign still, the newest first",
    ),
    Column("enabled", Boolean, nullable=False, server_default=true()),
    Column("disabled_because", Text),
    Column("failing_since", INSTANT, comment="of the first failure after the last success"),
    Column("created_by", Text, nullable=False),
    Column("created_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("updated_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("(former_secret IS NULL) = (former_until IS NULL)", name="webhooks_former_secret"),
    # list; and the leader: who listens to an organization
    Index("webhooks_by_organization", "organization_id", "created_at", "id"),
)

# At most one row: how far the history was looked at for those who listen. No row: nobody listens.
position = Table(
    "webhook_position",
    metadata,
    Column("is_only", Boolean, primary_key=True, server_default=true()),
    Column("history_id", BigInteger, nullable=False),
    Column("moved_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("is_only", name="webhook_position_once"),
)
