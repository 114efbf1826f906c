"""Tokens that are taken no more, and with which token a session or a ticket was got."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

# As tracking/schema.py had it when this was written.
IN_RANGE = "{0} >= timestamptz '1970-01-01Z' AND {0} < timestamptz '3000-01-01Z'"
OPENED = {"sessions": "opened", "tickets": "got"}
TIMES = {
    "sessions": ("created_at", "seen_at", "expires_at", "issued_at"),
    "tickets": ("rights_until", "expires_at", "issued_at"),
    "denied_tokens": ("issued_before", "expires_at", "denied_at"),
}


def upgrade() -> None:
    now = sa.text("clock_timestamp()")
    for table, opened in OPENED.items():
        op.add_column(table, sa.Column("token_id", sa.Text, comment=f"`jti` of the token that it was {opened} with"))
        comment = f"`iat` of that token; null = it was {opened} with none"
        op.add_column(table, sa.Column("issued_at", sa.DateTime(timezone=True), comment=comment))
        op.drop_constraint(f"{table}_times_range", table)
        op.create_check_constraint(f"{table}_times_range", table, _in_range(table))
    op.create_table(
        "denied_tokens",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Text, comment="null = of any organization"),
        sa.Column("token_id", sa.Text, comment="`jti`"),
        sa.Column("user_id", sa.Text, comment="`sub`"),
        sa.Column(
            "issued_before",
            sa.DateTime(timezone=True),
            comment="only those of a user that are older; null = all of them",
        ),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            comment="when all of them have expired; null = there are new ones",
        ),
        sa.Column("reason", sa.Text),
        sa.Column("denied_by", sa.Text, nullable=False),
        sa.Column("denied_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.CheckConstraint("num_nonnulls(token_id, user_id) = 1", name="denied_tokens_of_one"),
        sa.CheckConstraint("issued_before IS NULL OR user_id IS NOT NULL", name="denied_tokens_before"),
        sa.CheckConstraint(_in_range("denied_tokens"), name="denied_tokens_times_range"),
        sa.UniqueConstraint(
            "organization_id",
            "token_id",
            "user_id",
            name="denied_tokens_once",
            postgresql_nulls_not_distinct=True,
        ),
    )


def downgrade() -> None:
    op.drop_table("denied_tokens")
    for table in OPENED:
        op.drop_constraint(f"{table}_times_range", table)
        op.drop_column(table, "issued_at")
        op.drop_column(table, "token_id")
        op.create_check_constraint(f"{table}_times_range", table, _in_range(table, without="issued_at"))


def _in_range(table: str, without: str = "") -> str:
    return " AND ".join(IN_RANGE.format(name) for name in TIMES[table] if name != without)
