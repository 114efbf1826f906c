"""A result whose types JSON lacks is handed on with them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "the same in Celery's JSON, when that names types that JSON lacks"
    op.add_column("jobs", sa.Column("typed_result", JSONB, comment=comment))


def downgrade() -> None:
    op.drop_column("jobs", "typed_result")
