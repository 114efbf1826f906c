"""Fewer and covering indexes: each costs an entry at nearly every change of a row, and three were barely read.

Writers go on: each index is built and dropped CONCURRENTLY, in a transaction of its own. A migration that was killed
goes on where it was: what is there and valid stays, what is there and invalid is built anew.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

BUILT = {
    "jobs_listed": "(organization_id, created_at, id) INCLUDE (job_type)",
    "jobs_ended_badly": "(organization_id, status, created_at, id) WHERE status IN ('failed', 'cancelled')",
    "jobs_unfinished": "(organization_id, priority DESC, created_at, id) INCLUDE (status, hold)"
    " WHERE status IN ('queued', 'running', 'retrying')",
    "jobs_unsent": "(created_at) WHERE status IN ('queued', 'retrying') AND hold IS NULL AND dispatched_at IS NULL",
}
DROPPED = {
    "jobs_by_organization": "(organization_id, created_at, id)",
    "jobs_by_type": "(organization_id, job_type, created_at, id)",
    "jobs_active": "(organization_id, created_at, id) WHERE status IN ('queued', 'running', 'retrying')",
    "jobs_undispatched": "(updated_at) WHERE status IN ('queued', 'retrying') AND hold IS NULL"
    " AND dispatched_at IS NULL",
}
IS_VALID = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")

# By default a vacuum waits for a fifth of the table: two million dead rows of ten.
VACUUM = {"jobs": 20_000, "workers": 200}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, definition in BUILT.items():
            if op.get_bind().execute(IS_VALID, {"name": name}).scalar() is not True:
                op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
                op.execute(f"CREATE INDEX CONCURRENTLY {name} ON jobs {definition}")
        for name in DROPPED:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        for table, threshold in VACUUM.items():
            op.execute(
                f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0,"
                f" autovacuum_vacuum_threshold = {threshold}, autovacuum_vacuum_cost_delay = 0)"
            )


def downgrade() -> None:
    for table in VACUUM:
        op.execute(
            f"ALTER TABLE {table} RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,"
            " autovacuum_vacuum_cost_delay)"
        )
    for name, definition in DROPPED.items():
        op.execute(f"CREATE INDEX {name} ON jobs {definition}")
    for name in BUILT:
        op.execute(f"DROP INDEX {name}")
