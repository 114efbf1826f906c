-- What the database gets of tracking/: its functions, and every statement that is written as text, by module and name.
-- Made by `make sql`. A parameter is a variable of psql: \set id 019aa0f3-7c1e-7d5a-9f57-3a1f6a0c9d11

CREATE OR REPLACE FUNCTION is_contended(of_organization text) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM jobs WHERE hold = 'organization_limit' AND organization_id < of_organization)
        OR EXISTS (SELECT FROM jobs WHERE hold = 'organization_limit' AND organization_id > of_organization)
        OR EXISTS (SELECT FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND organization_id < of_organization)
        OR EXISTS (SELECT FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND organization_id > of_organization);
END $$;

CREATE OR REPLACE FUNCTION room_in(of_organization text, of_queue text, platform_limit int, silence interval)
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
END $$;

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
        SET hold = 'organization_limit', dispatch = dispatch + 1, dispatched_at = NULL,
            updated_at = clock_timestamp()
        FROM locked
        WHERE jobs.id = locked.id
        RETURNING jobs.*, locked.from_status
    )
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt, dispatch,
                         actor, detail)
    SELECT id, organization_id, user_id, job_type, 'held', from_status, status, attempt, dispatch, 'admission',
           jsonb_build_object('hold', hold, 'reason', 'a more urgent job of the organization')
    FROM moved;
    RETURN FOUND;
END $$;

CREATE OR REPLACE FUNCTION sent_level(of_organization text, of_queue text, of_priority int, platform_limit int,
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
END $$;

-- admission/circuits.py TRIP
INSERT INTO circuits (job_type, organization_id, key, failures, pause, probe_at)
SELECT tried.job_type, tried.organization_id, tried.circuit_key, CAST(:'failures' AS int), :'pause',
       clock_timestamp() + CAST(:'pause' AS interval)
FROM jobs AS tried
WHERE tried.id = :'job_id'
  AND (SELECT count(*) FILTER (WHERE event = 'failed')
       FROM (SELECT event FROM history
             WHERE history.job_type = tried.job_type AND history.organization_id = tried.organization_id
               AND history.circuit_key = tried.circuit_key
             ORDER BY history.id DESC LIMIT :'failures') AS latest) = :'failures'
ON CONFLICT DO NOTHING
RETURNING circuits.*, false AS is_half_open;

-- admission/circuits.py SPREAD
INSERT INTO circuits (job_type, organization_id, key, failures, pause, probe_at)
SELECT job_type, '', key, max(failures), max(pause), max(probe_at)
FROM circuits
WHERE job_type = :'job_type' AND key = :'key' AND organization_id <> ''
GROUP BY job_type, key
HAVING count(*) >= 2
ON CONFLICT DO NOTHING;

-- admission/circuits.py JUDGE
WITH judged AS (
    SELECT circuits.job_type, circuits.organization_id, circuits.key,
           probe.status = 'succeeded' AS has_succeeded,
           (probe.status = 'failed' OR probe.hold = 'backoff') AND EXISTS (SELECT FROM history
                 WHERE history.job_id = probe.id AND at >= probe.created_at - interval '1 hour' AND history.attempt = probe.attempt
                   AND history.event = 'failed' AND history.circuit_key IS NOT NULL) AS has_failed,
           probe.status IS NULL OR probe.status = 'cancelled' OR (probe.status = 'failed' OR probe.hold = 'backoff') OR probe.hold = 'paused'
           OR probe.hold = 'circuit' AND EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = probe.job_type AND broken.key = probe.circuit_key
                     AND broken.organization_id IN (probe.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM probe.id)
           OR probe.hold = 'organization_limit' AND probe.updated_at < clock_timestamp() - interval '5 seconds'
               AS is_over
    FROM circuits LEFT JOIN jobs AS probe ON probe.id = circuits.probe_id
    WHERE circuits.probe_id IS NOT NULL
    FOR UPDATE OF circuits
), kept AS (
    UPDATE circuits
    SET probe_id = NULL,
        opened_at = CASE WHEN has_failed THEN clock_timestamp() ELSE opened_at END,
        probe_at = CASE WHEN has_failed THEN clock_timestamp() + pause ELSE probe_at END
    FROM judged
    WHERE judged.job_type = circuits.job_type AND judged.key = circuits.key AND judged.organization_id = circuits.organization_id AND is_over
      AND has_succeeded IS NOT TRUE
), closed AS (
    SELECT job_type, organization_id, key FROM judged WHERE has_succeeded
)
DELETE FROM circuits
WHERE (circuits.job_type, circuits.organization_id, circuits.key) IN (SELECT * FROM closed)
   OR circuits.organization_id = ''
      AND (SELECT count(*) FROM circuits AS one
           WHERE one.job_type = circuits.job_type AND one.key = circuits.key AND one.organization_id <> ''
             AND (one.job_type, one.organization_id, one.key) NOT IN (SELECT * FROM closed)) < :'several'
   OR circuits.probe_id IS NULL AND circuits.probe_at < clock_timestamp() - CAST(:'forgotten_after' AS interval)
      AND NOT EXISTS (SELECT FROM jobs AS held
                      WHERE held.hold = 'circuit' AND held.job_type = circuits.job_type
                        AND held.circuit_key = circuits.key
                        AND circuits.organization_id IN (held.organization_id, ''))
RETURNING circuits.job_type;

-- admission/circuits.py PROBE
WITH named AS (
    SELECT circuits.job_type, circuits.key, circuits.organization_id AS whose, candidate.*
    FROM circuits CROSS JOIN LATERAL (
SELECT held.id, held.organization_id FROM jobs AS held
WHERE held.hold = 'circuit' AND held.job_type = circuits.job_type AND held.circuit_key = circuits.key
  AND circuits.organization_id IN (held.organization_id, '') AND NOT EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, held.organization_id) = held.organization_id
                     AND coalesce(pauses.job_type, held.job_type) = held.job_type)
  AND ((held.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval))) AND room_in(held.organization_id, held.queue, :'limit', :'lease_timeout') > 0)
  AND NOT EXISTS (SELECT FROM circuits AS own
                  WHERE own.job_type = circuits.job_type AND own.key = circuits.key AND own.organization_id = held.organization_id
                    AND own.probe_id IS NOT NULL)
ORDER BY held.organization_id <= coalesce(circuits.turn, ''), held.organization_id,
         held.attempt, held.priority DESC, held.created_at, held.id
LIMIT 1) AS candidate
    WHERE probe_id IS NULL AND probe_at <= clock_timestamp()
      AND (circuits.organization_id = ''
           OR NOT EXISTS (SELECT FROM circuits AS every
                          WHERE every.job_type = circuits.job_type AND every.key = circuits.key AND every.organization_id = ''))
), tries AS (
    UPDATE circuits
    SET probe_id = named.id, turn = CASE circuits.organization_id WHEN '' THEN named.organization_id END
    FROM named
    WHERE named.job_type = circuits.job_type AND named.key = circuits.key AND circuits.organization_id IN (named.whose, named.organization_id)
      AND probe_id IS NULL
    RETURNING probe_id
)
SELECT DISTINCT probe_id FROM tries;

-- admission/holds.py LIFT_DUE
WITH RECURSIVE found AS (
    SELECT * FROM jobs
    WHERE hold IN ('schedule', 'backoff') AND due_at <= clock_timestamp() ORDER BY due_at
    LIMIT :'batch'
    FOR UPDATE SKIP LOCKED
), lines AS MATERIALIZED (
    SELECT organization_id, (coalesce((SELECT concurrency FROM organizations WHERE id = whose.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(whose.organization_id)) AS joins
    FROM (SELECT DISTINCT organization_id FROM found) AS whose
), locked AS (
    SELECT id, status AS from_status, hold AS held, CASE
    WHEN found.external THEN 'external'
    WHEN (found.follows IS NOT NULL OR found.follows_group IS NOT NULL) OR found.unresolved
         OR found.attempt = 0 AND found.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(found.depends_on, found.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN found.due_at > clock_timestamp()
        THEN CASE found.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, found.organization_id) = found.organization_id
                     AND coalesce(pauses.job_type, found.job_type) = found.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = found.job_type AND broken.key = found.circuit_key
                     AND broken.organization_id IN (found.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM found.id) THEN 'circuit'
    WHEN lines.joins THEN 'organization_limit'
END AS next
    FROM found JOIN lines USING (organization_id)
), moved AS (
    UPDATE jobs
    SET hold = next, dispatched_at = NULL, sent_priority = NULL,
        dispatch = dispatch + CASE held WHEN 'backoff' THEN 1 ELSE 0 END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND held IS DISTINCT FROM next
    RETURNING jobs.*, locked.from_status, locked.held
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, CASE WHEN hold IN ('paused', 'circuit') THEN 'held' ELSE 'due' END,
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('hold', CASE WHEN hold IN ('paused', 'circuit') THEN hold ELSE held END, 'next', CASE WHEN NOT hold IN ('paused', 'circuit') THEN hold END)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- admission/holds.py LIFT_GATED
WITH RECURSIVE found AS (
    SELECT * FROM jobs
    WHERE hold IN ('circuit', 'paused')
      AND NOT CASE hold WHEN 'paused' THEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type) ELSE EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) END
    LIMIT :'batch'
    FOR UPDATE SKIP LOCKED
), lines AS MATERIALIZED (
    SELECT organization_id, (coalesce((SELECT concurrency FROM organizations WHERE id = whose.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(whose.organization_id)) AS joins
    FROM (SELECT DISTINCT organization_id FROM found) AS whose
), locked AS (
    SELECT id, status AS from_status, hold AS held, CASE
    WHEN found.external THEN 'external'
    WHEN (found.follows IS NOT NULL OR found.follows_group IS NOT NULL) OR found.unresolved
         OR found.attempt = 0 AND found.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(found.depends_on, found.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN found.due_at > clock_timestamp()
        THEN CASE found.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, found.organization_id) = found.organization_id
                     AND coalesce(pauses.job_type, found.job_type) = found.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = found.job_type AND broken.key = found.circuit_key
                     AND broken.organization_id IN (found.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM found.id) THEN 'circuit'
    WHEN lines.joins THEN 'organization_limit'
END AS next
    FROM found JOIN lines USING (organization_id)
), moved AS (
    UPDATE jobs
    SET hold = next, dispatched_at = NULL, sent_priority = NULL,
        dispatch = dispatch + CASE held WHEN 'backoff' THEN 1 ELSE 0 END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND held IS DISTINCT FROM next
    RETURNING jobs.*, locked.from_status, locked.held
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, CASE WHEN hold IN ('paused', 'circuit') THEN 'held' ELSE 'due' END,
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('hold', CASE WHEN hold IN ('paused', 'circuit') THEN hold ELSE held END, 'next', CASE WHEN NOT hold IN ('paused', 'circuit') THEN hold END)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- admission/holds.py LIFT_DEPENDENTS
WITH RECURSIVE found AS (
    SELECT * FROM jobs
    WHERE hold = 'dependency'
      AND (CAST(:'job_id' AS uuid) IS NULL OR depends_on @> ARRAY[CAST(:'job_id' AS uuid)]) AND NOT unresolved AND NOT (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) AND NOT EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
    LIMIT :'batch'
    FOR UPDATE SKIP LOCKED
), lines AS MATERIALIZED (
    SELECT organization_id, (coalesce((SELECT concurrency FROM organizations WHERE id = whose.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(whose.organization_id)) AS joins
    FROM (SELECT DISTINCT organization_id FROM found) AS whose
), locked AS (
    SELECT id, status AS from_status, hold AS held, CASE
    WHEN found.external THEN 'external'
    WHEN (found.follows IS NOT NULL OR found.follows_group IS NOT NULL) OR found.unresolved
         OR found.attempt = 0 AND found.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(found.depends_on, found.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN found.due_at > clock_timestamp()
        THEN CASE found.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, found.organization_id) = found.organization_id
                     AND coalesce(pauses.job_type, found.job_type) = found.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = found.job_type AND broken.key = found.circuit_key
                     AND broken.organization_id IN (found.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM found.id) THEN 'circuit'
    WHEN lines.joins THEN 'organization_limit'
END AS next
    FROM found JOIN lines USING (organization_id)
), moved AS (
    UPDATE jobs
    SET hold = next, dispatched_at = NULL, sent_priority = NULL,
        dispatch = dispatch + CASE held WHEN 'backoff' THEN 1 ELSE 0 END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND held IS DISTINCT FROM next
    RETURNING jobs.*, locked.from_status, locked.held
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, CASE WHEN hold IN ('paused', 'circuit') THEN 'held' ELSE 'due' END,
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('hold', CASE WHEN hold IN ('paused', 'circuit') THEN hold ELSE held END, 'next', CASE WHEN NOT hold IN ('paused', 'circuit') THEN hold END)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- admission/holds.py CANCEL_DEPENDENTS
WITH locked AS (
    SELECT jobs.id, jobs.status AS from_status, broken.id AS broken, broken.status AS how, ending
    FROM jobs CROSS JOIN LATERAL (
        SELECT wanted.id, coalesce(dependency.status, 'gone') AS status, ending
        FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
        LEFT JOIN jobs AS dependency ON dependency.id = wanted.id
        WHERE (dependency.id IS NULL
            OR dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND coalesce(ending, 'succeeded') NOT IN ('finished', dependency.status))
        LIMIT 1) AS broken
    WHERE jobs.status IN ('queued', 'retrying') AND hold = 'dependency'
      AND (CAST(:'job_id' AS uuid) IS NULL OR depends_on @> ARRAY[CAST(:'job_id' AS uuid)])
    LIMIT :'batch'
    FOR UPDATE OF jobs SKIP LOCKED
), moved AS (
    UPDATE jobs
    SET status = 'cancelled', hold = NULL, due_at = NULL, cancel_requested_at = clock_timestamp(), completed_at = clock_timestamp(),
        error_type = 'DependencyEnded', error_message = 'its dependency ' || broken || ' is ' || how
            || CASE ending WHEN 'failed' THEN ', and it waits for a failure' ELSE '' END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'retrying')
    RETURNING jobs.*, locked.from_status, locked.broken
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'cancelled',
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('by', 'admission', 'reason', error_message, 'dependency', broken)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- admission/line.py LOCK
SELECT pg_advisory_xact_lock(:'lines', hashtext(:'organization_id'));

-- admission/line.py ADMIT
WITH RECURSIVE
queues AS (
    (SELECT queue FROM jobs WHERE organization_id = :'organization_id' AND hold = 'organization_limit'
     ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT next.queue FROM queues CROSS JOIN LATERAL (
        SELECT queue FROM jobs
        WHERE organization_id = :'organization_id' AND hold = 'organization_limit' AND jobs.queue > queues.queue
        ORDER BY queue LIMIT 1) AS next
), rooms AS (
    SELECT queue, room_in(:'organization_id', queues.queue, :'limit', :'lease_timeout') AS room,
           ARRAY(SELECT DISTINCT unnest(queues) AS each FROM workers
                 WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND queues.queue = ANY(workers.queues) ORDER BY each) AS shared
    FROM (SELECT queue FROM queues ) AS queues
    WHERE (queues.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval))) OR coalesce((SELECT concurrency FROM organizations WHERE id = :'organization_id'), CAST(:'limit' AS int)) = 0
), candidates AS (
    SELECT room, coalesce(nullif(shared, '{}'), ARRAY[rooms.queue]) AS shared, candidate.*
    FROM rooms CROSS JOIN LATERAL (
        SELECT id, queue, priority, created_at FROM jobs AS waiting
        WHERE organization_id = :'organization_id' AND hold = 'organization_limit' AND waiting.queue = rooms.queue
          AND true
        ORDER BY priority DESC, created_at, id
        LIMIT greatest(0, least(:'batch', room))) AS candidate
), first AS (
    SELECT id, queue, place, shared FROM (
        SELECT *, row_number() OVER (PARTITION BY shared ORDER BY priority DESC, created_at, id) AS place
        FROM candidates) AS placed
    WHERE place <= room
    ORDER BY priority DESC, created_at, id
    LIMIT least(:'batch', CASE WHEN coalesce((SELECT concurrency FROM organizations WHERE id = :'organization_id'), CAST(:'limit' AS int)) = 0 THEN :'batch' ELSE
                        greatest(0, coalesce((SELECT concurrency FROM organizations WHERE id = :'organization_id'), CAST(:'limit' AS int)) - (SELECT count(*) FROM jobs WHERE organization_id = :'organization_id' AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping))) END)
), locked AS (
    SELECT id, status AS from_status FROM jobs
    WHERE id IN (SELECT id FROM first) AND hold = 'organization_limit'
    FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE jobs
    SET hold = nullif(CASE
    WHEN jobs.external THEN 'external'
    WHEN (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) OR jobs.unresolved
         OR jobs.attempt = 0 AND jobs.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN jobs.due_at > clock_timestamp()
        THEN CASE jobs.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
    WHEN true THEN 'organization_limit'
END, 'organization_limit'), dispatched_at = NULL,
        sent_priority = CASE WHEN (SELECT is_contended(:'organization_id')) THEN 0 ELSE priority END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, CASE WHEN hold IS NULL THEN 'due' ELSE 'held' END,
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('hold', coalesce(hold, 'organization_limit'))) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved ORDER BY priority DESC, created_at, id;

-- admission/line.py GIVE_WAY
WITH RECURSIVE
queues AS (
    (SELECT queue FROM jobs WHERE organization_id = :'organization_id' AND hold = 'organization_limit'
     ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT next.queue FROM queues CROSS JOIN LATERAL (
        SELECT queue FROM jobs
        WHERE organization_id = :'organization_id' AND hold = 'organization_limit' AND jobs.queue > queues.queue
        ORDER BY queue LIMIT 1) AS next
), rooms AS (
    SELECT queue, room_in(:'organization_id', queues.queue, :'limit', :'lease_timeout') AS room,
           ARRAY(SELECT DISTINCT unnest(queues) AS each FROM workers
                 WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND queues.queue = ANY(workers.queues) ORDER BY each) AS shared
    FROM (SELECT queue FROM queues ) AS queues
    WHERE (queues.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval))) OR coalesce((SELECT concurrency FROM organizations WHERE id = :'organization_id'), CAST(:'limit' AS int)) = 0
), candidates AS (
    SELECT room, coalesce(nullif(shared, '{}'), ARRAY[rooms.queue]) AS shared, candidate.*
    FROM rooms CROSS JOIN LATERAL (
        SELECT id, queue, priority, created_at FROM jobs AS waiting
        WHERE organization_id = :'organization_id' AND hold = 'organization_limit' AND waiting.queue = rooms.queue
          AND true
        ORDER BY priority DESC, created_at, id
        LIMIT greatest(0, least(:'batch', room))) AS candidate
), first AS (
    SELECT id, queue, place, shared FROM (
        SELECT *, row_number() OVER (PARTITION BY shared ORDER BY priority DESC, created_at, id) AS place
        FROM candidates) AS placed
    WHERE place <= room
    ORDER BY priority DESC, created_at, id
    LIMIT least(:'batch', CASE WHEN coalesce((SELECT concurrency FROM organizations WHERE id = :'organization_id'), CAST(:'limit' AS int)) = 0 THEN :'batch' ELSE
                        greatest(0, coalesce((SELECT concurrency FROM organizations WHERE id = :'organization_id'), CAST(:'limit' AS int)) - (SELECT count(*) FROM jobs WHERE organization_id = :'organization_id' AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping))) END)
)
SELECT coalesce(bool_or(give_way(:'organization_id', head.queue, head.priority)), false)
FROM rooms CROSS JOIN LATERAL (
    SELECT jobs.queue, jobs.priority FROM jobs
    WHERE organization_id = :'organization_id' AND hold = 'organization_limit' AND jobs.queue = rooms.queue
    ORDER BY priority DESC, created_at, id LIMIT 1) AS head
WHERE head.priority > 0;

-- admission/line.py WITH_ROOM
WITH RECURSIVE lines AS (
    (SELECT organization_id, queue FROM jobs WHERE hold = 'organization_limit'
     ORDER BY organization_id, queue LIMIT 1)
    UNION ALL
    SELECT next.* FROM lines CROSS JOIN LATERAL (
        SELECT organization_id, queue FROM jobs
        WHERE hold = 'organization_limit'
          AND (jobs.organization_id, jobs.queue) > (lines.organization_id, lines.queue)
        ORDER BY organization_id, queue LIMIT 1) AS next
)
SELECT DISTINCT organization_id FROM lines WHERE ((lines.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval))) AND room_in(lines.organization_id, lines.queue, :'limit', :'lease_timeout') > 0);

-- admission/line.py OVERBOOKED
WITH RECURSIVE lines AS (
    (SELECT organization_id FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) ORDER BY organization_id LIMIT 1)
    UNION ALL
    SELECT (SELECT organization_id FROM jobs
            WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND organization_id > lines.organization_id
            ORDER BY organization_id LIMIT 1)
    FROM lines WHERE lines.organization_id IS NOT NULL
)
SELECT organization_id FROM lines
WHERE organization_id IS NOT NULL AND coalesce((SELECT concurrency FROM organizations WHERE id = lines.organization_id), CAST(:'limit' AS int)) > 0
  AND coalesce((SELECT concurrency FROM organizations WHERE id = lines.organization_id), CAST(:'limit' AS int)) < (SELECT count(*) FROM jobs WHERE organization_id = lines.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping))
  AND EXISTS (SELECT FROM jobs
              WHERE jobs.organization_id = lines.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping)
                AND jobs.status IN ('queued', 'retrying'));

-- admission/line.py SET_LIMIT
INSERT INTO organizations (id, concurrency, changed_by) VALUES (:'organization_id', :'concurrency', :'actor')
ON CONFLICT (id) DO UPDATE
SET concurrency = excluded.concurrency, changed_by = excluded.changed_by, changed_at = clock_timestamp();

-- admission/line.py TAKE_BACK_UNSERVED
WITH RECURSIVE lines AS (
    (SELECT organization_id FROM jobs WHERE hold = 'organization_limit' ORDER BY organization_id LIMIT 1)
    UNION ALL
    SELECT (SELECT organization_id FROM jobs
            WHERE hold = 'organization_limit' AND organization_id > lines.organization_id
            ORDER BY organization_id LIMIT 1)
    FROM lines WHERE lines.organization_id IS NOT NULL
), locked AS (
    SELECT jobs.id, jobs.status AS from_status
    FROM lines JOIN jobs USING (organization_id)
    WHERE coalesce((SELECT concurrency FROM organizations WHERE id = lines.organization_id), CAST(:'limit' AS int)) > 0 AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping)
      AND jobs.status IN ('queued', 'retrying') AND NOT (jobs.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
    LIMIT :'batch'
    FOR UPDATE OF jobs SKIP LOCKED
), moved AS (
    UPDATE jobs
    SET hold = 'organization_limit', dispatch = dispatch, dispatched_at = NULL, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'retrying')
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'held',
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('hold', hold, 'reason', 'no living worker consumes the queue ' || queue)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- admission/line.py TAKE_BACK_CROWD
WITH RECURSIVE lines AS (
    (SELECT organization_id FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') ORDER BY organization_id LIMIT 1)
    UNION ALL
    SELECT (SELECT organization_id FROM jobs
            WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND organization_id > lines.organization_id
            ORDER BY organization_id LIMIT 1)
    FROM lines WHERE lines.organization_id IS NOT NULL
), surplus AS (
    SELECT sent.* FROM lines CROSS JOIN LATERAL (
        SELECT id, queue, row_number() OVER (PARTITION BY queue ORDER BY priority DESC, created_at, id) AS place
        FROM jobs WHERE jobs.organization_id = lines.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying')) AS sent
    WHERE lines.organization_id IS NOT NULL AND place > 1
      AND (coalesce((SELECT concurrency FROM organizations WHERE id = lines.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(lines.organization_id))
), crowd AS (
    SELECT id, queue, row_number() OVER (PARTITION BY queue ORDER BY place DESC) AS turn FROM surplus
), excess AS (
    SELECT queue,
(SELECT count(*) FROM jobs
 WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND queue = ANY(ARRAY(SELECT unnest(queues) FROM workers
                                         WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND surplus.queue = ANY(workers.queues))))
- (SELECT sum(concurrency) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND surplus.queue = ANY(workers.queues)) AS number FROM (SELECT DISTINCT queue FROM surplus) AS surplus
), locked AS (
    SELECT id, status AS from_status FROM jobs
    WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND id IN (SELECT id FROM crowd JOIN excess USING (queue) WHERE turn <= number LIMIT :'batch')
    FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE jobs
    SET hold = 'organization_limit', dispatch = dispatch + 1, dispatched_at = NULL, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'retrying')
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'held',
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('hold', hold, 'reason', 'the workers have no free slot for it')) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- admission/line.py BACK_IN_LINE
WITH locked AS (
    SELECT id, status AS from_status FROM jobs
    WHERE organization_id = :'organization_id' AND hold IS NULL AND status IN ('queued', 'retrying')
    ORDER BY priority, created_at DESC, id DESC
    LIMIT (SELECT CASE WHEN coalesce((SELECT concurrency FROM organizations WHERE id = :'organization_id'), CAST(:'limit' AS int)) > 0
                       THEN greatest(0, count(*) - coalesce((SELECT concurrency FROM organizations WHERE id = :'organization_id'), CAST(:'limit' AS int))) ELSE 0 END
           FROM jobs WHERE organization_id = :'organization_id' AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping))
    FOR UPDATE
), moved AS (
    UPDATE jobs
    SET hold = 'organization_limit', dispatch = dispatch, dispatched_at = NULL, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'retrying')
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'held',
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('hold', hold, 'reason', NULL)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- admission/organizations.py SLOTS
SELECT this.id, coalesce((SELECT concurrency FROM organizations WHERE id = this.id), CAST(:'limit' AS int)) AS "limit",
           (SELECT count(*) FROM jobs WHERE organization_id = this.id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping)) AS executing FROM (SELECT CAST(:'organization_id' AS text) AS id) AS this;

-- admission/organizations.py GET
SELECT this.id, coalesce((SELECT concurrency FROM organizations WHERE id = this.id), CAST(:'limit' AS int)) AS "limit",
       (SELECT count(*) FROM jobs WHERE organization_id = this.id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping)) AS executing,
       NOT EXISTS (SELECT FROM organizations WHERE organizations.id = this.id) AS is_default_limit,
       (SELECT count(*) FROM jobs WHERE organization_id = this.id AND hold = 'organization_limit') AS in_line
FROM (SELECT CAST(:'organization_id' AS text) AS id) AS this;

-- admission/turns.py PLACE
WITH RECURSIVE
queues AS (
    (SELECT queue FROM jobs WHERE organization_id = :'organization_id' AND hold = 'organization_limit'
     ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT next.queue FROM queues CROSS JOIN LATERAL (
        SELECT queue FROM jobs
        WHERE organization_id = :'organization_id' AND hold = 'organization_limit' AND jobs.queue > queues.queue
        ORDER BY queue LIMIT 1) AS next
), rooms AS (
    SELECT queue, room_in(:'organization_id', queues.queue, :'limit', :'lease_timeout') AS room,
           ARRAY(SELECT DISTINCT unnest(queues) AS each FROM workers
                 WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND queues.queue = ANY(workers.queues) ORDER BY each) AS shared
    FROM (SELECT queue FROM queues UNION SELECT queue FROM (SELECT id, queue, priority, created_at FROM jobs WHERE id = :'id') AS more) AS queues
    WHERE (queues.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval))) OR coalesce((SELECT concurrency FROM organizations WHERE id = :'organization_id'), CAST(:'limit' AS int)) = 0
), candidates AS (
    SELECT room, coalesce(nullif(shared, '{}'), ARRAY[rooms.queue]) AS shared, candidate.*
    FROM rooms CROSS JOIN LATERAL (
        SELECT id, queue, priority, created_at FROM jobs AS waiting
        WHERE organization_id = :'organization_id' AND hold = 'organization_limit' AND waiting.queue = rooms.queue
          AND (waiting.id <> :'id' AND (CASE
    WHEN waiting.external THEN 'external'
    WHEN (waiting.follows IS NOT NULL OR waiting.follows_group IS NOT NULL) OR waiting.unresolved
         OR waiting.attempt = 0 AND waiting.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(waiting.depends_on, waiting.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN waiting.due_at > clock_timestamp()
        THEN CASE waiting.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, waiting.organization_id) = waiting.organization_id
                     AND coalesce(pauses.job_type, waiting.job_type) = waiting.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = waiting.job_type AND broken.key = waiting.circuit_key
                     AND broken.organization_id IN (waiting.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM waiting.id) THEN 'circuit'
    WHEN true THEN 'organization_limit'
END = 'organization_limit' OR (SELECT CASE
    WHEN this.external THEN 'external'
    WHEN (this.follows IS NOT NULL OR this.follows_group IS NOT NULL) OR this.unresolved
         OR this.attempt = 0 AND this.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(this.depends_on, this.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN this.due_at > clock_timestamp()
        THEN CASE this.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, this.organization_id) = this.organization_id
                     AND coalesce(pauses.job_type, this.job_type) = this.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = this.job_type AND broken.key = this.circuit_key
                     AND broken.organization_id IN (this.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM this.id) THEN 'circuit'
    WHEN true THEN 'organization_limit'
END <> 'organization_limit' FROM jobs AS this WHERE this.id = :'id')))
        ORDER BY priority DESC, created_at, id
        LIMIT greatest(0, least(:'batch', room))) AS candidate
    UNION ALL SELECT room, shared, more.* FROM (SELECT id, queue, priority, created_at FROM jobs WHERE id = :'id') AS more JOIN rooms USING (queue)
), first AS (
    SELECT id, queue, place, shared FROM (
        SELECT *, row_number() OVER (PARTITION BY shared ORDER BY priority DESC, created_at, id) AS place
        FROM candidates) AS placed
    WHERE place <= room
    ORDER BY priority DESC, created_at, id
    LIMIT least(:'batch', CASE WHEN coalesce((SELECT concurrency FROM organizations WHERE id = :'organization_id'), CAST(:'limit' AS int)) = 0 THEN :'batch' ELSE
                        greatest(0, coalesce((SELECT concurrency FROM organizations WHERE id = :'organization_id'), CAST(:'limit' AS int)) - (SELECT count(*) FROM jobs WHERE organization_id = :'organization_id' AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping))) END)
)
SELECT first.place AS number, first.shared,
       CASE WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = :'organization_id'), CAST(:'limit' AS int)) > 0 OR is_contended(:'organization_id'))
            THEN ((SELECT sum(concurrency) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND first.queue = ANY(workers.queues))
            - (SELECT count(*) FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND queue = ANY(first.shared))) END AS free,
       first.place = 1 AND NOT EXISTS (SELECT FROM jobs WHERE organization_id = :'organization_id' AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying')
                                                          AND queue = ANY(first.shared)) AS is_entitled
FROM first WHERE first.id = :'id';

-- admission/turns.py IS_GIVEN_WAY
SELECT EXISTS (
    SELECT FROM jobs AS this
    WHERE id = :'id' AND hold <> 'organization_limit' AND (this.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
      AND EXISTS (SELECT FROM jobs WHERE organization_id = :'organization_id' AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying')
                                     AND queue = this.queue AND priority < this.priority)
      AND NOT EXISTS (SELECT FROM jobs AS waiting
                      WHERE waiting.organization_id = :'organization_id' AND waiting.hold = 'organization_limit'
                        AND waiting.queue = this.queue AND (waiting.priority > this.priority
            OR waiting.priority = this.priority
               AND (waiting.created_at, waiting.id) < (this.created_at, this.id))));

-- admission/turns.py TAKEN_BEFORE
WITH RECURSIVE lines AS (
    (SELECT organization_id FROM jobs WHERE hold = 'organization_limit' ORDER BY organization_id LIMIT 1)
    UNION ALL
    SELECT (SELECT organization_id FROM jobs
            WHERE hold = 'organization_limit' AND organization_id > lines.organization_id
            ORDER BY organization_id LIMIT 1)
    FROM lines WHERE lines.organization_id IS NOT NULL
), others AS (
    SELECT organization_id, coalesce((SELECT concurrency FROM organizations WHERE id = organization_id), CAST(:'limit' AS int)) AS own_limit,
           CASE WHEN organization_id COLLATE "C" < :'organization_id' THEN CAST(:'by_earlier' AS int)
                ELSE CAST(:'by_later' AS int) END AS most
    FROM lines WHERE organization_id <> :'organization_id'
)
SELECT coalesce(sum(least(
           CASE WHEN own_limit > 0
                THEN greatest(0, own_limit - (SELECT count(*) FROM jobs WHERE organization_id = others.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping))) ELSE most END,
           (SELECT count(*) FROM (
                SELECT FROM jobs AS waiting
                WHERE waiting.organization_id = others.organization_id AND waiting.hold = 'organization_limit'
                  AND waiting.queue = ANY(CAST(:'shared' AS text[])) AND (CASE
    WHEN waiting.external THEN 'external'
    WHEN (waiting.follows IS NOT NULL OR waiting.follows_group IS NOT NULL) OR waiting.unresolved
         OR waiting.attempt = 0 AND waiting.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(waiting.depends_on, waiting.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN waiting.due_at > clock_timestamp()
        THEN CASE waiting.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, waiting.organization_id) = waiting.organization_id
                     AND coalesce(pauses.job_type, waiting.job_type) = waiting.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = waiting.job_type AND broken.key = waiting.circuit_key
                     AND broken.organization_id IN (waiting.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM waiting.id) THEN 'circuit'
    WHEN true THEN 'organization_limit'
END = 'organization_limit' OR (SELECT CASE
    WHEN this.external THEN 'external'
    WHEN (this.follows IS NOT NULL OR this.follows_group IS NOT NULL) OR this.unresolved
         OR this.attempt = 0 AND this.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(this.depends_on, this.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN this.due_at > clock_timestamp()
        THEN CASE this.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, this.organization_id) = this.organization_id
                     AND coalesce(pauses.job_type, this.job_type) = this.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = this.job_type AND broken.key = this.circuit_key
                     AND broken.organization_id IN (this.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM this.id) THEN 'circuit'
    WHEN true THEN 'organization_limit'
END <> 'organization_limit' FROM jobs AS this WHERE this.id = :'id'))
                LIMIT most) AS counted))), 0)
FROM others;

-- admission/waiting.py CROWD
SELECT (SELECT count(*)
        FROM (SELECT FROM jobs
              WHERE organization_id = :'organization_id' AND status IN ('queued', 'retrying')
                AND hold IS DISTINCT FROM 'external'
              LIMIT :'most') AS counted) AS waiting,
       (SELECT count(*) FROM jobs
        WHERE organization_id = :'organization_id' AND user_id = :'user_id'
          AND idempotency_key = ANY(CAST(:'keys' AS text[])) AND idempotency_key IS NOT NULL) AS known;

-- audit.py WRITE
INSERT INTO audit (id, organization_id, actor, actor_organization_id, action, target, source, address, request_id,
                   outcome, code, detail)
SELECT nextval('history_id_seq'), :'organization_id', :'actor', origin ->> 'organization', :'action', :'target',
       origin ->> 'source', origin ->> 'address', origin ->> 'request', :'outcome', :'code', CAST(:'detail' AS jsonb)
FROM (SELECT CAST(:'origin' AS jsonb) AS origin) AS came;

-- batches.py WAIT_FOR
SELECT id FROM jobs WHERE id = ANY(CAST(:'id' AS uuid[])) ORDER BY id FOR UPDATE;

-- batches.py EXISTING
SELECT id FROM jobs WHERE id = ANY(CAST(:'id' AS uuid[]));

-- clean_ups.py NOTE
INSERT INTO clean_ups (name, every_seconds, began_at, removed, error)
VALUES (:'name', :'every_seconds', clock_timestamp() - CAST(:'took' AS interval), :'removed', :'error')
ON CONFLICT (name) DO UPDATE
SET every_seconds = excluded.every_seconds, began_at = excluded.began_at, ended_at = clock_timestamp(),
    removed = excluded.removed, error = excluded.error;

-- clean_ups.py ALL
SELECT * FROM clean_ups ORDER BY name;

-- external_types.py FIND
SELECT name, permission, silence FROM external_types WHERE name = :'name';

-- external_types.py ALL
SELECT name, permission, silence FROM external_types ORDER BY name;

-- external_types.py PUT
INSERT INTO external_types (name, permission, silence, added_by)
VALUES (:'name', :'permission', CAST(:'silence' AS interval), :'actor')
ON CONFLICT (name) DO UPDATE SET permission = excluded.permission, silence = excluded.silence,
    added_by = excluded.added_by, added_at = clock_timestamp()
RETURNING xmax = 0;

-- external_types.py REMOVE
DELETE FROM external_types WHERE name = :'name' RETURNING name;

-- jobs/bulk.py SUBMIT_ALL
WITH asked AS MATERIALIZED (
    SELECT *, CAST(NULL AS uuid) AS follows, CAST(NULL AS text) AS follows_group, 'queued' AS status,
           0 AS attempt, coalesce(scheduled_at, clock_timestamp() + delay) AS due_at
    FROM (SELECT CAST(id AS uuid) AS id, CAST(organization_id AS text) AS organization_id, CAST(user_id AS text) AS user_id, CAST(project_id AS text) AS project_id, CAST(job_type AS text) AS job_type, CAST(priority AS int) AS priority, CAST(queue AS text) AS queue, CAST(max_retries AS int) AS max_retries, CAST(payload AS jsonb) AS payload, CAST(metadata AS jsonb) AS metadata, CAST(delivery AS jsonb) AS delivery, CAST(message AS text) AS message, CAST(parent_id AS uuid) AS parent_id, CAST(root_id AS uuid) AS root_id, CAST(group_id AS text) AS group_id, CAST(group_index AS int) AS group_index, CAST(idempotency_key AS text) AS idempotency_key, CAST(request_hash AS text) AS request_hash, CAST(circuit_key AS text) AS circuit_key, coalesce(external, EXISTS (SELECT FROM external_types WHERE name = given.job_type)) AS external, CAST(origin AS jsonb) AS origin, CAST(depends_on AS uuid[]) AS depends_on, CAST(depends_when AS text[]) AS depends_when, CAST(unresolved AS bool) AS unresolved, CAST(scheduled_at AS timestamptz) AS scheduled_at, CAST(delay AS interval) AS delay, place
          FROM unnest(CAST(:'id' AS uuid[]), CAST(:'organization_id' AS text[]), CAST(:'user_id' AS text[]), CAST(:'project_id' AS text[]), CAST(:'job_type' AS text[]), CAST(:'priority' AS int[]), CAST(:'queue' AS text[]), CAST(:'max_retries' AS int[]), CAST(:'payload' AS text[]), CAST(:'metadata' AS text[]), CAST(:'delivery' AS text[]), CAST(:'message' AS text[]), CAST(:'parent_id' AS uuid[]), CAST(:'root_id' AS uuid[]), CAST(:'group_id' AS text[]), CAST(:'group_index' AS int[]), CAST(:'idempotency_key' AS text[]), CAST(:'request_hash' AS text[]), CAST(:'circuit_key' AS text[]), CAST(:'external' AS bool[]), CAST(:'origin' AS text[]), CAST(:'depends_on' AS text[]), CAST(:'depends_when' AS text[]), CAST(:'unresolved' AS bool[]), CAST(:'scheduled_at' AS timestamptz[]), CAST(:'delay' AS interval[])) WITH ORDINALITY AS given (id, organization_id, user_id, project_id, job_type, priority, queue, max_retries, payload, metadata, delivery, message, parent_id, root_id, group_id, group_index, idempotency_key, request_hash, circuit_key, external, origin, depends_on, depends_when, unresolved, scheduled_at, delay, place)) AS parsed
), lines AS MATERIALIZED (
    SELECT organization_id, (coalesce((SELECT concurrency FROM organizations WHERE id = whose.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(whose.organization_id)) AS joins
    FROM (SELECT DISTINCT organization_id FROM asked) AS whose
), judged AS MATERIALIZED (
    SELECT asked.*, CASE
    WHEN asked.external THEN 'external'
    WHEN (asked.follows IS NOT NULL OR asked.follows_group IS NOT NULL) OR asked.unresolved
         OR asked.attempt = 0 AND asked.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(asked.depends_on, asked.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN asked.due_at > clock_timestamp()
        THEN CASE asked.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, asked.organization_id) = asked.organization_id
                     AND coalesce(pauses.job_type, asked.job_type) = asked.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = asked.job_type AND broken.key = asked.circuit_key
                     AND broken.organization_id IN (asked.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM asked.id) THEN 'circuit'
    WHEN lines.joins THEN 'organization_limit'
END AS hold FROM asked JOIN lines USING (organization_id)
), created AS (
    INSERT INTO jobs (id, organization_id, user_id, project_id, job_type, status, priority, queue,
                      max_retries, payload, metadata, delivery, message, parent_id, root_id, group_id,
                      group_index, idempotency_key, request_hash, depends_on, depends_when, unresolved,
                      scheduled_at, due_at, circuit_key, external, hold)
    SELECT id, organization_id, user_id, project_id, job_type, status, priority, queue,
                      max_retries, payload, metadata, delivery, message, parent_id, root_id, group_id,
                      group_index, idempotency_key, request_hash, depends_on, depends_when, unresolved,
                      due_at AS scheduled_at, due_at, circuit_key, external, hold
    FROM judged
    WHERE true
    ORDER BY place
    ON CONFLICT DO NOTHING
    RETURNING jobs.*, CAST(NULL AS text) AS from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'created',
           from_status, status, attempt, dispatch, coalesce(CAST(:'actor' AS text), user_id),
           jsonb_strip_nulls(jsonb_build_object('priority', priority, 'hold', hold, 'dueAt', due_at,
                              'parentId', parent_id, 'rootId', root_id, 'groupId', group_id,
                              'dependsOn', nullif(to_jsonb(depends_on), '[]'))) || '{}', NULL, came, clock_timestamp()
    FROM (SELECT created.*, nullif(asked.origin, '{}') AS came FROM created JOIN asked USING (id)) AS told
)
SELECT id, hold, external, scheduled_at, due_at, created_at, updated_at, (SELECT revoked_by FROM revocations WHERE stamp = '' AND value = to_jsonb(created.id)
            UNION ALL
            SELECT revoked_by FROM jsonb_each(created.delivery -> 'stamps') AS stamped
            JOIN revocations ON revocations.stamp = stamped.key AND stamped.value @> revocations.value
            LIMIT 1) AS revoked_by
FROM created;

-- jobs/bulk.py SUBMIT_MOST
WITH asked AS MATERIALIZED (
    SELECT *, CAST(NULL AS uuid) AS follows, CAST(NULL AS text) AS follows_group, 'queued' AS status,
           0 AS attempt, coalesce(scheduled_at, clock_timestamp() + delay) AS due_at
    FROM (SELECT CAST(id AS uuid) AS id, CAST(organization_id AS text) AS organization_id, CAST(user_id AS text) AS user_id, CAST(project_id AS text) AS project_id, CAST(job_type AS text) AS job_type, CAST(priority AS int) AS priority, CAST(queue AS text) AS queue, CAST(max_retries AS int) AS max_retries, CAST(payload AS jsonb) AS payload, CAST(metadata AS jsonb) AS metadata, CAST(delivery AS jsonb) AS delivery, CAST(message AS text) AS message, CAST(parent_id AS uuid) AS parent_id, CAST(root_id AS uuid) AS root_id, CAST(group_id AS text) AS group_id, CAST(group_index AS int) AS group_index, CAST(idempotency_key AS text) AS idempotency_key, CAST(request_hash AS text) AS request_hash, CAST(circuit_key AS text) AS circuit_key, coalesce(external, EXISTS (SELECT FROM external_types WHERE name = given.job_type)) AS external, CAST(origin AS jsonb) AS origin, CAST(depends_on AS uuid[]) AS depends_on, CAST(depends_when AS text[]) AS depends_when, CAST(unresolved AS bool) AS unresolved, CAST(scheduled_at AS timestamptz) AS scheduled_at, CAST(delay AS interval) AS delay, place
          FROM unnest(CAST(:'id' AS uuid[]), CAST(:'organization_id' AS text[]), CAST(:'user_id' AS text[]), CAST(:'project_id' AS text[]), CAST(:'job_type' AS text[]), CAST(:'priority' AS int[]), CAST(:'queue' AS text[]), CAST(:'max_retries' AS int[]), CAST(:'payload' AS text[]), CAST(:'metadata' AS text[]), CAST(:'delivery' AS text[]), CAST(:'message' AS text[]), CAST(:'parent_id' AS uuid[]), CAST(:'root_id' AS uuid[]), CAST(:'group_id' AS text[]), CAST(:'group_index' AS int[]), CAST(:'idempotency_key' AS text[]), CAST(:'request_hash' AS text[]), CAST(:'circuit_key' AS text[]), CAST(:'external' AS bool[]), CAST(:'origin' AS text[]), CAST(:'depends_on' AS text[]), CAST(:'depends_when' AS text[]), CAST(:'unresolved' AS bool[]), CAST(:'scheduled_at' AS timestamptz[]), CAST(:'delay' AS interval[])) WITH ORDINALITY AS given (id, organization_id, user_id, project_id, job_type, priority, queue, max_retries, payload, metadata, delivery, message, parent_id, root_id, group_id, group_index, idempotency_key, request_hash, circuit_key, external, origin, depends_on, depends_when, unresolved, scheduled_at, delay, place)) AS parsed
), lines AS MATERIALIZED (
    SELECT organization_id, (coalesce((SELECT concurrency FROM organizations WHERE id = whose.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(whose.organization_id)) AS joins
    FROM (SELECT DISTINCT organization_id FROM asked) AS whose
), judged AS MATERIALIZED (
    SELECT asked.*, CASE
    WHEN asked.external THEN 'external'
    WHEN (asked.follows IS NOT NULL OR asked.follows_group IS NOT NULL) OR asked.unresolved
         OR asked.attempt = 0 AND asked.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(asked.depends_on, asked.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN asked.due_at > clock_timestamp()
        THEN CASE asked.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, asked.organization_id) = asked.organization_id
                     AND coalesce(pauses.job_type, asked.job_type) = asked.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = asked.job_type AND broken.key = asked.circuit_key
                     AND broken.organization_id IN (asked.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM asked.id) THEN 'circuit'
    WHEN lines.joins THEN 'organization_limit'
END AS hold FROM asked JOIN lines USING (organization_id)
), created AS (
    INSERT INTO jobs (id, organization_id, user_id, project_id, job_type, status, priority, queue,
                      max_retries, payload, metadata, delivery, message, parent_id, root_id, group_id,
                      group_index, idempotency_key, request_hash, depends_on, depends_when, unresolved,
                      scheduled_at, due_at, circuit_key, external, hold)
    SELECT id, organization_id, user_id, project_id, job_type, status, priority, queue,
                      max_retries, payload, metadata, delivery, message, parent_id, root_id, group_id,
                      group_index, idempotency_key, request_hash, depends_on, depends_when, unresolved,
                      due_at AS scheduled_at, due_at, circuit_key, external, hold
    FROM judged
    WHERE hold IS DISTINCT FROM 'organization_limit' OR EXISTS (SELECT FROM jobs AS waiting
                   WHERE waiting.organization_id = judged.organization_id AND waiting.hold = 'organization_limit'
                     AND waiting.queue = judged.queue AND waiting.priority >= judged.priority) OR NOT (judged.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
    ORDER BY place
    ON CONFLICT DO NOTHING
    RETURNING jobs.*, CAST(NULL AS text) AS from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'created',
           from_status, status, attempt, dispatch, coalesce(CAST(:'actor' AS text), user_id),
           jsonb_strip_nulls(jsonb_build_object('priority', priority, 'hold', hold, 'dueAt', due_at,
                              'parentId', parent_id, 'rootId', root_id, 'groupId', group_id,
                              'dependsOn', nullif(to_jsonb(depends_on), '[]'))) || '{}', NULL, came, clock_timestamp()
    FROM (SELECT created.*, nullif(asked.origin, '{}') AS came FROM created JOIN asked USING (id)) AS told
)
SELECT id, hold, external, scheduled_at, due_at, created_at, updated_at, (SELECT revoked_by FROM revocations WHERE stamp = '' AND value = to_jsonb(created.id)
            UNION ALL
            SELECT revoked_by FROM jsonb_each(created.delivery -> 'stamps') AS stamped
            JOIN revocations ON revocations.stamp = stamped.key AND stamped.value @> revocations.value
            LIMIT 1) AS revoked_by
FROM created;

-- jobs/bulk.py LOCK_PATIENCE
SELECT set_config('lock_timeout', :'milliseconds', true);

-- jobs/cancel.py CANCEL
WITH locked AS (
    SELECT id, status AS from_status FROM jobs WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') FOR UPDATE
), moved AS (
    UPDATE jobs
    SET status = 'cancelled', hold = NULL, due_at = NULL, stopping = from_status = 'running' AND NOT external,
        cancel_requested_at = clock_timestamp(), cancel_seen_at = NULL, completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'running', 'retrying')
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'cancelled',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('by', CAST(:'actor' AS text), 'reason', CAST(:'reason' AS text))) || '{}', NULL, CAST(:'origin' AS jsonb), clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- jobs/cancel.py CANCEL_EACH
WITH locked AS (
    SELECT given.*, found.*
    FROM (SELECT * FROM unnest(CAST(:'id' AS uuid[])) AS given (id)
          ORDER BY id LIMIT cardinality(CAST(:'id' AS uuid[]))) AS given
    CROSS JOIN LATERAL (SELECT status AS from_status, external AS was_external FROM jobs
                        WHERE jobs.id = given.id FOR UPDATE SKIP LOCKED) AS found
), moved AS (
    UPDATE jobs
    SET status = 'cancelled', hold = NULL, due_at = NULL, stopping = from_status = 'running' AND NOT external,
        cancel_requested_at = clock_timestamp(), cancel_seen_at = NULL, completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'running', 'retrying') AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id')
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'cancelled',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('by', CAST(:'actor' AS text), 'reason', CAST(:'reason' AS text)) || jsonb_build_object('operation', CAST(:'operation' AS uuid))) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
 SELECT locked.id AS found, moved.* FROM locked FULL JOIN moved ON moved.id = locked.id;

-- jobs/cancel.py CANCEL_DISPATCH
WITH locked AS (
    SELECT id, status AS from_status FROM jobs WHERE id = :'id' AND dispatch = :'dispatch' FOR UPDATE
), moved AS (
    UPDATE jobs
    SET status = 'cancelled', hold = NULL, due_at = NULL, stopping = from_status = 'running' AND NOT external,
        cancel_requested_at = clock_timestamp(), cancel_seen_at = NULL, completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'running', 'retrying')
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'cancelled',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('by', CAST(:'actor' AS text), 'reason', CAST(:'reason' AS text))) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- jobs/cancel.py EXPIRE
WITH locked AS (
    SELECT id, status AS from_status FROM jobs WHERE id = :'id' AND dispatch = :'dispatch' AND CAST(delivery ->> 'expires' AS timestamptz) <= clock_timestamp() FOR UPDATE
), moved AS (
    UPDATE jobs
    SET status = 'cancelled', hold = NULL, due_at = NULL, stopping = from_status = 'running' AND NOT external,
        cancel_requested_at = clock_timestamp(), cancel_seen_at = NULL, completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'running', 'retrying')
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'cancelled',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('by', CAST(:'actor' AS text), 'reason', CAST(:'reason' AS text))) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- jobs/cancel.py IN_SCOPE
SELECT id, status, stopping FROM jobs WHERE id = ANY(:'ids') AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id');

-- jobs/cancel.py STOPPING
SELECT id, dispatch, clock_timestamp() - cancel_requested_at AS requested_for,
       clock_timestamp() - cancel_seen_at AS seen_for
FROM jobs WHERE lease = :'lease' AND stopping;

-- jobs/cancel.py SEEN
WITH moved AS (
    UPDATE jobs SET cancel_seen_at = clock_timestamp(), updated_at = clock_timestamp()
    WHERE id = :'id' AND dispatch = :'dispatch' AND stopping AND cancel_seen_at IS NULL
    RETURNING jobs.*, status AS from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'seen',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('after', round(1000 * extract(EPOCH FROM clock_timestamp() - cancel_requested_at)))) || '{}', NULL, NULL, clock_timestamp()
    FROM moved)
SELECT id FROM moved;

-- jobs/cancel.py STOPPED
WITH locked AS (
    SELECT id, status AS from_status, cancel_seen_at IS NULL AND CAST(:'how' AS text) <> 'worker lost' AS unseen FROM jobs WHERE id = :'id' AND dispatch = :'dispatch' AND stopping FOR UPDATE
), moved AS (
    UPDATE jobs
    SET stopping = false, cancel_seen_at = CASE WHEN unseen THEN clock_timestamp() ELSE cancel_seen_at END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id
    RETURNING jobs.*, from_status, unseen
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, what,
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('after', round(1000 * extract(EPOCH FROM clock_timestamp() - cancel_requested_at)), 'how', CASE what WHEN 'stopped' THEN CAST(:'how' AS text) END)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved JOIN (VALUES (1, 'seen'), (2, 'stopped')) AS happened (place, what)
         ON what = 'stopped' OR unseen ORDER BY place
)
SELECT id FROM moved;

-- jobs/claim.py CLAIM
WITH locked AS (
    SELECT given.*, found.*
    FROM (SELECT * FROM unnest(CAST(:'id' AS uuid[]), CAST(:'place' AS int[]), CAST(:'dispatch' AS int[]), CAST(:'claim_id' AS uuid[]), CAST(:'worker' AS text[]), CAST(:'lease' AS uuid[]), CAST(:'job_type' AS text[])) AS given (id, given_place, given_dispatch, given_claim_id, given_worker, given_lease, given_job_type)
          ORDER BY id LIMIT cardinality(CAST(:'id' AS uuid[]))) AS given
    CROSS JOIN LATERAL (SELECT status AS from_status, hold AS held, dispatch AS from_dispatch, claim_id AS had_claim, job_type AS of_type FROM jobs
                        WHERE jobs.id = given.id FOR UPDATE SKIP LOCKED) AS found
), moved AS (
    UPDATE jobs
    SET status = 'running', attempt = attempt + 1, worker = given_worker, lease = given_lease, claim_id = given_claim_id, due_at = NULL,
        started_at = clock_timestamp(), progress = 0, progress_detail = NULL, current_step = 0,
        dispatched_at = coalesce(dispatched_at, clock_timestamp()), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'retrying') AND from_dispatch = given_dispatch AND job_type = coalesce(given_job_type, job_type)
      AND held IS NULL AND NOT EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type) AND NOT EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id)
    RETURNING jobs.id, given_place, dispatch, attempt, organization_id, user_id, project_id, job_type, retry_count, max_retries, root_id,
       group_id, group_index, parent_id, payload, delivery, status, priority, worker, from_status, queue
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'started',
           from_status, status, attempt, dispatch, worker,
           jsonb_strip_nulls(jsonb_build_object('priority', priority, 'worker', worker)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT given_place AS place, locked.from_status, from_dispatch, held, had_claim, of_type,
       attempt, organization_id, user_id, project_id, job_type, retry_count, max_retries, root_id,
       group_id, group_index, parent_id, payload, delivery, (EXISTS (SELECT FROM jobs AS waiting
                    WHERE waiting.organization_id = moved.organization_id AND waiting.hold = 'organization_limit'
                      AND waiting.queue = moved.queue)
            AND is_contended(moved.organization_id)) AS leaves_place
FROM locked FULL JOIN moved USING (given_place);

-- jobs/claim.py KNOWN
SELECT attempt, organization_id, user_id, project_id, job_type, retry_count, max_retries, root_id,
           group_id, group_index, parent_id, payload, delivery FROM jobs WHERE id = :'id' AND claim_id = :'claim_id' AND status = 'running';

-- jobs/claim.py HOLD_BACK
WITH locked AS (
    SELECT given.*, found.*
    FROM (SELECT * FROM unnest(CAST(:'id' AS uuid[]), CAST(:'place' AS int[]), CAST(:'dispatch' AS int[])) AS given (id, given_place, given_dispatch)
          ORDER BY id LIMIT cardinality(CAST(:'id' AS uuid[]))) AS given
    CROSS JOIN LATERAL (SELECT status AS from_status, dispatch AS from_dispatch, hold AS held FROM jobs
                        WHERE jobs.id = given.id FOR UPDATE SKIP LOCKED) AS found
), moved AS (
    UPDATE jobs
    SET hold = CASE WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type) THEN 'paused' WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit' END,
        dispatched_at = NULL, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_dispatch = given_dispatch AND held IS NULL AND from_status IN ('queued', 'retrying')
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'held',
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('hold', hold)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved WHERE hold IS NOT NULL
)
SELECT given_place AS place FROM locked;

-- jobs/claim.py LOG_REFUSAL
WITH refused AS (
    SELECT given.*, found.*
    FROM (SELECT * FROM unnest(CAST(:'id' AS uuid[]), CAST(:'place' AS int[]), CAST(:'dispatch' AS int[]), CAST(:'actor' AS text[]), CAST(:'reason' AS text[])) AS given (id, given_place, given_dispatch, given_actor, given_reason)
          ORDER BY id LIMIT cardinality(CAST(:'id' AS uuid[]))) AS given
    CROSS JOIN LATERAL (SELECT status AS from_status, status, organization_id, user_id, job_type, attempt, dispatch FROM jobs
                        WHERE jobs.id = given.id FOR UPDATE SKIP LOCKED) AS found
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'duplicate_refused',
           from_status, status, attempt, dispatch, given_actor,
           jsonb_strip_nulls(jsonb_build_object('reason', given_reason, 'dispatch', given_dispatch)) || '{}', NULL, NULL, clock_timestamp()
    FROM refused)
SELECT given_place AS place FROM refused;

-- jobs/delete.py LOCK_EACH
SELECT found.*
        FROM (SELECT * FROM unnest(CAST(:'id' AS uuid[])) AS given (id)
              ORDER BY id LIMIT cardinality(CAST(:'id' AS uuid[]))) AS given
        CROSS JOIN LATERAL (SELECT status AS from_status, ((CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id')) AS is_mine, EXISTS (SELECT FROM jobs AS dependent
                           WHERE dependent.status IN ('queued', 'running', 'retrying') AND dependent.depends_on <> '{}'
                             AND dependent.depends_on @> ARRAY[jobs.id]) AS is_awaited, (status = 'succeeded' AND group_id IS NOT NULL
                   AND EXISTS (SELECT FROM jobs AS member
                               WHERE member.group_id = jobs.group_id AND member.status <> 'succeeded')) AS is_needed, EXISTS (SELECT FROM workflows WHERE workflows.id = jobs.root_id AND workflows.completed_at IS NULL) AS is_of_workflow, jobs.* FROM jobs
                            WHERE jobs.id = given.id FOR UPDATE SKIP LOCKED) AS found;

-- jobs/delete.py EXISTING
SELECT id FROM jobs WHERE id = ANY(:'ids');

-- jobs/dispatch.py UNDISPATCHED
SELECT * FROM jobs
WHERE status IN ('queued', 'retrying') AND hold IS NULL AND dispatched_at IS NULL
  AND (status = 'queued' AND started_at IS NOT NULL
       OR updated_at <= clock_timestamp() - CAST(:'age' AS interval))
ORDER BY created_at
LIMIT :'limit';

-- jobs/dispatch.py MARK_DISPATCHED
WITH locked AS (
    SELECT id FROM jobs JOIN unnest(CAST(:'job_ids' AS uuid[]), CAST(:'dispatches' AS int[])) AS each (job_id, number) ON id = job_id AND dispatch = number
    WHERE dispatched_at IS NULL
    ORDER BY id
    FOR NO KEY UPDATE OF jobs
)
UPDATE jobs SET dispatched_at = clock_timestamp() FROM locked WHERE jobs.id = locked.id;

-- jobs/dispatch.py REDISPATCH
UPDATE jobs SET dispatched_at = NULL, updated_at = clock_timestamp()
WHERE id = :'id' AND dispatch = :'dispatch' AND status IN ('queued', 'retrying')
RETURNING id;

-- jobs/dispatch.py WAITING_QUEUES
SELECT queue, statement_timestamp() AS at FROM jobs
WHERE status IN ('queued', 'retrying') AND hold IS NULL AND dispatched_at IS NOT NULL
GROUP BY queue
HAVING min(dispatched_at) < statement_timestamp() - CAST(:'age' AS interval);

-- jobs/dispatch.py MISSING
WITH waiting AS (
    SELECT id, dispatch, dispatched_at FROM jobs WHERE status IN ('queued', 'retrying') AND hold IS NULL AND dispatched_at IS NOT NULL AND queue = :'queue' AND dispatched_at < :'at'
)
SELECT id, dispatch FROM waiting
WHERE dispatched_at < :'at' - CAST(:'age' AS interval)
ORDER BY dispatched_at
LIMIT least(:'limit', greatest(0, (SELECT count(*) FROM waiting) - :'ready'));

-- jobs/dispatch.py SEND_AGAIN
WITH locked AS (
    SELECT id FROM jobs JOIN unnest(CAST(:'job_ids' AS uuid[]), CAST(:'dispatches' AS int[])) AS each (job_id, number) ON id = job_id AND dispatch = number
    WHERE status IN ('queued', 'retrying') AND hold IS NULL AND dispatched_at IS NOT NULL
    ORDER BY id
    FOR NO KEY UPDATE OF jobs
)
UPDATE jobs SET dispatched_at = NULL FROM locked WHERE jobs.id = locked.id
RETURNING jobs.id;

-- jobs/dispatch.py FAIL_WAITING
WITH locked AS (
    SELECT id, status AS from_status FROM jobs WHERE id = :'id' AND dispatch = :'dispatch' AND NOT external
      AND job_type = coalesce(CAST(:'job_type' AS text), job_type) FOR UPDATE
), moved AS (
    UPDATE jobs
    SET status = 'failed', hold = NULL, due_at = NULL, error_type = :'error_type', error_message = :'error_message',
        completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'retrying')
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'failed',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('errorType', error_type, 'error', error_message, 'willRetry', false)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT id FROM moved;

-- jobs/edit.py EDIT
WITH locked AS (
    SELECT id, status AS from_status FROM jobs WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND status IN ('queued', 'retrying') AND NOT external AND NOT (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL)
      AND (CAST(:'unchanged_since' AS timestamptz) IS NULL OR updated_at = :'unchanged_since') FOR UPDATE
), moved AS (
    UPDATE jobs
    SET payload = coalesce(CAST(:'payload' AS jsonb), payload),
        unresolved = unresolved AND CAST(:'payload' AS jsonb) IS NULL,
        delivery = coalesce(delivery || CAST(:'delivery' AS jsonb), delivery),
        circuit_key = coalesce(CAST(:'circuit_key' AS text), circuit_key),
        priority = coalesce(CAST(:'priority' AS int), priority),
        scheduled_at = coalesce(CAST(:'scheduled_at' AS timestamptz), scheduled_at),
        due_at = coalesce(CAST(:'scheduled_at' AS timestamptz), due_at),
        dispatch = dispatch + CASE WHEN hold IS NULL AND (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL) THEN 1 ELSE 0 END,
        hold = CASE WHEN (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL)
               THEN CASE
    WHEN jobs.external THEN 'external'
    WHEN (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) OR jobs.unresolved
         OR jobs.attempt = 0 AND jobs.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN coalesce(CAST(:'scheduled_at' AS timestamptz), jobs.due_at) > clock_timestamp()
        THEN CASE jobs.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
    WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = jobs.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(jobs.organization_id)) THEN 'organization_limit'
END
               ELSE hold END,
        dispatched_at = CASE WHEN (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL) THEN NULL ELSE dispatched_at END,
        sent_priority = CASE WHEN (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL) THEN NULL ELSE sent_priority END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'edited',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('payload', CASE WHEN CAST(:'payload' AS jsonb) IS NOT NULL THEN true END,
                          'priority', CAST(:'priority' AS int), 'dueAt', CAST(:'scheduled_at' AS timestamptz),
                          'hold', hold)) || '{}', NULL, CAST(:'origin' AS jsonb), clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- jobs/edit.py REPRIORITIZE_EACH
WITH locked AS (
    SELECT given.*, found.*
    FROM (SELECT * FROM unnest(CAST(:'id' AS uuid[])) AS given (id)
          ORDER BY id LIMIT cardinality(CAST(:'id' AS uuid[]))) AS given
    CROSS JOIN LATERAL (SELECT status AS from_status, external AS was_external FROM jobs
                        WHERE jobs.id = given.id FOR UPDATE SKIP LOCKED) AS found
), moved AS (
    UPDATE jobs
    SET payload = coalesce(CAST(:'payload' AS jsonb), payload),
        unresolved = unresolved AND CAST(:'payload' AS jsonb) IS NULL,
        delivery = coalesce(delivery || CAST(:'delivery' AS jsonb), delivery),
        circuit_key = coalesce(CAST(:'circuit_key' AS text), circuit_key),
        priority = coalesce(CAST(:'priority' AS int), priority),
        scheduled_at = coalesce(CAST(:'scheduled_at' AS timestamptz), scheduled_at),
        due_at = coalesce(CAST(:'scheduled_at' AS timestamptz), due_at),
        dispatch = dispatch + CASE WHEN hold IS NULL AND (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL) THEN 1 ELSE 0 END,
        hold = CASE WHEN (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL)
               THEN CASE
    WHEN jobs.external THEN 'external'
    WHEN (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) OR jobs.unresolved
         OR jobs.attempt = 0 AND jobs.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN coalesce(CAST(:'scheduled_at' AS timestamptz), jobs.due_at) > clock_timestamp()
        THEN CASE jobs.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
    WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = jobs.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(jobs.organization_id)) THEN 'organization_limit'
END
               ELSE hold END,
        dispatched_at = CASE WHEN (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL) THEN NULL ELSE dispatched_at END,
        sent_priority = CASE WHEN (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL) THEN NULL ELSE sent_priority END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND status IN ('queued', 'retrying') AND NOT external AND NOT (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL)
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'edited',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('payload', CASE WHEN CAST(:'payload' AS jsonb) IS NOT NULL THEN true END,
                          'priority', CAST(:'priority' AS int), 'dueAt', CAST(:'scheduled_at' AS timestamptz),
                          'hold', hold) || jsonb_build_object('operation', CAST(:'operation' AS uuid))) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
 SELECT locked.id AS found, moved.* FROM locked FULL JOIN moved ON moved.id = locked.id;

-- jobs/edit.py IN_SCOPE
SELECT id, status, external, updated_at, (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) AS is_uncalled
FROM jobs WHERE id = ANY(:'ids') AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id');

-- jobs/progress.py REPORT
WITH moved AS (
    UPDATE jobs
    SET progress = greatest(progress, least(99, coalesce(CAST(:'percent' AS int), 0))),
        message = coalesce(:'message', message),
        progress_detail = coalesce(CAST(:'detail' AS jsonb), progress_detail),
        current_step = greatest(current_step, CAST(:'current_step' AS int)),
        total_steps = greatest(total_steps, CAST(:'total_steps' AS int)),
        updated_at = clock_timestamp()
    WHERE id = :'id' AND dispatch = :'dispatch' AND attempt = :'attempt' AND status = 'running'
    RETURNING jobs.*, status AS from_status
), told AS (
    SELECT place, milestone - 'ago' AS point, make_interval(secs => CAST(milestone ->> 'ago' AS float)) AS ago
    FROM jsonb_array_elements(CAST(:'milestones' AS jsonb)) WITH ORDINALITY AS told (milestone, place)
    UNION ALL
    SELECT 1 + jsonb_array_length(CAST(:'milestones' AS jsonb)),
           jsonb_build_object('percentage', progress, 'message', message, 'current', current_step,
                              'total', total_steps, 'detail', progress_detail),
           interval '0'
    FROM moved
    WHERE :'moved_on'
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'progress',
           from_status, status, attempt, dispatch, worker,
           jsonb_strip_nulls(point - 'detail') || CASE WHEN jsonb_typeof(point -> 'detail') <> 'null' THEN jsonb_build_object('detail', point -> 'detail') ELSE '{}' END, NULL, NULL, CASE WHEN ago > interval '0' THEN greatest((SELECT at FROM history WHERE history.job_id = moved.id AND at >= moved.created_at - interval '1 hour'
         ORDER BY history.id DESC LIMIT 1), clock_timestamp() - ago) ELSE clock_timestamp() END
    FROM moved CROSS JOIN told ORDER BY place)
SELECT id FROM moved;

-- jobs/retry.py RETRY
WITH locked AS (
    SELECT id, status AS from_status FROM jobs WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND NOT stopping AND (retry_count < max_retries OR :'force') AND (NOT (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) OR (EXISTS (SELECT FROM jobs AS followed WHERE followed.status IN ('queued', 'running', 'retrying') AND (followed.id = jobs.follows
                                OR followed.group_id = jobs.follows_group AND followed.id <> jobs.id))
      AND NOT EXISTS (SELECT FROM jobs AS followed
                      WHERE followed.status IN ('failed', 'cancelled') AND (followed.id = jobs.follows
                                OR followed.group_id = jobs.follows_group AND followed.id <> jobs.id)))) FOR UPDATE
), moved AS (
    UPDATE jobs
    SET status = 'queued', dispatch = dispatch + 1, retry_count = retry_count + 1, losses = 0,
        hold = CASE
    WHEN jobs.external THEN 'external'
    WHEN (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) OR jobs.unresolved
         OR jobs.attempt = 0 AND jobs.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN CAST(NULL AS timestamptz) > clock_timestamp()
        THEN CASE jobs.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
    WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = jobs.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(jobs.organization_id)) THEN 'organization_limit'
END, delivery = delivery - 'expires',
        priority = coalesce(CAST(:'priority' AS int), priority),
        due_at = NULL, dispatched_at = NULL, sent_priority = NULL, result = NULL, typed_result = NULL,
        error_type = NULL, error_message = NULL, message = NULL, progress = 0, progress_detail = NULL,
        current_step = 0, cancel_requested_at = NULL, cancel_seen_at = NULL, started_at = NULL,
        completed_at = NULL, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('failed', 'cancelled')
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'retried',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('by', CAST(:'actor' AS text), 'force', CAST(:'force' AS boolean), 'priority', CAST(:'priority' AS int))) || '{}', NULL, CAST(:'origin' AS jsonb), clock_timestamp()
    FROM moved
)
, reopened AS (
    UPDATE workflows SET status = 'running', completed_at = NULL, updated_at = clock_timestamp()
    FROM moved WHERE moved.root_id <> moved.id AND workflows.id = moved.root_id
) SELECT * FROM moved;

-- jobs/retry.py RETRY_EACH
WITH locked AS (
    SELECT given.*, found.*
    FROM (SELECT * FROM unnest(CAST(:'id' AS uuid[])) AS given (id)
          ORDER BY id LIMIT cardinality(CAST(:'id' AS uuid[]))) AS given
    CROSS JOIN LATERAL (SELECT status AS from_status, external AS was_external FROM jobs
                        WHERE jobs.id = given.id FOR UPDATE SKIP LOCKED) AS found
), moved AS (
    UPDATE jobs
    SET status = 'queued', dispatch = dispatch + 1, retry_count = retry_count + 1, losses = 0,
        hold = CASE
    WHEN jobs.external THEN 'external'
    WHEN (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) OR jobs.unresolved
         OR jobs.attempt = 0 AND jobs.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN CAST(NULL AS timestamptz) > clock_timestamp()
        THEN CASE jobs.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
    WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = jobs.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(jobs.organization_id)) THEN 'organization_limit'
END, delivery = delivery - 'expires',
        priority = coalesce(CAST(:'priority' AS int), priority),
        due_at = NULL, dispatched_at = NULL, sent_priority = NULL, result = NULL, typed_result = NULL,
        error_type = NULL, error_message = NULL, message = NULL, progress = 0, progress_detail = NULL,
        current_step = 0, cancel_requested_at = NULL, cancel_seen_at = NULL, started_at = NULL,
        completed_at = NULL, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('failed', 'cancelled') AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND NOT stopping AND (retry_count < max_retries OR :'force') AND (NOT (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) OR (EXISTS (SELECT FROM jobs AS followed WHERE followed.status IN ('queued', 'running', 'retrying') AND (followed.id = jobs.follows
                                OR followed.group_id = jobs.follows_group AND followed.id <> jobs.id))
      AND NOT EXISTS (SELECT FROM jobs AS followed
                      WHERE followed.status IN ('failed', 'cancelled') AND (followed.id = jobs.follows
                                OR followed.group_id = jobs.follows_group AND followed.id <> jobs.id))))
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'retried',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('by', CAST(:'actor' AS text), 'force', CAST(:'force' AS boolean), 'priority', CAST(:'priority' AS int)) || jsonb_build_object('operation', CAST(:'operation' AS uuid))) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
, reopened AS (
    UPDATE workflows SET status = 'running', completed_at = NULL, updated_at = clock_timestamp()
    FROM moved WHERE moved.root_id <> moved.id AND workflows.id = moved.root_id
) SELECT locked.id AS found, moved.* FROM locked FULL JOIN moved ON moved.id = locked.id;

-- jobs/retry.py RETRY_ANEW
WITH locked AS (
    SELECT *, status AS from_status FROM jobs
    WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND status IN ('failed', 'cancelled') AND NOT stopping AND (retry_count < max_retries OR :'force')
      AND NOT (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL)
    FOR UPDATE
), asked AS (
    SELECT CAST(:'new_id' AS uuid) AS id, organization_id, user_id, project_id, job_type, 'queued' AS status,
           coalesce(CAST(:'priority' AS int), priority) AS priority, queue, max_retries,
           CAST(:'payload' AS jsonb) AS payload, metadata, delivery || CAST(:'delivery' AS jsonb) AS delivery,
           CAST(NULL AS text) AS message, CAST(NULL AS uuid) AS parent_id, CAST(:'new_id' AS uuid) AS root_id,
           CAST(NULL AS text) AS group_id, CAST(NULL AS int) AS group_index,
           CAST(:'idempotency_key' AS text) AS idempotency_key, CAST(:'request_hash' AS text) AS request_hash,
           CASE attempt WHEN 0 THEN depends_on ELSE '{}' END AS depends_on,
           CASE attempt WHEN 0 THEN depends_when END AS depends_when, false AS unresolved,
           CAST(NULL AS timestamptz) AS scheduled_at, CAST(NULL AS timestamptz) AS due_at,
           CAST(:'circuit_key' AS text) AS circuit_key, external, id AS retry_of, 0 AS attempt,
           CAST(NULL AS uuid) AS follows, CAST(NULL AS text) AS follows_group
    FROM locked
), created AS (
    INSERT INTO jobs (id, organization_id, user_id, project_id, job_type, status, priority, queue,
                      max_retries, payload, metadata, delivery, message, parent_id, root_id, group_id,
                      group_index, idempotency_key, request_hash, depends_on, depends_when, unresolved,
                      scheduled_at, due_at, circuit_key, external, retry_of, hold)
    SELECT id, organization_id, user_id, project_id, job_type, status, priority, queue,
                      max_retries, payload, metadata, delivery, message, parent_id, root_id, group_id,
                      group_index, idempotency_key, request_hash, depends_on, depends_when, unresolved,
                      scheduled_at, due_at, circuit_key, external, retry_of, CASE
    WHEN asked.external THEN 'external'
    WHEN (asked.follows IS NOT NULL OR asked.follows_group IS NOT NULL) OR asked.unresolved
         OR asked.attempt = 0 AND asked.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(asked.depends_on, asked.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN asked.due_at > clock_timestamp()
        THEN CASE asked.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, asked.organization_id) = asked.organization_id
                     AND coalesce(pauses.job_type, asked.job_type) = asked.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = asked.job_type AND broken.key = asked.circuit_key
                     AND broken.organization_id IN (asked.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM asked.id) THEN 'circuit'
    WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = asked.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(asked.organization_id)) THEN 'organization_limit'
END FROM asked
    ON CONFLICT DO NOTHING
    RETURNING jobs.*, CAST(NULL AS text) AS from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'created',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('priority', priority, 'hold', hold, 'dueAt', due_at,
                              'parentId', parent_id, 'rootId', root_id, 'groupId', group_id,
                              'dependsOn', nullif(to_jsonb(depends_on), '[]')) || jsonb_build_object('retryOf', retry_of)) || '{}', NULL, CAST(:'origin' AS jsonb), clock_timestamp()
    FROM created
), told AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'retried_anew',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('by', CAST(:'actor' AS text), 'force', CAST(:'force' AS boolean), 'jobId', new_id)) || '{}', NULL, CAST(:'origin' AS jsonb), clock_timestamp()
    FROM (SELECT locked.*, created.id AS new_id FROM locked CROSS JOIN created) AS repeated
)
SELECT * FROM created;

-- jobs/retry.py EXISTING
SELECT * FROM jobs
WHERE organization_id = :'organization_id' AND idempotency_key = CAST(:'idempotency_key' AS text)
  AND user_id = (SELECT user_id FROM jobs WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id'));

-- jobs/retry.py IN_SCOPE
SELECT id, status, stopping, retry_count, max_retries,
       CASE WHEN (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) AND NOT (EXISTS (SELECT FROM jobs AS followed WHERE followed.status IN ('queued', 'running', 'retrying') AND (followed.id = jobs.follows
                                OR followed.group_id = jobs.follows_group AND followed.id <> jobs.id))
      AND NOT EXISTS (SELECT FROM jobs AS followed
                      WHERE followed.status IN ('failed', 'cancelled') AND (followed.id = jobs.follows
                                OR followed.group_id = jobs.follows_group AND followed.id <> jobs.id))) THEN error_message END AS why_uncalled
FROM jobs WHERE id = ANY(:'ids') AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id');

-- jobs/settle.py SETTLE
WITH locked AS (
    SELECT id, status AS from_status, dispatch AS from_dispatch, attempt AS from_attempt,
           CASE WHEN :'counts' AND :'kind' IN ('succeeded', 'failed', 'retry') THEN circuit_key END AS counts_in,
           CASE WHEN :'kind' IN ('lost', 'returned') AND losses + 1 >= :'max_losses' THEN 'failed'
                ELSE CASE :'kind' WHEN 'succeeded' THEN 'succeeded' WHEN 'failed' THEN 'failed' WHEN 'retry' THEN 'retrying' WHEN 'cancelled' THEN 'cancelled' WHEN 'released' THEN 'queued' WHEN 'replaced' THEN 'queued' WHEN 'lost' THEN 'queued' WHEN 'returned' THEN 'queued' END END AS target,
           :'kind' = 'lost' AND losses + 1 >= :'max_losses' AS is_poison, progress AS reached FROM jobs WHERE id = :'id' FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE jobs
    SET status = target, dispatch = dispatch + CASE target WHEN 'queued' THEN 1 ELSE 0 END,
        dispatched_at = CASE target WHEN 'queued' THEN NULL ELSE dispatched_at END,
        hold = CASE WHEN target = 'retrying' THEN 'backoff' WHEN :'kind' = 'replaced' THEN 'dependency' END,
        follows = CASE :'kind' WHEN 'replaced' THEN jobs.id END,
        started_at = CASE :'kind' WHEN 'replaced' THEN NULL ELSE started_at END,
        due_at = CASE target WHEN 'retrying' THEN clock_timestamp() + make_interval(secs => :'delay') END,
        retry_count = CASE WHEN :'kind' = 'replaced' THEN 0 WHEN target = 'retrying' THEN retry_count + 1
                      ELSE retry_count END,
        losses = CASE WHEN :'kind' IN ('lost', 'returned') THEN losses + 1 WHEN :'kind' = 'replaced' THEN 0 ELSE losses END,
        payload = coalesce(:'payload', payload),
        delivery = coalesce(delivery || :'delivery', delivery),
        queue = coalesce(:'queue', queue),
        priority = coalesce(:'priority', priority),
        max_retries = greatest(max_retries, :'max_retries'),
        circuit_key = coalesce(:'circuit_key', circuit_key),
        result = :'result',
        typed_result = :'typed_result',
        error_type = CASE WHEN is_poison THEN 'WorkerLost' ELSE :'error_type' END,
        error_message = CASE WHEN is_poison THEN 'the job took down ' || (losses + 1) || ' workers'
                        ELSE :'error_message' END,
        progress = CASE target WHEN 'succeeded' THEN 100
                   ELSE greatest(progress, least(99, coalesce(:'percent', 0))) END,
        message = coalesce(:'message', message),
        progress_detail = coalesce(:'detail', progress_detail),
        current_step = greatest(current_step, :'current_step'),
        total_steps = greatest(total_steps, :'total_steps'),
        cancel_requested_at = CASE target WHEN 'cancelled' THEN clock_timestamp() END,
        completed_at = CASE WHEN target IN ('succeeded', 'failed', 'cancelled') THEN clock_timestamp() END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_dispatch = :'dispatch' AND from_status = 'running' AND NOT external
      AND from_attempt = coalesce(:'attempt', from_attempt)
    RETURNING jobs.id, organization_id, user_id, job_type, status, attempt, error_type, error_message, due_at,
              started_at, completed_at, updated_at, group_id, from_status, from_dispatch, counts_in, reached
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, CASE status WHEN 'succeeded' THEN 'completed' WHEN 'failed' THEN 'failed' WHEN 'retrying' THEN 'failed' WHEN 'cancelled' THEN 'cancelled' WHEN 'queued' THEN 'released' END,
           from_status, status, attempt, from_dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object(
               'reason', CASE WHEN status IN ('queued', 'cancelled') THEN coalesce(error_message, :'kind') END,
               'errorType', error_type, 'error', error_message, 'traceback', CAST(:'traceback' AS text),
               'dueAt', due_at,
               'willRetry', CASE status WHEN 'retrying' THEN true WHEN 'failed' THEN false END,
               'duration', CASE WHEN status IN ('succeeded', 'failed', 'cancelled', 'retrying') THEN round(1000 * extract(EPOCH FROM coalesce(completed_at, updated_at) - started_at)) END,
               'percentage', CASE WHEN status = 'succeeded' AND reached > 0 THEN 100 END)) || coalesce(CAST(:'kept' AS jsonb), '{}'), counts_in, NULL, clock_timestamp()
    FROM moved
)
SELECT CAST(:'place' AS int) AS place, organization_id, status,
       EXISTS (SELECT FROM jobs AS waiting
                   WHERE waiting.organization_id = moved.organization_id AND waiting.hold = 'organization_limit') AS has_line, (EXISTS (SELECT FROM jobs AS dependent
                    WHERE dependent.depends_on @> ARRAY[moved.id] AND dependent.hold = 'dependency')
            OR EXISTS (SELECT FROM circuits WHERE circuits.probe_id = moved.id)) AS is_awaited,
       (EXISTS (SELECT FROM jobs AS waiting WHERE waiting.follows = moved.id AND waiting.hold = 'dependency')
            OR EXISTS (SELECT FROM jobs AS waiting
                       WHERE waiting.follows_group = moved.group_id AND waiting.hold = 'dependency')) AS is_followed
FROM locked LEFT JOIN moved USING (id);

-- jobs/settle.py SUCCEED
WITH locked AS (
    SELECT given.*, found.*
    FROM (SELECT * FROM unnest(CAST(:'id' AS uuid[]), CAST(:'place' AS int[]), CAST(:'dispatch' AS int[]), CAST(:'attempt' AS int[]), CAST(:'actor' AS text[]), CAST(:'result' AS text[])) AS given (id, given_place, given_dispatch, given_attempt, given_actor, given_result)
          ORDER BY id LIMIT cardinality(CAST(:'id' AS uuid[]))) AS given
    CROSS JOIN LATERAL (SELECT status AS from_status, dispatch AS from_dispatch, attempt AS from_attempt, progress AS reached FROM jobs
                        WHERE jobs.id = given.id FOR UPDATE SKIP LOCKED) AS found
), moved AS (
    UPDATE jobs
    SET status = 'succeeded', result = CAST(given_result AS jsonb), progress = 100, error_type = NULL, error_message = NULL,
        completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('running') AND from_dispatch = given_dispatch AND from_attempt = given_attempt
    RETURNING jobs.id, given_place, given_actor, dispatch, organization_id, user_id, job_type, status, attempt,
              started_at, completed_at, updated_at, from_status, circuit_key, reached
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'completed',
           from_status, status, attempt, dispatch, given_actor,
           jsonb_strip_nulls(jsonb_build_object('duration', round(1000 * extract(EPOCH FROM coalesce(completed_at, updated_at) - started_at)), 'percentage', CASE WHEN status = 'succeeded' AND reached > 0 THEN 100 END)) || '{}', circuit_key, NULL, clock_timestamp()
    FROM moved
)
SELECT given_place AS place, organization_id, status,
       EXISTS (SELECT FROM jobs AS waiting
                   WHERE waiting.organization_id = moved.organization_id AND waiting.hold = 'organization_limit') AS has_line, (EXISTS (SELECT FROM jobs AS dependent
                    WHERE dependent.depends_on @> ARRAY[moved.id] AND dependent.hold = 'dependency')
            OR EXISTS (SELECT FROM circuits WHERE circuits.probe_id = moved.id)) AS is_awaited, false AS is_followed
FROM locked FULL JOIN moved USING (given_place);

-- jobs/settle.py RUNNING
SELECT id, dispatch FROM jobs WHERE lease = :'lease' AND status = 'running';

-- jobs/settle.py ORPHANS
SELECT id, dispatch FROM jobs WHERE status = 'running' AND NOT external AND NOT EXISTS (SELECT FROM workers WHERE workers.lease = jobs.lease
                       AND workers.seen_at > clock_timestamp() - CAST(:'timeout' AS interval)) ORDER BY lease LIMIT :'limit';

-- jobs/settle.py ABANDONED_STOPS
SELECT id, dispatch FROM jobs WHERE stopping AND NOT EXISTS (SELECT FROM workers WHERE workers.lease = jobs.lease
                       AND workers.seen_at > clock_timestamp() - CAST(:'timeout' AS interval)) ORDER BY lease LIMIT :'limit';

-- jobs/submit.py SUBMIT
WITH created AS (
    INSERT INTO jobs (id, organization_id, user_id, project_id, job_type, status, priority, queue,
                      max_retries, payload, metadata, delivery, message, parent_id, root_id, group_id,
                      group_index, idempotency_key, request_hash, depends_on, depends_when, unresolved,
                      scheduled_at, due_at, circuit_key, external, hold, sent_priority)
    SELECT id, organization_id, :'user_id', :'project_id', job_type, status, priority, queue,
           :'max_retries', :'payload', :'metadata', :'delivery', :'message', CAST(:'parent_id' AS uuid), CAST(:'root_id' AS uuid),
           :'group_id', CAST(:'group_index' AS int), :'idempotency_key', :'request_hash', depends_on,
           depends_when, unresolved, due_at, due_at,
           circuit_key, external, CASE WHEN next.hold = 'organization_limit' AND sent.level IS NOT NULL THEN NULL ELSE next.hold END, sent.level
    FROM (SELECT CAST(:'id' AS uuid) AS id, CAST(:'organization_id' AS text) AS organization_id,
                 'queued' AS status,
                 0 AS attempt, CAST(:'priority' AS int) AS priority,
                 CAST(NULL AS uuid) AS follows, CAST(NULL AS text) AS follows_group,
                 CAST(:'job_type' AS text) AS job_type, CAST(:'queue' AS text) AS queue,
                 CAST(:'circuit_key' AS text) AS circuit_key,
                 coalesce(CAST(:'external' AS boolean), EXISTS (SELECT FROM external_types WHERE name = :'job_type')) AS external,
                 CAST(:'depends_on' AS uuid[]) AS depends_on,
                 CAST(:'depends_when' AS text[]) AS depends_when, CAST(:'unresolved' AS boolean) AS unresolved,
                 coalesce(CAST(:'scheduled_at' AS timestamptz),
                          clock_timestamp() + CAST(:'delay' AS interval)) AS due_at) AS asked
    CROSS JOIN LATERAL (SELECT CASE
    WHEN asked.external THEN 'external'
    WHEN (asked.follows IS NOT NULL OR asked.follows_group IS NOT NULL) OR asked.unresolved
         OR asked.attempt = 0 AND asked.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(asked.depends_on, asked.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN asked.due_at > clock_timestamp()
        THEN CASE asked.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, asked.organization_id) = asked.organization_id
                     AND coalesce(pauses.job_type, asked.job_type) = asked.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = asked.job_type AND broken.key = asked.circuit_key
                     AND broken.organization_id IN (asked.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM asked.id) THEN 'circuit'
    WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = asked.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(asked.organization_id)) THEN 'organization_limit'
END AS hold) AS next
     CROSS JOIN LATERAL (
         SELECT CASE WHEN next.hold = 'organization_limit' AND (asked.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
                     THEN sent_level(asked.organization_id, asked.queue, asked.priority, :'limit', :'lease_timeout')
                END AS level) AS sent
    ON CONFLICT DO NOTHING
    RETURNING jobs.*, CAST(NULL AS text) AS from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'created',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('priority', priority, 'hold', hold, 'dueAt', due_at,
                              'parentId', parent_id, 'rootId', root_id, 'groupId', group_id,
                              'dependsOn', nullif(to_jsonb(depends_on), '[]'))) || '{}', NULL, CAST(:'origin' AS jsonb), clock_timestamp()
    FROM created)
SELECT *, (SELECT revoked_by FROM revocations WHERE stamp = '' AND value = to_jsonb(created.id)
            UNION ALL
            SELECT revoked_by FROM jsonb_each(created.delivery -> 'stamps') AS stamped
            JOIN revocations ON revocations.stamp = stamped.key AND stamped.value @> revocations.value
            LIMIT 1) AS revoked_by FROM created;

-- jobs/submit.py UNKNOWN
SELECT place, id FROM unnest(CAST(:'place' AS int[]), CAST(:'id' AS uuid[]), CAST(:'organization_id' AS text[]),
                             CAST(:'user_id' AS text[])) AS wanted (place, id, organization_id, user_id)
WHERE NOT EXISTS (SELECT FROM jobs
                  WHERE jobs.id = wanted.id AND jobs.organization_id = wanted.organization_id
                    AND (wanted.user_id IS NULL OR jobs.user_id = wanted.user_id));

-- jobs/submit.py EXISTING
SELECT *, job_type = CAST(:'job_type' AS text) AND payload = :'payload'
          AND coalesce(delivery -> 'passing', 'null')
              = coalesce(CAST(:'delivery' AS jsonb) -> 'passing', 'null') AS is_same
FROM jobs
WHERE organization_id = :'organization_id'
  AND (user_id = :'user_id' AND idempotency_key = CAST(:'idempotency_key' AS text)
       OR CAST(:'idempotency_key' AS text) IS NULL AND id = :'id');

-- jobs/track.py TRACK
WITH found AS (
    SELECT id, status AS was, progress AS reached, coalesce(:'status', CASE WHEN status IN ('queued', 'retrying') AND CAST(:'percent' AS int) IS NOT NULL
                                      THEN 'running' ELSE status END) AS target
    FROM jobs
    WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND external
      AND (CAST(:'unchanged_since' AS timestamptz) IS NULL OR updated_at = :'unchanged_since')
    FOR UPDATE
), locked AS (
    SELECT * FROM found JOIN (VALUES ('queued', 'queued', false, 'progress'), ('queued', 'running', true, 'progress'), ('queued', 'succeeded', true, 'completed'), ('queued', 'failed', false, 'failed'), ('queued', 'cancelled', false, 'cancelled'), ('running', 'running', false, 'progress'), ('running', 'succeeded', false, 'completed'), ('running', 'failed', false, 'failed'), ('running', 'cancelled', false, 'cancelled'), ('retrying', 'retrying', false, 'progress'), ('retrying', 'running', true, 'progress'), ('retrying', 'succeeded', true, 'completed'), ('retrying', 'failed', false, 'failed'), ('retrying', 'cancelled', false, 'cancelled')) AS way (was, target, starts, event) USING (was, target)
), moved AS (
    UPDATE jobs
    SET status = target,
        hold = CASE WHEN target IN ('succeeded', 'failed', 'cancelled') THEN NULL ELSE 'external' END,
        attempt = attempt + CASE WHEN starts THEN 1 ELSE 0 END,
        worker = CASE WHEN starts THEN CAST(:'actor' AS text) ELSE worker END,
        started_at = CASE WHEN starts THEN clock_timestamp() ELSE started_at END,
        progress = CASE target WHEN 'succeeded' THEN 100
                   ELSE greatest(progress, least(99, coalesce(CAST(:'percent' AS int), 0))) END,
        message = coalesce(CAST(:'message' AS text), message),
        progress_detail = coalesce(CAST(:'detail' AS jsonb), progress_detail),
        result = CAST(:'result' AS jsonb),
        error_message = CASE WHEN target <> 'cancelled' THEN CAST(:'error_message' AS text) END,
        cancel_requested_at = CASE target WHEN 'cancelled' THEN clock_timestamp() END,
        completed_at = CASE WHEN target IN ('succeeded', 'failed', 'cancelled') THEN clock_timestamp() END,
        updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id
    RETURNING jobs.*, was, starts, event, reached, coalesce(CAST(:'percent' AS int), 0) > 0
              OR CAST(:'message' AS text) IS NOT NULL OR CAST(:'detail' AS jsonb) IS NOT NULL AS tells
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, what,
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(detail) || kept, NULL, came, clock_timestamp()
    FROM (
    SELECT id, organization_id, user_id, job_type, attempt, dispatch, what, detail, place,
           CASE WHEN what = 'progress' AND CAST(:'detail' AS jsonb) IS NOT NULL
                THEN jsonb_build_object('detail', progress_detail) ELSE '{}' END AS kept,
           CASE WHEN place = 3 OR place = 1 AND status = 'running' THEN CAST(:'origin' AS jsonb) END AS came,
           CASE what WHEN 'started' THEN was ELSE before END AS from_status,
           CASE what WHEN 'started' THEN 'running' ELSE status END AS status
    FROM moved
    CROSS JOIN LATERAL (SELECT CASE WHEN starts THEN 'running' ELSE was END AS before) AS between
    CROSS JOIN LATERAL (VALUES
        (1, 'started', starts, jsonb_build_object('priority', priority, 'worker', worker)),
        (2, 'progress', status = 'running' AND tells,
         jsonb_build_object('percentage', progress, 'message', message, 'current', current_step,
                            'total', total_steps)),
        (3, event, status <> 'running' AND status <> before, jsonb_build_object(
             'by', CASE status WHEN 'cancelled' THEN CAST(:'actor' AS text) END,
             'reason', CASE status WHEN 'cancelled'
                       THEN coalesce(CAST(:'error_message' AS text), 'cancelled elsewhere') END,
             'error', CASE status WHEN 'failed' THEN error_message END,
             'willRetry', CASE status WHEN 'failed' THEN false END,
             'duration', round(1000 * extract(EPOCH FROM completed_at - started_at)),
             'percentage', CASE WHEN status = 'succeeded' AND reached > 0 THEN 100 END))
    ) AS step (place, what, happens, detail)
    WHERE happens) AS steps ORDER BY place
)
SELECT * FROM moved;

-- jobs/track.py ABANDON
WITH locked AS (
    SELECT jobs.id, status AS from_status, patience.after FROM jobs
    LEFT JOIN external_types ON external_types.name = jobs.job_type
    CROSS JOIN LATERAL (SELECT coalesce(silence,
        make_interval(secs => CAST(CAST(:'of_types' AS jsonb) ->> jobs.job_type AS float)),
        CAST(:'silence' AS interval)) AS after) AS patience
    WHERE hold = 'external' AND updated_at < clock_timestamp() - patience.after
    LIMIT :'limit'
    FOR UPDATE OF jobs SKIP LOCKED
), moved AS (
    UPDATE jobs
    SET status = 'failed', hold = NULL, error_type = 'Abandoned',
        error_message = 'nobody has reported on it for ' || to_char(after, 'FMHH24 "h" FMMI "min" FMSS "s"'),
        completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'running', 'retrying')
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'failed',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('errorType', error_type, 'error', error_message, 'willRetry', false,
                           'duration', round(1000 * extract(EPOCH FROM completed_at - started_at)))) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- jobs/track.py IN_SCOPE
SELECT status, job_type, external, updated_at FROM jobs WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id');

-- leadership.py SILENCE
SELECT set_config('idle_session_timeout', :'milliseconds', false);

-- operations/begin.py LOCK
SELECT pg_advisory_xact_lock(:'space', hashtext(:'organization_id'));

-- operations/begin.py WORKED
SELECT count(*) FROM operations WHERE organization_id = :'organization_id' AND state IN ('canary', 'running');

-- operations/begin.py EXISTING
SELECT * FROM operations
WHERE organization_id = :'organization_id' AND user_id = :'user_id' AND idempotency_key = CAST(:'key' AS text);

-- operations/begin.py BEGIN
INSERT INTO operations (id, organization_id, user_id, whose, action, asked, priority, force, denied, canary, state,
                        matched, idempotency_key, request_hash)
VALUES (:'id', :'organization_id', :'user_id', :'whose', :'action', :'asked', :'priority', :'force', :'denied', :'canary', :'state',
        :'matched', :'idempotency_key', :'request_hash')
RETURNING *;

-- operations/canary.py FIRST
SELECT job_id, status, error_message, clock_timestamp() > canary_until AS is_late
FROM operation_jobs JOIN operations ON operations.id = operation_id LEFT JOIN jobs ON jobs.id = job_id
WHERE operation_id = :'id' AND is_canary
ORDER BY job_id;

-- operations/canary.py LOOK_AGAIN
UPDATE operations SET due_at = clock_timestamp() + CAST(:'again' AS interval), worked_at = clock_timestamp()
WHERE id = :'id';

-- operations/canary.py GO_ON
UPDATE operations SET state = 'running', updated_at = clock_timestamp(), worked_at = clock_timestamp()
WHERE id = :'id';

-- operations/canary.py STOP
UPDATE operations
SET state = :'state', reason = :'reason', completed_at = clock_timestamp(), updated_at = clock_timestamp()
WHERE id = :'id' AND completed_at IS NULL
RETURNING *;

-- operations/reads.py STOP
UPDATE operations
SET state = :'state', reason = :'reason', completed_at = clock_timestamp(), updated_at = clock_timestamp()
WHERE id = :'id' AND completed_at IS NULL
RETURNING *;

-- operations/reads.py FORGET_RESULTS
DELETE FROM operation_jobs
WHERE operation_id = :'id'
  AND job_id IN (SELECT job_id FROM operation_jobs WHERE operation_id = :'id' ORDER BY job_id LIMIT :'limit');

-- operations/work.py NEXT
SELECT * FROM operations AS operation
WHERE state IN ('canary', 'running') AND due_at <= clock_timestamp()
ORDER BY (SELECT max(worked_at) FROM operations AS others
          WHERE others.organization_id = operation.organization_id AND others.state IN ('canary', 'running'))
         NULLS FIRST,
         worked_at NULLS FIRST, created_at, id
LIMIT 1
FOR UPDATE SKIP LOCKED;

-- operations/work.py POSTPONE
UPDATE operations SET due_at = clock_timestamp() + CAST(:'later' AS interval) WHERE id = :'id';

-- operations/work.py BATCH
SELECT job_id, job_type
FROM (SELECT job_id FROM operation_jobs
      WHERE operation_id = :'id' AND job_id > :'after' AND outcome IS NULL
      ORDER BY job_id
      LIMIT :'size') AS next
LEFT JOIN jobs ON jobs.id = job_id
ORDER BY job_id;

-- operations/work.py WRITE
UPDATE operation_jobs
SET outcome = told.outcome, code = told.code, detail = told.detail, is_canary = told.is_canary,
    at = clock_timestamp()
FROM unnest(CAST(:'job_id' AS uuid[]), CAST(:'outcome' AS text[]), CAST(:'code' AS text[]), CAST(:'detail' AS text[]),
            CAST(:'is_canary' AS boolean[])) AS told (job_id, outcome, code, detail, is_canary)
CROSS JOIN LATERAL (SELECT found.ctid AS place FROM operation_jobs AS found
                    WHERE found.operation_id = :'operation' AND found.job_id = told.job_id AND found.outcome IS NULL
                    LIMIT 1) AS found
WHERE operation_jobs.ctid = found.place;

-- operations/work.py MOVE_ON
UPDATE operations
SET succeeded = succeeded + :'succeeded', refused = refused + :'refused', failed = failed + :'failed',
    worked_to = :'worked_to', worked_at = clock_timestamp(), updated_at = clock_timestamp(),
    due_at = clock_timestamp() + CAST(:'wait' AS interval),
    canary_until = coalesce(canary_until, clock_timestamp() + CAST(:'patience' AS interval)),
    state = CASE WHEN :'is_over' THEN 'completed' ELSE state END,
    completed_at = CASE WHEN :'is_over' THEN clock_timestamp() END
WHERE id = :'id';

-- partitions.py PARTITIONS
SELECT relname AS name, CAST((regexp_match(bound, 'FROM \(''([^'']+)''\)'))[1] AS timestamptz) AS since,
       CAST((regexp_match(bound, 'TO \(''([^'']+)''\)'))[1] AS timestamptz) AS until,
       CAST(substring(obj_description(pg_class.oid, 'pg_class') FROM 'thinned (.+)') AS timestamptz) AS thinned_at
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid, pg_get_expr(relpartbound, pg_class.oid) AS bound
WHERE inhparent = CAST('history' AS regclass) AND bound <> 'DEFAULT'
ORDER BY until;

-- partitions.py MISSING
WITH part AS (
SELECT relname AS name, CAST((regexp_match(bound, 'FROM \(''([^'']+)''\)'))[1] AS timestamptz) AS since,
       CAST((regexp_match(bound, 'TO \(''([^'']+)''\)'))[1] AS timestamptz) AS until,
       CAST(substring(obj_description(pg_class.oid, 'pg_class') FROM 'thinned (.+)') AS timestamptz) AS thinned_at
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid, pg_get_expr(relpartbound, pg_class.oid) AS bound
WHERE inhparent = CAST('history' AS regclass) AND bound <> 'DEFAULT'
), wanted AS (
    SELECT date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + week * interval '7 days' AS monday
    FROM generate_series(0, CAST(:'ahead' AS int)) AS week
    UNION
    SELECT date_trunc('week', at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' FROM history_default WHERE at >= (SELECT min(coalesce(since, until)) FROM part)
)
SELECT monday FROM wanted
WHERE NOT EXISTS (SELECT FROM part WHERE monday < until AND monday >= coalesce(since, '-infinity'))
ORDER BY monday;

-- partitions.py HAS_ROWS
SELECT EXISTS (SELECT FROM history_default WHERE at >= :'since' AND at < :'until');

-- partitions.py ROWS
SELECT count(*) FROM (SELECT FROM history_default WHERE at >= :'since' AND at < :'until' LIMIT :'most') AS found;

-- pooling.py LIMIT
SELECT extract(EPOCH FROM CAST(current_setting('statement_timeout') AS interval));

-- pooling.py ROLE
SELECT current_user AS role, current_database() AS name, current_setting('timezone') AS zone;

-- reads/explain.py BLOCKED
SELECT (SELECT CASE
        WHEN jobs.hold IS NULL THEN CASE WHEN EXISTS (SELECT FROM pauses
                       WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                         AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type) THEN 'paused' WHEN EXISTS (SELECT FROM circuits AS broken
                       WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                         AND broken.organization_id IN (jobs.organization_id, '')
                         AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit' END
        WHEN CASE jobs.hold
        WHEN 'dependency' THEN (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) OR jobs.unresolved OR EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                     WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                       WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
                OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
                   AND NOT dependency.stopping)))
        WHEN 'paused' THEN EXISTS (SELECT FROM pauses
                       WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                         AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type)
        WHEN 'circuit' THEN EXISTS (SELECT FROM circuits AS broken
                       WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                         AND broken.organization_id IN (jobs.organization_id, '')
                         AND broken.probe_id IS DISTINCT FROM jobs.id)
        WHEN 'organization_limit' THEN NOT :'gets_slot'
        WHEN 'external' THEN true
        ELSE jobs.due_at > clock_timestamp()
    END THEN jobs.hold
        WHEN next.hold <> 'organization_limit' THEN next.hold
        WHEN NOT :'gets_slot' THEN 'organization_limit'
    END FROM (SELECT CASE
        WHEN jobs.external THEN 'external'
        WHEN (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) OR jobs.unresolved
             OR jobs.attempt = 0 AND jobs.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                     WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                       WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
                OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
                   AND NOT dependency.stopping)))
            THEN 'dependency'
        WHEN jobs.due_at > clock_timestamp()
            THEN CASE jobs.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
        WHEN EXISTS (SELECT FROM pauses
                       WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                         AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type) THEN 'paused'
        WHEN EXISTS (SELECT FROM circuits AS broken
                       WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                         AND broken.organization_id IN (jobs.organization_id, '')
                         AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
        WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = jobs.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(jobs.organization_id)) THEN 'organization_limit'
    END AS hold) AS next) FROM jobs WHERE id = :'id';

-- reads/explain.py BEFORE_IN_LINE
WITH this AS MATERIALIZED (
    SELECT *, CASE
    WHEN jobs.external THEN 'external'
    WHEN (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) OR jobs.unresolved
         OR jobs.attempt = 0 AND jobs.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN jobs.due_at > clock_timestamp()
        THEN CASE jobs.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
    WHEN true THEN 'organization_limit'
END <> 'organization_limit' AS is_stopped,
           (coalesce((SELECT concurrency FROM organizations WHERE id = jobs.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(jobs.organization_id)) AS joins, EXISTS (SELECT FROM pauses WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id)
               AS has_pauses,
           EXISTS (SELECT FROM circuits WHERE circuits.organization_id IN (jobs.organization_id, ''))
               AS has_circuits
    FROM jobs WHERE id = :'id'
)
SELECT count(*) FROM (
    SELECT FROM this JOIN jobs AS earlier USING (organization_id)
    WHERE earlier.hold = 'organization_limit' AND (earlier.priority > this.priority
            OR earlier.priority = this.priority
               AND (earlier.created_at, earlier.id) < (this.created_at, this.id)) AND (earlier.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval))) AND (this.is_stopped OR this.joins AND NOT (this.has_pauses OR this.has_circuits))
    UNION ALL
    SELECT FROM this JOIN jobs AS earlier USING (organization_id)
    WHERE earlier.hold = 'organization_limit' AND (earlier.priority > this.priority
            OR earlier.priority = this.priority
               AND (earlier.created_at, earlier.id) < (this.created_at, this.id)) AND (earlier.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval))) AND NOT this.is_stopped AND (this.has_pauses OR this.has_circuits)
      AND CASE
    WHEN earlier.external THEN 'external'
    WHEN (earlier.follows IS NOT NULL OR earlier.follows_group IS NOT NULL) OR earlier.unresolved
         OR earlier.attempt = 0 AND earlier.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(earlier.depends_on, earlier.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN earlier.due_at > clock_timestamp()
        THEN CASE earlier.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN this.has_pauses AND EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, earlier.organization_id) = earlier.organization_id
                     AND coalesce(pauses.job_type, earlier.job_type) = earlier.job_type) THEN 'paused'
    WHEN this.has_circuits AND EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = earlier.job_type AND broken.key = earlier.circuit_key
                     AND broken.organization_id IN (earlier.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM earlier.id) THEN 'circuit'
    WHEN this.joins THEN 'organization_limit'
END = 'organization_limit'
    LIMIT 10000) AS before;

-- reads/explain.py HOLDERS
SELECT id FROM jobs WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) ORDER BY started_at, id LIMIT :'most';

-- reads/explain.py UNFINISHED
SELECT wanted.id, dependency.status, coalesce(organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id'), true) AS is_visible,
       coalesce(wanted.ending, 'succeeded') AS ending
FROM unnest(CAST(:'ids' AS uuid[]), (SELECT depends_when FROM jobs WHERE jobs.id = :'id'))
     WITH ORDINALITY AS wanted (id, ending, number)
LEFT JOIN jobs AS dependency ON dependency.id = wanted.id
WHERE wanted.id IS NOT NULL AND ((dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)) IS NOT TRUE
ORDER BY number;

-- reads/explain.py BEFORE_IN_QUEUE
SELECT count(*) FROM jobs
WHERE organization_id = :'organization_id' AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping)
  AND status IN ('queued', 'retrying') AND hold IS NULL AND queue = :'queue' AND dispatched_at IS NOT NULL
  AND (priority > :'priority' OR priority = :'priority' AND (dispatched_at, id) < (:'dispatched_at', :'id'));

-- reads/fleet.py HELD
SELECT hold, count(*) AS jobs FROM jobs
WHERE status IN ('queued', 'retrying') AND hold IS NOT NULL
GROUP BY hold;

-- reads/fleet.py WORKERS
SELECT lease, name, pid, queues, concurrency, started_at, seen_at,
       seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AS is_alive,
       clock_timestamp() - seen_at AS silent_for,
       (SELECT count(*) FROM jobs WHERE jobs.lease = workers.lease AND status = 'running') AS running
FROM workers ORDER BY is_alive DESC, name, started_at;

-- reads/fleet.py QUEUES
WITH served AS (
    SELECT queue, count(*) AS workers, sum(concurrency) AS slots
    FROM workers CROSS JOIN LATERAL unnest(queues) AS consumed (queue)
    WHERE seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)
    GROUP BY queue
), filled AS (
    SELECT queue, count(*) FILTER (WHERE status = 'running') AS running,
           count(*) FILTER (WHERE (status IN ('queued', 'retrying') AND coalesce(hold = 'organization_limit', true))) AS waiting,
           count(*) FILTER (WHERE NOT (status IN ('queued', 'retrying') AND coalesce(hold = 'organization_limit', true)) AND status IN ('queued', 'retrying')) AS held,
           clock_timestamp() - min(coalesce(dispatched_at, created_at)) FILTER (WHERE (status IN ('queued', 'retrying') AND coalesce(hold = 'organization_limit', true))) AS oldest
    FROM jobs WHERE status IN ('queued', 'running', 'retrying') AND hold IS DISTINCT FROM 'external'
    GROUP BY queue
)
SELECT coalesce(served.queue, filled.queue) AS name, coalesce(workers, 0) AS workers,
       coalesce(slots, 0)::int AS slots, coalesce(running, 0) AS running, coalesce(waiting, 0) AS waiting,
       coalesce(held, 0) AS held, oldest
FROM served FULL JOIN filled ON served.queue = filled.queue
ORDER BY 1;

-- reads/graphs.py JOBS
SELECT jobs.*, coalesce(follows, CAST(born.detail ->> 'follows' AS uuid)) AS followed,
       coalesce(follows_group, born.detail ->> 'followsGroup') AS followed_group
FROM jobs LEFT JOIN LATERAL (
    SELECT detail FROM history
    WHERE history.job_id = jobs.id AND at >= jobs.created_at - interval '1 hour' AND event = 'created'
    ORDER BY history.id LIMIT 1) AS born ON true
WHERE (jobs.id = :'root_id' OR root_id = :'root_id' AND root_id <> jobs.id) AND organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id')
ORDER BY jobs.created_at, jobs.id
LIMIT :'most';

-- reads/invariants.py NEXT
SELECT id FROM jobs WHERE id >= :'first' ORDER BY id LIMIT 1 OFFSET :'most';

-- reads/overview.py OVERVIEW
WITH RECURSIVE lines AS (
    (SELECT organization_id FROM jobs WHERE true ORDER BY organization_id LIMIT 1)
    UNION ALL
    SELECT (SELECT organization_id FROM jobs
            WHERE true AND organization_id > lines.organization_id
            ORDER BY organization_id LIMIT 1)
    FROM lines WHERE lines.organization_id IS NOT NULL
),
active AS (
    SELECT mine.organization_id, mine.job_type, mine.queue, mine.status, mine.hold, mine.created_at, mine.dispatched_at
    FROM lines CROSS JOIN LATERAL (
        SELECT organization_id, job_type, queue, status, hold, created_at, dispatched_at FROM jobs
        WHERE jobs.organization_id = lines.organization_id AND status IN ('queued', 'running', 'retrying') AND hold IS DISTINCT FROM 'external'
        LIMIT :'most') AS mine
    LIMIT :'most'
), ended AS (
    SELECT mine.organization_id, mine.job_type, mine.queue, mine.status, mine.hold, mine.created_at, mine.dispatched_at
    FROM lines CROSS JOIN LATERAL (
        SELECT organization_id, job_type, queue, status, hold, created_at, dispatched_at FROM jobs
        WHERE jobs.organization_id = lines.organization_id AND completed_at IS NOT NULL AND completed_at > now() - CAST(:'window' AS interval)
        LIMIT :'most') AS mine
    LIMIT :'most'
)
SELECT CASE 7 - grouping(organization_id, job_type, queue)
           WHEN 4 THEN 'organization_id' WHEN 2 THEN 'job_type' WHEN 1 THEN 'queue' END AS by,
       coalesce(organization_id, job_type, queue) AS name,
       count(*) FILTER (WHERE (status IN ('queued', 'retrying') AND coalesce(hold = 'organization_limit', true))) AS waiting,
       count(*) FILTER (WHERE NOT (status IN ('queued', 'retrying') AND coalesce(hold = 'organization_limit', true)) AND status IN ('queued', 'retrying')) AS held,
       count(*) FILTER (WHERE status = 'running') AS running,
       count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
       clock_timestamp() - min(coalesce(dispatched_at, created_at)) FILTER (WHERE (status IN ('queued', 'retrying') AND coalesce(hold = 'organization_limit', true))) AS oldest
FROM (SELECT * FROM active UNION ALL SELECT * FROM ended) AS read
GROUP BY GROUPING SETS ((organization_id), (job_type), (queue), ())
ORDER BY waiting DESC, failed DESC, running DESC, name;

-- reads/schedules.py GET
SELECT * FROM schedules WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id');

-- reads/schedules.py PAGE
SELECT * FROM schedules
WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND (CAST(:'after' AS text) IS NULL OR name > CAST(:'after' AS text))
ORDER BY name LIMIT :'size';

-- reads/schedules.py ALL
SELECT * FROM schedules
WHERE CAST(:'organization_id' AS text) IS NULL OR organization_id = :'organization_id'
ORDER BY organization_id, name;

-- reads/search.py TYPES
WITH RECURSIVE kinds AS (
    (SELECT job_type FROM jobs WHERE completed_at IS NOT NULL ORDER BY job_type LIMIT 1)
    UNION ALL
    SELECT next.job_type FROM kinds CROSS JOIN LATERAL (
        SELECT job_type FROM jobs WHERE completed_at IS NOT NULL AND jobs.job_type > kinds.job_type
        ORDER BY job_type LIMIT 1) AS next
)
SELECT job_type FROM kinds WHERE job_type ILIKE :'pattern'
UNION
SELECT job_type FROM jobs
WHERE organization_id = :'organization_id' AND status IN ('queued', 'running', 'retrying') AND job_type ILIKE :'pattern';

-- reads/search.py TYPES_EVERYWHERE
WITH RECURSIVE kinds AS (
    (SELECT job_type FROM jobs WHERE completed_at IS NOT NULL ORDER BY job_type LIMIT 1)
    UNION ALL
    SELECT next.job_type FROM kinds CROSS JOIN LATERAL (
        SELECT job_type FROM jobs WHERE completed_at IS NOT NULL AND jobs.job_type > kinds.job_type
        ORDER BY job_type LIMIT 1) AS next
)
SELECT job_type FROM kinds WHERE job_type ILIKE :'pattern'
UNION
SELECT job_type FROM jobs
WHERE status IN ('queued', 'running', 'retrying') AND job_type ILIKE :'pattern';

-- reads/seen.py JOB_TYPES
WITH RECURSIVE ended AS (
    (SELECT job_type FROM jobs WHERE completed_at IS NOT NULL ORDER BY job_type LIMIT 1)
    UNION ALL
    SELECT (SELECT job_type FROM jobs WHERE completed_at IS NOT NULL AND job_type > ended.job_type
            ORDER BY job_type LIMIT 1)
    FROM ended WHERE job_type IS NOT NULL
)
SELECT job_type FROM ended WHERE job_type IS NOT NULL
UNION SELECT job_type FROM jobs WHERE status IN ('queued', 'running', 'retrying')
UNION SELECT job_type FROM pauses WHERE job_type IS NOT NULL;

-- reads/seen.py HAS_JOB_TYPE
SELECT EXISTS (SELECT FROM jobs WHERE organization_id = :'organization_id' AND job_type = :'job_type' AND completed_at IS NOT NULL)
    OR EXISTS (SELECT FROM jobs WHERE organization_id = :'organization_id' AND job_type = :'job_type' AND status IN ('queued', 'running', 'retrying'));

-- reads/seen.py ORGANIZATIONS
WITH RECURSIVE lines AS (
    (SELECT organization_id FROM jobs WHERE true ORDER BY organization_id LIMIT 1)
    UNION ALL
    SELECT (SELECT organization_id FROM jobs
            WHERE true AND organization_id > lines.organization_id
            ORDER BY organization_id LIMIT 1)
    FROM lines WHERE lines.organization_id IS NOT NULL
)
SELECT organization_id FROM lines WHERE organization_id IS NOT NULL;

-- reads/tail.py LAST_NUMBER
SELECT coalesce(pg_sequence_last_value(CAST(pg_get_serial_sequence('history', 'id') AS regclass)), 0);

-- reads/tail.py WRITERS
SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND relation = CAST('history' AS regclass)
      AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND mode = 'RowExclusiveLock' AND granted;

-- reads/tail.py HOLDERS
SELECT pid FROM (SELECT pid FROM pg_locks
WHERE locktype = 'relation' AND relation = CAST('history' AS regclass)
  AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND mode = 'RowExclusiveLock' AND granted AND pid IS NOT NULL) AS writing JOIN pg_stat_activity USING (pid)
ORDER BY xact_start;

-- reads/tail.py ROWS
SELECT happened.id, happened.job_id, happened.organization_id, happened.user_id, happened.job_type,
       happened.event, happened.to_status, happened.attempt, happened.actor,
       happened.detail - 'traceback' - 'exception' - 'children' AS detail,
       (SELECT project_id FROM jobs WHERE jobs.id = happened.job_id) AS project_id FROM history AS happened
WHERE id > :'after' AND id <= :'until' ORDER BY id LIMIT :'most';

-- reads/tail.py IS_OLD
SELECT coalesce((SELECT at < clock_timestamp() - make_interval(secs => :'seconds')
                 FROM history WHERE id > :'after' AND id <= :'until' ORDER BY id LIMIT 1), true);

-- reads/tail.py SCANNED
SELECT count(*) FROM (SELECT FROM history WHERE organization_id = :'organization_id' AND id > :'after' AND id <= :'until' LIMIT :'most') AS scanned;

-- reads/tail.py MISSED
SELECT * FROM (
    SELECT happened.id, happened.job_id, happened.organization_id, happened.user_id, happened.job_type,
       happened.event, happened.to_status, happened.attempt, happened.actor,
       happened.detail - 'traceback' - 'exception' - 'children' AS detail,
       (SELECT project_id FROM jobs WHERE jobs.id = happened.job_id) AS project_id FROM history AS happened
    WHERE organization_id = :'organization_id' AND id > :'after' AND id <= :'until'
      AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id')
      AND (CAST(:'job_type' AS text) IS NULL OR job_type = :'job_type')
      AND (CAST(:'job_id' AS uuid) IS NULL OR job_id = :'job_id')
) AS found
WHERE CAST(:'project_id' AS text) IS NULL OR project_id = :'project_id'
ORDER BY id;

-- reads/throughput.py FINISHED
WITH counted AS (
    SELECT date_bin(CAST(:'width' AS interval), completed_at, timestamptz '2000-01-01Z') AS start, status,
           count(*) AS number
    FROM jobs
    WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND completed_at IS NOT NULL AND completed_at >= date_bin(CAST(:'width' AS interval), now(), timestamptz '2000-01-01Z') - (:'slices' - 1) * CAST(:'width' AS interval)
    GROUP BY 1, 2
)
SELECT part.start,
       coalesce(sum(number) FILTER (WHERE status = 'succeeded'), 0)::int AS succeeded,
       coalesce(sum(number) FILTER (WHERE status = 'failed'), 0)::int AS failed,
       coalesce(sum(number) FILTER (WHERE status = 'cancelled'), 0)::int AS cancelled
FROM generate_series(date_bin(CAST(:'width' AS interval), now(), timestamptz '2000-01-01Z') - (:'slices' - 1) * CAST(:'width' AS interval), date_bin(CAST(:'width' AS interval), now(), timestamptz '2000-01-01Z'), CAST(:'width' AS interval)) AS part (start)
LEFT JOIN counted USING (start)
GROUP BY part.start ORDER BY part.start;

-- reads/types.py BY_TYPE
SELECT job_type,
       count(*) FILTER (WHERE status IN ('queued', 'retrying')) AS waiting,
       count(*) FILTER (WHERE status = 'running') AS running,
       count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY completed_at - started_at) FILTER (WHERE status = 'succeeded') AS median,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY completed_at - started_at) FILTER (WHERE status = 'succeeded') AS slowest
FROM (
    SELECT job_type, status, CAST(NULL AS timestamptz) AS started_at, CAST(NULL AS timestamptz) AS completed_at
    FROM jobs
    WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND status IN ('queued', 'running', 'retrying')
    UNION ALL
    SELECT job_type, status, started_at, completed_at FROM jobs
    WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND completed_at IS NOT NULL
      AND completed_at > now() - CAST(:'window' AS interval)
) AS counted
GROUP BY job_type;

-- reads/waiting.py MEMBERS
SELECT id FROM jobs
WHERE group_id = :'group_id' AND follows_group IS DISTINCT FROM :'group_id'
ORDER BY group_index, id;

-- reads/waiting.py ARE_WAITING
SELECT (EXISTS (SELECT FROM jobs AS waiting WHERE waiting.follows = jobs.id AND waiting.hold = 'dependency')
                OR EXISTS (SELECT FROM jobs AS waiting
                           WHERE waiting.follows_group = jobs.group_id AND waiting.hold = 'dependency')) FROM jobs WHERE id = :'id' AND status IN ('succeeded', 'failed', 'cancelled');

-- reads/waiting.py LEFT_BEHIND
SELECT ended.id FROM jobs AS waiting JOIN jobs AS ended ON ended.id = waiting.follows
WHERE waiting.hold = 'dependency' AND ended.status IN ('succeeded', 'failed', 'cancelled')
UNION
SELECT ended.id
FROM (SELECT DISTINCT follows_group FROM jobs WHERE hold = 'dependency' AND follows_group IS NOT NULL) AS waiting
JOIN jobs AS ended ON ended.group_id = waiting.follows_group
WHERE ended.status IN ('failed', 'cancelled')
  AND ended.follows_group IS DISTINCT FROM waiting.follows_group
LIMIT :'batch';

-- reads/waiting.py INCOMPLETE_HEADERS
SELECT DISTINCT body.follows_group FROM jobs AS body
WHERE body.hold = 'dependency' AND body.follows_group IS NOT NULL
  AND body.created_at < clock_timestamp() - CAST(:'age' AS interval)
  AND NOT EXISTS (SELECT FROM jobs AS member
                  WHERE member.group_id = body.follows_group AND member.status IN ('queued', 'running', 'retrying')
                    AND member.follows_group IS DISTINCT FROM body.follows_group)
LIMIT :'batch';

-- retention.py _KINDS
WITH RECURSIVE kinds AS (
    (SELECT job_type, status, completed_at, external FROM jobs
     WHERE completed_at IS NOT NULL ORDER BY job_type, status, completed_at LIMIT 1)
    UNION ALL
    SELECT next.*
    FROM kinds, LATERAL (
        SELECT job_type, status, completed_at, external FROM jobs
        WHERE completed_at IS NOT NULL AND (job_type, status) > (kinds.job_type, kinds.status)
        ORDER BY job_type, status, completed_at LIMIT 1) AS next
)
SELECT job_type, status, external, now() - completed_at AS age FROM kinds;

-- retention.py _DELETE
WITH gone AS (
    DELETE FROM jobs
    WHERE id = ANY(:'ids') AND status = :'status' AND completed_at IS NOT NULL AND NOT stopping
    RETURNING id, created_at
), traces AS (
    DELETE FROM history USING gone
    WHERE history.job_id = gone.id AND at >= gone.created_at - interval '1 hour' AND at < :'until'
    RETURNING history.*
), kept AS (
    INSERT INTO audit (id, at, organization_id, actor, actor_organization_id, action, target, source, address, request_id, outcome, code, detail) SELECT id, at, organization_id, actor, origin ->> 'organization', coalesce(CASE event WHEN 'created' THEN 'job.create' WHEN 'cancelled' THEN 'job.cancel' WHEN 'retried' THEN 'job.retry' WHEN 'retried_anew' THEN 'job.retry' END, 'job.change'), CAST(job_id AS text), origin ->> 'source', origin ->> 'address', origin ->> 'request', 'done', CAST(NULL AS text), jsonb_strip_nulls(jsonb_build_object('jobType', job_type, 'from', from_status, 'to', to_status))
    FROM traces WHERE origin IS NOT NULL
)
SELECT (SELECT count(*) FROM gone) AS jobs, (SELECT count(*) FROM traces) AS history;

-- revocations.py _CANCEL
WITH locked AS (
    SELECT id, status AS from_status FROM jobs WHERE id = :'named'
    AND NOT EXISTS (SELECT FROM history WHERE history.job_id = jobs.id AND event = 'retried'
                    AND at >= jobs.created_at - interval '1 hour' AND at > clock_timestamp() - CAST(:'age' AS interval)) FOR UPDATE
), moved AS (
    UPDATE jobs
    SET status = 'cancelled', hold = NULL, due_at = NULL, stopping = from_status = 'running' AND NOT external,
        cancel_requested_at = clock_timestamp(), cancel_seen_at = NULL, completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'running', 'retrying')
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'cancelled',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('by', CAST(:'actor' AS text), 'reason', CAST(:'reason' AS text))) || '{}', NULL, CAST(:'origin' AS jsonb), clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- revocations.py _UNKNOWN
SELECT wanted.id FROM unnest(CAST(:'ids' AS uuid[])) AS wanted (id)
WHERE NOT EXISTS (SELECT FROM jobs WHERE jobs.id = wanted.id);

-- revocations.py _STAMPED
SELECT id FROM jobs
WHERE status IN ('queued', 'running', 'retrying')
  AND EXISTS (SELECT FROM jsonb_each(CAST(:'stamps' AS jsonb)) AS asked (name, values),
                          jsonb_array_elements(asked.values) AS wanted (value)
              WHERE delivery -> 'stamps' -> asked.name @> wanted.value)
ORDER BY created_at, id;

-- revocations.py _REMEMBER
INSERT INTO revocations (stamp, value, revoked_by) VALUES (:'stamp', :'value', :'actor')
ON CONFLICT (stamp, value) DO UPDATE SET revoked_at = clock_timestamp(), revoked_by = excluded.revoked_by;

-- revocations.py _FORGET
DELETE FROM revocations WHERE revoked_at < clock_timestamp() - CAST(:'age' AS interval);

-- schedules/firing.py MOVE
UPDATE schedules SET since = :'since', next_at = :'next_at', updated_at = clock_timestamp()
WHERE id = :'id'
RETURNING *;

-- schedules/firing.py WAITING
SELECT id
FROM (SELECT id, next_at, row_number() OVER (PARTITION BY organization_id ORDER BY next_at) AS place
      FROM schedules WHERE NOT paused AND next_at <= clock_timestamp()) AS due
ORDER BY place, next_at
LIMIT :'limit';

-- schedules/firing.py TAKE
SELECT *, clock_timestamp() AS now FROM schedules
WHERE id = :'id' AND NOT paused AND next_at <= clock_timestamp()
FOR UPDATE SKIP LOCKED;

-- schedules/firing.py UNFINISHED
SELECT jobs.id
FROM (SELECT job_id FROM schedule_outcomes WHERE schedule_id = :'id' AND job_id IS NOT NULL
      ORDER BY due_at DESC LIMIT :'most') AS made
JOIN jobs ON jobs.id = made.job_id
WHERE status IN ('queued', 'running', 'retrying') OR stopping
ORDER BY jobs.id;

-- schedules/firing.py WITH_ZONE
SELECT * FROM schedules
WHERE cron IS NOT NULL AND (CAST(:'after' AS uuid) IS NULL OR id > CAST(:'after' AS uuid))
ORDER BY id LIMIT :'limit';

-- schedules/firing.py RECOMPUTE
UPDATE schedules SET next_at = :'next_at', updated_at = clock_timestamp()
WHERE id = :'id' AND since = :'since' AND version = :'version';

-- schedules/keeping.py NOW
SELECT clock_timestamp();

-- schedules/keeping.py LOCK
SELECT * FROM schedules WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') FOR UPDATE;

-- schedules/keeping.py NAMED
SELECT * FROM schedules WHERE organization_id = :'organization_id' AND name = :'name';

-- schedules/keeping.py CREATE
INSERT INTO schedules (id, organization_id, user_id, name, job_type, payload, priority, max_retries, project_id, metadata, cron, timezone, every_seconds, catch_up, overlap, template, granted,
                       granted_template, anchor, since, next_at,
                       paused, paused_by, paused_at, changed_by)
VALUES (:'id', :'organization_id', :'user_id', :'name', :'job_type', :'payload', :'priority', :'max_retries', :'project_id', :'metadata', :'cron', :'timezone', :'every_seconds', :'catch_up', :'overlap', :'template', :'granted',
        :'granted_template', :'now', :'now', :'next_at',
        CAST(:'paused_by' AS text) IS NOT NULL, :'paused_by',
        CASE WHEN CAST(:'paused_by' AS text) IS NOT NULL THEN CAST(:'now' AS timestamptz) END, :'actor')
ON CONFLICT (organization_id, name) DO NOTHING
RETURNING *;

-- schedules/keeping.py CHANGE
UPDATE schedules
SET name = :'name', job_type = :'job_type', payload = :'payload', priority = :'priority', max_retries = :'max_retries', project_id = :'project_id', metadata = :'metadata', cron = :'cron', timezone = :'timezone', every_seconds = :'every_seconds', catch_up = :'catch_up', overlap = :'overlap', template = :'template', granted = :'granted',
    granted_template = :'granted_template', anchor = :'anchor',
    since = :'since', next_at = :'next_at', version = version + 1, changed_by = :'actor', updated_at = clock_timestamp()
WHERE id = :'id'
RETURNING *;

-- schedules/keeping.py PAUSE
UPDATE schedules
SET paused = true, paused_by = :'actor', paused_at = clock_timestamp(), version = version + 1, changed_by = :'actor',
    updated_at = clock_timestamp()
WHERE id = :'id'
RETURNING *;

-- schedules/keeping.py RESUME
UPDATE schedules
SET paused = false, paused_by = NULL, paused_at = NULL, since = :'now', next_at = :'next_at', version = version + 1,
    changed_by = :'actor', updated_at = clock_timestamp()
WHERE id = :'id'
RETURNING *;

-- schedules/keeping.py MOVE
UPDATE schedules SET since = :'since', next_at = :'next_at', updated_at = clock_timestamp()
WHERE id = :'id'
RETURNING *;

-- schedules/keeping.py REMOVE
DELETE FROM schedules WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') RETURNING *;

-- schedules/outcomes.py PROLONG
UPDATE schedule_outcomes SET last_due_at = :'last_due_at', count = count + :'count', at = clock_timestamp()
WHERE schedule_id = :'schedule_id' AND due_at = (SELECT max(due_at) FROM schedule_outcomes WHERE schedule_id = :'schedule_id') AND became = :'became' AND reason = :'reason'
  AND actor IS NULL AND CAST(:'actor' AS text) IS NULL AND last_due_at < CAST(:'due_at' AS timestamptz)
RETURNING due_at;

-- schedules/outcomes.py NOTE
INSERT INTO schedule_outcomes (schedule_id, due_at, last_due_at, count, became, reason, actor)
VALUES (:'schedule_id', :'due_at', :'last_due_at', :'count', :'became', :'reason', :'actor')
ON CONFLICT DO NOTHING;

-- schedules/outcomes.py NOTE_JOB
INSERT INTO schedule_outcomes (schedule_id, due_at, last_due_at, became, job_id, actor)
VALUES (:'schedule_id', :'due_at', :'due_at', 'job', :'job_id', :'actor')
ON CONFLICT DO NOTHING
RETURNING due_at;

-- schedules/outcomes.py LATEST
SELECT found.*, jobs.status
FROM unnest(CAST(:'ids' AS uuid[])) AS asked (id)
CROSS JOIN LATERAL (SELECT * FROM schedule_outcomes WHERE schedule_id = asked.id
                    ORDER BY due_at DESC LIMIT :'number') AS found
LEFT JOIN jobs ON jobs.id = found.job_id
ORDER BY found.schedule_id, found.due_at DESC;

-- schedules/outcomes.py PAGE
SELECT found.*, jobs.status
FROM (SELECT * FROM schedule_outcomes
      WHERE schedule_id = :'schedule_id'
        AND (CAST(:'before' AS timestamptz) IS NULL OR due_at < CAST(:'before' AS timestamptz))
      ORDER BY due_at DESC LIMIT :'size') AS found
LEFT JOIN jobs ON jobs.id = found.job_id
ORDER BY found.due_at DESC;

-- schedules/outcomes.py FORGET
DELETE FROM schedule_outcomes
WHERE (schedule_id, due_at) IN (SELECT schedule_id, due_at FROM schedule_outcomes
                                WHERE at < clock_timestamp() - CAST(:'older_than' AS interval)
                                ORDER BY at LIMIT :'limit');

-- sessions.py BEGIN
WITH over AS (
    DELETE FROM sessions WHERE digest IN (
        SELECT digest FROM sessions WHERE NOT (expires_at > clock_timestamp() AND seen_at > clock_timestamp() - CAST(:'idle' AS interval)) LIMIT :'most' FOR UPDATE SKIP LOCKED)
)
INSERT INTO sessions (digest, organization_id, user_id, permissions, expires_at)
VALUES (:'digest', :'organization_id', :'user_id', CAST(:'permissions' AS text[]),
        least(CAST(:'until' AS timestamptz), clock_timestamp() + CAST(:'longest' AS interval)));

-- sessions.py FIND
WITH seen AS (
    UPDATE sessions SET seen_at = clock_timestamp()
    WHERE digest = :'digest' AND expires_at > clock_timestamp() AND seen_at > clock_timestamp() - CAST(:'idle' AS interval) AND seen_at < clock_timestamp() - interval '1 minute'
)
SELECT organization_id, user_id, permissions, expires_at FROM sessions WHERE digest = :'digest' AND expires_at > clock_timestamp() AND seen_at > clock_timestamp() - CAST(:'idle' AS interval);

-- sessions.py END
DELETE FROM sessions WHERE digest = :'digest';

-- successors.py PLAN
WITH asked AS (
    SELECT * FROM jsonb_to_recordset(CAST(:'jobs' AS jsonb)) AS asked (
        id uuid, organization_id text, user_id text, project_id text, job_type text, priority smallint, queue text,
        max_retries int, payload jsonb, delivery jsonb, parent_id uuid, root_id uuid, group_id text,
        group_index int, follows uuid, follows_group text)
), created AS (
    INSERT INTO jobs (status, hold, id, organization_id, user_id, project_id, job_type, priority, queue, max_retries, payload, delivery,
       parent_id, root_id, group_id, group_index, follows, follows_group)
    SELECT 'queued', 'dependency', id, organization_id, user_id, project_id, job_type, priority, queue, max_retries, payload, delivery,
       parent_id, root_id, group_id, group_index, follows, follows_group FROM asked
    ON CONFLICT (id) DO UPDATE
    SET job_type = excluded.job_type, priority = excluded.priority, queue = excluded.queue,
        max_retries = excluded.max_retries, payload = excluded.payload, delivery = excluded.delivery,
        follows = excluded.follows, follows_group = excluded.follows_group, updated_at = clock_timestamp()
    WHERE (jobs.follows = jobs.id OR starts_with(jobs.follows_group, 'with:')
           OR jobs.hold = 'dependency' AND jobs.follows_group <> excluded.follows_group
              AND jobs.root_id = excluded.root_id)
      AND jobs.organization_id = excluded.organization_id
    RETURNING jobs.*, CAST(NULL AS text) AS from_status, jobs.xmax = 0 AS is_new
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'created',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('priority', priority, 'hold', hold, 'parentId', parent_id, 'rootId', root_id, 'groupId', group_id, 'follows', follows, 'followsGroup', follows_group)) || '{}', NULL, NULL, clock_timestamp()
    FROM created WHERE is_new)
SELECT * FROM created WHERE is_new;

-- successors.py KNOWN
SELECT coalesce(organization_id = :'organization_id'
          AND (follows = ANY(CAST(:'by' AS uuid[])) OR follows_group = ANY(CAST(:'by_groups' AS text[]))), false) AS is_planned FROM jobs WHERE id = :'id';

-- successors.py CALL
WITH locked AS (
    SELECT id, status AS from_status, hold AS held, error_type AS why FROM jobs WHERE id = :'id' AND organization_id = :'organization_id'
      AND (follows = ANY(CAST(:'by' AS uuid[])) OR follows_group = ANY(CAST(:'by_groups' AS text[]))) FOR UPDATE
), moved AS (
    UPDATE jobs
    SET follows = NULL, follows_group = NULL, job_type = asked.job_type, queue = asked.queue,
        priority = :'priority', max_retries = :'max_retries', payload = :'payload', delivery = :'delivery',
        message = :'message', group_id = :'group_id', group_index = CAST(:'group_index' AS int),
        parent_id = coalesce(nullif(CAST(:'parent_id' AS uuid), jobs.id), jobs.parent_id),
        depends_on = asked.depends_on, circuit_key = asked.circuit_key, scheduled_at = asked.due_at,
        status = CASE WHEN (from_status IN ('queued', 'retrying') OR why = 'DependencyEnded') THEN 'queued' ELSE jobs.status END,
        dispatch = dispatch + CASE WHEN (from_status IN ('queued', 'retrying') OR why = 'DependencyEnded') AND from_status NOT IN ('queued', 'retrying') THEN 1 ELSE 0 END,
        (hold, sent_priority) = (SELECT CASE WHEN next.hold = 'organization_limit' AND sent.level IS NOT NULL THEN NULL ELSE next.hold END, sent.level FROM (SELECT CASE
    WHEN asked.external THEN 'external'
    WHEN (asked.follows IS NOT NULL OR asked.follows_group IS NOT NULL) OR asked.unresolved
         OR asked.attempt = 0 AND asked.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(asked.depends_on, asked.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN asked.due_at > clock_timestamp()
        THEN CASE asked.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, asked.organization_id) = asked.organization_id
                     AND coalesce(pauses.job_type, asked.job_type) = asked.job_type) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = asked.job_type AND broken.key = asked.circuit_key
                     AND broken.organization_id IN (asked.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM asked.id) THEN 'circuit'
    WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = asked.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(asked.organization_id)) THEN 'organization_limit'
END AS hold) AS next
     CROSS JOIN LATERAL (
         SELECT CASE WHEN next.hold = 'organization_limit' AND (asked.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
                     THEN sent_level(asked.organization_id, asked.queue, asked.priority, :'limit', :'lease_timeout')
                END AS level) AS sent WHERE (from_status IN ('queued', 'retrying') OR why = 'DependencyEnded')),
        due_at = CASE WHEN (from_status IN ('queued', 'retrying') OR why = 'DependencyEnded') THEN asked.due_at END,
        error_type = CASE WHEN (from_status IN ('queued', 'retrying') OR why = 'DependencyEnded') THEN NULL ELSE jobs.error_type END,
        error_message = CASE WHEN (from_status IN ('queued', 'retrying') OR why = 'DependencyEnded') THEN NULL ELSE jobs.error_message END,
        cancel_requested_at = CASE WHEN (from_status IN ('queued', 'retrying') OR why = 'DependencyEnded') THEN NULL ELSE jobs.cancel_requested_at END,
        completed_at = CASE WHEN (from_status IN ('queued', 'retrying') OR why = 'DependencyEnded') THEN NULL ELSE jobs.completed_at END, updated_at = clock_timestamp()
    FROM locked, (SELECT CAST(:'id' AS uuid) AS id, CAST(:'organization_id' AS text) AS organization_id,
                         'queued' AS status, 0 AS attempt, CAST(:'priority' AS int) AS priority,
                         CAST(NULL AS uuid) AS follows,
                         CAST(NULL AS text) AS follows_group,
                         CAST(:'job_type' AS text) AS job_type, CAST(:'queue' AS text) AS queue,
                         CAST(:'depends_on' AS uuid[]) AS depends_on, CAST(NULL AS text[]) AS depends_when,
                         false AS unresolved, CAST(:'circuit_key' AS text) AS circuit_key,
                         false AS external,
                         coalesce(CAST(:'scheduled_at' AS timestamptz),
                                  clock_timestamp() + CAST(:'delay' AS interval)) AS due_at) AS asked
    WHERE jobs.id = locked.id
    RETURNING jobs.*, locked.from_status, locked.held
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, CASE WHEN from_status <> 'queued' THEN 'retried' WHEN hold IN ('paused', 'circuit') THEN 'held' ELSE 'due' END,
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('hold', CASE WHEN hold IN ('paused', 'circuit') THEN hold ELSE held END, 'next', CASE WHEN NOT hold IN ('paused', 'circuit') THEN hold END)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved WHERE status = 'queued'
)
SELECT id, dispatch, organization_id, user_id, project_id, job_type, status, hold, due_at, priority, sent_priority, queue, attempt, retry_count, max_retries, losses, metadata, parent_id, root_id, group_id, group_index, result, typed_result, error_type, error_message, message, progress, progress_detail, current_step, total_steps, circuit_key, worker, lease, claim_id, stopping, external, depends_on, depends_when, unresolved, follows, follows_group, retry_of, idempotency_key, request_hash, scheduled_at, dispatched_at, cancel_requested_at, cancel_seen_at, started_at, completed_at, created_at, updated_at, (SELECT revoked_by FROM revocations WHERE stamp = '' AND value = to_jsonb(moved.id)
            UNION ALL
            SELECT revoked_by FROM jsonb_each(moved.delivery -> 'stamps') AS stamped
            JOIN revocations ON revocations.stamp = stamped.key AND stamped.value @> revocations.value
            LIMIT 1) AS revoked_by FROM moved;

-- successors.py CULPRIT
SELECT *,
       (SELECT detail -> 'exception' FROM history
        WHERE job_id = jobs.id AND at >= jobs.created_at - interval '1 hour' AND to_status = jobs.status
        ORDER BY history.id DESC LIMIT 1) AS exception
FROM jobs WHERE id = :'id' AND status IN ('succeeded', 'failed', 'cancelled');

-- successors.py FOLLOWERS
SELECT id FROM jobs
WHERE follows_group = :'group_id' AND hold = 'dependency' AND id IS DISTINCT FROM CAST(:'id' AS uuid)
ORDER BY id;

-- successors.py END
WITH RECURSIVE doomed AS (
    SELECT unnest(CAST(:'roots' AS uuid[])) AS id
    UNION
    -- One probe of its index for each: a join, or another index, would read all that waits at every step.
    SELECT next.id FROM doomed CROSS JOIN LATERAL (
        SELECT id FROM jobs WHERE jobs.follows = doomed.id
        OFFSET 0) AS next
), locked AS (
    SELECT found.id, from_status FROM doomed CROSS JOIN LATERAL (
        SELECT id, status AS from_status, hold AS held FROM jobs WHERE jobs.id = doomed.id
        OFFSET 0 FOR UPDATE) AS found
    WHERE held = 'dependency' AND from_status IN ('queued', 'retrying')
    LIMIT :'batch'
), moved AS (
    UPDATE jobs
    SET status = :'status', hold = NULL, due_at = NULL, error_type = :'error_type', error_message = :'error_message',
        cancel_requested_at = CASE WHEN CAST(:'status' AS text) = 'cancelled' THEN clock_timestamp() END,
        completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, CASE status WHEN 'cancelled' THEN 'cancelled' ELSE 'failed' END,
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(CASE status WHEN 'cancelled' THEN jsonb_build_object('by', 'admission', 'reason', error_message)
           ELSE jsonb_build_object('errorType', error_type, 'error', error_message, 'willRetry', false) END) || CAST(:'kept' AS jsonb), NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- templates.py CREATE
WITH new AS (
    INSERT INTO templates (id, organization_id, name, job_type, version)
    VALUES (:'id', :'organization_id', :'name', :'job_type', 1)
    ON CONFLICT (organization_id, name) DO NOTHING
    RETURNING *
), made AS (
    INSERT INTO template_versions (template_id, version, payload, metadata, priority, max_retries, permission, schedule, changed_by)
    SELECT id, version, :'payload', :'metadata', :'priority', :'max_retries', :'permission', :'schedule', :'actor' FROM new
    RETURNING *
)
SELECT new.id, organization_id, name, job_type, new.created_at, new.version AS newest, made.version, payload, metadata, priority, max_retries, permission, schedule, changed_by, changed_at
FROM new CROSS JOIN made;

-- templates.py CHANGE
WITH new AS (
    UPDATE templates SET version = version + 1
    WHERE organization_id = :'organization_id' AND name = :'name' AND version = :'known'
    RETURNING *
), made AS (
    INSERT INTO template_versions (template_id, version, payload, metadata, priority, max_retries, permission, schedule, changed_by)
    SELECT id, version, :'payload', :'metadata', :'priority', :'max_retries', :'permission', :'schedule', :'actor' FROM new
    RETURNING *
)
SELECT new.id, organization_id, name, job_type, new.created_at, new.version AS newest, made.version, payload, metadata, priority, max_retries, permission, schedule, changed_by, changed_at
FROM new CROSS JOIN made;

-- templates.py REMOVE
DELETE FROM templates WHERE organization_id = :'organization_id' AND name = :'name' RETURNING version;

-- templates.py GET
SELECT templates.id, organization_id, name, job_type, templates.created_at, templates.version AS newest, made.version, payload, metadata, priority, max_retries, permission, schedule, changed_by, changed_at
FROM templates JOIN template_versions AS made ON made.template_id = templates.id
WHERE organization_id = :'organization_id' AND name = :'name'
  AND made.version = coalesce(CAST(:'version' AS int), templates.version);

-- templates.py PAGE
SELECT templates.id, organization_id, name, job_type, templates.created_at, templates.version AS newest, made.version, payload, metadata, priority, max_retries, permission, schedule, changed_by, changed_at
FROM templates JOIN template_versions AS made ON made.template_id = templates.id
WHERE organization_id = :'organization_id' AND made.version = templates.version
  AND (CAST(:'after' AS text) IS NULL OR name > CAST(:'after' AS text))
ORDER BY name LIMIT :'size';

-- templates.py VERSIONS
SELECT templates.id, organization_id, name, job_type, templates.created_at, templates.version AS newest, made.version, payload, metadata, priority, max_retries, permission, schedule, changed_by, changed_at
FROM templates JOIN template_versions AS made ON made.template_id = templates.id
WHERE organization_id = :'organization_id' AND name = :'name'
  AND (CAST(:'before' AS int) IS NULL OR made.version < CAST(:'before' AS int))
ORDER BY made.version DESC LIMIT :'size';

-- thinning.py NOW
SELECT now();

-- thinning.py TABLE
SELECT CAST(to_regclass(:'name') AS oid);

-- thinning.py LEFT
SELECT relname FROM pg_class
WHERE relname LIKE 'history#_thinned#_%' ESCAPE '#' AND relkind = 'r' AND NOT relispartition
  AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = CAST('history' AS regclass));

-- tickets.py ISSUE
WITH expired AS (
    DELETE FROM tickets WHERE digest IN (
        SELECT digest FROM tickets WHERE expires_at < clock_timestamp() LIMIT :'most' FOR UPDATE SKIP LOCKED)
)
INSERT INTO tickets (digest, purpose, organization_id, user_id, permissions, rights_until, expires_at)
VALUES (:'digest', :'purpose', :'organization_id', :'user_id', CAST(:'permissions' AS text[]), :'rights_until',
        clock_timestamp() + CAST(:'lifetime' AS interval))
RETURNING expires_at;

-- tickets.py SPEND
DELETE FROM tickets
WHERE digest = :'digest' AND purpose = :'purpose' AND expires_at >= clock_timestamp()
RETURNING organization_id, user_id, permissions, rights_until;

-- webhooks.py LOCK
SELECT pg_advisory_xact_lock(hashtextextended('webhooks of ' || :'organization_id', 0));

-- webhooks.py COUNT
SELECT count(*) FROM webhooks WHERE organization_id = :'organization_id';

-- webhooks.py CREATE
INSERT INTO webhooks (id, organization_id, url, events, job_types, project_id, description, enabled, secret,
                      created_by)
VALUES (:'id', :'organization_id', :'url', CAST(:'events' AS text[]), CAST(:'job_types' AS text[]), :'project_id',
        :'description', :'enabled', :'secret', :'actor')
RETURNING webhooks.*, CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until;

-- webhooks.py CHANGE
UPDATE webhooks
SET url = :'url', events = CAST(:'events' AS text[]), job_types = CAST(:'job_types' AS text[]), project_id = :'project_id',
    description = :'description', enabled = :'enabled', updated_at = clock_timestamp(),
    disabled_because = CASE WHEN CAST(:'enabled' AS boolean) THEN NULL ELSE disabled_because END,
    failing_since = CASE WHEN enabled = CAST(:'enabled' AS boolean) THEN failing_since END
WHERE id = :'id' AND organization_id = :'organization_id'
RETURNING webhooks.*, CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until;

-- webhooks.py ROTATE
UPDATE webhooks
SET former_secret = secret, former_until = clock_timestamp() + CAST(:'rotation' AS interval), secret = :'secret',
    updated_at = clock_timestamp()
WHERE id = :'id' AND organization_id = :'organization_id'
RETURNING webhooks.*, CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until;

-- webhooks.py REMOVE
DELETE FROM webhooks WHERE id = :'id' AND organization_id = :'organization_id' RETURNING webhooks.*, CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until;

-- webhooks.py GET
SELECT webhooks.*, CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until FROM webhooks WHERE id = :'id' AND organization_id = :'organization_id';

-- webhooks.py FIND
SELECT webhooks.*, CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until FROM webhooks WHERE id = :'id';

-- webhooks.py EVERY
SELECT webhooks.*, CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until FROM webhooks WHERE organization_id = :'organization_id' ORDER BY created_at, id;

-- webhooks.py LISTENING
SELECT webhooks.*, CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until FROM webhooks WHERE organization_id = ANY(CAST(:'organization_ids' AS text[])) AND enabled;

-- webhooks.py BEGIN
INSERT INTO webhook_position (history_id) SELECT coalesce(pg_sequence_last_value('history_id_seq'), 0)
WHERE EXISTS (SELECT FROM webhooks WHERE enabled)
ON CONFLICT DO NOTHING;

-- webhooks.py POSITION
SELECT history_id FROM webhook_position;

-- webhooks.py ADVANCE
WITH forgotten AS (
    DELETE FROM webhook_position WHERE NOT EXISTS (SELECT FROM webhooks WHERE enabled)
)
UPDATE webhook_position SET history_id = :'to', moved_at = clock_timestamp()
WHERE EXISTS (SELECT FROM webhooks WHERE enabled);

-- webhooks.py RESTART
UPDATE webhook_position SET history_id = coalesce(pg_sequence_last_value('history_id_seq'), 0);

-- webhooks.py DELIVERED
UPDATE webhooks SET failing_since = NULL WHERE id = :'id' AND failing_since IS NOT NULL;

-- webhooks.py REFUSED
UPDATE webhooks
SET failing_since = coalesce(failing_since, clock_timestamp()), enabled = NOT coalesce((CAST(:'because' AS text) IS NOT NULL OR failing_since < clock_timestamp() - CAST(:'patience' AS interval)), false),
    disabled_because = CASE WHEN (CAST(:'because' AS text) IS NOT NULL OR failing_since < clock_timestamp() - CAST(:'patience' AS interval))
                       THEN coalesce(CAST(:'because' AS text), 'it has failed for ' || :'days' || ' days') END
WHERE id = :'id' AND enabled AND (failing_since IS NULL OR (CAST(:'because' AS text) IS NOT NULL OR failing_since < clock_timestamp() - CAST(:'patience' AS interval)))
RETURNING NOT enabled;

-- webhooks.py HAPPENED
SELECT history.id, history.at, jobs.result IS NOT NULL AS has_result,
       CASE WHEN octet_length(CAST(jobs.result AS text)) <= :'most_bytes' THEN jobs.result END AS result
FROM history LEFT JOIN jobs ON jobs.id = history.job_id AND history.to_status = 'succeeded'
WHERE history.id = ANY(CAST(:'ids' AS bigint[]));

-- workflows/concluding.py OVER
SELECT id FROM workflows
WHERE completed_at IS NULL AND (CAST(:'id' AS uuid) IS NULL OR id = :'id')
  AND (SELECT true FROM workflow_jobs JOIN jobs ON jobs.id = job_id
       WHERE workflow_id = workflows.id AND (jobs.status IN ('queued', 'running', 'retrying') OR jobs.stopping)
       LIMIT 1) IS NULL
ORDER BY id
LIMIT :'batch'
FOR UPDATE SKIP LOCKED;

-- workflows/concluding.py CONCLUDE
WITH ended AS (
    SELECT workflows.id, status_now, coalesce(last_end, clock_timestamp()) AS last_end, (
SELECT CAST(greatest(0, coalesce(sum(1000 * extract(EPOCH FROM coalesce(next_at, clock_timestamp()) - at)), 0))
            AS bigint)
FROM (SELECT history.at, event, to_status,
             lead(history.at) OVER path AS next_at, lead(event) OVER path AS next_event
      FROM jobs JOIN history ON history.job_id = jobs.id AND at >= jobs.created_at - interval '1 hour'
      WHERE jobs.root_id = workflows.id AND jobs.root_id <> jobs.id AND NOT jobs.external
      WINDOW path AS (PARTITION BY history.job_id ORDER BY history.id)) AS steps
WHERE to_status = 'running'
   OR event IN ('cancelled', 'seen') AND next_event IN ('seen', 'stopped')) AS worker_ms
    FROM workflows CROSS JOIN LATERAL (
SELECT CASE WHEN bool_or(status_now IN ('queued', 'running', 'retrying') OR stopping) THEN
                CASE WHEN bool_and(status_now = 'queued' AND attempt = 0) THEN 'queued'
                ELSE 'running' END
            WHEN bool_or(status_now = 'failed') THEN 'failed'
            WHEN bool_or(status_now = 'cancelled') THEN 'cancelled'
            ELSE 'succeeded' END AS status_now,
       count(*) FILTER (WHERE status_now = 'queued') AS are_queued, count(*) FILTER (WHERE status_now = 'running') AS are_running, count(*) FILTER (WHERE status_now = 'retrying') AS are_retrying, count(*) FILTER (WHERE status_now = 'succeeded') AS are_succeeded, count(*) FILTER (WHERE status_now = 'failed') AS are_failed, count(*) FILTER (WHERE status_now = 'cancelled') AS are_cancelled, count(*) FILTER (WHERE status_now = 'skipped') AS are_skipped, CAST(floor(avg(CASE WHEN stopping THEN 99 WHEN status_now IN ('queued', 'running', 'retrying') THEN progress
                                 ELSE 100 END)) AS int) AS progress,
       min(started_at) AS started_at, CASE WHEN NOT bool_or(status_now IN ('queued', 'running', 'retrying') OR stopping) THEN max(completed_at) END AS last_end
FROM (
SELECT node.*, CASE WHEN jobs.id IS NULL THEN coalesce(node.ended, 'cancelled')
             WHEN jobs.status = 'cancelled' AND jobs.error_type = 'DependencyEnded'
             AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                         LEFT JOIN jobs AS dependency ON dependency.id = wanted.id
                         WHERE (dependency.id IS NULL
            OR dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND coalesce(wanted.ending, 'succeeded') NOT IN ('finished', dependency.status))) THEN 'skipped' ELSE jobs.status END AS status_now, jobs.id IS NULL AS is_gone, jobs.hold,
       coalesce(jobs.attempt, 1) AS attempt, coalesce(jobs.stopping, false) AS stopping,
       coalesce(jobs.progress, 0) AS progress, jobs.error_message, jobs.started_at, jobs.completed_at
FROM workflow_jobs AS node LEFT JOIN jobs ON jobs.id = node.job_id
WHERE node.workflow_id = workflows.id) AS found) AS state WHERE workflows.id = ANY(CAST(:'ids' AS uuid[]))
)
UPDATE workflows
SET status = status_now, completed_at = last_end, updated_at = clock_timestamp(), told_at = NULL,
    worker_ms = greatest(workflows.worker_ms, ended.worker_ms)
FROM ended
WHERE workflows.id = ended.id AND status_now NOT IN ('queued', 'running') AND completed_at IS NULL
RETURNING workflows.id;

-- workflows/concluding.py KEEP_ENDS
UPDATE workflow_jobs SET ended = status_now
FROM (
SELECT node.*, CASE WHEN jobs.id IS NULL THEN coalesce(node.ended, 'cancelled')
             WHEN jobs.status = 'cancelled' AND jobs.error_type = 'DependencyEnded'
             AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                         LEFT JOIN jobs AS dependency ON dependency.id = wanted.id
                         WHERE (dependency.id IS NULL
            OR dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND coalesce(wanted.ending, 'succeeded') NOT IN ('finished', dependency.status))) THEN 'skipped' ELSE jobs.status END AS status_now, jobs.id IS NULL AS is_gone, jobs.hold,
       coalesce(jobs.attempt, 1) AS attempt, coalesce(jobs.stopping, false) AS stopping,
       coalesce(jobs.progress, 0) AS progress, jobs.error_message, jobs.started_at, jobs.completed_at
FROM workflow_jobs AS node LEFT JOIN jobs ON jobs.id = node.job_id
WHERE node.workflow_id = ANY(CAST(:'ids' AS uuid[]))) AS found
WHERE workflow_jobs.workflow_id = found.workflow_id AND workflow_jobs.key = found.key;

-- workflows/concluding.py FORGET
WITH old AS (
    SELECT id FROM workflows
    WHERE completed_at < clock_timestamp() - CAST(:'older_than' AS interval)
      AND NOT EXISTS (SELECT FROM workflow_jobs JOIN jobs ON jobs.id = job_id WHERE workflow_id = workflows.id)
    ORDER BY completed_at
    LIMIT :'limit'
    FOR UPDATE SKIP LOCKED
), jobs_of AS (
    DELETE FROM workflow_jobs USING old WHERE workflow_id = old.id
)
DELETE FROM workflows USING old WHERE workflows.id = old.id
RETURNING workflows.id;

-- workflows/filling.py UNFILLED
SELECT id, dispatch, root_id, organization_id, job_type, payload FROM jobs
WHERE hold = 'dependency' AND unresolved AND (CAST(:'job_id' AS uuid) IS NULL OR depends_on @> ARRAY[CAST(:'job_id' AS uuid)])
  AND NOT EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
LIMIT :'batch';

-- workflows/filling.py TOLD
SELECT key, CASE WHEN jobs.id IS NULL THEN '{}' ELSE
            jsonb_build_object('jobId', jobs.id, 'status', jobs.status, 'result', jobs.result,
                               'errorType', jobs.error_type, 'errorMessage', jobs.error_message) END AS told
FROM workflow_jobs LEFT JOIN jobs ON jobs.id = job_id
WHERE workflow_id = :'workflow_id' AND key = ANY(CAST(:'keys' AS text[]));

-- workflows/filling.py FILL
WITH locked AS (
    SELECT id, status AS from_status FROM jobs WHERE id = :'id' AND dispatch = :'dispatch' AND hold = 'dependency' AND unresolved AND NOT EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping))) FOR UPDATE
), moved AS (
    UPDATE jobs
    SET payload = :'payload', delivery = coalesce(delivery || CAST(:'delivery' AS jsonb), delivery),
        circuit_key = coalesce(CAST(:'circuit_key' AS text), circuit_key), unresolved = false, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'edited',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('payload', true, 'hold', hold)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT id FROM moved;

-- workflows/keeping.py LOCK
SELECT id FROM workflows WHERE id = :'id' AND organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') FOR UPDATE;

-- workflows/keeping.py CREATE
INSERT INTO workflows (id, organization_id, user_id, name, project_id, status, idempotency_key, request_hash)
VALUES (:'id', :'organization_id', :'user_id', :'name', :'project_id', 'running', :'idempotency_key', :'request_hash')
ON CONFLICT (organization_id, user_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING id;

-- workflows/keeping.py EXISTING
SELECT id, request_hash FROM workflows
WHERE organization_id = :'organization_id' AND user_id = :'user_id'
  AND idempotency_key = CAST(:'idempotency_key' AS text);

-- workflows/keeping.py KEEP
INSERT INTO workflow_jobs (workflow_id, place, key, job_id, job_type, payload, after, priority, max_retries, scheduled_at, message, metadata)
SELECT workflow_id, place, key, job_id, job_type, payload, after, priority, max_retries, scheduled_at, message, metadata FROM jsonb_to_recordset(CAST(:'rows' AS jsonb)) AS asked (
    workflow_id uuid, place int, key text, job_id uuid, job_type text, payload jsonb, after jsonb,
    priority smallint, max_retries int, scheduled_at timestamptz, message text, metadata jsonb);

-- workflows/keeping.py CANCEL_JOBS
WITH locked AS (
    SELECT id, status AS from_status FROM jobs WHERE root_id = :'workflow_id' AND root_id <> id AND organization_id = :'organization_id'
    AND status IN ('queued', 'running', 'retrying') ORDER BY id FOR UPDATE
), moved AS (
    UPDATE jobs
    SET status = 'cancelled', hold = NULL, due_at = NULL, stopping = from_status = 'running' AND NOT external,
        cancel_requested_at = clock_timestamp(), cancel_seen_at = NULL, completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'running', 'retrying')
    RETURNING jobs.*, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'cancelled',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('by', CAST(:'actor' AS text), 'reason', CAST(:'reason' AS text))) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- workflows/keeping.py CANCEL
UPDATE workflows SET cancelled_by = :'actor', reason = :'reason', updated_at = clock_timestamp() WHERE id = :'id';

-- workflows/keeping.py LINK
UPDATE jobs SET retry_of = node.job_id
FROM jsonb_to_recordset(CAST(:'rows' AS jsonb)) AS made (key text, job_id uuid) JOIN workflow_jobs AS node ON node.workflow_id = :'id' AND node.key = made.key
WHERE jobs.id = made.job_id;

-- workflows/keeping.py REPLACE
UPDATE workflow_jobs
SET job_id = made.job_id, ended = NULL,
    run = (SELECT run + 1 FROM workflows WHERE workflows.id = workflow_jobs.workflow_id)
FROM jsonb_to_recordset(CAST(:'rows' AS jsonb)) AS made (key text, job_id uuid)
WHERE workflow_jobs.workflow_id = :'id' AND workflow_jobs.key = made.key;

-- workflows/keeping.py NEXT_RUN
UPDATE workflows
SET run = run + 1, status = 'running', completed_at = NULL, told_at = NULL, cancelled_by = NULL,
    reason = NULL, updated_at = clock_timestamp()
WHERE id = :'id';

-- workflows/reads.py GET
SELECT workflows.*, state.*, coalesce(workflows.completed_at, state.last_end) AS completed_at_now,
           CASE WHEN workflows.completed_at IS NULL THEN (
    SELECT CAST(greatest(0, coalesce(sum(1000 * extract(EPOCH FROM coalesce(next_at, clock_timestamp()) - at)), 0))
                AS bigint)
    FROM (SELECT history.at, event, to_status,
                 lead(history.at) OVER path AS next_at, lead(event) OVER path AS next_event
          FROM jobs JOIN history ON history.job_id = jobs.id AND at >= jobs.created_at - interval '1 hour'
          WHERE jobs.root_id = workflows.id AND jobs.root_id <> jobs.id AND NOT jobs.external
          WINDOW path AS (PARTITION BY history.job_id ORDER BY history.id)) AS steps
    WHERE to_status = 'running'
       OR event IN ('cancelled', 'seen') AND next_event IN ('seen', 'stopped')) ELSE workflows.worker_ms END AS worker_ms_now FROM workflows CROSS JOIN LATERAL (
    SELECT CASE WHEN bool_or(status_now IN ('queued', 'running', 'retrying') OR stopping) THEN
                    CASE WHEN bool_and(status_now = 'queued' AND attempt = 0) THEN 'queued'
                    ELSE 'running' END
                WHEN bool_or(status_now = 'failed') THEN 'failed'
                WHEN bool_or(status_now = 'cancelled') THEN 'cancelled'
                ELSE 'succeeded' END AS status_now,
           count(*) FILTER (WHERE status_now = 'queued') AS are_queued, count(*) FILTER (WHERE status_now = 'running') AS are_running, count(*) FILTER (WHERE status_now = 'retrying') AS are_retrying, count(*) FILTER (WHERE status_now = 'succeeded') AS are_succeeded, count(*) FILTER (WHERE status_now = 'failed') AS are_failed, count(*) FILTER (WHERE status_now = 'cancelled') AS are_cancelled, count(*) FILTER (WHERE status_now = 'skipped') AS are_skipped, CAST(floor(avg(CASE WHEN stopping THEN 99 WHEN status_now IN ('queued', 'running', 'retrying') THEN progress
                                     ELSE 100 END)) AS int) AS progress,
           min(started_at) AS started_at, CASE WHEN NOT bool_or(status_now IN ('queued', 'running', 'retrying') OR stopping) THEN max(completed_at) END AS last_end
    FROM (
    SELECT node.*, CASE WHEN jobs.id IS NULL THEN coalesce(node.ended, 'cancelled')
                 WHEN jobs.status = 'cancelled' AND jobs.error_type = 'DependencyEnded'
                 AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                             LEFT JOIN jobs AS dependency ON dependency.id = wanted.id
                             WHERE (dependency.id IS NULL
                OR dependency.status IN ('succeeded', 'failed', 'cancelled')
                   AND coalesce(wanted.ending, 'succeeded') NOT IN ('finished', dependency.status))) THEN 'skipped' ELSE jobs.status END AS status_now, jobs.id IS NULL AS is_gone, jobs.hold,
           coalesce(jobs.attempt, 1) AS attempt, coalesce(jobs.stopping, false) AS stopping,
           coalesce(jobs.progress, 0) AS progress, jobs.error_message, jobs.started_at, jobs.completed_at
    FROM workflow_jobs AS node LEFT JOIN jobs ON jobs.id = node.job_id
    WHERE node.workflow_id = workflows.id) AS found) AS state WHERE workflows.id = :'id' AND organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id');

-- workflows/reads.py PAGE
WITH found AS MATERIALIZED (
    SELECT id FROM workflows
    WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND (CAST(:'name' AS text) IS NULL OR name = :'name')
      AND (CAST(:'cursor' AS uuid) IS NULL
           OR (created_at, id) < (SELECT created_at, id FROM workflows AS last WHERE last.id = :'cursor'))
      AND (CAST(:'statuses' AS text[]) IS NULL
           OR CASE WHEN completed_at IS NOT NULL THEN status
              ELSE (SELECT status_now FROM (
SELECT CASE WHEN bool_or(status_now IN ('queued', 'running', 'retrying') OR stopping) THEN
                CASE WHEN bool_and(status_now = 'queued' AND attempt = 0) THEN 'queued'
                ELSE 'running' END
            WHEN bool_or(status_now = 'failed') THEN 'failed'
            WHEN bool_or(status_now = 'cancelled') THEN 'cancelled'
            ELSE 'succeeded' END AS status_now,
       count(*) FILTER (WHERE status_now = 'queued') AS are_queued, count(*) FILTER (WHERE status_now = 'running') AS are_running, count(*) FILTER (WHERE status_now = 'retrying') AS are_retrying, count(*) FILTER (WHERE status_now = 'succeeded') AS are_succeeded, count(*) FILTER (WHERE status_now = 'failed') AS are_failed, count(*) FILTER (WHERE status_now = 'cancelled') AS are_cancelled, count(*) FILTER (WHERE status_now = 'skipped') AS are_skipped, CAST(floor(avg(CASE WHEN stopping THEN 99 WHEN status_now IN ('queued', 'running', 'retrying') THEN progress
                                 ELSE 100 END)) AS int) AS progress,
       min(started_at) AS started_at, CASE WHEN NOT bool_or(status_now IN ('queued', 'running', 'retrying') OR stopping) THEN max(completed_at) END AS last_end
FROM (
SELECT node.*, CASE WHEN jobs.id IS NULL THEN coalesce(node.ended, 'cancelled')
             WHEN jobs.status = 'cancelled' AND jobs.error_type = 'DependencyEnded'
             AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                         LEFT JOIN jobs AS dependency ON dependency.id = wanted.id
                         WHERE (dependency.id IS NULL
            OR dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND coalesce(wanted.ending, 'succeeded') NOT IN ('finished', dependency.status))) THEN 'skipped' ELSE jobs.status END AS status_now, jobs.id IS NULL AS is_gone, jobs.hold,
       coalesce(jobs.attempt, 1) AS attempt, coalesce(jobs.stopping, false) AS stopping,
       coalesce(jobs.progress, 0) AS progress, jobs.error_message, jobs.started_at, jobs.completed_at
FROM workflow_jobs AS node LEFT JOIN jobs ON jobs.id = node.job_id
WHERE node.workflow_id = workflows.id) AS found) AS state) END = ANY(CAST(:'statuses' AS text[])))
    ORDER BY created_at DESC, id DESC
    LIMIT :'size'
)
SELECT workflows.*, state.*, coalesce(workflows.completed_at, state.last_end) AS completed_at_now,
       CASE WHEN workflows.completed_at IS NULL THEN (
SELECT CAST(greatest(0, coalesce(sum(1000 * extract(EPOCH FROM coalesce(next_at, clock_timestamp()) - at)), 0))
            AS bigint)
FROM (SELECT history.at, event, to_status,
             lead(history.at) OVER path AS next_at, lead(event) OVER path AS next_event
      FROM jobs JOIN history ON history.job_id = jobs.id AND at >= jobs.created_at - interval '1 hour'
      WHERE jobs.root_id = workflows.id AND jobs.root_id <> jobs.id AND NOT jobs.external
      WINDOW path AS (PARTITION BY history.job_id ORDER BY history.id)) AS steps
WHERE to_status = 'running'
   OR event IN ('cancelled', 'seen') AND next_event IN ('seen', 'stopped')) ELSE workflows.worker_ms END AS worker_ms_now FROM workflows CROSS JOIN LATERAL (
SELECT CASE WHEN bool_or(status_now IN ('queued', 'running', 'retrying') OR stopping) THEN
                CASE WHEN bool_and(status_now = 'queued' AND attempt = 0) THEN 'queued'
                ELSE 'running' END
            WHEN bool_or(status_now = 'failed') THEN 'failed'
            WHEN bool_or(status_now = 'cancelled') THEN 'cancelled'
            ELSE 'succeeded' END AS status_now,
       count(*) FILTER (WHERE status_now = 'queued') AS are_queued, count(*) FILTER (WHERE status_now = 'running') AS are_running, count(*) FILTER (WHERE status_now = 'retrying') AS are_retrying, count(*) FILTER (WHERE status_now = 'succeeded') AS are_succeeded, count(*) FILTER (WHERE status_now = 'failed') AS are_failed, count(*) FILTER (WHERE status_now = 'cancelled') AS are_cancelled, count(*) FILTER (WHERE status_now = 'skipped') AS are_skipped, CAST(floor(avg(CASE WHEN stopping THEN 99 WHEN status_now IN ('queued', 'running', 'retrying') THEN progress
                                 ELSE 100 END)) AS int) AS progress,
       min(started_at) AS started_at, CASE WHEN NOT bool_or(status_now IN ('queued', 'running', 'retrying') OR stopping) THEN max(completed_at) END AS last_end
FROM (
SELECT node.*, CASE WHEN jobs.id IS NULL THEN coalesce(node.ended, 'cancelled')
             WHEN jobs.status = 'cancelled' AND jobs.error_type = 'DependencyEnded'
             AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                         LEFT JOIN jobs AS dependency ON dependency.id = wanted.id
                         WHERE (dependency.id IS NULL
            OR dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND coalesce(wanted.ending, 'succeeded') NOT IN ('finished', dependency.status))) THEN 'skipped' ELSE jobs.status END AS status_now, jobs.id IS NULL AS is_gone, jobs.hold,
       coalesce(jobs.attempt, 1) AS attempt, coalesce(jobs.stopping, false) AS stopping,
       coalesce(jobs.progress, 0) AS progress, jobs.error_message, jobs.started_at, jobs.completed_at
FROM workflow_jobs AS node LEFT JOIN jobs ON jobs.id = node.job_id
WHERE node.workflow_id = workflows.id) AS found) AS state WHERE workflows.id IN (SELECT id FROM found)
ORDER BY workflows.created_at DESC, workflows.id DESC;

-- workflows/reads.py JOBS
SELECT node.*, CASE WHEN jobs.id IS NULL THEN coalesce(node.ended, 'cancelled')
             WHEN jobs.status = 'cancelled' AND jobs.error_type = 'DependencyEnded'
             AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                         LEFT JOIN jobs AS dependency ON dependency.id = wanted.id
                         WHERE (dependency.id IS NULL
            OR dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND coalesce(wanted.ending, 'succeeded') NOT IN ('finished', dependency.status))) THEN 'skipped' ELSE jobs.status END AS status_now, jobs.id IS NULL AS is_gone, jobs.hold,
       coalesce(jobs.attempt, 1) AS attempt, coalesce(jobs.stopping, false) AS stopping,
       coalesce(jobs.progress, 0) AS progress, jobs.error_message, jobs.started_at, jobs.completed_at
FROM workflow_jobs AS node LEFT JOIN jobs ON jobs.id = node.job_id
WHERE node.workflow_id = :'id' ORDER BY node.place;
