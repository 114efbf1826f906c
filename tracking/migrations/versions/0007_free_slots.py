"""The slots of an organization, counted under its lock in the statement that submits a job."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

FREE_SLOTS = """
CREATE OR REPLACE FUNCTION free_slots(of_organization text, platform_limit int, silence interval) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1667591269, hashtext(of_organization));
    RETURN CASE
        WHEN EXISTS (SELECT FROM jobs WHERE organization_id = of_organization AND hold = 'organization_limit') THEN 0
        ELSE (SELECT CASE WHEN slots > 0 THEN least(coalesce((SELECT concurrency FROM organizations WHERE id = of_organization), CAST(platform_limit AS int)), slots) ELSE coalesce((SELECT concurrency FROM organizations WHERE id = of_organization), CAST(platform_limit AS int)) END
                       - (SELECT count(*) FROM jobs WHERE organization_id = of_organization AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping))
                FROM (SELECT sum(concurrency) AS slots FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(silence AS interval)) AS alive)
    END;
END $$"""  # noqa: E501 - as it was written by then


def upgrade() -> None:
    op.execute(FREE_SLOTS)


def downgrade() -> None:
    op.execute("DROP FUNCTION free_slots(text, int, interval)")
