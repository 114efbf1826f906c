"""Words of errors, and the types of active jobs, are found by indexes: a search read every row of an organization.

Two extensions that come with PostgreSQL are needed, of which it says that they are trusted: whoever may create in the
database can create them. Writers go on; a migration that was killed while it built an index builds it anew.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tracking.errors import ConfigurationError

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

EXTENSIONS = ("pg_trgm", "btree_gin")
# A search reads the list of what is not yet in the index, and the write that fills it has to work it off: 256 KiB.
BUILT = {
    "jobs_errors": "USING gin (organization_id, error_message gin_trgm_ops, error_type gin_trgm_ops)"
    " WITH (gin_pending_list_limit = 256) WHERE error_message IS NOT NULL",
    "jobs_active": "(organization_id, priority DESC, created_at, id) INCLUDE (status, hold, job_type)"
    " WHERE status IN ('queued', 'running', 'retrying')",
}
DROPPED = {
    "jobs_unfinished": "(organization_id, priority DESC, created_at, id) INCLUDE (status, hold)"
    " WHERE status IN ('queued', 'running', 'retrying')"
}
IS_VALID = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name in EXTENSIONS:
            _create(name)
        for name, definition in BUILT.items():
            if op.get_bind().execute(IS_VALID, {"name": name}).scalar() is not True:
                op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
                op.execute(f"CREATE INDEX CONCURRENTLY {name} ON jobs {definition}")
        for name in DROPPED:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def downgrade() -> None:
    # The extensions stay: others may use them by now.
    for name, definition in DROPPED.items():
        op.execute(f"CREATE INDEX {name} ON jobs {definition}")
    for name in BUILT:
        op.execute(f"DROP INDEX {name}")


def _create(extension: str) -> None:
    try:
        op.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")
    except DBAPIError as error:
        raise ConfigurationError(
            f"the database needs PostgreSQL's extension {extension}, which this role cannot create:"
            f" have a superuser run CREATE EXTENSION {extension} in it, then migrate again"
            f" ({str(error.orig).splitlines()[0]})"
        ) from None
