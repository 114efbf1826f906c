"""The rule's functions in the database: they lock and count in one round trip.

Lock and count must be two statements: in READ COMMITTED a statement keeps the snapshot that it took before it waited
for the lock, and would not see the slot that was taken meanwhile. Whoever changes a function writes a migration that
creates it again, because the migrations hold copies.
"""

from __future__ import annotations

from tracking.admission.rule import LINES, SENT
from tracking.schema import COMPETES, IN_FLIGHT
from tracking.states import Event

_ALIVE = "workers.seen_at > clock_timestamp() - silence"

# Each of their statements needs a few rows, which an index has in the order that is asked for. The planner does not see
# that in the minute after many jobs have come: a plan that was made while there were few collects all that an index
# has, or reads the whole table, and everybody's submit waits for it.
BY_INDEX = """LANGUAGE plpgsql {volatility}
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_incremental_sort = off AS $$"""
STABLE, VOLATILE = (BY_INDEX.format(volatility=each) for each in ("STABLE", "VOLATILE"))


def _is_any(condition: str, order: str) -> str:
    """SQL: whether there is such a job; the order is that of the index which has none but those that may be."""
    return f"EXISTS (SELECT FROM (SELECT FROM jobs WHERE {condition} ORDER BY {order} LIMIT 1) AS found)"


def _is_competing(condition: str) -> str:
    return _is_any(f"{COMPETES} AND {condition}", "queue, organization_id")


def _has_others(queue: str) -> str:
    """SQL: two index probes, for the names before the organization's and after it: its own rows are not read."""
    return f"""({_is_competing(f"queue = {queue} AND organization_id < of_organization")}
        OR {_is_competing(f"queue = {queue} AND organization_id > of_organization")})"""


# The workers are read only where something waits in other queues as well.
IS_CONTENDED = f"""
CREATE OR REPLACE FUNCTION is_contended(of_organization text, of_queue text, silence interval) RETURNS boolean {STABLE}
DECLARE
    other text;
BEGIN
    IF {_has_others("of_queue")} THEN
        RETURN true;
    END IF;
    IF NOT ({_is_competing("queue < of_queue")} OR {_is_competing("queue > of_queue")}) THEN
        RETURN false;
    END IF;
    FOR other IN SELECT DISTINCT unnest(queues) FROM workers
                 WHERE of_queue = ANY(queues) AND (silence IS NULL OR {_ALIVE}) LOOP
        IF {_has_others("other")} THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$"""

# The smaller of two numbers: what is left of the organization's limit, and the slots of the queue's workers that no job
# was sent for. As many jobs of each organization as its weight says may always wait there. Before the first worker
# lives, the limit alone counts. The workers are read once: a row that is updated every few seconds has many versions.
ROOM_IN = f"""
CREATE OR REPLACE FUNCTION room_in(of_organization text, of_queue text, platform_limit int, silence interval)
RETURNS int {STABLE}
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
            SELECT FROM jobs WHERE organization_id = of_organization AND {IN_FLIGHT} LIMIT most) AS taken);
    ELSIF NOT is_contended(of_organization, of_queue, silence) THEN
        RETURN own;
    END IF;
    IF own <= 0 THEN
        RETURN own;
    END IF;
    SELECT sum(concurrency) FILTER (WHERE number = 1), array_agg(DISTINCT each) INTO slots, shared
    FROM workers CROSS JOIN unnest(queues) WITH ORDINALITY AS consumed (each, number)
    WHERE {_ALIVE} AND of_queue = ANY(queues);
    IF slots IS NULL THEN
        RETURN own;
    END IF;
    room := slots - (SELECT count(*) FROM (SELECT FROM jobs WHERE {IN_FLIGHT} AND queue = ANY(shared) LIMIT slots)
                     AS taken);
    share := coalesce((SELECT weight FROM organization_weights WHERE organization_id = of_organization), 1);
    IF room < share THEN
        room := greatest(room, share - (SELECT count(*) FROM (
            SELECT FROM jobs WHERE organization_id = of_organization AND {SENT} AND queue = ANY(shared) LIMIT share)
            AS sent));
    END IF;
    RETURN least(own, room);
END $$"""

# The message of the job that gives way is still with the broker. A new dispatch number makes the claim refuse it: its
# place in the order of arrival belongs to another job now.
GIVE_WAY = f"""
CREATE OR REPLACE FUNCTION give_way(of_organization text, of_queue text, of_priority int) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    WITH locked AS (
        SELECT id, status AS from_status FROM jobs
        WHERE organization_id = of_organization AND {SENT} AND queue = of_queue AND priority < of_priority
        ORDER BY priority, created_at DESC, id DESC
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ), moved AS (
        UPDATE jobs
        SET hold = 'organization_limit', dispatch = dispatch + 1, dispatched_at = NULL, limit_key = NULL,
            updated_at = clock_timestamp()
        FROM locked
        WHERE jobs.id = locked.id
        RETURNING jobs.*, locked.from_status
    )
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt, dispatch,
                         actor, detail)
    SELECT id, organization_id, user_id, job_type, '{Event.HELD}', from_status, status, attempt, dispatch, 'admission',
           jsonb_build_object('hold', hold, 'reason', 'a more urgent job of the organization')
    FROM moved;
    RETURN FOUND;
END $$"""

# How many slots of a queue's workers no job was sent for; null while there is no worker.
FREE_IN = f"""
CREATE OR REPLACE FUNCTION free_in(of_queue text, silence interval) RETURNS int {STABLE}
DECLARE
    slots int;
    shared text[];
BEGIN
    SELECT sum(concurrency) FILTER (WHERE number = 1), array_agg(DISTINCT each) INTO slots, shared
    FROM workers CROSS JOIN unnest(queues) WITH ORDINALITY AS consumed (each, number)
    WHERE {_ALIVE} AND of_queue = ANY(queues);
    RETURN slots - (SELECT count(*) FROM (SELECT FROM jobs WHERE {IN_FLIGHT} AND queue = ANY(shared) LIMIT slots)
                    AS taken);
END $$"""

_IS_BEHIND = """EXISTS (SELECT FROM jobs
               WHERE organization_id = of_organization AND hold = 'organization_limit' AND queue = of_queue
                 AND priority >= of_priority)"""

# Several organizations are served in the order of arrival; alone, one has the broker's priorities for itself. Who joins
# a line takes no lock, for which the organization's other submits would wait until the commit; a line that is emptied
# at that moment is found by the leader's next look.
SENT_LEVEL = f"""
CREATE OR REPLACE FUNCTION sent_level(of_organization text, of_queue text, of_priority int, platform_limit int,
                                      silence interval)
RETURNS int {VOLATILE}
BEGIN
    IF {_IS_BEHIND} THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock({LINES}, hashtext(of_organization));
    IF {_IS_BEHIND} THEN
        RETURN NULL;
    END IF;
    IF room_in(of_organization, of_queue, platform_limit, silence) < 1
       AND NOT give_way(of_organization, of_queue, of_priority) THEN
        RETURN NULL;
    END IF;
    RETURN CASE WHEN is_contended(of_organization, of_queue, silence) THEN 0 ELSE of_priority END;
END $$"""

# Of many jobs that wait for others the planner expects that one which waits for this is soon found, and would read all
# of them for each job that ends; only what first collects from the index of dependencies is not taken in by that.
HAS_DEPENDENTS = """
CREATE OR REPLACE FUNCTION has_dependents(of_job uuid) RETURNS boolean LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off AS $$
BEGIN
    RETURN EXISTS (SELECT FROM jobs WHERE hold = 'dependency' AND depends_on @> ARRAY[of_job]);
END $$"""

FUNCTIONS = (HAS_DEPENDENTS, IS_CONTENDED, ROOM_IN, FREE_IN, GIVE_WAY, SENT_LEVEL)
