"""Turns between organizations: what is with the broker is bounded by what the workers can start soon."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# As tracking/admission/functions.py had them when this was written.
# ruff: noqa: E501
FUNCTIONS = (
    r"""CREATE OR REPLACE FUNCTION is_contended(of_organization text) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM jobs WHERE hold = 'organization_limit' AND organization_id < of_organization)
        OR EXISTS (SELECT FROM jobs WHERE hold = 'organization_limit' AND organization_id > of_organization)
        OR EXISTS (SELECT FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND organization_id < of_organization)
        OR EXISTS (SELECT FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND organization_id > of_organization);
END $$""",
    r"""CREATE OR REPLACE FUNCTION room_in(of_organization text, of_queue text, platform_limit int, silence interval)
RETURNS int LANGUAGE plpgsql STABLE AS $$
DECLARE
    most int := coalesce((SELECT concurrency FROM organizations WHERE id = of_organization), platform_limit);
    own int := 2147483647;
    slots int := (SELECT sum(concurrency) FROM workers WHERE workers.seen_at > clock_timestamp() - silence AND of_queue = ANY(queues));
    shared text[];
    room int;
BEGIN
    IF most > 0 THEN
        own := most - (SELECT count(*) FROM jobs WHERE organization_id = of_organization AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping));
    ELSIF NOT is_contended(of_organization) THEN
        RETURN own;
    END IF;
    IF own <= 0 OR slots IS NULL THEN
        RETURN own;
    END IF;
    shared := ARRAY(SELECT DISTINCT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - silence AND of_queue = ANY(queues));
    room := slots - (SELECT count(*) FROM (SELECT FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND queue = ANY(shared) LIMIT slots)
                     AS taken);
    IF room < 1 AND NOT EXISTS (SELECT FROM jobs
                                WHERE organization_id = of_organization AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND queue = ANY(shared)) THEN
        room := 1;
    END IF;
    RETURN least(own, room);
END $$""",
    r"""CREATE OR REPLACE FUNCTION give_way(of_organization text, of_queue text, of_priority int) RETURNS boolean
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
        SET hold = 'organization_limit', task_id = gen_random_uuid(), dispatched_at = NULL,
            updated_at = clock_timestamp()
        FROM locked
        WHERE jobs.id = locked.id
        RETURNING jobs.*, locked.from_status
    )
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt, task_id,
                         actor, detail)
    SELECT id, organization_id, user_id, job_type, 'held', from_status, status, attempt, task_id, 'admission',
           jsonb_build_object('hold', hold, 'reason', 'a more urgent job of the organization')
    FROM moved;
    RETURN FOUND;
END $$""",
    r"""CREATE OR REPLACE FUNCTION sent_level(of_organization text, of_queue text, of_priority int, platform_limit int,
                                      silence interval)
RETURNS int LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1667591269, hashtext(of_organization));
    IF EXISTS (SELECT FROM jobs
               WHERE organization_id = of_organization AND hold = 'organization_limit' AND queue = of_queue
                 AND priority >= of_priority) THEN
        RETURN NULL;
    END IF;
    IF room_in(of_organization, of_queue, platform_limit, silence) < 1
       AND NOT give_way(of_organization, of_queue, of_priority) THEN
        RETURN NULL;
    END IF;
    RETURN CASE WHEN is_contended(of_organization) THEN 0 ELSE of_priority END;
END $$""",
)

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
END $$"""
IN_FLIGHT = sa.text("(status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping)")
IN_LINE = sa.text("hold = 'organization_limit'")


def upgrade() -> None:
    sent = "of its message at the broker; null = its own"
    op.add_column("jobs", sa.Column("sent_priority", sa.SmallInteger, comment=sent))
    _index(["organization_id", "queue"], ["organization_id", "queue", sa.text("priority DESC"), "created_at", "id"])
    for function in FUNCTIONS:
        op.execute(function)
    op.execute("DROP FUNCTION free_slots(text, int, interval)")


def downgrade() -> None:
    op.execute("DROP FUNCTION sent_level(text, text, int, int, interval)")
    op.execute("DROP FUNCTION give_way(text, text, int)")
    op.execute("DROP FUNCTION room_in(text, text, int, interval)")
    op.execute("DROP FUNCTION is_contended(text)")
    op.execute(FREE_SLOTS)
    _index(["organization_id"], ["organization_id", sa.text("priority DESC"), "created_at", "id"])
    op.drop_column("jobs", "sent_priority")


def _index(in_flight: list[Any], in_line: list[Any]) -> None:
    for name, columns, where in (("jobs_in_flight", in_flight, IN_FLIGHT), ("jobs_in_line", in_line, IN_LINE)):
        op.drop_index(name, "jobs")
        op.create_index(name, "jobs", columns, postgresql_where=where)
