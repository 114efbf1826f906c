"""Failures that are alike: a fingerprint of each job that fails, and what people say of those with the same one.

Writers go on. The leader takes the fingerprints of what has failed before. A migration that was killed while it built an
index builds all of them anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

INDEXES = {
    "jobs_failed": "(organization_id, completed_at, id) INCLUDE (fingerprint, user_id, job_type, project_id)"
    " WHERE status = 'failed'",
    "jobs_alike": "(organization_id, fingerprint, created_at, id) INCLUDE (completed_at, user_id)"
    " WHERE status = 'failed'",
    "jobs_unprinted": "(id) WHERE status = 'failed' AND fingerprint IS NULL",
}

# As tracking/fingerprints.py had them when this was written.
# ruff: noqa: E501
FUNCTIONS = (
    r"""CREATE OR REPLACE FUNCTION error_shape(message text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT left(btrim(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(left(message, 1000), '[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}', '#', 'g'), '(?<![0-9A-Za-z])''[^''\n]*''(?![0-9A-Za-z])', '''#''', 'g'), '"[^"\n]*"', '"#"', 'g'), '`[^`\n]*`', '`#`', 'g'), '[0-9A-Za-z_]*[0-9][0-9A-Za-z_]*', '#', 'g'), '#(?:[-.:,/+]*#)+', '#', 'g'), '\s+', ' ', 'g')), 200)
$$""",
    r"""CREATE OR REPLACE FUNCTION error_fingerprint(job_type text, error_type text, message text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT left(md5(job_type || chr(31) || coalesce(error_type, '') || chr(31) || coalesce(error_shape(message), '')),
                16)
$$""",
)


def upgrade() -> None:
    for function in FUNCTIONS:
        op.execute(function)
    op.create_table(
        "error_marks",
        sa.Column("organization_id", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("marked_by", sa.Text, nullable=False),
        sa.Column("marked_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.CheckConstraint("state IN ('resolved', 'ignored')", name="error_marks_known"),
        sa.CheckConstraint(
            "marked_at >= timestamptz '1970-01-01Z' AND marked_at < timestamptz '3000-01-01Z'",
            name="error_marks_times_range",
        ),
        if_not_exists=True,
    )
    op.add_column(
        "jobs",
        sa.Column("fingerprint", sa.Text, comment="of a job that failed: the same for those that failed alike"),
        if_not_exists=True,
    )
    with op.get_context().autocommit_block():
        for name, definition in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON jobs {definition}")


def downgrade() -> None:
    for name in INDEXES:
        op.execute(f"DROP INDEX {name}")
    op.drop_column("jobs", "fingerprint")
    op.drop_table("error_marks")
    op.execute("DROP FUNCTION error_fingerprint(text, text, text)")
    op.execute("DROP FUNCTION error_shape(text)")
