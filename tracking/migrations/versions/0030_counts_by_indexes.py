"""Indexes that answer counts by themselves: stats, types and charts of a large organization read a row for each job.

Writers go on; a migration that was killed while it built an index builds it anew.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

BUILT = {
    "jobs_ended_by_type": "(organization_id, job_type, created_at, id) WHERE completed_at IS NOT NULL",
    "jobs_unsuccessful": "(organization_id, status, created_at, id) INCLUDE (job_type)"
    " WHERE status IN ('failed', 'cancelled')",
    "jobs_under_way": "(organization_id, priority DESC, created_at, id)"
    " INCLUDE (status, hold, job_type, attempt, due_at, scheduled_at)"
    " WHERE status IN ('queued', 'running', 'retrying')",
    "jobs_ended": "(organization_id, completed_at, id) INCLUDE (status, job_type, started_at)"
    " WHERE completed_at IS NOT NULL",
}
DROPPED = {
    "jobs_ended_badly": "(organization_id, status, created_at, id) WHERE status IN ('failed', 'cancelled')",
    "jobs_active": "(organization_id, priority DESC, created_at, id) INCLUDE (status, hold, job_type)"
    " WHERE status IN ('queued', 'running', 'retrying')",
    "jobs_finished": "(organization_id, completed_at, id) WHERE completed_at IS NOT NULL",
}
IS_VALID = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, definition in BUILT.items():
            if op.get_bind().execute(IS_VALID, {"name": name}).scalar() is not True:
                op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
                op.execute(f"CREATE INDEX CONCURRENTLY {name} ON jobs {definition}")
        for name in DROPPED:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def downgrade() -> None:
    for name, definition in DROPPED.items():
        op.execute(f"CREATE INDEX {name} ON jobs {definition}")
    for name in BUILT:
        op.execute(f"DROP INDEX {name}")
