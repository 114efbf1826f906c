"""The audit: who did what, from where, with what outcome."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    everywhere = "whom it concerns; null = all of them"
    operator = "null = an operator at a terminal, or who reaches the broker"
    target = "the id of a job, or the name of a type or an organization"
    deed = "from where somebody has asked for it; null = it is no deed of anybody's"
    op.add_column("history", sa.Column("origin", JSONB, comment=deed))
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("organization_id", sa.Text, comment=everywhere),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("actor_organization_id", sa.Text, comment=operator),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("target", sa.Text, comment=target),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("address", sa.Text),
        sa.Column("request_id", sa.Text),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("code", sa.Text, comment="why it was refused"),
        sa.Column("detail", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
        sa.CheckConstraint(
            "at >= timestamptz '1970-01-01Z' AND at < timestamptz '3000-01-01Z'", name="audit_times_range"
        ),
        sa.CheckConstraint("jsonb_typeof(detail) = 'object'", name="audit_objects"),
    )
    op.create_index("audit_by_organization", "audit", ["organization_id", "id"])
    op.create_index("audit_by_target", "audit", ["target", "id"])


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_column("history", "origin")
