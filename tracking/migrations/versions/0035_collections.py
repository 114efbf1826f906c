"""Collections: what sync jobs pull, and how far they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

# As tracking/schema.py had it when this was written.
IN_RANGE = "{0} >= timestamptz '1970-01-01Z' AND {0} < timestamptz '3000-01-01Z'"
NOW = sa.func.clock_timestamp()


def upgrade() -> None:
    source = "digest of where and how it is pulled; another source begins anew"
    op.create_table(
        "collections",
        sa.Column("organization_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, nullable=False, comment=source),
        sa.Column("job_id", sa.Uuid, nullable=False, comment="which pulls it, or has pulled it last"),
        sa.Column("attempt", sa.Integer, nullable=False, comment="of that job; an overtaken attempt writes nothing"),
        sa.Column(
            "run",
            sa.BigInteger,
            nullable=False,
            server_default=sa.text("1"),
            comment="number of the pull from its beginning",
        ),
        sa.Column("position", JSONB, comment="of the next page; null = the first"),
        sa.Column(
            "pages", sa.Integer, nullable=False, server_default=sa.text("0"), comment="of this run that were read"
        ),
        sa.Column(
            "complete",
            sa.Boolean,
            nullable=False,
            server_default=sa.false(),
            comment="this run has seen the last page",
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW, comment="of this run"),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.CheckConstraint(
            " AND ".join(IN_RANGE.format(name) for name in ("started_at", "updated_at")), name="collections_times_range"
        ),
    )
    op.create_table(
        "collection_records",
        sa.Column("organization_id", sa.Text, primary_key=True),
        sa.Column("collection", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True, comment="the values of its key fields, as a JSON array"),
        sa.Column("record", JSONB, nullable=False),
        sa.Column("run", sa.BigInteger, nullable=False, comment="in which it was seen last"),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.CheckConstraint(IN_RANGE.format("changed_at"), name="collection_records_times_range"),
        sa.ForeignKeyConstraint(
            ["organization_id", "collection"],
            ["collections.organization_id", "collections.name"],
            name="collection_records_collection",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    op.drop_table("collection_records")
    op.drop_table("collections")
