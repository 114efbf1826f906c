"""What a long backlog costs others: the rule finds its rows by index whatever the planner knows; two small indexes.

Writers go on. A migration that was killed while it built an index builds it anew.
"""

from __future__ import annotations

from alembic import op

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

INDEXES = {
    "jobs_behind_gates": "(hold, organization_id, job_type, queue, circuit_key) WHERE hold IN ('paused', 'circuit')",
    "jobs_awaiting": "(id) WHERE hold = 'dependency'",
}

# As tracking/admission/functions.py had them when this was written.
# ruff: noqa: E501
FUNCTIONS = (
    r"""CREATE OR REPLACE FUNCTION has_dependents(of_job uuid) RETURNS boolean LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off AS $$
BEGIN
    RETURN EXISTS (SELECT FROM jobs WHERE hold = 'dependency' AND depends_on @> ARRAY[of_job]);
END $$""",
    r"""CREATE OR REPLACE FUNCTION is_contended(of_organization text) RETURNS boolean LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_incremental_sort = off AS $$
BEGIN
    RETURN EXISTS (SELECT FROM (SELECT FROM jobs WHERE hold = 'organization_limit' AND organization_id < of_organization ORDER BY organization_id, queue, priority DESC, created_at, id LIMIT 1) AS found)
        OR EXISTS (SELECT FROM (SELECT FROM jobs WHERE hold = 'organization_limit' AND organization_id > of_organization ORDER BY organization_id, queue, priority DESC, created_at, id LIMIT 1) AS found)
        OR EXISTS (SELECT FROM (SELECT FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND organization_id < of_organization ORDER BY organization_id, queue LIMIT 1) AS found)
        OR EXISTS (SELECT FROM (SELECT FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND organization_id > of_organization ORDER BY organization_id, queue LIMIT 1) AS found);
END $$""",
    r"""CREATE OR REPLACE FUNCTION room_in(of_organization text, of_queue text, platform_limit int, silence interval)
RETURNS int LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_incremental_sort = off AS $$
DECLARE
    most int := coalesce((SELECT concurrency FROM organizations WHERE id = of_organization), platform_limit);
    own int := 2147483647;
    slots int;
    shared text[];
    room int;
    share int;
BEGIN
    IF most > 0 THEN
        own := most - (SELECT count(*) FROM (
            SELECT FROM jobs WHERE organization_id = of_organization AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) LIMIT most) AS taken);
    ELSIF NOT is_contended(of_organization) THEN
        RETURN own;
    END IF;
    IF own <= 0 THEN
        RETURN own;
    END IF;
    SELECT sum(concurrency) FILTER (WHERE number = 1), array_agg(DISTINCT each) INTO slots, shared
    FROM workers CROSS JOIN unnest(queues) WITH ORDINALITY AS consumed (each, number)
    WHERE workers.seen_at > clock_timestamp() - silence AND of_queue = ANY(queues);
    IF slots IS NULL THEN
        RETURN own;
    END IF;
    room := slots - (SELECT count(*) FROM (SELECT FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND queue = ANY(shared) LIMIT slots)
                     AS taken);
    share := coalesce((SELECT weight FROM organization_weights WHERE organization_id = of_organization), 1);
    IF room < share THEN
        room := greatest(room, share - (SELECT count(*) FROM (
            SELECT FROM jobs WHERE organization_id = of_organization AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND queue = ANY(shared) LIMIT share)
            AS sent));
    END IF;
    RETURN least(own, room);
END $$""",
    r"""CREATE OR REPLACE FUNCTION free_in(of_queue text, silence interval) RETURNS int LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_incremental_sort = off AS $$
DECLARE
    slots int;
    shared text[];
BEGIN
    SELECT sum(concurrency) FILTER (WHERE number = 1), array_agg(DISTINCT each) INTO slots, shared
    FROM workers CROSS JOIN unnest(queues) WITH ORDINALITY AS consumed (each, number)
    WHERE workers.seen_at > clock_timestamp() - silence AND of_queue = ANY(queues);
    RETURN slots - (SELECT count(*) FROM (SELECT FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND queue = ANY(shared) LIMIT slots)
                    AS taken);
END $$""",
    r"""CREATE OR REPLACE FUNCTION sent_level(of_organization text, of_queue text, of_priority int, platform_limit int,
                                      silence interval)
RETURNS int LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_incremental_sort = off AS $$
BEGIN
    IF EXISTS (SELECT FROM jobs
               WHERE organization_id = of_organization AND hold = 'organization_limit' AND queue = of_queue
                 AND priority >= of_priority) THEN
        RETURN NULL;
    END IF;
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
FORMER = (
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
    slots int;
    shared text[];
    room int;
    share int;
BEGIN
    IF most > 0 THEN
        own := most - (SELECT count(*) FROM jobs WHERE organization_id = of_organization AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping));
    ELSIF NOT is_contended(of_organization) THEN
        RETURN own;
    END IF;
    IF own <= 0 THEN
        RETURN own;
    END IF;
    SELECT sum(concurrency) FILTER (WHERE number = 1), array_agg(DISTINCT each) INTO slots, shared
    FROM workers CROSS JOIN unnest(queues) WITH ORDINALITY AS consumed (each, number)
    WHERE workers.seen_at > clock_timestamp() - silence AND of_queue = ANY(queues);
    IF slots IS NULL THEN
        RETURN own;
    END IF;
    room := slots - (SELECT count(*) FROM (SELECT FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND queue = ANY(shared) LIMIT slots)
                     AS taken);
    share := coalesce((SELECT weight FROM organization_weights WHERE organization_id = of_organization), 1);
    IF room < share THEN
        room := greatest(room, share - (SELECT count(*) FROM (
            SELECT FROM jobs WHERE organization_id = of_organization AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND queue = ANY(shared) LIMIT share)
            AS sent));
    END IF;
    RETURN least(own, room);
END $$""",
    r"""CREATE OR REPLACE FUNCTION free_in(of_queue text, silence interval) RETURNS int LANGUAGE plpgsql STABLE AS $$
DECLARE
    slots int;
    shared text[];
BEGIN
    SELECT sum(concurrency) FILTER (WHERE number = 1), array_agg(DISTINCT each) INTO slots, shared
    FROM workers CROSS JOIN unnest(queues) WITH ORDINALITY AS consumed (each, number)
    WHERE workers.seen_at > clock_timestamp() - silence AND of_queue = ANY(queues);
    RETURN slots - (SELECT count(*) FROM (SELECT FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND queue = ANY(shared) LIMIT slots)
                    AS taken);
END $$""",
    r"""CREATE OR REPLACE FUNCTION sent_level(of_organization text, of_queue text, of_priority int, platform_limit int,
                                      silence interval)
RETURNS int LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF EXISTS (SELECT FROM jobs
               WHERE organization_id = of_organization AND hold = 'organization_limit' AND queue = of_queue
                 AND priority >= of_priority) THEN
        RETURN NULL;
    END IF;
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


def upgrade() -> None:
    for function in FUNCTIONS:
        op.execute(function)
    with op.get_context().autocommit_block():
        for name, columns in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON jobs {columns}")


def downgrade() -> None:
    for name in INDEXES:
        op.execute(f"DROP INDEX {name}")
    for function in FORMER:
        op.execute(function)
    op.execute("DROP FUNCTION has_dependents(uuid)")
