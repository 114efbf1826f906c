"""Indexes for the removal of old jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "jobs_retained",
        "jobs",
        ["job_type", "status", "completed_at"],
        unique=False,
        postgresql_where=sa.text("completed_at IS NOT NULL"),
    )
    op.drop_index("jobs_by_group", table_name="jobs", postgresql_where=sa.text("group_id IS NOT NULL"))
    op.create_index(
        "jobs_by_group", "jobs", ["group_id", "status"], unique=False, postgresql_where=sa.text("group_id IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_index("jobs_by_group", table_name="jobs", postgresql_where=sa.text("group_id IS NOT NULL"))
    op.create_index(
        "jobs_by_group", "jobs", ["group_id"], unique=False, postgresql_where=sa.text("group_id IS NOT NULL")
    )
    op.drop_index("jobs_retained", table_name="jobs", postgresql_where=sa.text("completed_at IS NOT NULL"))
