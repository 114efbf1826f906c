"""Which jobs still depend on one that has finished: for retention."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "jobs_depending",
        "jobs",
        ["depends_on"],
        postgresql_using="gin",
        postgresql_where=sa.text("status IN ('queued', 'running', 'retrying') AND depends_on <> '{}'"),
    )


def downgrade() -> None:
    op.drop_index("jobs_depending", "jobs")
