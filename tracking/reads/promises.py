"""What `celeriac verify` holds to be true, in SQL: each finds what breaks it.

Those of single jobs are asked of a range of them at a time: `jobs` and `history` are the rows of that range then, those
of history with the one before and what was counted so far, and `strays` the rows of history whose job is not there. The
others are asked of the tables.
"""

from __future__ import annotations

from tracking.states import FINISHED, MOVES, Event

PARAMETERS = {
    "finished": [str(status) for status in FINISHED],
    "moving": [str(Event.CREATED), *sorted({str(move.event) for move in MOVES})],
    "moves": [f"{move.source} {move.target} {move.event}" for move in MOVES],
}

CREATED_ONCE = """
    SELECT id AS job_id FROM jobs
    LEFT JOIN (SELECT job_id, count(*) AS times FROM history WHERE event = 'created' GROUP BY job_id) AS created
           ON created.job_id = jobs.id
    WHERE times IS DISTINCT FROM 1"""

# The history of a job that was kept for a week or longer may stay for a while after its removal.
NOT_LOST = """
    SELECT job_id FROM strays
    GROUP BY job_id
    HAVING (array_agg(to_status ORDER BY id DESC))[1] <> ALL(:finished)
        OR max(at) FILTER (WHERE from_status IS DISTINCT FROM to_status) > now() - interval '7 days'"""

KEYS = """
    SELECT id AS job_id
    FROM (SELECT id, count(*) OVER (PARTITION BY organization_id, user_id, idempotency_key) AS sharing
          FROM jobs WHERE idempotency_key IS NOT NULL) AS keyed
    WHERE sharing > 1"""

PATH = """
    SELECT job_id FROM history WHERE from_status IS DISTINCT FROM status_before"""

LEGAL_MOVES = """
    SELECT job_id FROM history
    WHERE CASE
        WHEN from_status IS NULL THEN (event, to_status) <> ('created', 'queued')
        WHEN from_status = to_status THEN event = ANY(:moving)
        ELSE concat_ws(' ', from_status, to_status, event) <> ALL(:moves)
    END"""

STATUS = """
    SELECT job_id FROM history JOIN jobs ON jobs.id = job_id WHERE is_last AND status <> to_status"""

ONE_END = """
    SELECT job_id FROM history
    WHERE from_status = 'running' AND to_status <> 'running'
    GROUP BY job_id, attempt HAVING count(*) > 1
    UNION ALL
    SELECT job_id FROM history
    WHERE to_status = ANY(:finished) AND from_status <> to_status
    GROUP BY job_id, dispatch HAVING count(*) > 1"""

ATTEMPTS = """
    SELECT job_id FROM history WHERE event = 'started' AND attempt <> claims
    UNION ALL
    SELECT id FROM jobs
    LEFT JOIN (SELECT job_id, count(*) AS times FROM history WHERE event = 'started' GROUP BY job_id) AS claims
           ON claims.job_id = jobs.id
    WHERE jobs.attempt <> coalesce(times, 0)"""

FENCE = """
    SELECT job_id FROM history WHERE event = 'started' GROUP BY job_id, dispatch HAVING count(*) > 1
    UNION ALL
    SELECT job_id FROM history WHERE dispatch < dispatch_before
    UNION ALL
    SELECT job_id FROM history AS ended
    WHERE from_status = 'running' AND to_status <> 'running'
      AND NOT EXISTS (SELECT FROM history AS claim
                      WHERE claim.event = 'started' AND claim.job_id = ended.job_id
                        AND claim.attempt = ended.attempt AND claim.dispatch = ended.dispatch)
    UNION ALL
    SELECT id FROM jobs
    WHERE status = 'running'
      AND NOT EXISTS (SELECT FROM history AS claim
                      WHERE claim.event = 'started' AND claim.job_id = jobs.id
                        AND claim.attempt = jobs.attempt AND claim.dispatch = jobs.dispatch)"""

CANCELLED = """
    SELECT job_id FROM history WHERE event = 'started' AND cancels > cancels_undone
    UNION ALL
    SELECT id FROM jobs WHERE cancel_requested_at < started_at"""

PROGRESS = """
    SELECT job_id
    FROM (SELECT job_id, percentage, lag(percentage) OVER (PARTITION BY job_id, attempt ORDER BY id) AS before
          FROM (SELECT id, job_id, attempt,
                       CASE jsonb_typeof(percentage)
                           WHEN 'number' THEN CAST(percentage #>> '{}' AS numeric) END AS percentage
                FROM history WHERE event = 'progress') AS reports) AS steps
    WHERE percentage IS NULL OR percentage NOT BETWEEN 0 AND 99 OR percentage < before
    UNION ALL
    SELECT id FROM jobs WHERE progress NOT BETWEEN 0 AND 100 OR (progress = 100) <> (status = 'succeeded')"""

TIMES = """
    SELECT id AS job_id FROM jobs
    WHERE started_at < created_at OR completed_at < created_at OR completed_at < started_at
       OR (completed_at IS NULL) = (status = ANY(:finished)) OR status = 'running' AND started_at IS NULL
    UNION ALL
    SELECT job_id FROM history WHERE at < at_before"""

# From here on the rules of admission are written a second time, from the tables and without tracking.admission, so that
# a mistake there shows here.
ALIVE = "workers.seen_at > clock_timestamp() - CAST(:lease_timeout AS interval)"
LONG_AGO = "now() - interval '1 minute'"

# What was started before the limit was last changed may go on.
LIMIT = """
    SELECT job_id
    FROM (SELECT id AS job_id, organization_id, started_at, count(*) OVER (PARTITION BY organization_id) AS executing
          FROM jobs WHERE (status = 'running' OR stopping) AND NOT external) AS bodies
    LEFT JOIN organizations ON organizations.id = organization_id
    WHERE executing > nullif(coalesce(concurrency, CAST(:limit AS int)), 0)
      AND started_at > coalesce(changed_at, '-infinity')"""

# While jobs of it are let through every other minute, a long line is in order. Without a worker that has lived for a
# minute no hold is lifted, and no held job would be run.
#
# `open`: the lines whose first job could be sent. A living worker consumes their queue, less of the organization's jobs
# are sent, running or stopping than its limit says, and its workers have a free slot; or the organization has nothing
# there that waits; or it has no limit, and no other organization has something that waits.
HELD = f"""
    WITH living AS MATERIALIZED (
        SELECT queues, concurrency, started_at FROM workers WHERE {ALIVE}
    ), taken AS MATERIALIZED (
        SELECT organization_id, queue, hold IS NULL AND status IN ('queued', 'retrying') AS waits
        FROM jobs
        WHERE (hold IS NULL AND status IN ('queued', 'retrying') OR status = 'running' OR stopping) AND NOT external
    ), lines AS MATERIALIZED (
        SELECT waiting.*, coalesce(organizations.concurrency, CAST(:limit AS int)) AS most, slots, shared
        FROM (SELECT DISTINCT organization_id, queue FROM jobs WHERE hold IN ('organization_limit', 'limit')) AS waiting
        LEFT JOIN organizations ON organizations.id = waiting.organization_id
        CROSS JOIN LATERAL (
            SELECT (SELECT sum(concurrency) FROM living WHERE waiting.queue = ANY(queues)) AS slots,
                   ARRAY(SELECT unnest(queues) FROM living WHERE waiting.queue = ANY(queues)) AS shared) AS served
    ), open AS (
        SELECT organization_id, queue FROM lines
        WHERE slots IS NOT NULL
          AND (most = 0 OR most > (SELECT count(*) FROM taken WHERE taken.organization_id = lines.organization_id))
          AND (slots > (SELECT count(*) FROM taken WHERE taken.queue = ANY(shared))
               OR NOT EXISTS (SELECT FROM taken WHERE waits AND taken.organization_id = lines.organization_id
                                                  AND taken.queue = ANY(shared))
               OR most = 0
                  AND NOT EXISTS (SELECT FROM taken WHERE waits AND taken.organization_id <> lines.organization_id)
                  AND NOT EXISTS (SELECT FROM lines AS other WHERE other.organization_id <> lines.organization_id))
    )
    SELECT id AS job_id FROM jobs AS held
    WHERE hold IS NOT NULL AND NOT external AND updated_at < {LONG_AGO}
      AND EXISTS (SELECT FROM living WHERE started_at < {LONG_AGO})
      AND CASE hold
          WHEN 'dependency' THEN (
              SELECT bool_and(is_over AND (status = ending OR ending = 'finished') AND NOT stopping)
                     OR bool_or(status IS NULL OR is_over AND ending NOT IN (status, 'finished'))
              FROM (SELECT status, coalesce(stopping, false) AS stopping, coalesce(ending, 'succeeded') AS ending,
                           coalesce(completed_at < {LONG_AGO}, false) AS is_over
                    FROM unnest(held.depends_on, held.depends_when) AS wanted (id, ending)
                    LEFT JOIN jobs AS dependency ON dependency.id = wanted.id) AS found)
              OR EXISTS (SELECT FROM jobs AS followed
                         WHERE followed.id = held.follows AND followed.completed_at < {LONG_AGO})
              OR EXISTS (SELECT FROM jobs AS member
                         WHERE member.group_id = held.follows_group AND member.status IN ('failed', 'cancelled')
                           AND member.completed_at < {LONG_AGO}
                           AND member.follows_group IS DISTINCT FROM held.follows_group)
          WHEN 'paused' THEN NOT EXISTS (
              SELECT FROM pauses
              WHERE (pauses.organization_id IS NULL OR pauses.organization_id = held.organization_id)
                AND (pauses.job_type IS NULL OR pauses.job_type = held.job_type))
              AND NOT EXISTS (SELECT FROM paused_queues WHERE queue = held.queue)
          WHEN 'circuit' THEN NOT EXISTS (
              SELECT FROM circuits
              WHERE circuits.job_type = held.job_type AND circuits.key = held.circuit_key
                AND circuits.organization_id IN ('', held.organization_id)
                AND (circuits.probe_id IS NULL OR circuits.probe_id <> held.id))
          WHEN 'limit' THEN NOT EXISTS (
              SELECT FROM job_limits AS bound
              WHERE (bound.organization_id IS NULL OR bound.organization_id = held.organization_id)
                AND (bound.job_type IS NULL OR bound.job_type = held.job_type))
              AND EXISTS (SELECT FROM open WHERE open.organization_id = held.organization_id)
          WHEN 'organization_limit' THEN
              (held.organization_id, held.queue) IN (SELECT organization_id, queue FROM open)
              AND NOT EXISTS (SELECT FROM organizations WHERE id = held.organization_id AND changed_at > {LONG_AGO})
              AND NOT EXISTS (SELECT FROM workers WHERE started_at > {LONG_AGO})
          ELSE due_at < {LONG_AGO}
      END
      AND (hold NOT IN ('paused', 'circuit', 'limit', 'organization_limit')
           OR coalesce((SELECT at FROM history
                        WHERE history.organization_id = held.organization_id AND event <> 'progress'
                        ORDER BY history.id DESC LIMIT 1), '-infinity') < {LONG_AGO})"""

# A worker compares its rows with its bodies every few seconds, and the leading worker releases the rows of dead ones.
# Nobody does where no worker has lived for a minute.
BODIES = f"""
    SELECT id AS job_id
    FROM (SELECT id, lease, count(*) OVER (PARTITION BY lease) AS bodies
          FROM jobs WHERE status = 'running' AND NOT external AND started_at < {LONG_AGO}) AS claimed
    LEFT JOIN workers USING (lease)
    WHERE bodies > concurrency
       OR (workers.lease IS NULL OR NOT {ALIVE})
          AND EXISTS (SELECT FROM workers WHERE {ALIVE} AND started_at < {LONG_AGO})"""

# A whole week ahead is there, the default is empty but for rows that are older than all partitions, and what most jobs
# have been removed of is made anew a day later at the latest.
WEEKS = r"""
    WITH part AS (
        SELECT relname, CAST(substring(bound FROM 'FROM \(''([^'']+)') AS timestamptz) AS since,
               CAST(substring(bound FROM 'TO \(''([^'']+)') AS timestamptz) AS until,
               coalesce(obj_description(pg_class.oid, 'pg_class') LIKE 'thinned %', false) AS is_thinned
        FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid, pg_get_expr(relpartbound, pg_class.oid) AS bound
        WHERE inhparent = CAST('history' AS regclass) AND bound <> 'DEFAULT'
    )
    SELECT 'no partition for ' || CAST(moment AS date) AS what
    FROM generate_series(now(), now() + interval '7 days', interval '7 days') AS moment
    WHERE NOT EXISTS (SELECT FROM part WHERE moment < until AND moment >= coalesce(since, '-infinity'))
    UNION ALL
    SELECT 'rows in history_default: ' || count(*) FROM history_default
    WHERE at >= (SELECT min(coalesce(since, until)) FROM part)
    HAVING count(*) > 0
    UNION ALL
    SELECT 'still there: ' || relname FROM part
    WHERE since IS NOT NULL AND NOT is_thinned
      AND until < now() - greatest(CAST(:kept AS interval), interval '7 days') - interval '1 day'"""

# The job's own rows: an hour for a clock that was set back; older ones are of a job that had its id and was removed.
RANGE = """
    WITH present AS MATERIALIZED (
        SELECT id, status, attempt, dispatch, progress, cancel_requested_at, created_at, started_at, completed_at,
               updated_at >= coalesce(CAST(:since AS timestamptz), '-infinity') AS is_asked
        FROM jobs WHERE id BETWEEN :first AND :last
    ), jobs AS MATERIALIZED (
        SELECT * FROM present WHERE is_asked
    ), found AS MATERIALIZED (
        SELECT happened.id, job_id, event, from_status, to_status, happened.attempt, happened.dispatch, at,
               CASE event WHEN 'progress' THEN detail -> 'percentage' END AS percentage,
               present.id IS NOT NULL AS is_of_job
        FROM history AS happened LEFT JOIN present ON present.id = job_id
        WHERE job_id BETWEEN :first AND :last
          AND at >= (SELECT CASE WHEN CAST(:since AS timestamptz) IS NULL THEN '-infinity'
                                 ELSE least(min(created_at) - interval '1 hour', :since) END FROM jobs)
          AND (present.id IS NULL OR is_asked AND at >= present.created_at - interval '1 hour')
    ), history AS MATERIALIZED (
        SELECT *, lag(to_status) OVER path AS status_before, lag(dispatch) OVER path AS dispatch_before,
               lag(at) OVER path AS at_before, lead(id) OVER path IS NULL AS is_last,
               count(*) FILTER (WHERE event = 'started') OVER path AS claims,
               count(*) FILTER (WHERE event = 'cancelled') OVER path AS cancels,
               count(*) FILTER (WHERE event = 'retried' AND from_status = 'cancelled') OVER path AS cancels_undone
        FROM found WHERE is_of_job
        WINDOW path AS (PARTITION BY job_id ORDER BY id)
    ), strays AS (
        SELECT * FROM found WHERE NOT is_of_job
    ), broken AS (
        {broken}
    )
    SELECT name, count(DISTINCT job_id) AS violations,
           (array_agg(DISTINCT job_id))[1 : CAST(:examples AS int)] AS examples
    FROM broken GROUP BY name"""
