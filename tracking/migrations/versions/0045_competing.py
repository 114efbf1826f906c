"""Organizations compete only where the same workers serve them: others are looked for by queue, with an index for it.

Writers go on. A migration that was killed while it built the index builds it anew. What the release before asks, whether
others wait in any queue, stays for it.
"""

from __future__ import annotations

from alembic import op

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None

# As tracking/schema.py and tracking/admission/functions.py had them when this was written.
# ruff: noqa: E501
COMPETING = "(queue, organization_id) WHERE (status IN ('queued', 'retrying') AND (hold IS NULL OR hold = 'organization_limit'))"
FUNCTIONS = (
    r"""CREATE OR REPLACE FUNCTION is_contended(of_organization text, of_queue text, silence interval) RETURNS boolean LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_incremental_sort = off AS $$
DECLARE
    other text;
BEGIN
    IF (EXISTS (SELECT FROM (SELECT FROM jobs WHERE (status IN ('queued', 'retrying') AND (hold IS NULL OR hold = 'organization_limit')) AND queue = of_queue AND organization_id < of_organization ORDER BY queue, organization_id LIMIT 1) AS found)
        OR EXISTS (SELECT FROM (SELECT FROM jobs WHERE (status IN ('queued', 'retrying') AND (hold IS NULL OR hold = 'organization_limit')) AND queue = of_queue AND organization_id > of_organization ORDER BY queue, organization_id LIMIT 1) AS found)) THEN
        RETURN true;
    END IF;
    IF NOT (EXISTS (SELECT FROM (SELECT FROM jobs WHERE (status IN ('queued', 'retrying') AND (hold IS NULL OR hold = 'organization_limit')) AND queue < of_queue ORDER BY queue, organization_id LIMIT 1) AS found) OR EXISTS (SELECT FROM (SELECT FROM jobs WHERE (status IN ('queued', 'retrying') AND (hold IS NULL OR hold = 'organization_limit')) AND queue > of_queue ORDER BY queue, organization_id LIMIT 1) AS found)) THEN
        RETURN false;
    END IF;
    FOR other IN SELECT DISTINCT unnest(queues) FROM workers
                 WHERE of_queue = ANY(queues) AND (silence IS NULL OR workers.seen_at > clock_timestamp() - silence) LOOP
        IF (EXISTS (SELECT FROM (SELECT FROM jobs WHERE (status IN ('queued', 'retrying') AND (hold IS NULL OR hold = 'organization_limit')) AND queue = other AND organization_id < of_organization ORDER BY queue, organization_id LIMIT 1) AS found)
        OR EXISTS (SELECT FROM (SELECT FROM jobs WHERE (status IN ('queued', 'retrying') AND (hold IS NULL OR hold = 'organization_limit')) AND queue = other AND organization_id > of_organization ORDER BY queue, organization_id LIMIT 1) AS found)) THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
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
    ELSIF NOT is_contended(of_organization, of_queue, silence) THEN
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
    RETURN CASE WHEN is_contended(of_organization, of_queue, silence) THEN 0 ELSE of_priority END;
END $$""",
)
FORMER = (
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


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS jobs_competing")
        op.execute(f"CREATE INDEX CONCURRENTLY jobs_competing ON jobs {COMPETING}")
    for function in FUNCTIONS:
        op.execute(function)


def downgrade() -> None:
    for function in FORMER:
        op.execute(function)
    op.execute("DROP FUNCTION is_contended(text, text, interval)")
    op.execute("DROP INDEX jobs_competing")
