"""The successors in a canvas have rows from the submit on, and say what they follow."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    job = "the job with whose result this one will be called; null = it was, or has none"
    group = "the same of the canvas group whose results it will be called with"
    op.add_column("jobs", sa.Column("follows", sa.Uuid, comment=job))
    op.add_column("jobs", sa.Column("follows_group", sa.Text, comment=group))
    op.create_index("jobs_following", "jobs", ["follows"], postgresql_where=sa.text("follows IS NOT NULL"))
    where = sa.text("follows_group IS NOT NULL")
    op.create_index("jobs_following_group", "jobs", ["follows_group"], postgresql_where=where)


def downgrade() -> None:
    """Undo: what waits for its call could not be called any more."""
    op.execute(
        """
        WITH moved AS (
            UPDATE jobs
            SET status = 'cancelled', hold = NULL, due_at = NULL, cancel_requested_at = clock_timestamp(),
                completed_at = clock_timestamp(), updated_at = clock_timestamp(), error_type = 'DependencyEnded',
                error_message = 'this version writes the rows of successors at their call'
            WHERE hold = 'dependency' AND (follows IS NOT NULL OR follows_group IS NOT NULL)
            RETURNING *
        )
        INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                             attempt, task_id, actor, detail)
        SELECT id, organization_id, user_id, job_type, 'cancelled', 'queued', status, attempt, task_id, 'admission',
               jsonb_build_object('by', 'admission', 'reason', error_message)
        FROM moved"""
    )
    op.drop_index("jobs_following_group", "jobs")
    op.drop_index("jobs_following", "jobs")
    op.drop_column("jobs", "follows_group")
    op.drop_column("jobs", "follows")
