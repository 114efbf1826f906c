"""Uploaded files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

# As tracking/schema.py had it when this was written.
IN_RANGE = "{0} >= timestamptz '1970-01-01Z' AND {0} < timestamptz '3000-01-01Z'"


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.Uuid, primary_key=True, comment="the name of the file in the store"),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False, comment="what its owner calls it; leads to no file"),
        sa.Column("size", sa.BigInteger, nullable=False, comment="bytes"),
        sa.Column("sha256", sa.Text, nullable=False, comment="hexadecimal"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("size >= 0", name="files_size"),
        sa.CheckConstraint(
            " AND ".join(IN_RANGE.format(name) for name in ("created_at", "expires_at")), name="files_times_range"
        ),
    )
    op.create_index("files_by_organization", "files", ["organization_id", "created_at", "id"])


def downgrade() -> None:
    op.drop_table("files")
