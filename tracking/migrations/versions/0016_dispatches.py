"""One job has one Celery id; its dispatches have numbers.

No job is lost: what waits is sent anew, with its number. The messages that are still with the broker have none, and are
set aside by the workers of this version. Those of the one before must not run beside them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# As tracking/admission/functions.py had it when this was written, but for the columns of the fence.
# ruff: noqa: E501
GIVE_WAY = """
CREATE OR REPLACE FUNCTION give_way(of_organization text, of_queue text, of_priority int) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    WITH locked AS (
        SELECT id, status AS from_status FROM jobs
        WHERE organization_id = of_organization AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND queue = of_queue AND priority < of_priority
        ORDER BY priority, created_at DESC, id DESC
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ), moved AS (
        UPDATE jobs
        SET hold = 'organization_limit', {renewed}, dispatched_at = NULL,
            updated_at = clock_timestamp()
        FROM locked
        WHERE jobs.id = locked.id
        RETURNING jobs.*, locked.from_status
    )
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt, {fence},
                         actor, detail)
    SELECT id, organization_id, user_id, job_type, 'held', from_status, status, attempt, {fence}, 'admission',
           jsonb_build_object('hold', hold, 'reason', 'a more urgent job of the organization')
    FROM moved;
    RETURN FOUND;
END $$"""

# A job's task ids in the order in which history has them.
NUMBERED = """
CREATE TEMPORARY TABLE numbered ON COMMIT DROP AS
SELECT job_id, task_id, row_number() OVER (PARTITION BY job_id ORDER BY min(id))::int AS dispatch
FROM history GROUP BY job_id, task_id"""
NUMBER_HISTORY = """
UPDATE history SET dispatch = numbered.dispatch FROM numbered
WHERE numbered.job_id = history.job_id AND numbered.task_id = history.task_id"""

# A task id without history is of a dispatch that came after all of them.
NUMBER_JOBS = """
UPDATE jobs SET dispatch = coalesce(
    (SELECT dispatch FROM numbered WHERE numbered.job_id = jobs.id AND numbered.task_id = jobs.task_id),
    (SELECT max(dispatch) + 1 FROM numbered WHERE numbered.job_id = jobs.id),
    1)"""
SEND_ANEW = "UPDATE jobs SET dispatched_at = NULL WHERE status IN ('queued', 'retrying') AND dispatched_at IS NOT NULL"

# The same for a job and for its history.
NAME_JOBS = """
UPDATE jobs SET task_id = CASE dispatch WHEN 1 THEN id ELSE CAST(md5(concat(id, ' ', dispatch)) AS uuid) END"""
NAME_HISTORY = """
UPDATE history
SET task_id = CASE dispatch WHEN 1 THEN job_id ELSE CAST(md5(concat(job_id, ' ', dispatch)) AS uuid) END"""


def upgrade() -> None:
    current = "number of the current dispatch; fences older ones out"
    op.add_column(
        "jobs", sa.Column("dispatch", sa.Integer, nullable=False, server_default=sa.text("1"), comment=current)
    )
    op.add_column("history", sa.Column("dispatch", sa.Integer))
    for statement in (NUMBERED, "CREATE INDEX ON numbered (job_id)", "ANALYZE numbered"):
        op.execute(statement)
    for statement in (NUMBER_HISTORY, NUMBER_JOBS, SEND_ANEW):
        op.execute(statement)
    op.alter_column("history", "dispatch", nullable=False)
    op.drop_column("history", "task_id")
    op.drop_column("jobs", "task_id")  # and its unique index
    op.execute(GIVE_WAY.format(renewed="dispatch = dispatch + 1", fence="dispatch"))


def downgrade() -> None:
    comment = "the current dispatch; fences older ones out"
    op.add_column("jobs", sa.Column("task_id", sa.Uuid, comment=comment))
    op.add_column("history", sa.Column("task_id", sa.Uuid))
    op.execute(NAME_JOBS)
    op.execute(NAME_HISTORY)
    for table in ("jobs", "history"):
        op.alter_column(table, "task_id", nullable=False)
        op.drop_column(table, "dispatch")
    op.create_unique_constraint("jobs_task_id_key", "jobs", ["task_id"])
    op.execute(SEND_ANEW)
    op.execute(GIVE_WAY.format(renewed="task_id = gen_random_uuid()", fence="task_id"))
