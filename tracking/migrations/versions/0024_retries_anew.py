"""A job that repeats another one with another payload names it, and is found by it.

Writers go on; a migration that was killed while it built the index builds it anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

INDEX = "jobs_retries"
IS_VALID = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")


def upgrade() -> None:
    op.add_column(
        "jobs",
        sa.Column("retry_of", sa.Uuid, comment="the job that this one repeats with another payload"),
        if_not_exists=True,
    )
    with op.get_context().autocommit_block():
        if op.get_bind().execute(IS_VALID, {"name": INDEX}).scalar() is not True:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")
            op.execute(f"CREATE INDEX CONCURRENTLY {INDEX} ON jobs (retry_of) WHERE retry_of IS NOT NULL")


def downgrade() -> None:
    op.drop_index(INDEX, "jobs")
    op.drop_column("jobs", "retry_of")
