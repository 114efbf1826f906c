"""How much room there is: the workers are read once."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# As tracking/admission/functions.py had them when this was written.
# ruff: noqa: E501
ROOM_IN = r"""CREATE OR REPLACE FUNCTION room_in(of_organization text, of_queue text, platform_limit int, silence interval)
RETURNS int LANGUAGE plpgsql STABLE AS $$
DECLARE
    most int := coalesce((SELECT concurrency FROM organizations WHERE id = of_organization), platform_limit);
    own int := 2147483647;
    slots int;
    shared text[];
    room int;
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
    IF room < 1 AND NOT EXISTS (SELECT FROM jobs
                                WHERE organization_id = of_organization AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND queue = ANY(shared)) THEN
        room := 1;
    END IF;
    RETURN least(own, room);
END $$"""
BEFORE = r"""CREATE OR REPLACE FUNCTION room_in(of_organization text, of_queue text, platform_limit int, silence interval)
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
END $$"""


def upgrade() -> None:
    op.execute(ROOM_IN)


def downgrade() -> None:
    op.execute(BEFORE)
