"""Jobs whose work is done elsewhere, and the types of them that operators name.

Writers go on: the constraints are added without a look at the rows, and then checked beside them. A migration that was
killed goes on where it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

WAITS = "status IN ('queued', 'retrying')"
HOLDS = "'schedule', 'backoff', 'dependency', 'organization_limit', 'circuit', 'paused'"
CONSTRAINTS = {
    "jobs_hold_known": f"hold IS NULL OR hold = 'external' OR (hold IN ({HOLDS}, 'external') AND {WAITS})",
    "jobs_external_held": "(coalesce(hold, '') = 'external')"
    " = (external AND status IN ('queued', 'running', 'retrying'))",
}
INDEX = "jobs_external"
IS_VALID = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")


def upgrade() -> None:
    op.create_table(
        "external_types",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("permission", sa.Text, comment="needed besides jobs.create_jobs; null = none"),
        sa.Column(
            "silence", sa.Interval, comment="without a report after which a job is given up; null = the platform's"
        ),
        sa.Column("added_by", sa.Text, nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.CheckConstraint(
            "added_at >= timestamptz '1970-01-01Z' AND added_at < timestamptz '3000-01-01Z'",
            name="external_types_times_range",
        ),
        if_not_exists=True,
    )
    op.add_column(
        "jobs",
        sa.Column(
            "external", sa.Boolean, nullable=False, server_default=sa.false(), comment="its work is done elsewhere"
        ),
        if_not_exists=True,
    )
    for name, condition in CONSTRAINTS.items():
        op.execute(f"ALTER TABLE jobs DROP CONSTRAINT IF EXISTS {name}")
        op.execute(f"ALTER TABLE jobs ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")
    with op.get_context().autocommit_block():
        for name in CONSTRAINTS:
            op.execute(f"ALTER TABLE jobs VALIDATE CONSTRAINT {name}")
        if op.get_bind().execute(IS_VALID, {"name": INDEX}).scalar() is not True:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")
            op.execute(f"CREATE INDEX CONCURRENTLY {INDEX} ON jobs (job_type) WHERE hold = 'external'")


def downgrade() -> None:
    """Undo: what is done elsewhere could not be tracked any more."""
    op.execute(
        """
        WITH moved AS (
            UPDATE jobs
            SET status = 'cancelled', hold = NULL, cancel_requested_at = clock_timestamp(),
                completed_at = clock_timestamp(), updated_at = clock_timestamp(),
                error_message = 'this version tracks no work that is done elsewhere'
            FROM (SELECT id AS was, status AS from_status FROM jobs WHERE hold = 'external' FOR UPDATE) AS locked
            WHERE jobs.id = locked.was
            RETURNING *
        )
        INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                             attempt, dispatch, actor, detail)
        SELECT id, organization_id, user_id, job_type, 'cancelled', from_status, status, attempt, dispatch, 'admission',
               jsonb_build_object('by', 'admission', 'reason', error_message)
        FROM moved"""
    )
    op.drop_index(INDEX, "jobs")
    for name in CONSTRAINTS:
        op.drop_constraint(name, "jobs")
    op.create_check_constraint("jobs_hold_known", "jobs", f"hold IS NULL OR (hold IN ({HOLDS}) AND {WAITS})")
    op.drop_column("jobs", "external")
    op.drop_table("external_types")
