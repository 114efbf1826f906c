"""The secrets of webhooks that sign for a day after they were replaced, when there is more than one of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

COMMENT = "[{secret, until}]: those before former_secret that sign still, the newest first"


def upgrade() -> None:
    """Add a column that an earlier release does not know: it signs with the newest two of them."""
    op.add_column(
        "webhooks",
        sa.Column("earlier_secrets", JSONB, nullable=False, server_default=sa.text("'[]'"), comment=COMMENT),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_column("webhooks", "earlier_secrets")
