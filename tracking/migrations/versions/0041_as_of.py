"""When jobs were created, in the index of those that ended: which of them were active at a time is counted by it.

Writers go on. A migration that was killed while it built the index builds it anew.
"""

from __future__ import annotations

from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

INDEX = "(organization_id, completed_at, id) INCLUDE (status, job_type, started_at, created_at)"
BEFORE = "(organization_id, completed_at, id) INCLUDE (status, job_type, started_at)"
ENDED = "WHERE completed_at IS NOT NULL"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS jobs_over")
        op.execute(f"CREATE INDEX CONCURRENTLY jobs_over ON jobs {INDEX} {ENDED}")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS jobs_ended")


def downgrade() -> None:
    op.execute(f"CREATE INDEX jobs_ended ON jobs {BEFORE} {ENDED}")
    op.execute("DROP INDEX jobs_over")
