-- What the database gets of tracking/: its functions, and every statement that is written as text, by module and name.
-- Made by `make sql`. A parameter is a variable of psql: \set id 019aa0f3-7c1e-7d5a-9f57-3a1f6a0c9d11

CREATE OR REPLACE FUNCTION has_dependents(of_job uuid) RETURNS boolean LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off AS $$
BEGIN
    RETURN EXISTS (SELECT FROM jobs WHERE hold = 'dependency' AND depends_on @> ARRAY[of_job]);
END $$;

CREATE OR REPLACE FUNCTION is_contended(of_organization text, of_queue text, silence interval) RETURNS boolean LANGUAGE plpgsql STABLE
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
END $$;

CREATE OR REPLACE FUNCTION room_in(of_organization text, of_queue text, platform_limit int, silence interval)
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
END $$;

CREATE OR REPLACE FUNCTION free_in(of_queue text, silence interval) RETURNS int LANGUAGE plpgsql STABLE
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
        SET hold = 'organization_limit', dispatch = dispatch + 1, dispatched_at = NULL, limit_key = NULL,
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
END $$;

CREATE OR REPLACE FUNCTION error_shape(message text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT left(btrim(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(left(message, 1000), '[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}', '#', 'g'), '(?<![0-9A-Za-z])''[^''\n]*''(?![0-9A-Za-z])', '''#''', 'g'), '"[^"\n]*"', '"#"', 'g'), '`[^`\n]*`', '`#`', 'g'), '[0-9A-Za-z_]*[0-9][0-9A-Za-z_]*', '#', 'g'), '#(?:[-.:,/+]*#)+', '#', 'g'), '\s+', ' ', 'g')), 200)
$$;

CREATE OR REPLACE FUNCTION error_fingerprint(job_type text, error_type text, message text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT left(md5(job_type || chr(31) || coalesce(error_type, '') || chr(31) || coalesce(error_shape(message), '')),
                16)
$$;

-- admission/circuits.py TRIP
WITH tried AS (SELECT * FROM jobs WHERE id = :'job_id')
    INSERT INTO circuits (job_type, organization_id, key, failures, pause, probe_at)
    SELECT tried.job_type, tried.organization_id, tried.circuit_key, CAST(:'failures' AS int), CAST(:'pause' AS interval),
           clock_timestamp() + CAST(:'pause' AS interval)
    FROM tried
    WHERE CAST(:'failures' AS int) > 0 AND tried.circuit_key IS NOT NULL
      AND (SELECT count(*) FILTER (WHERE event = 'failed')
           FROM (SELECT event FROM history
                 WHERE history.job_type = tried.job_type AND history.organization_id = tried.organization_id
                   AND history.circuit_key = tried.circuit_key
                 ORDER BY history.id DESC LIMIT CAST(:'failures' AS int)) AS latest) = CAST(:'failures' AS int)
    ON CONFLICT DO NOTHING
    RETURNING circuits.job_type, circuits.organization_id, circuits.key, circuits.failures, circuits.pause, circuits.opened_at, circuits.probe_at, circuits.probe_id, circuits.turn, false AS is_half_open;

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
WITH RECURSIVE groups AS (
    (SELECT organization_id, job_type, queue, circuit_key FROM jobs WHERE hold = 'circuit' ORDER BY organization_id, job_type, queue, circuit_key LIMIT 1)
    UNION ALL
    SELECT next.* FROM groups CROSS JOIN LATERAL (
        SELECT organization_id, job_type, queue, circuit_key FROM jobs
        WHERE hold = 'circuit' AND (jobs.organization_id, jobs.job_type, jobs.queue, jobs.circuit_key) > (groups.organization_id, groups.job_type, groups.queue, groups.circuit_key)
        ORDER BY organization_id, job_type, queue, circuit_key LIMIT 1) AS next
), served AS MATERIALIZED (
    SELECT queue, ARRAY(SELECT lease FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND queues.queue = ANY(workers.queues) ORDER BY lease) AS servers, (queues.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval))) AS is_served
    FROM (SELECT DISTINCT queue FROM groups) AS queues
), firsts AS MATERIALIZED (
    SELECT servers, first, shared, dense_rank() OVER (ORDER BY shared) AS pool
    FROM (SELECT *, coalesce(nullif(ARRAY(SELECT DISTINCT unnest(queues) AS each FROM workers
                 WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND first = ANY(workers.queues) ORDER BY each), '{}'), ARRAY[first]) AS shared
          FROM (SELECT servers, min(queue) AS first FROM served GROUP BY servers, CASE WHEN servers = '{}' THEN queue END) AS firsts) AS firsts
), alike_queues AS MATERIALIZED (
    SELECT queue, is_served, first, shared, pool FROM served
    JOIN firsts ON firsts.servers = served.servers AND (served.servers <> '{}' OR firsts.first = served.queue)
), offers AS MATERIALIZED (
    SELECT first, free_in(first, :'lease_timeout') AS free, lowest, highest
    FROM (SELECT DISTINCT first, shared FROM alike_queues) AS firsts CROSS JOIN LATERAL (
        SELECT min((SELECT organization_id FROM jobs WHERE (status IN ('queued', 'retrying') AND (hold IS NULL OR hold = 'organization_limit')) AND queue = each ORDER BY organization_id  LIMIT 1)) AS lowest, max((SELECT organization_id FROM jobs WHERE (status IN ('queued', 'retrying') AND (hold IS NULL OR hold = 'organization_limit')) AND queue = each ORDER BY organization_id DESC LIMIT 1)) AS highest
        FROM unnest(shared) AS each) AS competing
), pools AS MATERIALIZED (
    SELECT queue, first, shared, free, lowest, highest FROM alike_queues JOIN offers USING (first) WHERE is_served
), behind AS MATERIALIZED (
    SELECT job_type, circuit_key, array_agg(organization_id) AS organizations, array_agg(queue) AS queues
    FROM groups GROUP BY job_type, circuit_key
), named AS (
    SELECT circuits.job_type, circuits.key, circuits.organization_id AS whose, candidate.*
    FROM circuits CROSS JOIN LATERAL (
SELECT held.id, held.organization_id FROM (
    SELECT first.* FROM behind
    CROSS JOIN LATERAL unnest(organizations, queues) AS groups (organization_id, queue)
    CROSS JOIN LATERAL (
        SELECT id, organization_id, job_type, queue, attempt, priority, created_at FROM jobs AS held
        WHERE held.hold = 'circuit' AND held.organization_id = groups.organization_id
          AND held.job_type = behind.job_type AND held.queue = groups.queue
          AND held.circuit_key = behind.circuit_key
        ORDER BY attempt, priority DESC, created_at, id
        LIMIT 1) AS first
    WHERE behind.job_type = circuits.job_type AND behind.circuit_key = circuits.key
      AND circuits.organization_id IN (groups.organization_id, '')
      AND NOT EXISTS (SELECT FROM circuits AS own
                      WHERE own.job_type = circuits.job_type AND own.key = circuits.key AND own.organization_id = groups.organization_id
                        AND own.probe_id IS NOT NULL)
    ORDER BY first.organization_id <= coalesce(circuits.turn, ''), first.organization_id,
             first.attempt, first.priority DESC, first.created_at, first.id
    OFFSET 0) AS held
WHERE NOT (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, held.organization_id) = held.organization_id
                     AND coalesce(pauses.job_type, held.job_type) = held.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = held.queue)) AND (coalesce((SELECT concurrency FROM organizations WHERE id = held.organization_id), CAST(:'limit' AS int)) = 0 OR coalesce((SELECT concurrency FROM organizations WHERE id = held.organization_id), CAST(:'limit' AS int)) > (SELECT count(*) FROM jobs WHERE organization_id = held.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping)))
  AND (SELECT (pools.free IS NULL OR pools.free > 0 OR coalesce((SELECT concurrency FROM organizations WHERE id = held.organization_id), CAST(:'limit' AS int)) = 0 AND coalesce(pools.lowest = held.organization_id AND pools.highest = held.organization_id, true)
         OR (coalesce((SELECT weight FROM organization_weights WHERE organization_id = held.organization_id), 1) - (
               SELECT count(*) FROM jobs WHERE jobs.organization_id = held.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying')
                                           AND queue = ANY(pools.shared))) > 0) FROM pools WHERE pools.queue = held.queue)
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
    WHERE hold IN ('schedule', 'backoff') AND due_at <= (SELECT clock_timestamp()) ORDER BY due_at
    LIMIT :'batch'
    FOR UPDATE SKIP LOCKED
), lines AS MATERIALIZED (
    SELECT organization_id, queue, (coalesce((SELECT concurrency FROM organizations WHERE id = whose.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(whose.organization_id, whose.queue, :'lease_timeout')) AS joins
    FROM (SELECT DISTINCT organization_id, queue FROM found) AS whose
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, found.organization_id) = found.organization_id
                     AND coalesce(pauses.job_type, found.job_type) = found.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = found.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = found.job_type AND broken.key = found.circuit_key
                     AND broken.organization_id IN (found.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM found.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = found.job_type
                      AND coalesce(bound.organization_id, found.organization_id) = found.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(found.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, found.organization_id) = found.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(found.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN lines.joins THEN 'organization_limit'
END AS next
    FROM found JOIN lines USING (organization_id, queue)
), moved AS (
    UPDATE jobs
    SET hold = next, dispatched_at = NULL, sent_priority = NULL,
        dispatch = dispatch + CASE held WHEN 'backoff' THEN 1 ELSE 0 END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND held IS DISTINCT FROM next
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status, locked.held
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
WITH RECURSIVE groups AS (
    (SELECT hold, organization_id, job_type, queue, circuit_key FROM jobs WHERE hold IN ('paused', 'circuit') ORDER BY hold, organization_id, job_type, queue, circuit_key LIMIT 1)
    UNION ALL
    SELECT next.* FROM groups CROSS JOIN LATERAL (
        SELECT hold, organization_id, job_type, queue, circuit_key FROM jobs
        WHERE hold IN ('paused', 'circuit') AND (jobs.hold, jobs.organization_id, jobs.job_type, jobs.queue, jobs.circuit_key) > (groups.hold, groups.organization_id, groups.job_type, groups.queue, groups.circuit_key)
        ORDER BY hold, organization_id, job_type, queue, circuit_key LIMIT 1) AS next
), opened AS (
    (SELECT alike.id
     FROM (SELECT *, CAST('00000000-0000-0000-0000-000000000000' AS uuid) AS id FROM groups) AS groups CROSS JOIN LATERAL (
         SELECT jobs.id FROM jobs WHERE hold IN ('paused', 'circuit') AND (jobs.hold, jobs.organization_id, jobs.job_type, jobs.queue, jobs.circuit_key) = (groups.hold, groups.organization_id, groups.job_type, groups.queue, groups.circuit_key) LIMIT :'batch') AS alike
     WHERE NOT CASE groups.hold WHEN 'paused' THEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, groups.organization_id) = groups.organization_id
                     AND coalesce(pauses.job_type, groups.job_type) = groups.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = groups.queue)) ELSE EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = groups.job_type AND broken.key = groups.circuit_key
                     AND broken.organization_id IN (groups.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM groups.id) END
     LIMIT :'batch')
    UNION ALL
    SELECT probe_id FROM circuits WHERE probe_id IS NOT NULL
), found AS (
    SELECT * FROM jobs
    WHERE id = ANY(ARRAY(SELECT id FROM opened)) AND hold IN ('paused', 'circuit') AND NOT CASE jobs.hold WHEN 'paused' THEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = jobs.queue)) ELSE EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) END
    LIMIT :'batch'
    FOR UPDATE SKIP LOCKED
), lines AS MATERIALIZED (
    SELECT organization_id, queue, (coalesce((SELECT concurrency FROM organizations WHERE id = whose.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(whose.organization_id, whose.queue, :'lease_timeout')) AS joins
    FROM (SELECT DISTINCT organization_id, queue FROM found) AS whose
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, found.organization_id) = found.organization_id
                     AND coalesce(pauses.job_type, found.job_type) = found.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = found.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = found.job_type AND broken.key = found.circuit_key
                     AND broken.organization_id IN (found.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM found.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = found.job_type
                      AND coalesce(bound.organization_id, found.organization_id) = found.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(found.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, found.organization_id) = found.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(found.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN lines.joins THEN 'organization_limit'
END AS next
    FROM found JOIN lines USING (organization_id, queue)
), moved AS (
    UPDATE jobs
    SET hold = next, dispatched_at = NULL, sent_priority = NULL,
        dispatch = dispatch + CASE held WHEN 'backoff' THEN 1 ELSE 0 END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND held IS DISTINCT FROM next
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status, locked.held
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
    WHERE hold = 'dependency' AND depends_on @> ARRAY[CAST(:'job_id' AS uuid)] AND NOT unresolved AND NOT (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) AND NOT EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
    LIMIT :'batch'
    FOR UPDATE SKIP LOCKED
), lines AS MATERIALIZED (
    SELECT organization_id, queue, (coalesce((SELECT concurrency FROM organizations WHERE id = whose.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(whose.organization_id, whose.queue, :'lease_timeout')) AS joins
    FROM (SELECT DISTINCT organization_id, queue FROM found) AS whose
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, found.organization_id) = found.organization_id
                     AND coalesce(pauses.job_type, found.job_type) = found.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = found.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = found.job_type AND broken.key = found.circuit_key
                     AND broken.organization_id IN (found.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM found.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = found.job_type
                      AND coalesce(bound.organization_id, found.organization_id) = found.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(found.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, found.organization_id) = found.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(found.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN lines.joins THEN 'organization_limit'
END AS next
    FROM found JOIN lines USING (organization_id, queue)
), moved AS (
    UPDATE jobs
    SET hold = next, dispatched_at = NULL, sent_priority = NULL,
        dispatch = dispatch + CASE held WHEN 'backoff' THEN 1 ELSE 0 END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND held IS DISTINCT FROM next
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status, locked.held
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, CASE WHEN hold IN ('paused', 'circuit') THEN 'held' ELSE 'due' END,
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('hold', CASE WHEN hold IN ('paused', 'circuit') THEN hold ELSE held END, 'next', CASE WHEN NOT hold IN ('paused', 'circuit') THEN hold END)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- admission/holds.py LIFT_IN_WINDOW
WITH RECURSIVE found AS (
    SELECT * FROM jobs
    WHERE hold = 'dependency' AND jobs.id = ANY(ARRAY(SELECT id FROM jobs WHERE hold = 'dependency' AND id > CAST(:'after' AS uuid) ORDER BY id LIMIT :'window')) AND NOT unresolved AND NOT (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) AND NOT EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
    LIMIT :'batch'
    FOR UPDATE SKIP LOCKED
), lines AS MATERIALIZED (
    SELECT organization_id, queue, (coalesce((SELECT concurrency FROM organizations WHERE id = whose.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(whose.organization_id, whose.queue, :'lease_timeout')) AS joins
    FROM (SELECT DISTINCT organization_id, queue FROM found) AS whose
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, found.organization_id) = found.organization_id
                     AND coalesce(pauses.job_type, found.job_type) = found.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = found.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = found.job_type AND broken.key = found.circuit_key
                     AND broken.organization_id IN (found.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM found.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = found.job_type
                      AND coalesce(bound.organization_id, found.organization_id) = found.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(found.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, found.organization_id) = found.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(found.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN lines.joins THEN 'organization_limit'
END AS next
    FROM found JOIN lines USING (organization_id, queue)
), moved AS (
    UPDATE jobs
    SET hold = next, dispatched_at = NULL, sent_priority = NULL,
        dispatch = dispatch + CASE held WHEN 'backoff' THEN 1 ELSE 0 END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND held IS DISTINCT FROM next
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status, locked.held
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, CASE WHEN hold IN ('paused', 'circuit') THEN 'held' ELSE 'due' END,
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('hold', CASE WHEN hold IN ('paused', 'circuit') THEN hold ELSE held END, 'next', CASE WHEN NOT hold IN ('paused', 'circuit') THEN hold END)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- admission/holds.py END_OF_WINDOW
SELECT id FROM jobs WHERE hold = 'dependency' AND id > CAST(:'after' AS uuid) ORDER BY id LIMIT 1 OFFSET :'before_it';

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
        WHERE jobs.status IN ('queued', 'retrying') AND hold = 'dependency' AND depends_on @> ARRAY[CAST(:'job_id' AS uuid)]
        LIMIT :'batch'
        FOR UPDATE OF jobs SKIP LOCKED
), moved AS (
    UPDATE jobs
    SET status = 'cancelled', hold = NULL, due_at = NULL, cancel_requested_at = clock_timestamp(), completed_at = clock_timestamp(),
            error_type = 'DependencyEnded', error_message = 'its dependency ' || broken || ' is ' || how
                || CASE ending WHEN 'failed' THEN ', and it waits for a failure' ELSE '' END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'retrying')
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status, locked.broken
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'cancelled',
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('by', 'admission', 'reason', error_message, 'dependency', broken)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- admission/holds.py CANCEL_IN_WINDOW
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
        WHERE jobs.status IN ('queued', 'retrying') AND hold = 'dependency' AND jobs.id = ANY(ARRAY(SELECT id FROM jobs WHERE hold = 'dependency' AND id > CAST(:'after' AS uuid) ORDER BY id LIMIT :'window'))
        LIMIT :'batch'
        FOR UPDATE OF jobs SKIP LOCKED
), moved AS (
    UPDATE jobs
    SET status = 'cancelled', hold = NULL, due_at = NULL, cancel_requested_at = clock_timestamp(), completed_at = clock_timestamp(),
            error_type = 'DependencyEnded', error_message = 'its dependency ' || broken || ' is ' || how
                || CASE ending WHEN 'failed' THEN ', and it waits for a failure' ELSE '' END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'retrying')
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status, locked.broken
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'cancelled',
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('by', 'admission', 'reason', error_message, 'dependency', broken)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- admission/job_limits.py KNOWN
SELECT (EXISTS (SELECT FROM job_limits) OR EXISTS (SELECT FROM jobs WHERE hold = 'limit')) AS has_any,
       EXISTS (SELECT FROM job_limits WHERE per = 'platform') AS has_shared;

-- admission/job_limits.py ALONE
SELECT pg_advisory_xact_lock(:'limits', 0);

-- admission/job_limits.py TAKE_BACK
WITH locked AS (
    SELECT id, status AS from_status FROM jobs
    WHERE limit_key IS NOT NULL AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND job_type = :'job_type' AND coalesce(CAST(:'organization_id' AS text), organization_id) = organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying')
    FOR UPDATE
), moved AS (
    UPDATE jobs
    SET hold = 'limit', limit_key = NULL, dispatched_at = NULL, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'retrying')
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'held',
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('hold', hold, 'reason', 'a limit was changed')) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- admission/job_limits.py LOOK_AGAIN
UPDATE jobs SET limit_key = NULL WHERE hold = 'limit' AND limit_key IS NOT NULL AND job_type = :'job_type' AND coalesce(CAST(:'organization_id' AS text), organization_id) = organization_id;

-- admission/job_limits.py COUNT_RUNNING
UPDATE jobs SET limit_key = coalesce((
    SELECT CASE WHEN octet_length(key.value) > 200 THEN 'md5:' || md5(key.value) ELSE key.value END
    FROM (SELECT jobs.payload #>> string_to_array(key_path, '.') AS value FROM job_limits
          WHERE per = 'key' AND job_limits.job_type = jobs.job_type
            AND coalesce(job_limits.organization_id, jobs.organization_id) = jobs.organization_id
          ORDER BY job_limits.organization_id NULLS LAST LIMIT 1) AS key), '')
WHERE (status = 'running' OR stopping) AND NOT external AND job_type = :'job_type' AND coalesce(CAST(:'organization_id' AS text), organization_id) = organization_id;

-- admission/line.py LOCK
SELECT pg_advisory_xact_lock(:'lines', hashtext(:'organization_id'));

-- admission/line.py TRY_LOCK
SELECT organization_id, pg_try_advisory_xact_lock(:'lines', hashtext(organization_id)) AS is_locked
FROM unnest(CAST(:'organizations' AS text[])) AS organization_id;

-- admission/line.py ADMIT
WITH RECURSIVE
whose AS MATERIALIZED (
    SELECT organization_id, most,
           least(:'batch', CASE WHEN most > 0 THEN most - (SELECT count(*) FROM jobs WHERE organization_id = limited.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping)) END) AS own
    FROM (SELECT organization_id, coalesce((SELECT concurrency FROM organizations WHERE id = asked.organization_id), CAST(:'limit' AS int)) AS most FROM (SELECT unnest((SELECT CAST(:'organizations' AS text[]))) AS organization_id) AS asked) AS limited
), queues AS (
    SELECT whose.organization_id, next.queue FROM whose CROSS JOIN LATERAL (
        SELECT queue FROM jobs
        WHERE jobs.organization_id = whose.organization_id AND hold = 'organization_limit'
        ORDER BY queue LIMIT 1) AS next
    UNION ALL
    SELECT queues.organization_id, next.queue FROM queues CROSS JOIN LATERAL (
        SELECT queue FROM jobs
        WHERE jobs.organization_id = queues.organization_id AND hold = 'organization_limit'
          AND jobs.queue > queues.queue
        ORDER BY queue LIMIT 1) AS next
), lined AS MATERIALIZED (
    SELECT organization_id, queue FROM queues UNION SELECT organization_id, queue FROM (SELECT organization_id, id, queue, priority, created_at FROM jobs WHERE hold = 'limit' AND jobs.id = ANY(CAST(:'within' AS uuid[]))) AS more
), served AS MATERIALIZED (
    SELECT queue, ARRAY(SELECT lease FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND queues.queue = ANY(workers.queues) ORDER BY lease) AS servers, (queues.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval))) AS is_served
    FROM (SELECT DISTINCT queue FROM lined) AS queues
), firsts AS MATERIALIZED (
    SELECT servers, first, shared, dense_rank() OVER (ORDER BY shared) AS pool
    FROM (SELECT *, coalesce(nullif(ARRAY(SELECT DISTINCT unnest(queues) AS each FROM workers
                 WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND first = ANY(workers.queues) ORDER BY each), '{}'), ARRAY[first]) AS shared
          FROM (SELECT servers, min(queue) AS first FROM served GROUP BY servers, CASE WHEN servers = '{}' THEN queue END) AS firsts) AS firsts
), alike_queues AS MATERIALIZED (
    SELECT queue, is_served, first, shared, pool FROM served
    JOIN firsts ON firsts.servers = served.servers AND (served.servers <> '{}' OR firsts.first = served.queue)
), places AS MATERIALIZED (
    SELECT organization_id, queue, own, first, shared, pool
    FROM lined JOIN whose USING (organization_id) JOIN alike_queues USING (queue)
    WHERE is_served OR most = 0
), asking AS MATERIALIZED (
    SELECT organization_id, first, shared, is_contended(kinds.organization_id, kinds.first, :'lease_timeout') AS contended
    FROM (SELECT DISTINCT organization_id, first, shared FROM places) AS kinds
), alike AS MATERIALIZED (
    SELECT organization_id, first, contended, room_in(asking.organization_id, asking.first, :'limit', :'lease_timeout') AS room,
           CASE WHEN contended THEN free_in(asking.first, :'lease_timeout') END AS free,
           CASE WHEN contended THEN (coalesce((SELECT weight FROM organization_weights WHERE organization_id = asking.organization_id), 1) - (
               SELECT count(*) FROM jobs WHERE jobs.organization_id = asking.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying')
                                           AND queue = ANY(asking.shared))) END AS entitled
    FROM asking
), rooms AS MATERIALIZED (
    SELECT organization_id, places.queue, own, pool, shared, contended, free, entitled,
           greatest(CASE WHEN places.queue = ANY(CAST(:'queues' AS text[])) AND NOT contended
                     THEN CAST(:'ahead' AS int) ELSE 0 END, room) AS room
    FROM places JOIN alike USING (organization_id, first)
), candidates AS (
    SELECT organization_id, own, pool, free, entitled, room, candidate.*
    FROM rooms CROSS JOIN LATERAL (
        SELECT id, queue, priority, created_at FROM jobs AS waiting
        WHERE waiting.organization_id = rooms.organization_id AND hold = 'organization_limit'
          AND waiting.queue = rooms.queue AND true
        ORDER BY priority DESC, created_at, id
        LIMIT greatest(0, least(:'batch', room))) AS candidate
    UNION ALL
    SELECT organization_id, own, pool, free, entitled, room, id, queue, priority, created_at FROM (SELECT organization_id, id, queue, priority, created_at FROM jobs WHERE hold = 'limit' AND jobs.id = ANY(CAST(:'within' AS uuid[]))) AS more JOIN rooms USING (organization_id, queue)
), numbered AS (
    SELECT *, row_number() OVER (PARTITION BY organization_id ORDER BY priority DESC, created_at, id) AS number
    FROM (SELECT *, row_number() OVER (PARTITION BY organization_id, pool ORDER BY priority DESC, created_at, id) AS place
          FROM candidates) AS placed
    WHERE place <= room
), first AS (
    SELECT id, queue, place
    FROM (SELECT *, row_number() OVER (PARTITION BY pool ORDER BY organization_id COLLATE "C", number) AS turn
          FROM numbered WHERE number <= own) AS turns
    WHERE turn <= free OR place <= entitled OR free IS NULL
), locked AS (
    SELECT id, status AS from_status, hold AS held FROM jobs
    WHERE id IN (SELECT id FROM first) AND hold IN ('organization_limit', 'limit')
    FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE jobs
    SET hold = (SELECT CASE WHEN next.hold = 'organization_limit' OR next.hold = 'limit' AND jobs.id = ANY(CAST(:'within' AS uuid[])) THEN NULL
                ELSE next.hold END FROM (SELECT CASE
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = jobs.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = jobs.job_type
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN true THEN 'organization_limit'
END AS hold) AS next),
        limit_key = CASE WHEN jobs.id = ANY(CAST(:'within' AS uuid[])) THEN limit_key END, dispatched_at = NULL,
        sent_priority = CASE WHEN (SELECT contended FROM rooms
                 WHERE rooms.organization_id = jobs.organization_id AND rooms.queue = jobs.queue) THEN 0 ELSE priority END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status, locked.held
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, CASE WHEN hold IS NULL THEN 'due' ELSE 'held' END,
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('hold', coalesce(hold, held))) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
SELECT moved.*, contended AS is_contended FROM moved JOIN rooms USING (organization_id, queue)
ORDER BY organization_id COLLATE "C", priority DESC, created_at, id;

-- admission/line.py GIVE_WAY
WITH RECURSIVE
whose AS MATERIALIZED (
    SELECT organization_id, most,
           least(:'batch', CASE WHEN most > 0 THEN most - (SELECT count(*) FROM jobs WHERE organization_id = limited.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping)) END) AS own
    FROM (SELECT organization_id, coalesce((SELECT concurrency FROM organizations WHERE id = asked.organization_id), CAST(:'limit' AS int)) AS most FROM (SELECT CAST(:'organization_id' AS text) AS organization_id) AS asked) AS limited
), queues AS (
    SELECT whose.organization_id, next.queue FROM whose CROSS JOIN LATERAL (
        SELECT queue FROM jobs
        WHERE jobs.organization_id = whose.organization_id AND hold = 'organization_limit'
        ORDER BY queue LIMIT 1) AS next
    UNION ALL
    SELECT queues.organization_id, next.queue FROM queues CROSS JOIN LATERAL (
        SELECT queue FROM jobs
        WHERE jobs.organization_id = queues.organization_id AND hold = 'organization_limit'
          AND jobs.queue > queues.queue
        ORDER BY queue LIMIT 1) AS next
), lined AS MATERIALIZED (
    SELECT organization_id, queue FROM queues
), served AS MATERIALIZED (
    SELECT queue, ARRAY(SELECT lease FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND queues.queue = ANY(workers.queues) ORDER BY lease) AS servers, (queues.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval))) AS is_served
    FROM (SELECT DISTINCT queue FROM lined) AS queues
), firsts AS MATERIALIZED (
    SELECT servers, first, shared, dense_rank() OVER (ORDER BY shared) AS pool
    FROM (SELECT *, coalesce(nullif(ARRAY(SELECT DISTINCT unnest(queues) AS each FROM workers
                 WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND first = ANY(workers.queues) ORDER BY each), '{}'), ARRAY[first]) AS shared
          FROM (SELECT servers, min(queue) AS first FROM served GROUP BY servers, CASE WHEN servers = '{}' THEN queue END) AS firsts) AS firsts
), alike_queues AS MATERIALIZED (
    SELECT queue, is_served, first, shared, pool FROM served
    JOIN firsts ON firsts.servers = served.servers AND (served.servers <> '{}' OR firsts.first = served.queue)
), places AS MATERIALIZED (
    SELECT organization_id, queue, own, first, shared, pool
    FROM lined JOIN whose USING (organization_id) JOIN alike_queues USING (queue)
    WHERE is_served OR most = 0
), asking AS MATERIALIZED (
    SELECT organization_id, first, shared, is_contended(kinds.organization_id, kinds.first, :'lease_timeout') AS contended
    FROM (SELECT DISTINCT organization_id, first, shared FROM places) AS kinds
), alike AS MATERIALIZED (
    SELECT organization_id, first, contended, room_in(asking.organization_id, asking.first, :'limit', :'lease_timeout') AS room,
           CASE WHEN false THEN free_in(asking.first, :'lease_timeout') END AS free,
           CASE WHEN false THEN (coalesce((SELECT weight FROM organization_weights WHERE organization_id = asking.organization_id), 1) - (
               SELECT count(*) FROM jobs WHERE jobs.organization_id = asking.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying')
                                           AND queue = ANY(asking.shared))) END AS entitled
    FROM asking
), rooms AS MATERIALIZED (
    SELECT organization_id, places.queue, own, pool, shared, contended, free, entitled,
           greatest(0, room) AS room
    FROM places JOIN alike USING (organization_id, first)
), candidates AS (
    SELECT organization_id, own, pool, free, entitled, room, candidate.*
    FROM rooms CROSS JOIN LATERAL (
        SELECT id, queue, priority, created_at FROM jobs AS waiting
        WHERE waiting.organization_id = rooms.organization_id AND hold = 'organization_limit'
          AND waiting.queue = rooms.queue AND true
        ORDER BY priority DESC, created_at, id
        LIMIT greatest(0, least(:'batch', room))) AS candidate
), numbered AS (
    SELECT *, row_number() OVER (PARTITION BY organization_id ORDER BY priority DESC, created_at, id) AS number
    FROM (SELECT *, row_number() OVER (PARTITION BY organization_id, pool ORDER BY priority DESC, created_at, id) AS place
          FROM candidates) AS placed
    WHERE place <= room
), first AS (
    SELECT id, queue, place
    FROM (SELECT *, row_number() OVER (PARTITION BY pool ORDER BY organization_id COLLATE "C", number) AS turn
          FROM numbered WHERE number <= own) AS turns
    WHERE turn <= free OR place <= entitled OR free IS NULL
)
SELECT coalesce(bool_or(give_way(:'organization_id', head.queue, head.priority)), false)
FROM rooms CROSS JOIN LATERAL (
    SELECT jobs.queue, jobs.priority FROM jobs
    WHERE organization_id = :'organization_id' AND hold = 'organization_limit' AND jobs.queue = rooms.queue
    ORDER BY priority DESC, created_at, id LIMIT 1) AS head
WHERE head.priority > 0;

-- admission/line.py WITH_ROOM
WITH RECURSIVE lines AS (
    (SELECT organization_id, queue FROM jobs WHERE hold = 'organization_limit' ORDER BY organization_id, queue LIMIT 1)
    UNION ALL
    SELECT next.* FROM lines CROSS JOIN LATERAL (
        SELECT organization_id, queue FROM jobs
        WHERE hold = 'organization_limit' AND (jobs.organization_id, jobs.queue) > (lines.organization_id, lines.queue)
        ORDER BY organization_id, queue LIMIT 1) AS next
), served AS MATERIALIZED (
    SELECT queue, ARRAY(SELECT lease FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND queues.queue = ANY(workers.queues) ORDER BY lease) AS servers, (queues.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval))) AS is_served
    FROM (SELECT DISTINCT queue FROM lines) AS queues
), firsts AS MATERIALIZED (
    SELECT servers, first, shared, dense_rank() OVER (ORDER BY shared) AS pool
    FROM (SELECT *, coalesce(nullif(ARRAY(SELECT DISTINCT unnest(queues) AS each FROM workers
                 WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND first = ANY(workers.queues) ORDER BY each), '{}'), ARRAY[first]) AS shared
          FROM (SELECT servers, min(queue) AS first FROM served GROUP BY servers, CASE WHEN servers = '{}' THEN queue END) AS firsts) AS firsts
), alike_queues AS MATERIALIZED (
    SELECT queue, is_served, first, shared, pool FROM served
    JOIN firsts ON firsts.servers = served.servers AND (served.servers <> '{}' OR firsts.first = served.queue)
), offers AS MATERIALIZED (
    SELECT first, free_in(first, :'lease_timeout') AS free, lowest, highest
    FROM (SELECT DISTINCT first, shared FROM alike_queues) AS firsts CROSS JOIN LATERAL (
        SELECT min((SELECT organization_id FROM jobs WHERE (status IN ('queued', 'retrying') AND (hold IS NULL OR hold = 'organization_limit')) AND queue = each ORDER BY organization_id  LIMIT 1)) AS lowest, max((SELECT organization_id FROM jobs WHERE (status IN ('queued', 'retrying') AND (hold IS NULL OR hold = 'organization_limit')) AND queue = each ORDER BY organization_id DESC LIMIT 1)) AS highest
        FROM unnest(shared) AS each) AS competing
), pools AS MATERIALIZED (
    SELECT queue, first, shared, free, lowest, highest FROM alike_queues JOIN offers USING (first) WHERE is_served
)
SELECT DISTINCT organization_id
FROM (SELECT DISTINCT ON (organization_id, first) organization_id, pools.* FROM lines JOIN pools USING (queue))
    AS places
WHERE (coalesce((SELECT concurrency FROM organizations WHERE id = places.organization_id), CAST(:'limit' AS int)) = 0 OR coalesce((SELECT concurrency FROM organizations WHERE id = places.organization_id), CAST(:'limit' AS int)) > (SELECT count(*) FROM jobs WHERE organization_id = places.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping))) AND (places.free IS NULL OR places.free > 0 OR coalesce((SELECT concurrency FROM organizations WHERE id = places.organization_id), CAST(:'limit' AS int)) = 0 AND coalesce(places.lowest = places.organization_id AND places.highest = places.organization_id, true)
         OR (coalesce((SELECT weight FROM organization_weights WHERE organization_id = places.organization_id), 1) - (
               SELECT count(*) FROM jobs WHERE jobs.organization_id = places.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying')
                                           AND queue = ANY(places.shared))) > 0);

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
    SELECT id, status AS from_status FROM jobs
    WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND id = ANY(ARRAY(
        SELECT unserved.id FROM lines CROSS JOIN LATERAL (
            SELECT jobs.id FROM jobs
            WHERE jobs.organization_id = lines.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND NOT (jobs.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            LIMIT :'batch') AS unserved
        WHERE coalesce((SELECT concurrency FROM organizations WHERE id = lines.organization_id), CAST(:'limit' AS int)) > 0
        LIMIT :'batch'))
    FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE jobs
    SET hold = 'organization_limit', dispatch = dispatch, dispatched_at = NULL, limit_key = NULL, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'retrying')
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
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
WITH RECURSIVE sent AS (
    (SELECT organization_id, queue FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND NOT stopping AND status <> 'running' ORDER BY organization_id, queue LIMIT 1)
    UNION ALL
    SELECT next.* FROM sent CROSS JOIN LATERAL (
        SELECT organization_id, queue FROM jobs
        WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND NOT stopping AND status <> 'running' AND (jobs.organization_id, jobs.queue) > (sent.organization_id, sent.queue)
        ORDER BY organization_id, queue LIMIT 1) AS next
), queues AS MATERIALIZED (
    SELECT queue,
(SELECT count(*) FROM (
    SELECT FROM jobs
    WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND queue = ANY(ARRAY(SELECT unnest(queues) FROM workers
                                            WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND sent.queue = ANY(workers.queues)))
    LIMIT coalesce((SELECT sum(concurrency) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND sent.queue = ANY(workers.queues)), 0) + :'batch') AS taken)
- (SELECT sum(concurrency) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND sent.queue = ANY(workers.queues)) AS excess FROM (SELECT DISTINCT queue FROM sent) AS sent
), crowded AS MATERIALIZED (
    SELECT sent.organization_id, queue, excess, coalesce((SELECT weight FROM organization_weights WHERE organization_id = sent.organization_id), 1) AS weight
    FROM sent JOIN queues USING (queue)
    WHERE excess > 0 AND (coalesce((SELECT concurrency FROM organizations WHERE id = sent.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(sent.organization_id, sent.queue, :'lease_timeout'))
), surplus AS (
    SELECT newest.id, crowded.queue, crowded.excess, counted.number - newest.behind AS place
    FROM crowded CROSS JOIN LATERAL (
        SELECT count(*) AS number FROM (SELECT FROM jobs WHERE jobs.organization_id = crowded.organization_id AND jobs.queue = crowded.queue AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') LIMIT :'most_counted') AS these
    ) AS counted CROSS JOIN LATERAL (
        SELECT id, row_number() OVER (ORDER BY priority, created_at DESC, id DESC) - 1 AS behind
        FROM (SELECT id, priority, created_at FROM jobs WHERE jobs.organization_id = crowded.organization_id AND jobs.queue = crowded.queue AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying')
              ORDER BY priority, created_at DESC, id DESC LIMIT :'batch') AS last
    ) AS newest
    WHERE counted.number - newest.behind > crowded.weight
), crowd AS (
    SELECT id, excess, row_number() OVER (PARTITION BY queue ORDER BY place DESC) AS turn FROM surplus
), locked AS (
    SELECT id, status AS from_status FROM jobs
    WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND id = ANY(ARRAY(SELECT id FROM crowd WHERE turn <= excess LIMIT :'batch'))
    FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE jobs
    SET hold = 'organization_limit', dispatch = dispatch + 1, dispatched_at = NULL, limit_key = NULL, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'retrying')
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
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
    SET hold = 'organization_limit', dispatch = dispatch, dispatched_at = NULL, limit_key = NULL, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'retrying')
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
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

-- admission/organizations.py OWN
SELECT 'limit' AS name, changed_by, changed_at FROM organizations WHERE id = :'organization_id'
UNION ALL SELECT 'may wait', changed_by, changed_at FROM waiting_limits WHERE organization_id = :'organization_id'
UNION ALL SELECT 'weight', changed_by, changed_at FROM organization_weights
          WHERE organization_id = :'organization_id';

-- admission/queue_pauses.py HOLDING
SELECT queue, paused_by, reason, paused_at FROM paused_queues
WHERE EXISTS (SELECT FROM jobs WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND hold = 'paused' AND jobs.queue = paused_queues.queue)
ORDER BY queue;

-- admission/turns.py PLACE
WITH RECURSIVE
whose AS MATERIALIZED (
    SELECT organization_id, most,
           least(:'batch', CASE WHEN most > 0 THEN most - (SELECT count(*) FROM jobs WHERE organization_id = limited.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping)) END) AS own
    FROM (SELECT organization_id, coalesce((SELECT concurrency FROM organizations WHERE id = asked.organization_id), CAST(:'limit' AS int)) AS most FROM (SELECT CAST(:'organization_id' AS text) AS organization_id) AS asked) AS limited
), queues AS (
    SELECT whose.organization_id, next.queue FROM whose CROSS JOIN LATERAL (
        SELECT queue FROM jobs
        WHERE jobs.organization_id = whose.organization_id AND hold = 'organization_limit'
        ORDER BY queue LIMIT 1) AS next
    UNION ALL
    SELECT queues.organization_id, next.queue FROM queues CROSS JOIN LATERAL (
        SELECT queue FROM jobs
        WHERE jobs.organization_id = queues.organization_id AND hold = 'organization_limit'
          AND jobs.queue > queues.queue
        ORDER BY queue LIMIT 1) AS next
), lined AS MATERIALIZED (
    SELECT organization_id, queue FROM queues UNION SELECT organization_id, queue FROM (SELECT organization_id, id, queue, priority, created_at FROM jobs WHERE id = :'id') AS more
), served AS MATERIALIZED (
    SELECT queue, ARRAY(SELECT lease FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND queues.queue = ANY(workers.queues) ORDER BY lease) AS servers, (queues.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval))) AS is_served
    FROM (SELECT DISTINCT queue FROM lined) AS queues
), firsts AS MATERIALIZED (
    SELECT servers, first, shared, dense_rank() OVER (ORDER BY shared) AS pool
    FROM (SELECT *, coalesce(nullif(ARRAY(SELECT DISTINCT unnest(queues) AS each FROM workers
                 WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND first = ANY(workers.queues) ORDER BY each), '{}'), ARRAY[first]) AS shared
          FROM (SELECT servers, min(queue) AS first FROM served GROUP BY servers, CASE WHEN servers = '{}' THEN queue END) AS firsts) AS firsts
), alike_queues AS MATERIALIZED (
    SELECT queue, is_served, first, shared, pool FROM served
    JOIN firsts ON firsts.servers = served.servers AND (served.servers <> '{}' OR firsts.first = served.queue)
), places AS MATERIALIZED (
    SELECT organization_id, queue, own, first, shared, pool
    FROM lined JOIN whose USING (organization_id) JOIN alike_queues USING (queue)
    WHERE is_served OR most = 0
), asking AS MATERIALIZED (
    SELECT organization_id, first, shared, is_contended(kinds.organization_id, kinds.first, :'lease_timeout') AS contended
    FROM (SELECT DISTINCT organization_id, first, shared FROM places) AS kinds
), alike AS MATERIALIZED (
    SELECT organization_id, first, contended, room_in(asking.organization_id, asking.first, :'limit', :'lease_timeout') AS room,
           CASE WHEN false THEN free_in(asking.first, :'lease_timeout') END AS free,
           CASE WHEN false THEN (coalesce((SELECT weight FROM organization_weights WHERE organization_id = asking.organization_id), 1) - (
               SELECT count(*) FROM jobs WHERE jobs.organization_id = asking.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying')
                                           AND queue = ANY(asking.shared))) END AS entitled
    FROM asking
), rooms AS MATERIALIZED (
    SELECT organization_id, places.queue, own, pool, shared, contended, free, entitled,
           greatest(0, room) AS room
    FROM places JOIN alike USING (organization_id, first)
), candidates AS (
    SELECT organization_id, own, pool, free, entitled, room, candidate.*
    FROM rooms CROSS JOIN LATERAL (
        SELECT id, queue, priority, created_at FROM jobs AS waiting
        WHERE waiting.organization_id = rooms.organization_id AND hold = 'organization_limit'
          AND waiting.queue = rooms.queue AND (waiting.id <> :'id' AND (CASE
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, waiting.organization_id) = waiting.organization_id
                     AND coalesce(pauses.job_type, waiting.job_type) = waiting.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = waiting.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = waiting.job_type AND broken.key = waiting.circuit_key
                     AND broken.organization_id IN (waiting.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM waiting.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = waiting.job_type
                      AND coalesce(bound.organization_id, waiting.organization_id) = waiting.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(waiting.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, waiting.organization_id) = waiting.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(waiting.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, this.organization_id) = this.organization_id
                     AND coalesce(pauses.job_type, this.job_type) = this.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = this.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = this.job_type AND broken.key = this.circuit_key
                     AND broken.organization_id IN (this.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM this.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = this.job_type
                      AND coalesce(bound.organization_id, this.organization_id) = this.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(this.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, this.organization_id) = this.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(this.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN true THEN 'organization_limit'
END NOT IN ('limit', 'organization_limit') FROM jobs AS this WHERE this.id = :'id')))
        ORDER BY priority DESC, created_at, id
        LIMIT greatest(0, least(:'batch', room))) AS candidate
    UNION ALL
    SELECT organization_id, own, pool, free, entitled, room, id, queue, priority, created_at FROM (SELECT organization_id, id, queue, priority, created_at FROM jobs WHERE id = :'id') AS more JOIN rooms USING (organization_id, queue)
), numbered AS (
    SELECT *, row_number() OVER (PARTITION BY organization_id ORDER BY priority DESC, created_at, id) AS number
    FROM (SELECT *, row_number() OVER (PARTITION BY organization_id, pool ORDER BY priority DESC, created_at, id) AS place
          FROM candidates) AS placed
    WHERE place <= room
), first AS (
    SELECT id, queue, place
    FROM (SELECT *, row_number() OVER (PARTITION BY pool ORDER BY organization_id COLLATE "C", number) AS turn
          FROM numbered WHERE number <= own) AS turns
    WHERE turn <= free OR place <= entitled OR free IS NULL
)
SELECT first.place AS number, shared,
       CASE WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = :'organization_id'), CAST(:'limit' AS int)) > 0 OR is_contended(:'organization_id', first.queue, :'lease_timeout'))
            THEN ((SELECT sum(concurrency) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND first.queue = ANY(workers.queues))
            - (SELECT count(*) FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND queue = ANY(shared))) END AS free,
       first.place <= (coalesce((SELECT weight FROM organization_weights WHERE organization_id = :'organization_id'), 1) - (
               SELECT count(*) FROM jobs WHERE jobs.organization_id = :'organization_id' AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying')
                                           AND queue = ANY(shared))) AS is_entitled,
       coalesce((SELECT weight FROM organization_weights WHERE organization_id = :'organization_id'), 1) AS weight
FROM first JOIN rooms USING (queue) WHERE first.id = :'id';

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
                ELSE CAST(:'by_later' AS int) END * coalesce((SELECT weight FROM organization_weights WHERE organization_id = organization_id), 1) AS most
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, waiting.organization_id) = waiting.organization_id
                     AND coalesce(pauses.job_type, waiting.job_type) = waiting.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = waiting.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = waiting.job_type AND broken.key = waiting.circuit_key
                     AND broken.organization_id IN (waiting.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM waiting.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = waiting.job_type
                      AND coalesce(bound.organization_id, waiting.organization_id) = waiting.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(waiting.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, waiting.organization_id) = waiting.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(waiting.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, this.organization_id) = this.organization_id
                     AND coalesce(pauses.job_type, this.job_type) = this.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = this.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = this.job_type AND broken.key = this.circuit_key
                     AND broken.organization_id IN (this.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM this.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = this.job_type
                      AND coalesce(bound.organization_id, this.organization_id) = this.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(this.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, this.organization_id) = this.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(this.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN true THEN 'organization_limit'
END NOT IN ('limit', 'organization_limit') FROM jobs AS this WHERE this.id = :'id'))
                LIMIT most) AS counted))), 0)
FROM others;

-- admission/waiting.py LOCK
SELECT pg_advisory_xact_lock(hashtextextended('waiting jobs of ' || :'organization_id', 0));

-- admission/waiting.py WAIT
SELECT count(*)
FROM (SELECT FROM jobs
      WHERE organization_id = :'organization_id' AND status IN ('queued', 'retrying')
        AND hold IS DISTINCT FROM 'external'
      LIMIT :'most') AS counted;

-- admission/waiting.py KNOWN
SELECT id, user_id, idempotency_key FROM jobs
WHERE organization_id = :'organization_id' AND id = ANY(CAST(:'ids' AS uuid[]))
UNION ALL
SELECT jobs.id, jobs.user_id, jobs.idempotency_key
FROM unnest(CAST(:'users' AS text[]), CAST(:'keys' AS text[])) AS asked (user_id, key)
JOIN jobs ON organization_id = :'organization_id' AND jobs.user_id = asked.user_id
         AND idempotency_key = asked.key AND idempotency_key IS NOT NULL;

-- admission/weights.py WEIGHT
SELECT coalesce((SELECT weight FROM organization_weights WHERE organization_id = :'organization_id'), 1);

-- admission/weights.py WEIGHTS
SELECT organization_id, weight FROM organization_weights WHERE organization_id = ANY(:'organizations');

-- admission/within.py BESIDE_OTHERS
SELECT pg_advisory_xact_lock_shared(:'limits', 0);

-- admission/within.py LOCK_SHARED
SELECT pg_advisory_xact_lock(:'shared', number) FROM (
    SELECT hashtext(CAST(id AS text)) AS number FROM job_limits
    WHERE per = 'platform'
      AND EXISTS (SELECT FROM jobs WHERE organization_id = :'organization_id' AND hold = 'limit'
                                     AND jobs.job_type = job_limits.job_type)
    ORDER BY 1) AS shared;

-- admission/within.py LOOK_AT_KEYS
UPDATE jobs SET limit_key = coalesce((
    SELECT CASE WHEN octet_length(key.value) > 200 THEN 'md5:' || md5(key.value) ELSE key.value END
    FROM (SELECT jobs.payload #>> string_to_array(key_path, '.') AS value FROM job_limits
          WHERE per = 'key' AND job_limits.job_type = jobs.job_type
            AND coalesce(job_limits.organization_id, jobs.organization_id) = jobs.organization_id
          ORDER BY job_limits.organization_id NULLS LAST LIMIT 1) AS key), '')
WHERE id IN (SELECT id FROM jobs
             WHERE organization_id = :'organization_id' AND hold = 'limit' AND limit_key IS NULL
             ORDER BY job_type, priority DESC, created_at, id
             LIMIT greatest(1000, :'batch')
             FOR UPDATE SKIP LOCKED);

-- admission/within.py CANDIDATES
WITH RECURSIVE classes AS (
    (
        SELECT organization_id, limit_key, job_type FROM jobs
        WHERE organization_id = :'organization_id' AND hold = 'limit' AND limit_key IS NOT NULL
        ORDER BY limit_key, job_type LIMIT 1)
    UNION ALL
    SELECT next.* FROM classes CROSS JOIN LATERAL (
        SELECT organization_id, limit_key, job_type FROM jobs
        WHERE organization_id = :'organization_id' AND hold = 'limit' AND limit_key IS NOT NULL AND (jobs.limit_key, jobs.job_type) > (classes.limit_key, classes.job_type)
        ORDER BY limit_key, job_type LIMIT 1) AS next
), open AS (
    SELECT classes.*, found.* FROM classes CROSS JOIN LATERAL (
        SELECT least(min(room), CAST(:'batch' AS bigint)) AS room, bool_or(rate IS NOT NULL) AS is_rate,
               bool_or(per = 'platform') AS is_shared,
               coalesce(jsonb_agg(jsonb_build_object(
                   'limit', id, 'whose', jsonb_build_array(CASE met.per WHEN 'platform' THEN '' ELSE classes.organization_id END, CASE met.per WHEN 'key' THEN classes.limit_key ELSE '' END), 'room', room)), '[]') AS bounds
        FROM (SELECT met.*, least(CASE WHEN met.concurrency IS NOT NULL
                       THEN met.concurrency - CASE met.per
    WHEN 'platform' THEN (SELECT count(*) FROM (
        SELECT FROM jobs WHERE limit_key IS NOT NULL AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND job_type = classes.job_type
        LIMIT met.concurrency) AS counted)
    WHEN 'organization' THEN (SELECT count(*) FROM (
        SELECT FROM jobs WHERE limit_key IS NOT NULL AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND job_type = classes.job_type AND organization_id = classes.organization_id
        LIMIT met.concurrency) AS counted)
    ELSE (SELECT count(*) FROM (
        SELECT FROM jobs WHERE limit_key IS NOT NULL AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND job_type = classes.job_type AND organization_id = classes.organization_id AND limit_key = classes.limit_key
        LIMIT met.concurrency) AS counted) END END,
                  CASE WHEN met.rate IS NOT NULL THEN met.rate - (SELECT count(*) FROM (
        SELECT FROM limit_admissions AS sent
        WHERE sent.limit_id = met.id AND sent.organization_id = CASE met.per WHEN 'platform' THEN '' ELSE classes.organization_id END AND sent.key = CASE met.per WHEN 'key' THEN classes.limit_key ELSE '' END
          AND sent.expires_at > clock_timestamp()
        LIMIT met.rate) AS counted) END) AS room FROM LATERAL (
    SELECT DISTINCT ON (per, job_type) job_limits.id, job_limits.organization_id, job_limits.job_type, job_limits.per, job_limits.key_path, job_limits.concurrency, job_limits.rate, job_limits.period, job_limits.changed_by, job_limits.changed_at FROM job_limits
    WHERE (job_limits.job_type = classes.job_type OR job_limits.job_type IS NULL)
      AND (job_limits.organization_id = classes.organization_id OR job_limits.organization_id IS NULL)
      AND (per <> 'key' OR classes.limit_key <> '')
    ORDER BY per, job_type, job_limits.organization_id NULLS LAST) AS met) AS met) AS found
    WHERE found.room > 0 AND (CAST(:'has_turn' AS boolean) OR found.is_shared IS NOT TRUE)
)
SELECT first.id, first.queue, open.bounds, served.free
FROM open CROSS JOIN LATERAL (
    SELECT id, queue, priority, created_at FROM jobs AS waiting
    WHERE organization_id = :'organization_id' AND hold = 'limit' AND limit_key = open.limit_key
      AND job_type = open.job_type AND (waiting.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
    ORDER BY priority DESC, created_at, id LIMIT open.room) AS first
CROSS JOIN LATERAL (
    SELECT CASE WHEN slots IS NOT NULL THEN greatest(slots, CASE WHEN EXISTS (
               SELECT FROM jobs WHERE organization_id = :'organization_id' AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND job_type = open.job_type)
           THEN 0 ELSE 1 END) END AS free
    FROM (SELECT CASE WHEN open.is_rate THEN free_in(first.queue, :'lease_timeout') END AS slots) AS found) AS served
WHERE coalesce(served.free, 1) > 0
ORDER BY priority DESC, created_at, id
LIMIT 10 * :'batch';

-- admission/within.py WITH_ROOM
WITH RECURSIVE shared AS MATERIALIZED (
    SELECT id, job_type, least(CASE WHEN met.concurrency IS NOT NULL
                       THEN met.concurrency - CASE met.per
    WHEN 'platform' THEN (SELECT count(*) FROM (
        SELECT FROM jobs WHERE limit_key IS NOT NULL AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND job_type = met.job_type
        LIMIT met.concurrency) AS counted)
    WHEN 'organization' THEN (SELECT count(*) FROM (
        SELECT FROM jobs WHERE limit_key IS NOT NULL AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND job_type = met.job_type AND organization_id = met.organization_id
        LIMIT met.concurrency) AS counted)
    ELSE (SELECT count(*) FROM (
        SELECT FROM jobs WHERE limit_key IS NOT NULL AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND job_type = met.job_type AND organization_id = met.organization_id AND limit_key = met.limit_key
        LIMIT met.concurrency) AS counted) END END,
                  CASE WHEN met.rate IS NOT NULL THEN met.rate - (SELECT count(*) FROM (
        SELECT FROM limit_admissions AS sent
        WHERE sent.limit_id = met.id AND sent.organization_id = CASE met.per WHEN 'platform' THEN '' ELSE met.organization_id END AND sent.key = CASE met.per WHEN 'key' THEN met.limit_key ELSE '' END
          AND sent.expires_at > clock_timestamp()
        LIMIT met.rate) AS counted) END) AS room
    FROM (SELECT *, '' AS limit_key FROM job_limits WHERE per = 'platform') AS met
), whose AS (
    (SELECT organization_id FROM jobs WHERE hold = 'limit' ORDER BY organization_id LIMIT 1)
    UNION ALL
    SELECT next.organization_id FROM whose CROSS JOIN LATERAL (
        SELECT organization_id FROM jobs WHERE hold = 'limit' AND organization_id > whose.organization_id
        ORDER BY organization_id LIMIT 1) AS next
), kinds AS MATERIALIZED (
    SELECT kinds.*, shared.id AS limit_id, served_at,
           coalesce((
               SELECT queue FROM jobs
               WHERE jobs.organization_id = kinds.organization_id AND hold = 'limit' AND jobs.limit_key = kinds.limit_key
                 AND jobs.job_type = kinds.job_type AND (jobs.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
               ORDER BY priority DESC, created_at, id LIMIT 1), (
               SELECT queue FROM jobs
               WHERE jobs.organization_id = kinds.organization_id AND hold = 'limit' AND jobs.limit_key IS NULL
                 AND jobs.job_type = kinds.job_type AND (jobs.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
               ORDER BY priority DESC, created_at, id LIMIT 1)) AS queue
    FROM (SELECT organization_id FROM whose WHERE (coalesce((SELECT concurrency FROM organizations WHERE id = whose.organization_id), CAST(:'limit' AS int)) = 0 OR coalesce((SELECT concurrency FROM organizations WHERE id = whose.organization_id), CAST(:'limit' AS int)) > (SELECT count(*) FROM jobs WHERE organization_id = whose.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping))) OFFSET 0) AS whose
    CROSS JOIN LATERAL (
        WITH RECURSIVE classes AS (
            (
        SELECT organization_id, limit_key, job_type FROM jobs
        WHERE organization_id = whose.organization_id AND hold = 'limit' AND limit_key IS NOT NULL
        ORDER BY limit_key, job_type LIMIT 1)
            UNION ALL
            SELECT next.* FROM classes
            CROSS JOIN LATERAL (
        SELECT organization_id, limit_key, job_type FROM jobs
        WHERE organization_id = whose.organization_id AND hold = 'limit' AND limit_key IS NOT NULL AND (jobs.limit_key, jobs.job_type) > (classes.limit_key, classes.job_type)
        ORDER BY limit_key, job_type LIMIT 1) AS next
        ), fresh AS (
            (
        SELECT organization_id, limit_key, job_type FROM jobs
        WHERE organization_id = whose.organization_id AND hold = 'limit' AND limit_key IS NULL
        ORDER BY job_type LIMIT 1)
            UNION ALL
            SELECT next.* FROM fresh CROSS JOIN LATERAL (
        SELECT organization_id, limit_key, job_type FROM jobs
        WHERE organization_id = whose.organization_id AND hold = 'limit' AND limit_key IS NULL AND job_type > fresh.job_type
        ORDER BY job_type LIMIT 1) AS next
        )
        SELECT * FROM classes
        UNION ALL
        SELECT * FROM fresh) AS kinds
    LEFT JOIN shared USING (job_type)
    LEFT JOIN limit_turns ON limit_id = shared.id AND limit_turns.organization_id = kinds.organization_id
    WHERE coalesce(shared.room, 1) > 0 AND (shared.id IS NOT NULL OR NOT CAST(:'is_shared' AS boolean))
), served AS MATERIALIZED (
    SELECT queue, ARRAY(SELECT lease FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND queues.queue = ANY(workers.queues) ORDER BY lease) AS servers, (queues.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval))) AS is_served
    FROM (SELECT DISTINCT queue FROM kinds) AS queues
), firsts AS MATERIALIZED (
    SELECT servers, first, shared, dense_rank() OVER (ORDER BY shared) AS pool
    FROM (SELECT *, coalesce(nullif(ARRAY(SELECT DISTINCT unnest(queues) AS each FROM workers
                 WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND first = ANY(workers.queues) ORDER BY each), '{}'), ARRAY[first]) AS shared
          FROM (SELECT servers, min(queue) AS first FROM served GROUP BY servers, CASE WHEN servers = '{}' THEN queue END) AS firsts) AS firsts
), alike_queues AS MATERIALIZED (
    SELECT queue, is_served, first, shared, pool FROM served
    JOIN firsts ON firsts.servers = served.servers AND (served.servers <> '{}' OR firsts.first = served.queue)
), offers AS MATERIALIZED (
    SELECT first, free_in(first, :'lease_timeout') AS free, lowest, highest
    FROM (SELECT DISTINCT first, shared FROM alike_queues) AS firsts CROSS JOIN LATERAL (
        SELECT min((SELECT organization_id FROM jobs WHERE (status IN ('queued', 'retrying') AND (hold IS NULL OR hold = 'organization_limit')) AND queue = each ORDER BY organization_id  LIMIT 1)) AS lowest, max((SELECT organization_id FROM jobs WHERE (status IN ('queued', 'retrying') AND (hold IS NULL OR hold = 'organization_limit')) AND queue = each ORDER BY organization_id DESC LIMIT 1)) AS highest
        FROM unnest(shared) AS each) AS competing
), pools AS MATERIALIZED (
    SELECT queue, first, shared, free, lowest, highest FROM alike_queues JOIN offers USING (first) WHERE is_served
), waiting AS (
    SELECT organization_id, array_agg(limit_key) AS limit_keys, array_agg(job_type) AS job_types,
           array_agg(queue) AS queues
    FROM kinds
    GROUP BY organization_id, limit_id, served_at
    ORDER BY served_at NULLS FIRST, organization_id
    OFFSET 0
)
SELECT organization_id FROM waiting
WHERE EXISTS (
    SELECT FROM (SELECT waiting.organization_id, each.*
                 FROM unnest(limit_keys, job_types, queues) AS each (limit_key, job_type, queue)) AS kind
    JOIN pools USING (queue)
    WHERE (pools.free IS NULL OR pools.free > 0 OR coalesce((SELECT concurrency FROM organizations WHERE id = kind.organization_id), CAST(:'limit' AS int)) = 0 AND coalesce(pools.lowest = kind.organization_id AND pools.highest = kind.organization_id, true)
         OR (coalesce((SELECT weight FROM organization_weights WHERE organization_id = kind.organization_id), 1) - (
               SELECT count(*) FROM jobs WHERE jobs.organization_id = kind.organization_id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying')
                                           AND queue = ANY(pools.shared))) > 0)
      AND coalesce((SELECT min(least(CASE WHEN met.concurrency IS NOT NULL
                       THEN met.concurrency - CASE met.per
    WHEN 'platform' THEN (SELECT count(*) FROM (
        SELECT FROM jobs WHERE limit_key IS NOT NULL AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND job_type = kind.job_type
        LIMIT met.concurrency) AS counted)
    WHEN 'organization' THEN (SELECT count(*) FROM (
        SELECT FROM jobs WHERE limit_key IS NOT NULL AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND job_type = kind.job_type AND organization_id = kind.organization_id
        LIMIT met.concurrency) AS counted)
    ELSE (SELECT count(*) FROM (
        SELECT FROM jobs WHERE limit_key IS NOT NULL AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND job_type = kind.job_type AND organization_id = kind.organization_id AND limit_key = kind.limit_key
        LIMIT met.concurrency) AS counted) END END,
                  CASE WHEN met.rate IS NOT NULL THEN met.rate - (SELECT count(*) FROM (
        SELECT FROM limit_admissions AS sent
        WHERE sent.limit_id = met.id AND sent.organization_id = CASE met.per WHEN 'platform' THEN '' ELSE kind.organization_id END AND sent.key = CASE met.per WHEN 'key' THEN kind.limit_key ELSE '' END
          AND sent.expires_at > clock_timestamp()
        LIMIT met.rate) AS counted) END)) FROM LATERAL (
    SELECT DISTINCT ON (per, job_type) job_limits.id, job_limits.organization_id, job_limits.job_type, job_limits.per, job_limits.key_path, job_limits.concurrency, job_limits.rate, job_limits.period, job_limits.changed_by, job_limits.changed_at FROM job_limits
    WHERE (job_limits.job_type = kind.job_type OR job_limits.job_type IS NULL)
      AND (job_limits.organization_id = kind.organization_id OR job_limits.organization_id IS NULL)
      AND (per <> 'key' OR kind.limit_key <> '')
    ORDER BY per, job_type, job_limits.organization_id NULLS LAST) AS met
                    WHERE per <> 'platform'), 1) > 0)
LIMIT :'most';

-- admission/within.py BOUNDS
SELECT met.*, this.limit_key,
       CASE WHEN met.concurrency IS NULL THEN 0 ELSE CASE met.per
    WHEN 'platform' THEN (SELECT count(*) FROM (
        SELECT FROM jobs WHERE limit_key IS NOT NULL AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND job_type = this.job_type
        LIMIT NULL) AS counted)
    WHEN 'organization' THEN (SELECT count(*) FROM (
        SELECT FROM jobs WHERE limit_key IS NOT NULL AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND job_type = this.job_type AND organization_id = this.organization_id
        LIMIT NULL) AS counted)
    ELSE (SELECT count(*) FROM (
        SELECT FROM jobs WHERE limit_key IS NOT NULL AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND job_type = this.job_type AND organization_id = this.organization_id AND limit_key = this.limit_key
        LIMIT NULL) AS counted) END END AS executing,
       CASE WHEN met.rate IS NULL THEN 0 ELSE (SELECT count(*) FROM (
        SELECT FROM limit_admissions AS sent
        WHERE sent.limit_id = met.id AND sent.organization_id = CASE met.per WHEN 'platform' THEN '' ELSE this.organization_id END AND sent.key = CASE met.per WHEN 'key' THEN this.limit_key ELSE '' END
          AND sent.expires_at > clock_timestamp()
        LIMIT met.rate) AS counted) END AS sent
FROM (SELECT organization_id, job_type, coalesce(limit_key, coalesce((
    SELECT CASE WHEN octet_length(key.value) > 200 THEN 'md5:' || md5(key.value) ELSE key.value END
    FROM (SELECT jobs.payload #>> string_to_array(key_path, '.') AS value FROM job_limits
          WHERE per = 'key' AND job_limits.job_type = jobs.job_type
            AND coalesce(job_limits.organization_id, jobs.organization_id) = jobs.organization_id
          ORDER BY job_limits.organization_id NULLS LAST LIMIT 1) AS key), '')) AS limit_key
      FROM jobs WHERE id = :'id') AS this
CROSS JOIN LATERAL (
    SELECT DISTINCT ON (per, job_type) job_limits.id, job_limits.organization_id, job_limits.job_type, job_limits.per, job_limits.key_path, job_limits.concurrency, job_limits.rate, job_limits.period, job_limits.changed_by, job_limits.changed_at FROM job_limits
    WHERE (job_limits.job_type = this.job_type OR job_limits.job_type IS NULL)
      AND (job_limits.organization_id = this.organization_id OR job_limits.organization_id IS NULL)
      AND (per <> 'key' OR this.limit_key <> '')
    ORDER BY per, job_type, job_limits.organization_id NULLS LAST) AS met;

-- admission/within.py BEFORE
SELECT count(*) FROM (
    SELECT FROM jobs AS this JOIN jobs AS earlier USING (organization_id, job_type)
    WHERE this.id = :'id' AND earlier.hold = 'limit' AND earlier.limit_key IS NOT DISTINCT FROM this.limit_key
      AND (earlier.priority > this.priority
            OR earlier.priority = this.priority
               AND (earlier.created_at, earlier.id) < (this.created_at, this.id)) AND (earlier.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
    LIMIT :'most') AS before;

-- admission/within.py COUNT
INSERT INTO limit_admissions (limit_id, organization_id, key, expires_at)
SELECT met.id, CASE met.per WHEN 'platform' THEN '' ELSE jobs.organization_id END, CASE met.per WHEN 'key' THEN jobs.limit_key ELSE '' END, clock_timestamp() + met.period
FROM jobs CROSS JOIN LATERAL (
    SELECT DISTINCT ON (per, job_type) job_limits.id, job_limits.organization_id, job_limits.job_type, job_limits.per, job_limits.key_path, job_limits.concurrency, job_limits.rate, job_limits.period, job_limits.changed_by, job_limits.changed_at FROM job_limits
    WHERE (job_limits.job_type = jobs.job_type OR job_limits.job_type IS NULL)
      AND (job_limits.organization_id = jobs.organization_id OR job_limits.organization_id IS NULL)
      AND (per <> 'key' OR jobs.limit_key <> '')
    ORDER BY per, job_type, job_limits.organization_id NULLS LAST) AS met WHERE jobs.id = ANY(CAST(:'ids' AS uuid[])) AND met.rate IS NOT NULL;

-- admission/within.py SERVED
INSERT INTO limit_turns (organization_id, limit_id)
SELECT DISTINCT jobs.organization_id, met.id FROM jobs CROSS JOIN LATERAL (
    SELECT DISTINCT ON (per, job_type) job_limits.id, job_limits.organization_id, job_limits.job_type, job_limits.per, job_limits.key_path, job_limits.concurrency, job_limits.rate, job_limits.period, job_limits.changed_by, job_limits.changed_at FROM job_limits
    WHERE (job_limits.job_type = jobs.job_type OR job_limits.job_type IS NULL)
      AND (job_limits.organization_id = jobs.organization_id OR job_limits.organization_id IS NULL)
      AND (per <> 'key' OR jobs.limit_key <> '')
    ORDER BY per, job_type, job_limits.organization_id NULLS LAST) AS met WHERE jobs.id = ANY(CAST(:'ids' AS uuid[])) AND met.per = 'platform'
ON CONFLICT (organization_id, limit_id) DO UPDATE SET served_at = clock_timestamp();

-- admission/within.py SECONDS_TO_ROOM
SELECT CASE WHEN EXISTS (SELECT FROM jobs WHERE hold = 'limit')
       THEN extract(EPOCH FROM min(expires_at) - clock_timestamp()) END
FROM limit_admissions WHERE expires_at > clock_timestamp();

-- admission/within.py FORGET
DELETE FROM limit_admissions
WHERE id IN (SELECT id FROM limit_admissions WHERE expires_at < clock_timestamp()
             ORDER BY expires_at LIMIT :'batch');

-- audit.py WRITE
INSERT INTO audit (id, organization_id, actor, actor_organization_id, action, target, source, address, request_id,
                   outcome, code, detail)
SELECT nextval('history_id_seq'), :'organization_id', coalesce(origin ->> 'actor', :'actor'),
       origin ->> 'organization', :'action', :'target',
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
SELECT clean_ups.name, clean_ups.every_seconds, clean_ups.began_at, clean_ups.ended_at, clean_ups.removed, clean_ups.error FROM clean_ups ORDER BY name;

-- clock.py NOW
SELECT clock_timestamp();

-- collections.py BEGIN
INSERT INTO collections AS known (organization_id, name, source, job_id, attempt)
VALUES (:'organization_id', :'collection', :'source', :'job_id', :'attempt')
ON CONFLICT (organization_id, name) DO UPDATE SET
    source = excluded.source, job_id = excluded.job_id, attempt = excluded.attempt,
    run = known.run + CASE WHEN known.complete OR known.source <> excluded.source THEN 1 ELSE 0 END,
    position = CASE
        WHEN known.source = excluded.source AND (NOT known.complete OR CAST(:'keeps_cursor' AS boolean))
        THEN known.position END,
    pages = CASE WHEN known.complete OR known.source <> excluded.source THEN 0 ELSE known.pages END,
    started_at = CASE
        WHEN known.complete OR known.source <> excluded.source THEN clock_timestamp() ELSE known.started_at END,
    complete = false, updated_at = clock_timestamp()
WHERE (known.job_id = excluded.job_id AND known.attempt <= excluded.attempt)
   OR (known.job_id <> excluded.job_id AND NOT EXISTS (
        SELECT FROM jobs WHERE jobs.id = known.job_id AND jobs.status IN ('running', 'retrying')))
RETURNING run, position, pages;

-- collections.py MOVE
UPDATE collections
SET position = NULLIF(CAST(:'position' AS jsonb), 'null'), pages = pages + 1, complete = :'complete',
    updated_at = clock_timestamp()
WHERE organization_id = :'organization_id' AND name = :'collection' AND job_id = :'job_id' AND attempt = :'attempt' AND run = :'run'
RETURNING run;

-- collections.py RESTART
UPDATE collections
SET run = run + 1, position = NULL, pages = 0, started_at = clock_timestamp(), updated_at = clock_timestamp()
WHERE organization_id = :'organization_id' AND name = :'collection' AND job_id = :'job_id' AND attempt = :'attempt'
RETURNING run;

-- collections.py WRITE
WITH given AS (
    SELECT * FROM unnest(CAST(:'keys' AS text[]), CAST(:'records' AS text[])) AS page (key, record)
), before AS (
    SELECT known.key, known.record FROM collection_records AS known JOIN given USING (key)
    WHERE known.organization_id = :'organization_id' AND known.collection = :'collection'
), written AS (
    INSERT INTO collection_records AS known (organization_id, collection, key, record, run)
    SELECT CAST(:'organization_id' AS text), CAST(:'collection' AS text), key, CAST(record AS jsonb),
           CAST(:'run' AS bigint)
    FROM given
    ON CONFLICT (organization_id, collection, key) DO UPDATE SET
        record = excluded.record, run = excluded.run,
        changed_at = CASE WHEN known.record = excluded.record THEN known.changed_at ELSE clock_timestamp() END
    RETURNING known.key, known.record
)
SELECT count(*) FILTER (WHERE before.key IS NULL) AS inserted,
       count(*) FILTER (WHERE before.record <> written.record) AS updated
FROM written LEFT JOIN before USING (key);

-- collections.py REMOVE_UNSEEN
DELETE FROM collection_records
WHERE organization_id = :'organization_id' AND collection = :'collection' AND run < :'run'
  AND EXISTS (SELECT FROM collections WHERE organization_id = :'organization_id' AND name = :'collection' AND job_id = :'job_id' AND attempt = :'attempt' AND complete);

-- collections.py COUNT
SELECT count(*) FROM collection_records
WHERE organization_id = :'organization_id' AND collection = :'collection';

-- collections.py EXISTS
SELECT EXISTS (SELECT FROM collections WHERE organization_id = :'organization_id' AND name = :'collection');

-- collections.py FIELDS
SELECT DISTINCT jsonb_object_keys(record) AS name FROM collection_records
WHERE organization_id = :'organization_id' AND collection = :'collection'
ORDER BY name;

-- collections.py EACH
SELECT key, CAST(record AS text) AS json,
       (SELECT jsonb_object_agg(name, value) FROM jsonb_each_text(record) AS field (name, value)
        WHERE value IS NOT NULL) AS texts
FROM collection_records
WHERE organization_id = :'organization_id' AND collection = :'collection' AND key > :'after'
ORDER BY key LIMIT :'most';

-- events.py OF_SCHEDULE
INSERT INTO events (id, organization_id, user_id, project_id, job_type, event, subject_id, detail)
SELECT nextval('history_id_seq'), organization_id, user_id, project_id, job_type, :'event', id,
       jsonb_build_object('name', name) || CAST(:'said' AS jsonb)
FROM schedules WHERE id = :'schedule_id';

-- events.py FORGET
WITH gone AS (
    DELETE FROM events
    WHERE id IN (SELECT id FROM events WHERE at < clock_timestamp() - CAST(:'older_than' AS interval)
                 ORDER BY at LIMIT :'limit')
    RETURNING id, organization_id
), noted AS (
    INSERT INTO removals (organization_id, last_id)
    SELECT organization_id, max(id) FROM gone GROUP BY organization_id
    RETURNING organization_id, last_id
), needless AS (
    DELETE FROM removals WHERE ctid = ANY(ARRAY(
        SELECT removals.ctid FROM removals JOIN noted USING (organization_id)
        WHERE removals.last_id <= noted.last_id
        FOR UPDATE OF removals SKIP LOCKED))
)
SELECT count(*) FROM gone;

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

-- fingerprints.py TAKE
UPDATE jobs SET fingerprint = CASE WHEN true THEN error_fingerprint(jobs.job_type, jobs.error_type, jobs.error_message) END
WHERE id IN (SELECT id FROM jobs WHERE status = 'failed' AND fingerprint IS NULL
             LIMIT :'limit' FOR UPDATE SKIP LOCKED);

-- jobs/bulk.py SUBMIT_ALL
WITH asked AS MATERIALIZED (
    SELECT *, CAST(NULL AS uuid) AS follows, CAST(NULL AS text) AS follows_group, 'queued' AS status,
           0 AS attempt, coalesce(scheduled_at, clock_timestamp() + delay) AS due_at
    FROM (SELECT CAST(id AS uuid) AS id, CAST(organization_id AS text) AS organization_id, CAST(user_id AS text) AS user_id, CAST(project_id AS text) AS project_id, CAST(job_type AS text) AS job_type, CAST(priority AS int) AS priority, CAST(queue AS text) AS queue, CAST(max_retries AS int) AS max_retries, CAST(payload AS jsonb) AS payload, CAST(metadata AS jsonb) AS metadata, CAST(delivery AS jsonb) AS delivery, CAST(message AS text) AS message, CAST(parent_id AS uuid) AS parent_id, CAST(root_id AS uuid) AS root_id, CAST(group_id AS text) AS group_id, CAST(group_index AS int) AS group_index, CAST(idempotency_key AS text) AS idempotency_key, CAST(request_hash AS text) AS request_hash, CAST(circuit_key AS text) AS circuit_key, coalesce(external, EXISTS (SELECT FROM external_types WHERE name = given.job_type)) AS external, CAST(origin AS jsonb) AS origin, CAST(depends_on AS uuid[]) AS depends_on, CAST(depends_when AS text[]) AS depends_when, CAST(unresolved AS bool) AS unresolved, CAST(scheduled_at AS timestamptz) AS scheduled_at, CAST(delay AS interval) AS delay, place
          FROM unnest(CAST(:'id' AS uuid[]), CAST(:'organization_id' AS text[]), CAST(:'user_id' AS text[]), CAST(:'project_id' AS text[]), CAST(:'job_type' AS text[]), CAST(:'priority' AS int[]), CAST(:'queue' AS text[]), CAST(:'max_retries' AS int[]), CAST(:'payload' AS text[]), CAST(:'metadata' AS text[]), CAST(:'delivery' AS text[]), CAST(:'message' AS text[]), CAST(:'parent_id' AS uuid[]), CAST(:'root_id' AS uuid[]), CAST(:'group_id' AS text[]), CAST(:'group_index' AS int[]), CAST(:'idempotency_key' AS text[]), CAST(:'request_hash' AS text[]), CAST(:'circuit_key' AS text[]), CAST(:'external' AS bool[]), CAST(:'origin' AS text[]), CAST(:'depends_on' AS text[]), CAST(:'depends_when' AS text[]), CAST(:'unresolved' AS bool[]), CAST(:'scheduled_at' AS timestamptz[]), CAST(:'delay' AS interval[])) WITH ORDINALITY AS given (id, organization_id, user_id, project_id, job_type, priority, queue, max_retries, payload, metadata, delivery, message, parent_id, root_id, group_id, group_index, idempotency_key, request_hash, circuit_key, external, origin, depends_on, depends_when, unresolved, scheduled_at, delay, place)) AS parsed
), lines AS MATERIALIZED (
    SELECT organization_id, queue, (coalesce((SELECT concurrency FROM organizations WHERE id = whose.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(whose.organization_id, whose.queue, :'lease_timeout')) AS joins
    FROM (SELECT DISTINCT organization_id, queue FROM asked) AS whose
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, asked.organization_id) = asked.organization_id
                     AND coalesce(pauses.job_type, asked.job_type) = asked.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = asked.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = asked.job_type AND broken.key = asked.circuit_key
                     AND broken.organization_id IN (asked.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM asked.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = asked.job_type
                      AND coalesce(bound.organization_id, asked.organization_id) = asked.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(asked.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, asked.organization_id) = asked.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(asked.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN lines.joins THEN 'organization_limit'
END AS hold
    FROM asked JOIN lines USING (organization_id, queue)
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
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, CAST(NULL AS text) AS from_status
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
    SELECT organization_id, queue, (coalesce((SELECT concurrency FROM organizations WHERE id = whose.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(whose.organization_id, whose.queue, :'lease_timeout')) AS joins
    FROM (SELECT DISTINCT organization_id, queue FROM asked) AS whose
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, asked.organization_id) = asked.organization_id
                     AND coalesce(pauses.job_type, asked.job_type) = asked.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = asked.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = asked.job_type AND broken.key = asked.circuit_key
                     AND broken.organization_id IN (asked.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM asked.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = asked.job_type
                      AND coalesce(bound.organization_id, asked.organization_id) = asked.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(asked.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, asked.organization_id) = asked.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(asked.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN lines.joins THEN 'organization_limit'
END AS hold
    FROM asked JOIN lines USING (organization_id, queue)
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
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, CAST(NULL AS text) AS from_status
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

-- jobs/bulk.py EXISTING_ALL
SELECT asked.id AS asked_id, found.*
FROM (SELECT CAST(id AS uuid) AS id, CAST(organization_id AS text) AS organization_id, CAST(user_id AS text) AS user_id, CAST(idempotency_key AS text) AS idempotency_key, CAST(job_type AS text) AS job_type, CAST(payload AS jsonb) AS payload, CAST(delivery AS jsonb) AS delivery
      FROM unnest(CAST(:'id' AS text[]), CAST(:'organization_id' AS text[]), CAST(:'user_id' AS text[]), CAST(:'idempotency_key' AS text[]), CAST(:'job_type' AS text[]), CAST(:'payload' AS text[]), CAST(:'delivery' AS text[]))
           AS given (id, organization_id, user_id, idempotency_key, job_type, payload, delivery)) AS asked
CROSS JOIN LATERAL (
    SELECT jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, jobs.job_type = asked.job_type AND jobs.payload = asked.payload
          AND coalesce(jobs.delivery -> 'passing', 'null') = coalesce(asked.delivery -> 'passing', 'null') AS is_same
    FROM jobs WHERE jobs.organization_id = asked.organization_id AND jobs.user_id = asked.user_id AND jobs.idempotency_key = asked.idempotency_key
    UNION ALL
    SELECT jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, jobs.job_type = asked.job_type AND jobs.payload = asked.payload
          AND coalesce(jobs.delivery -> 'passing', 'null') = coalesce(asked.delivery -> 'passing', 'null') AS is_same
    FROM jobs WHERE jobs.organization_id = asked.organization_id AND asked.idempotency_key IS NULL AND jobs.id = asked.id
) AS found;

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
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
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
                        WHERE jobs.id = given.id FOR UPDATE SKIP LOCKED
                       ) AS found
), moved AS (
    UPDATE jobs
    SET status = 'cancelled', hold = NULL, due_at = NULL, stopping = from_status = 'running' AND NOT external,
        cancel_requested_at = clock_timestamp(), cancel_seen_at = NULL, completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'running', 'retrying') AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id')
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
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
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
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
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
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
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, status AS from_status
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
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, from_status, unseen
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
                        WHERE jobs.id = given.id FOR UPDATE SKIP LOCKED
                       ) AS found
), moved AS (
    UPDATE jobs
    SET status = 'running', attempt = attempt + 1, worker = given_worker, lease = given_lease, claim_id = given_claim_id, due_at = NULL,
        started_at = clock_timestamp(), progress = 0, progress_detail = NULL, current_step = 0,
        dispatched_at = coalesce(dispatched_at, clock_timestamp()), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'retrying') AND from_dispatch = given_dispatch AND job_type = coalesce(given_job_type, job_type)
      AND held IS NULL AND NOT (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = jobs.queue)) AND NOT EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) AND NOT (jobs.limit_key IS NULL AND (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = jobs.job_type
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))))
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
            AND is_contended(moved.organization_id, moved.queue, NULL)) AS leaves_place
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
                        WHERE jobs.id = given.id FOR UPDATE SKIP LOCKED
                       ) AS found
), moved AS (
    UPDATE jobs
    SET hold = CASE WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = jobs.queue)) THEN 'paused' WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
         WHEN (jobs.limit_key IS NULL AND (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = jobs.job_type
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL))))) THEN 'limit' END, limit_key = NULL, dispatched_at = NULL, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_dispatch = given_dispatch AND held IS NULL AND from_status IN ('queued', 'retrying')
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
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
                        WHERE jobs.id = given.id FOR UPDATE SKIP LOCKED
                       ) AS found
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
                               WHERE member.group_id = jobs.group_id AND member.status <> 'succeeded')) AS is_needed, EXISTS (SELECT FROM workflows WHERE workflows.id = jobs.root_id AND workflows.completed_at IS NULL) AS is_of_workflow, jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at FROM jobs
                            WHERE jobs.id = given.id FOR UPDATE SKIP LOCKED
                           ) AS found;

-- jobs/delete.py EXISTING
SELECT id FROM jobs WHERE id = ANY(:'ids');

-- jobs/dispatch.py UNDISPATCHED
SELECT jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at FROM jobs
WHERE status IN ('queued', 'retrying') AND hold IS NULL AND dispatched_at IS NULL
  AND (status = 'queued' AND started_at IS NOT NULL
       OR updated_at <= clock_timestamp() - CAST(:'age' AS interval))
ORDER BY created_at
LIMIT :'limit';

-- jobs/dispatch.py MARK_DISPATCHED
WITH locked AS (
    SELECT found.id
    FROM (SELECT * FROM unnest(CAST(:'job_ids' AS uuid[]), CAST(:'dispatches' AS int[])) AS each (job_id, number)
          ORDER BY job_id LIMIT cardinality(CAST(:'job_ids' AS uuid[]))) AS each
    CROSS JOIN LATERAL (SELECT id FROM jobs
                        WHERE id = each.job_id AND dispatch = each.number AND dispatched_at IS NULL FOR NO KEY UPDATE
                       ) AS found
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
    SELECT found.id
    FROM (SELECT * FROM unnest(CAST(:'job_ids' AS uuid[]), CAST(:'dispatches' AS int[])) AS each (job_id, number)
          ORDER BY job_id LIMIT cardinality(CAST(:'job_ids' AS uuid[]))) AS each
    CROSS JOIN LATERAL (SELECT id FROM jobs
                        WHERE id = each.job_id AND dispatch = each.number AND status IN ('queued', 'retrying') AND hold IS NULL AND dispatched_at IS NOT NULL FOR NO KEY UPDATE
                       ) AS found
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
        fingerprint = CASE WHEN true THEN error_fingerprint(jobs.job_type, :'error_type', :'error_message') END, completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'retrying')
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
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
    SELECT id, status AS from_status FROM jobs WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND status IN ('queued', 'retrying') AND NOT external AND NOT (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) AND (unresolved OR NOT CAST(:'unresolved' AS boolean))
      AND (CAST(:'unchanged_since' AS timestamptz) IS NULL OR updated_at = :'unchanged_since') FOR UPDATE
), moved AS (
    UPDATE jobs
    SET payload = coalesce(CAST(:'payload' AS jsonb), payload),
        unresolved = unresolved AND (CAST(:'payload' AS jsonb) IS NULL OR CAST(:'unresolved' AS boolean)),
        delivery = coalesce(delivery || CAST(:'delivery' AS jsonb), delivery),
        circuit_key = coalesce(CAST(:'circuit_key' AS text), circuit_key),
        limit_key = CASE WHEN CAST(:'payload' AS jsonb) IS NULL AND NOT (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL OR CAST(:'at_once' AS boolean)) THEN limit_key END,
        priority = coalesce(CAST(:'priority' AS int), priority),
        scheduled_at = CASE WHEN NOT CAST(:'at_once' AS boolean) THEN coalesce(CAST(:'scheduled_at' AS timestamptz), jobs.scheduled_at) END,
        due_at = CASE WHEN NOT CAST(:'at_once' AS boolean) THEN coalesce(CAST(:'scheduled_at' AS timestamptz), jobs.due_at) END,
        dispatch = dispatch + CASE WHEN hold IS NULL AND (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL OR CAST(:'at_once' AS boolean)) THEN 1 ELSE 0 END,
        hold = CASE WHEN (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL OR CAST(:'at_once' AS boolean))
               THEN CASE
    WHEN jobs.external THEN 'external'
    WHEN (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) OR jobs.unresolved
         OR jobs.attempt = 0 AND jobs.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN CASE WHEN NOT CAST(:'at_once' AS boolean) THEN coalesce(CAST(:'scheduled_at' AS timestamptz), jobs.due_at) END > clock_timestamp()
        THEN CASE jobs.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = jobs.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = jobs.job_type
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = jobs.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(jobs.organization_id, jobs.queue, :'lease_timeout')) THEN 'organization_limit'
END
               ELSE hold END,
        dispatched_at = CASE WHEN (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL OR CAST(:'at_once' AS boolean)) THEN NULL ELSE dispatched_at END,
        sent_priority = CASE WHEN (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL OR CAST(:'at_once' AS boolean)) THEN NULL ELSE sent_priority END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'edited',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('payload', CASE WHEN CAST(:'payload' AS jsonb) IS NOT NULL THEN true END,
                          'priority', CAST(:'priority' AS int), 'dueAt', CAST(:'scheduled_at' AS timestamptz),
                          'atOnce', CASE WHEN CAST(:'at_once' AS boolean) THEN true END, 'hold', hold)) || '{}', NULL, CAST(:'origin' AS jsonb), clock_timestamp()
    FROM moved
)
SELECT * FROM moved;

-- jobs/edit.py REPRIORITIZE_EACH
WITH locked AS (
    SELECT given.*, found.*
    FROM (SELECT * FROM unnest(CAST(:'id' AS uuid[])) AS given (id)
          ORDER BY id LIMIT cardinality(CAST(:'id' AS uuid[]))) AS given
    CROSS JOIN LATERAL (SELECT status AS from_status, external AS was_external FROM jobs
                        WHERE jobs.id = given.id FOR UPDATE SKIP LOCKED
                       ) AS found
), moved AS (
    UPDATE jobs
    SET payload = coalesce(CAST(:'payload' AS jsonb), payload),
        unresolved = unresolved AND (CAST(:'payload' AS jsonb) IS NULL OR CAST(:'unresolved' AS boolean)),
        delivery = coalesce(delivery || CAST(:'delivery' AS jsonb), delivery),
        circuit_key = coalesce(CAST(:'circuit_key' AS text), circuit_key),
        limit_key = CASE WHEN CAST(:'payload' AS jsonb) IS NULL AND NOT (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL OR CAST(:'at_once' AS boolean)) THEN limit_key END,
        priority = coalesce(CAST(:'priority' AS int), priority),
        scheduled_at = CASE WHEN NOT CAST(:'at_once' AS boolean) THEN coalesce(CAST(:'scheduled_at' AS timestamptz), jobs.scheduled_at) END,
        due_at = CASE WHEN NOT CAST(:'at_once' AS boolean) THEN coalesce(CAST(:'scheduled_at' AS timestamptz), jobs.due_at) END,
        dispatch = dispatch + CASE WHEN hold IS NULL AND (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL OR CAST(:'at_once' AS boolean)) THEN 1 ELSE 0 END,
        hold = CASE WHEN (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL OR CAST(:'at_once' AS boolean))
               THEN CASE
    WHEN jobs.external THEN 'external'
    WHEN (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) OR jobs.unresolved
         OR jobs.attempt = 0 AND jobs.depends_on <> '{}' AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
        THEN 'dependency'
    WHEN CASE WHEN NOT CAST(:'at_once' AS boolean) THEN coalesce(CAST(:'scheduled_at' AS timestamptz), jobs.due_at) END > clock_timestamp()
        THEN CASE jobs.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = jobs.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = jobs.job_type
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = jobs.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(jobs.organization_id, jobs.queue, :'lease_timeout')) THEN 'organization_limit'
END
               ELSE hold END,
        dispatched_at = CASE WHEN (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL OR CAST(:'at_once' AS boolean)) THEN NULL ELSE dispatched_at END,
        sent_priority = CASE WHEN (CAST(:'priority' AS int) IS NOT NULL OR CAST(:'scheduled_at' AS timestamptz) IS NOT NULL OR CAST(:'at_once' AS boolean)) THEN NULL ELSE sent_priority END, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND status IN ('queued', 'retrying') AND NOT external AND NOT (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL)
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'edited',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('payload', CASE WHEN CAST(:'payload' AS jsonb) IS NOT NULL THEN true END,
                          'priority', CAST(:'priority' AS int), 'dueAt', CAST(:'scheduled_at' AS timestamptz),
                          'atOnce', CASE WHEN CAST(:'at_once' AS boolean) THEN true END, 'hold', hold) || jsonb_build_object('operation', CAST(:'operation' AS uuid))) || '{}', NULL, NULL, clock_timestamp()
    FROM moved
)
 SELECT locked.id AS found, moved.* FROM locked FULL JOIN moved ON moved.id = locked.id;

-- jobs/edit.py IN_SCOPE
SELECT id, status, external, updated_at, (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) AS is_uncalled
FROM jobs WHERE id = ANY(:'ids') AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id');

-- jobs/progress.py LOCK
SELECT id FROM jobs WHERE id = :'id' AND dispatch = :'dispatch' FOR UPDATE;

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
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, status AS from_status
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

-- jobs/retry.py ONE_AT_A_TIME
SELECT pg_advisory_xact_lock(hashtextextended('retry of ' || CAST(:'id' AS text) || '/' || :'key', 0));

-- jobs/retry.py RETRY
WITH RECURSIVE opened AS (
    SELECT workflows.id FROM workflows
    WHERE workflows.id = (SELECT root_id FROM jobs WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id')) FOR NO KEY UPDATE
), locked AS (
    SELECT id, status AS from_status FROM jobs WHERE (SELECT count(*) FROM opened) >= 0 AND id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND NOT stopping AND (retry_count < max_retries OR :'force') AND (NOT (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) OR (EXISTS (SELECT FROM jobs AS followed WHERE followed.status IN ('queued', 'running', 'retrying') AND (followed.id = jobs.follows
                                OR followed.group_id = jobs.follows_group AND followed.id <> jobs.id))
      AND NOT EXISTS (SELECT FROM jobs AS followed
                      WHERE followed.status IN ('failed', 'cancelled') AND (followed.id = jobs.follows
                                OR followed.group_id = jobs.follows_group AND followed.id <> jobs.id))))
      AND (CAST(:'key' AS text) IS NULL
           OR NOT EXISTS (SELECT FROM history WHERE history.job_id = jobs.id AND history.at >= jobs.created_at - interval '1 hour' AND history.event = 'retried'
          AND history.detail ->> 'idempotencyKey' = CAST(:'key' AS text)) AND NOT EXISTS (SELECT FROM jobs AS anew
          WHERE anew.organization_id = jobs.organization_id AND anew.user_id = jobs.user_id
            AND anew.idempotency_key = jobs.id || '/' || CAST(:'key' AS text))) FOR UPDATE
), moved AS (
    UPDATE jobs
    SET status = 'queued', dispatch = dispatch + 1, retry_count = retry_count + 1, losses = 0, limit_key = NULL,
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = jobs.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = jobs.job_type
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = jobs.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(jobs.organization_id, jobs.queue, :'lease_timeout')) THEN 'organization_limit'
END, delivery = delivery - 'expires',
        priority = coalesce(CAST(:'priority' AS int), priority),
        due_at = NULL, dispatched_at = NULL, sent_priority = NULL, result = NULL, typed_result = NULL,
        error_type = NULL, error_message = NULL, fingerprint = NULL, message = NULL,
        progress = 0, progress_detail = NULL, current_step = 0, cancel_requested_at = NULL,
        cancel_seen_at = NULL, started_at = NULL, completed_at = NULL, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('failed', 'cancelled')
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'retried',
           from_status, status, attempt, dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object('by', CAST(:'actor' AS text), 'force', CAST(:'force' AS boolean), 'priority', CAST(:'priority' AS int)) || jsonb_build_object('idempotencyKey', CAST(:'key' AS text))) || '{}', NULL, CAST(:'origin' AS jsonb), clock_timestamp()
    FROM moved
)
, reopened AS (
    UPDATE workflows SET status = 'running', completed_at = NULL, updated_at = clock_timestamp()
    FROM moved WHERE moved.root_id <> moved.id AND workflows.id = moved.root_id
) SELECT * FROM moved;

-- jobs/retry.py RETRIED
SELECT jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, told.is_same
FROM jobs
CROSS JOIN LATERAL (SELECT detail -> 'force' = to_jsonb(CAST(:'force' AS boolean))
                           AND coalesce(detail ->> 'priority', '') = coalesce(CAST(:'priority' AS text), '')
                           AS is_same
                    FROM history WHERE history.job_id = jobs.id AND history.at >= jobs.created_at - interval '1 hour' AND history.event = 'retried'
          AND history.detail ->> 'idempotencyKey' = CAST(:'key' AS text) LIMIT 1) AS told
WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id');

-- jobs/retry.py RETRY_EACH
WITH RECURSIVE opened AS (
    SELECT workflows.id FROM workflows
    WHERE workflows.id IN (SELECT root_id FROM jobs WHERE id = ANY(CAST(:'id' AS uuid[])) AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id'))
    FOR NO KEY UPDATE SKIP LOCKED
), locked AS (
    SELECT given.*, found.*
    FROM (SELECT * FROM unnest(CAST(:'id' AS uuid[])) AS given (id)
          ORDER BY id LIMIT cardinality(CAST(:'id' AS uuid[]))) AS given
    CROSS JOIN LATERAL (SELECT status AS from_status, external AS was_external FROM jobs
                        WHERE jobs.id = given.id AND (root_id IN (SELECT id FROM opened)
                              OR NOT EXISTS (SELECT FROM workflows WHERE workflows.id = root_id)) FOR UPDATE SKIP LOCKED
                       ) AS found
), moved AS (
    UPDATE jobs
    SET status = 'queued', dispatch = dispatch + 1, retry_count = retry_count + 1, losses = 0, limit_key = NULL,
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = jobs.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = jobs.job_type
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = jobs.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(jobs.organization_id, jobs.queue, :'lease_timeout')) THEN 'organization_limit'
END, delivery = delivery - 'expires',
        priority = coalesce(CAST(:'priority' AS int), priority),
        due_at = NULL, dispatched_at = NULL, sent_priority = NULL, result = NULL, typed_result = NULL,
        error_type = NULL, error_message = NULL, fingerprint = NULL, message = NULL,
        progress = 0, progress_detail = NULL, current_step = 0, cancel_requested_at = NULL,
        cancel_seen_at = NULL, started_at = NULL, completed_at = NULL, updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('failed', 'cancelled') AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND NOT stopping AND (retry_count < max_retries OR :'force') AND (NOT (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) OR (EXISTS (SELECT FROM jobs AS followed WHERE followed.status IN ('queued', 'running', 'retrying') AND (followed.id = jobs.follows
                                OR followed.group_id = jobs.follows_group AND followed.id <> jobs.id))
      AND NOT EXISTS (SELECT FROM jobs AS followed
                      WHERE followed.status IN ('failed', 'cancelled') AND (followed.id = jobs.follows
                                OR followed.group_id = jobs.follows_group AND followed.id <> jobs.id))))
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
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
      AND (CAST(:'key' AS text) IS NULL OR NOT EXISTS (SELECT FROM history WHERE history.job_id = jobs.id AND history.at >= jobs.created_at - interval '1 hour' AND history.event = 'retried'
          AND history.detail ->> 'idempotencyKey' = CAST(:'key' AS text)))
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, asked.organization_id) = asked.organization_id
                     AND coalesce(pauses.job_type, asked.job_type) = asked.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = asked.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = asked.job_type AND broken.key = asked.circuit_key
                     AND broken.organization_id IN (asked.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM asked.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = asked.job_type
                      AND coalesce(bound.organization_id, asked.organization_id) = asked.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(asked.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, asked.organization_id) = asked.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(asked.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = asked.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(asked.organization_id, asked.queue, :'lease_timeout')) THEN 'organization_limit'
END FROM asked
    ON CONFLICT DO NOTHING
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, CAST(NULL AS text) AS from_status
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
SELECT jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at FROM jobs
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
        limit_key = CASE WHEN target IN ('queued', 'retrying') THEN NULL ELSE limit_key END,
        result = :'result',
        typed_result = :'typed_result',
        error_type = CASE WHEN is_poison THEN 'WorkerLost' ELSE :'error_type' END,
        error_message = CASE WHEN is_poison THEN 'the job took down ' || (losses + 1) || ' workers' ELSE :'error_message' END,
        fingerprint = CASE WHEN target = 'failed' THEN error_fingerprint(jobs.job_type, CASE WHEN is_poison THEN 'WorkerLost' ELSE :'error_type' END, CASE WHEN is_poison THEN 'the job took down ' || (losses + 1) || ' workers' ELSE :'error_message' END) END,
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
              started_at, completed_at, updated_at, group_id, limit_key, from_status, from_dispatch, counts_in,
              reached
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, CASE status WHEN 'succeeded' THEN 'completed' WHEN 'failed' THEN 'failed' WHEN 'retrying' THEN 'failed' WHEN 'cancelled' THEN 'cancelled' WHEN 'queued' THEN 'released' END,
           from_status, status, attempt, from_dispatch, CAST(:'actor' AS text),
           jsonb_strip_nulls(jsonb_build_object(
               'reason', CASE WHEN status IN ('queued', 'cancelled') THEN coalesce(error_message, :'kind') END,
               'errorType', error_type, 'error', error_message, 'traceback', CAST(:'traceback' AS text),
               'lost', CASE WHEN :'kind' IN ('lost', 'returned') THEN true END,
               'dueAt', due_at,
               'willRetry', CASE status WHEN 'retrying' THEN true WHEN 'failed' THEN false END,
               'duration', CASE WHEN status IN ('succeeded', 'failed', 'cancelled', 'retrying') THEN round(1000 * extract(EPOCH FROM coalesce(completed_at, updated_at) - started_at)) END,
               'percentage', CASE WHEN status = 'succeeded' AND reached > 0 THEN 100 END)) || coalesce(CAST(:'kept' AS jsonb), '{}'), counts_in, NULL, clock_timestamp()
    FROM moved
)
, opened AS (
    INSERT INTO circuits (job_type, organization_id, key, failures, pause, probe_at)
    SELECT moved.job_type, moved.organization_id, moved.counts_in, CAST(:'failures' AS int), CAST(:'pause' AS interval),
           clock_timestamp() + CAST(:'pause' AS interval)
    FROM moved
    WHERE CAST(:'failures' AS int) > 0 AND moved.counts_in IS NOT NULL
      AND (SELECT count(*) FILTER (WHERE event = 'failed')
           FROM (SELECT event FROM history
                 WHERE history.job_type = moved.job_type AND history.organization_id = moved.organization_id
                   AND history.circuit_key = moved.counts_in
                 ORDER BY history.id DESC LIMIT CAST(:'failures' AS int) - 1) AS latest) = CAST(:'failures' AS int) - 1
    ON CONFLICT DO NOTHING
    RETURNING circuits.job_type, circuits.organization_id, circuits.key, circuits.failures, circuits.pause, circuits.opened_at, circuits.probe_at, circuits.probe_id, circuits.turn, false AS is_half_open
)
SELECT CAST(:'place' AS int) AS place, organization_id, status,
       (EXISTS (SELECT FROM jobs AS waiting
                    WHERE waiting.organization_id = moved.organization_id AND waiting.hold = 'organization_limit')
            OR EXISTS (SELECT FROM jobs AS waiting WHERE waiting.hold = 'limit')
               AND (moved.limit_key IS NOT NULL
                    OR EXISTS (SELECT FROM jobs AS waiting WHERE waiting.organization_id = moved.organization_id
                                                             AND waiting.hold = 'limit'))) AS has_line, (EXISTS (SELECT FROM jobs AS dependent WHERE dependent.hold = 'dependency') AND has_dependents(moved.id)
            OR EXISTS (SELECT FROM circuits WHERE circuits.probe_id = moved.id)) AS is_awaited,
       (EXISTS (SELECT FROM jobs AS waiting WHERE waiting.follows = moved.id AND coalesce(waiting.hold, '') = 'dependency')
            OR EXISTS (SELECT FROM jobs AS waiting WHERE waiting.follows_group = moved.group_id AND coalesce(waiting.hold, '') = 'dependency')) AS is_followed, job_type,
       CASE WHEN CAST(:'failures' AS int) > 0 THEN moved.counts_in END AS failed_in,
       EXISTS (SELECT FROM opened) AS has_opened
FROM locked LEFT JOIN moved USING (id);

-- jobs/settle.py SUCCEED
WITH locked AS (
    SELECT given.*, found.*
    FROM (SELECT * FROM unnest(CAST(:'id' AS uuid[]), CAST(:'place' AS int[]), CAST(:'dispatch' AS int[]), CAST(:'attempt' AS int[]), CAST(:'actor' AS text[]), CAST(:'result' AS text[])) AS given (id, given_place, given_dispatch, given_attempt, given_actor, given_result)
          ORDER BY id LIMIT cardinality(CAST(:'id' AS uuid[]))) AS given
    CROSS JOIN LATERAL (SELECT status AS from_status, dispatch AS from_dispatch, attempt AS from_attempt, progress AS reached FROM jobs
                        WHERE jobs.id = given.id FOR UPDATE SKIP LOCKED
                       ) AS found
), moved AS (
    UPDATE jobs
    SET status = 'succeeded', result = CAST(given_result AS jsonb), progress = 100, error_type = NULL, error_message = NULL,
        completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('running') AND from_dispatch = given_dispatch AND from_attempt = given_attempt
    RETURNING jobs.id, given_place, given_actor, dispatch, organization_id, user_id, job_type, status, attempt,
              started_at, completed_at, updated_at, limit_key, from_status, circuit_key, reached
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, 'completed',
           from_status, status, attempt, dispatch, given_actor,
           jsonb_strip_nulls(jsonb_build_object('duration', round(1000 * extract(EPOCH FROM coalesce(completed_at, updated_at) - started_at)), 'percentage', CASE WHEN status = 'succeeded' AND reached > 0 THEN 100 END)) || '{}', circuit_key, NULL, clock_timestamp()
    FROM moved
)
SELECT given_place AS place, organization_id, status,
       (EXISTS (SELECT FROM jobs AS waiting
                    WHERE waiting.organization_id = moved.organization_id AND waiting.hold = 'organization_limit')
            OR EXISTS (SELECT FROM jobs AS waiting WHERE waiting.hold = 'limit')
               AND (moved.limit_key IS NOT NULL
                    OR EXISTS (SELECT FROM jobs AS waiting WHERE waiting.organization_id = moved.organization_id
                                                             AND waiting.hold = 'limit'))) AS has_line, (EXISTS (SELECT FROM jobs AS dependent WHERE dependent.hold = 'dependency') AND has_dependents(moved.id)
            OR EXISTS (SELECT FROM circuits WHERE circuits.probe_id = moved.id)) AS is_awaited, false AS is_followed,
       NULL AS failed_in, false AS has_opened
FROM locked FULL JOIN moved USING (given_place);

-- jobs/settle.py RUNNING
SELECT id, dispatch FROM jobs WHERE lease = :'lease' AND (status = 'running' OR stopping) AND NOT stopping;

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
           :'max_retries', payload, :'metadata', :'delivery', :'message', CAST(:'parent_id' AS uuid), CAST(:'root_id' AS uuid),
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
                 CAST(:'payload' AS jsonb) AS payload, CAST(:'depends_on' AS uuid[]) AS depends_on,
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, asked.organization_id) = asked.organization_id
                     AND coalesce(pauses.job_type, asked.job_type) = asked.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = asked.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = asked.job_type AND broken.key = asked.circuit_key
                     AND broken.organization_id IN (asked.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM asked.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = asked.job_type
                      AND coalesce(bound.organization_id, asked.organization_id) = asked.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(asked.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, asked.organization_id) = asked.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(asked.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = asked.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(asked.organization_id, asked.queue, :'lease_timeout')) THEN 'organization_limit'
END AS hold) AS next
     CROSS JOIN LATERAL (
         SELECT CASE WHEN next.hold = 'organization_limit' AND (asked.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
                     THEN sent_level(asked.organization_id, asked.queue, asked.priority, :'limit', :'lease_timeout')
                END AS level) AS sent
    ON CONFLICT DO NOTHING
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, CAST(NULL AS text) AS from_status
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
SELECT jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, jobs.job_type = CAST(:'job_type' AS text) AND jobs.payload = :'payload'
          AND coalesce(jobs.delivery -> 'passing', 'null') = coalesce(CAST(:'delivery' AS jsonb) -> 'passing', 'null') AS is_same
FROM jobs
WHERE organization_id = :'organization_id'
  AND (user_id = :'user_id' AND idempotency_key = CAST(:'idempotency_key' AS text)
       OR CAST(:'idempotency_key' AS text) IS NULL AND id = :'id');

-- jobs/track.py TRACK
WITH found AS (
    SELECT id, status AS was, progress AS reached, started_at AS began, coalesce(:'status', CASE WHEN status IN ('queued', 'retrying') AND CAST(:'percent' AS int) IS NOT NULL
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
        started_at = CASE WHEN starts THEN clock_timestamp() ELSE began END,
        progress = CASE target WHEN 'succeeded' THEN 100
                   ELSE greatest(progress, least(99, coalesce(CAST(:'percent' AS int), 0))) END,
        message = coalesce(CAST(:'message' AS text), message),
        progress_detail = coalesce(CAST(:'detail' AS jsonb), progress_detail),
        result = CAST(:'result' AS jsonb),
        error_message = CASE WHEN target <> 'cancelled' THEN CAST(:'error_message' AS text) END,
        fingerprint = CASE WHEN target = 'failed' THEN error_fingerprint(jobs.job_type, jobs.error_type, CAST(:'error_message' AS text)) END,
        cancel_requested_at = CASE target WHEN 'cancelled' THEN clock_timestamp() END,
        completed_at = CASE WHEN target IN ('succeeded', 'failed', 'cancelled') THEN clock_timestamp() END,
        updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, was, starts, event, reached, coalesce(CAST(:'percent' AS int), 0) > 0
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
    CROSS JOIN LATERAL (SELECT make_interval(secs => least(CAST(:'longest' AS float), coalesce(
        CAST(extract(EPOCH FROM silence) AS float), CAST(CAST(:'of_types' AS jsonb) ->> jobs.job_type AS float),
        CAST(:'silence' AS float)))) AS after) AS patience
    WHERE hold = 'external' AND updated_at < clock_timestamp() - patience.after
    LIMIT :'limit'
    FOR UPDATE OF jobs SKIP LOCKED
), moved AS (
    UPDATE jobs
    SET status = 'failed', hold = NULL, error_type = 'Abandoned',
        error_message = 'nobody has reported on it for ' || to_char(after, 'FMHH24 "h" FMMI "min" FMSS "s"'), fingerprint = CASE WHEN true THEN error_fingerprint(jobs.job_type, 'Abandoned', 'nobody has reported on it for ' || to_char(after, 'FMHH24 "h" FMMI "min" FMSS "s"')) END,
        completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND from_status IN ('queued', 'running', 'retrying')
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
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

-- leadership.py HELD
SELECT EXISTS (SELECT FROM pg_locks
               WHERE locktype = 'advisory' AND CAST(classid AS bigint) = :'high' AND CAST(objid AS bigint) = :'low'
                 AND objsubid = 1 AND granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()));

-- leftovers.py EXPORTED
SELECT id, created_at, CASE WHEN status = 'succeeded' AND jsonb_typeof(result) = 'object'
                            THEN result ->> 'downloadUrl' END AS download_url
FROM jobs
WHERE organization_id = :'organization_id' AND job_type = ANY(CAST(:'job_types' AS text[]))
  AND created_at >= clock_timestamp() - CAST(:'age' AS interval)
  AND (CAST(:'before' AS timestamptz) IS NULL
       OR (created_at, id) < (CAST(:'before' AS timestamptz), CAST(:'before_id' AS uuid)))
ORDER BY created_at DESC, id DESC LIMIT :'most';

-- leftovers.py OLD_KEYS
SELECT count(*) FROM jobs WHERE organization_id = :'organization_id' AND idempotency_key IS NOT NULL
      AND status IN ('succeeded', 'failed', 'cancelled') AND NOT stopping
      AND completed_at < clock_timestamp() - CAST(:'age' AS interval);

-- leftovers.py FORGET_KEYS
WITH old AS (
    SELECT id FROM jobs WHERE organization_id = :'organization_id' AND idempotency_key IS NOT NULL
  AND status IN ('succeeded', 'failed', 'cancelled') AND NOT stopping
  AND completed_at < clock_timestamp() - CAST(:'age' AS interval) LIMIT :'most' FOR UPDATE SKIP LOCKED
), forgotten AS (
    UPDATE jobs SET idempotency_key = NULL, request_hash = NULL FROM old WHERE jobs.id = old.id RETURNING jobs.id
)
SELECT count(*) FROM forgotten;

-- marks.py MARK
INSERT INTO error_marks (organization_id, fingerprint, state, marked_by)
SELECT :'organization_id', :'fingerprint', :'state', :'actor' WHERE (EXISTS (SELECT FROM jobs
                     WHERE organization_id = :'organization_id' AND fingerprint = :'fingerprint' AND status = 'failed')
         OR EXISTS (SELECT FROM error_marks
                    WHERE organization_id = :'organization_id' AND fingerprint = :'fingerprint'))
ON CONFLICT (organization_id, fingerprint) DO UPDATE
SET state = excluded.state, marked_by = excluded.marked_by, marked_at = clock_timestamp()
RETURNING marked_at AS at;

-- marks.py CLEAR
WITH cleared AS (
    DELETE FROM error_marks WHERE organization_id = :'organization_id' AND fingerprint = :'fingerprint'
)
SELECT clock_timestamp() AS at WHERE (EXISTS (SELECT FROM jobs
                     WHERE organization_id = :'organization_id' AND fingerprint = :'fingerprint' AND status = 'failed')
         OR EXISTS (SELECT FROM error_marks
                    WHERE organization_id = :'organization_id' AND fingerprint = :'fingerprint'));

-- operations/begin.py LOCK
SELECT pg_advisory_xact_lock(:'space', hashtext(:'organization_id'));

-- operations/begin.py WORKED
SELECT count(*) FROM operations WHERE organization_id = :'organization_id' AND state IN ('canary', 'running');

-- operations/begin.py EXISTING
SELECT operations.id, operations.organization_id, operations.user_id, operations.whose, operations.action, operations.asked, operations.priority, operations.force, operations.denied, operations.canary, operations.canary_until, operations.state, operations.reason, operations.matched, operations.succeeded, operations.refused, operations.failed, operations.worked_to, operations.worked_at, operations.due_at, operations.idempotency_key, operations.request_hash, operations.created_at, operations.updated_at, operations.completed_at FROM operations
WHERE organization_id = :'organization_id' AND user_id = :'user_id' AND idempotency_key = CAST(:'key' AS text);

-- operations/begin.py BEGIN
INSERT INTO operations (id, organization_id, user_id, whose, action, asked, priority, force, denied, canary, state,
                        matched, idempotency_key, request_hash)
VALUES (:'id', :'organization_id', :'user_id', :'whose', :'action', :'asked', :'priority', :'force', :'denied', :'canary', :'state',
        :'matched', :'idempotency_key', :'request_hash')
RETURNING operations.id, operations.organization_id, operations.user_id, operations.whose, operations.action, operations.asked, operations.priority, operations.force, operations.denied, operations.canary, operations.canary_until, operations.state, operations.reason, operations.matched, operations.succeeded, operations.refused, operations.failed, operations.worked_to, operations.worked_at, operations.due_at, operations.idempotency_key, operations.request_hash, operations.created_at, operations.updated_at, operations.completed_at;

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
RETURNING operations.id, operations.organization_id, operations.user_id, operations.whose, operations.action, operations.asked, operations.priority, operations.force, operations.denied, operations.canary, operations.canary_until, operations.state, operations.reason, operations.matched, operations.succeeded, operations.refused, operations.failed, operations.worked_to, operations.worked_at, operations.due_at, operations.idempotency_key, operations.request_hash, operations.created_at, operations.updated_at, operations.completed_at;

-- operations/reads.py STOP
UPDATE operations
SET state = :'state', reason = :'reason', completed_at = clock_timestamp(), updated_at = clock_timestamp()
WHERE id = :'id' AND completed_at IS NULL
RETURNING operations.id, operations.organization_id, operations.user_id, operations.whose, operations.action, operations.asked, operations.priority, operations.force, operations.denied, operations.canary, operations.canary_until, operations.state, operations.reason, operations.matched, operations.succeeded, operations.refused, operations.failed, operations.worked_to, operations.worked_at, operations.due_at, operations.idempotency_key, operations.request_hash, operations.created_at, operations.updated_at, operations.completed_at;

-- operations/reads.py FORGET_RESULTS
DELETE FROM operation_jobs
WHERE operation_id = :'id'
  AND job_id IN (SELECT job_id FROM operation_jobs WHERE operation_id = :'id' ORDER BY job_id LIMIT :'limit');

-- operations/work.py NEXT
SELECT operation.id, operation.organization_id, operation.user_id, operation.whose, operation.action, operation.asked, operation.priority, operation.force, operation.denied, operation.canary, operation.canary_until, operation.state, operation.reason, operation.matched, operation.succeeded, operation.refused, operation.failed, operation.worked_to, operation.worked_at, operation.due_at, operation.idempotency_key, operation.request_hash, operation.created_at, operation.updated_at, operation.completed_at FROM operations AS operation
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

-- reads/condition.py CONDITION
SELECT current_setting('server_version') AS version,
       NOT pg_is_in_recovery() AND NOT current_setting('transaction_read_only')::bool AS is_writable,
       pg_is_in_recovery() AS is_standby,
       clock_timestamp() AS now, pg_database_size(current_database()) AS size,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
       current_setting('max_connections')::int AS most_connections;

-- reads/condition.py WRITERS
SELECT activity.pid, coalesce(activity.usename, '') AS user, coalesce(activity.application_name, '') AS program,
       coalesce(activity.state, '') AS state, clock_timestamp() - activity.xact_start AS since
FROM pg_locks AS held JOIN pg_stat_activity AS activity USING (pid)
WHERE held.locktype = 'relation' AND held.relation IN (CAST('history' AS regclass), CAST('events' AS regclass))
  AND held.granted
  AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND held.mode = 'RowExclusiveLock' AND activity.pid <> pg_backend_pid()
ORDER BY activity.xact_start;

-- reads/explain.py BLOCKED
SELECT (SELECT CASE
        WHEN jobs.hold IS NULL THEN CASE WHEN (EXISTS (SELECT FROM pauses
                       WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                         AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type)
                OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = jobs.queue)) THEN 'paused' WHEN EXISTS (SELECT FROM circuits AS broken
                       WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                         AND broken.organization_id IN (jobs.organization_id, '')
                         AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
             WHEN (jobs.limit_key IS NULL AND (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                        WHERE bound.job_type = jobs.job_type
                          AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                          AND (bound.per <> 'key'
                               OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                        WHERE bound.job_type IS NULL
                          AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                          AND (bound.per <> 'key'
                               OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL))))) THEN 'limit' END
        WHEN CASE jobs.hold
        WHEN 'dependency' THEN (jobs.follows IS NOT NULL OR jobs.follows_group IS NOT NULL) OR jobs.unresolved OR EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                     WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                       WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
                OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
                   AND NOT dependency.stopping)))
        WHEN 'paused' THEN (EXISTS (SELECT FROM pauses
                       WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                         AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type)
                OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = jobs.queue))
        WHEN 'circuit' THEN EXISTS (SELECT FROM circuits AS broken
                       WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                         AND broken.organization_id IN (jobs.organization_id, '')
                         AND broken.probe_id IS DISTINCT FROM jobs.id)
        WHEN 'limit' THEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                        WHERE bound.job_type = jobs.job_type
                          AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                          AND (bound.per <> 'key'
                               OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                        WHERE bound.job_type IS NULL
                          AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                          AND (bound.per <> 'key'
                               OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) AND NOT :'is_within'
        WHEN 'organization_limit' THEN NOT :'gets_slot'
        WHEN 'external' THEN true
        ELSE jobs.due_at > clock_timestamp()
    END THEN jobs.hold
        WHEN next.hold <> 'organization_limit' AND NOT (next.hold = 'limit' AND :'is_within') THEN next.hold
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
        WHEN (EXISTS (SELECT FROM pauses
                       WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                         AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type)
                OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = jobs.queue)) THEN 'paused'
        WHEN EXISTS (SELECT FROM circuits AS broken
                       WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                         AND broken.organization_id IN (jobs.organization_id, '')
                         AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
        WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                        WHERE bound.job_type = jobs.job_type
                          AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                          AND (bound.per <> 'key'
                               OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                        WHERE bound.job_type IS NULL
                          AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                          AND (bound.per <> 'key'
                               OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
        WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = jobs.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(jobs.organization_id, jobs.queue, :'lease_timeout')) THEN 'organization_limit'
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id
                     AND coalesce(pauses.job_type, jobs.job_type) = jobs.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = jobs.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = jobs.job_type AND broken.key = jobs.circuit_key
                     AND broken.organization_id IN (jobs.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM jobs.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = jobs.job_type
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(jobs.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN true THEN 'organization_limit'
END NOT IN ('limit', 'organization_limit') AS is_stopped,
           (coalesce((SELECT concurrency FROM organizations WHERE id = jobs.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(jobs.organization_id, jobs.queue, :'lease_timeout')) AS joins, ARRAY(SELECT DISTINCT unnest(queues) AS each FROM workers
                 WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AND jobs.queue = ANY(workers.queues) ORDER BY each) AS shared,
           EXISTS (SELECT FROM pauses WHERE coalesce(pauses.organization_id, jobs.organization_id) = jobs.organization_id)
               OR EXISTS (SELECT FROM paused_queues) AS has_pauses,
           EXISTS (SELECT FROM circuits WHERE circuits.organization_id IN (jobs.organization_id, ''))
               AS has_circuits,
           EXISTS (SELECT FROM job_limits AS bound
                   WHERE coalesce(bound.organization_id, jobs.organization_id) = jobs.organization_id) AS has_limits
    FROM jobs WHERE id = :'id'
)
SELECT count(*) FROM (
    SELECT FROM this JOIN jobs AS earlier USING (organization_id)
    WHERE earlier.hold = 'organization_limit' AND (earlier.priority > this.priority
            OR earlier.priority = this.priority
               AND (earlier.created_at, earlier.id) < (this.created_at, this.id)) AND (earlier.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
      AND (:'is_full' OR earlier.queue = this.queue OR earlier.queue = ANY(this.shared)) AND (this.is_stopped OR this.joins AND NOT (this.has_pauses OR this.has_circuits))
    UNION ALL
    SELECT FROM this JOIN jobs AS earlier USING (organization_id)
    WHERE earlier.hold = 'organization_limit' AND (earlier.priority > this.priority
            OR earlier.priority = this.priority
               AND (earlier.created_at, earlier.id) < (this.created_at, this.id)) AND (earlier.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
      AND (:'is_full' OR earlier.queue = this.queue OR earlier.queue = ANY(this.shared)) AND NOT this.is_stopped AND (this.has_pauses OR this.has_circuits)
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
    WHEN this.has_pauses AND (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, earlier.organization_id) = earlier.organization_id
                     AND coalesce(pauses.job_type, earlier.job_type) = earlier.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = earlier.queue)) THEN 'paused'
    WHEN this.has_circuits AND EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = earlier.job_type AND broken.key = earlier.circuit_key
                     AND broken.organization_id IN (earlier.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM earlier.id) THEN 'circuit'
    WHEN this.has_limits AND (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = earlier.job_type
                      AND coalesce(bound.organization_id, earlier.organization_id) = earlier.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(earlier.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, earlier.organization_id) = earlier.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(earlier.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
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

-- reads/failures.py FINGERPRINT_OF
SELECT fingerprint FROM jobs WHERE id = :'id' AND status = 'failed';

-- reads/failures.py GROUPS
WITH failed AS MATERIALIZED (
    SELECT jobs.organization_id, jobs.fingerprint, completed_at, id, user_id
    FROM jobs LEFT JOIN error_marks USING (organization_id, fingerprint)
    WHERE jobs.organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND status = 'failed' AND jobs.fingerprint IS NOT NULL AND completed_at >= date_bin(CAST(:'width' AS interval), now(), timestamptz '2000-01-01Z') - :'last' * CAST(:'width' AS interval)
      AND (CAST(:'job_type' AS text) IS NULL OR job_type = :'job_type')
      AND (CAST(:'project_id' AS text) IS NULL OR project_id = :'project_id')
      AND CASE WHEN state IS NULL OR state = 'resolved' AND completed_at > marked_at
                         THEN 'open' ELSE state END = :'standing'
    ORDER BY completed_at DESC, id DESC
    LIMIT :'read' + 1
), alike AS (
    SELECT fingerprint, count(*) AS count, count(DISTINCT (organization_id, user_id)) AS users,
           max(completed_at) AS last_seen, (array_agg(id ORDER BY completed_at DESC, id DESC))[1] AS sample,
           array_agg(DISTINCT organization_id) AS whose
    FROM failed GROUP BY fingerprint
), shown AS (
    SELECT * FROM alike ORDER BY count DESC, last_seen DESC, fingerprint LIMIT :'size'
), parts AS (
    SELECT fingerprint, json_agg(json_build_array(place, number)) AS counted
    FROM (SELECT fingerprint, count(*) AS number,
                 floor(extract(EPOCH FROM completed_at - (date_bin(CAST(:'width' AS interval), now(), timestamptz '2000-01-01Z') - :'last' * CAST(:'width' AS interval))) / extract(EPOCH FROM CAST(:'width' AS interval)))
                 ::int AS place
          FROM failed JOIN shown USING (fingerprint)
          GROUP BY 1, 3) AS counted
    GROUP BY fingerprint
)
SELECT date_bin(CAST(:'width' AS interval), now(), timestamptz '2000-01-01Z') - :'last' * CAST(:'width' AS interval) AS since, (SELECT count(*) FROM alike) AS total, (SELECT count(*) FROM failed) > :'read' AS is_capped,
       shown.*, jobs.job_type, jobs.error_type, error_shape(jobs.error_message) AS message,
       jobs.error_message AS sample_message, counted, cardinality(whose) AS of_organizations,
       whose[1:5] AS organizations, kept.first_seen, kept.failed, kept.is_capped AS failed_is_capped,
       marked_by, marked_at
FROM (SELECT) AS always
LEFT JOIN (shown JOIN parts USING (fingerprint) JOIN jobs ON jobs.id = sample
           LEFT JOIN error_marks ON error_marks.organization_id = jobs.organization_id
                                 AND error_marks.fingerprint = jobs.fingerprint) ON true
LEFT JOIN LATERAL (
    SELECT min(since) AS first_seen, sum(least(number, :'kept'))::int AS failed, bool_or(number > :'kept') AS is_capped
    FROM unnest(whose) AS theirs (id) CROSS JOIN LATERAL (
        SELECT count(*) AS number, min(completed_at) AS since
        FROM (SELECT completed_at FROM jobs AS same
              WHERE same.organization_id = theirs.id AND same.fingerprint = shown.fingerprint AND status = 'failed'
                AND (CAST(:'user_id' AS text) IS NULL OR same.user_id = :'user_id')
              ORDER BY created_at, id LIMIT :'kept' + 1) AS oldest) AS counted
) AS kept ON shown.fingerprint IS NOT NULL
ORDER BY count DESC, last_seen DESC, shown.fingerprint;

-- reads/failures.py GROUPS_EVERYWHERE
WITH RECURSIVE whose AS (
    SELECT min(organization_id) AS id FROM jobs WHERE status = 'failed'
    UNION ALL
    SELECT (SELECT min(organization_id) FROM jobs WHERE status = 'failed' AND organization_id > whose.id)
    FROM whose WHERE id IS NOT NULL
), failed AS MATERIALIZED (
    SELECT theirs.*
    FROM whose CROSS JOIN LATERAL (
    SELECT jobs.organization_id, jobs.fingerprint, completed_at, id, user_id
    FROM jobs LEFT JOIN error_marks USING (organization_id, fingerprint)
    WHERE jobs.organization_id = whose.id AND status = 'failed' AND jobs.fingerprint IS NOT NULL AND completed_at >= date_bin(CAST(:'width' AS interval), now(), timestamptz '2000-01-01Z') - :'last' * CAST(:'width' AS interval)
      AND (CAST(:'job_type' AS text) IS NULL OR job_type = :'job_type')
      AND (CAST(:'project_id' AS text) IS NULL OR project_id = :'project_id')
      AND CASE WHEN state IS NULL OR state = 'resolved' AND completed_at > marked_at
                         THEN 'open' ELSE state END = :'standing'
    ORDER BY completed_at DESC, id DESC
    LIMIT :'of_each' + 1
    ) AS theirs
    ORDER BY completed_at DESC, theirs.id DESC
    LIMIT :'read' + 1
), alike AS (
    SELECT fingerprint, count(*) AS count, count(DISTINCT (organization_id, user_id)) AS users,
           max(completed_at) AS last_seen, (array_agg(id ORDER BY completed_at DESC, id DESC))[1] AS sample,
           array_agg(DISTINCT organization_id) AS whose
    FROM failed GROUP BY fingerprint
), shown AS (
    SELECT * FROM alike ORDER BY count DESC, last_seen DESC, fingerprint LIMIT :'size'
), parts AS (
    SELECT fingerprint, json_agg(json_build_array(place, number)) AS counted
    FROM (SELECT fingerprint, count(*) AS number,
                 floor(extract(EPOCH FROM completed_at - (date_bin(CAST(:'width' AS interval), now(), timestamptz '2000-01-01Z') - :'last' * CAST(:'width' AS interval))) / extract(EPOCH FROM CAST(:'width' AS interval)))
                 ::int AS place
          FROM failed JOIN shown USING (fingerprint)
          GROUP BY 1, 3) AS counted
    GROUP BY fingerprint
)
SELECT date_bin(CAST(:'width' AS interval), now(), timestamptz '2000-01-01Z') - :'last' * CAST(:'width' AS interval) AS since, (SELECT count(*) FROM alike) AS total, ((SELECT count(*) FROM failed) > :'read'
        OR EXISTS (SELECT FROM failed GROUP BY organization_id HAVING count(*) > :'of_each')) AS is_capped,
       shown.*, jobs.job_type, jobs.error_type, error_shape(jobs.error_message) AS message,
       jobs.error_message AS sample_message, counted, cardinality(whose) AS of_organizations,
       whose[1:5] AS organizations, kept.first_seen, kept.failed, kept.is_capped AS failed_is_capped,
       marked_by, marked_at
FROM (SELECT) AS always
LEFT JOIN (shown JOIN parts USING (fingerprint) JOIN jobs ON jobs.id = sample
           LEFT JOIN error_marks ON error_marks.organization_id = jobs.organization_id
                                 AND error_marks.fingerprint = jobs.fingerprint) ON true
LEFT JOIN LATERAL (
    SELECT min(since) AS first_seen, sum(least(number, :'kept'))::int AS failed, bool_or(number > :'kept') AS is_capped
    FROM unnest(whose) AS theirs (id) CROSS JOIN LATERAL (
        SELECT count(*) AS number, min(completed_at) AS since
        FROM (SELECT completed_at FROM jobs AS same
              WHERE same.organization_id = theirs.id AND same.fingerprint = shown.fingerprint AND status = 'failed'
                AND (CAST(:'user_id' AS text) IS NULL OR same.user_id = :'user_id')
              ORDER BY created_at, id LIMIT :'kept' + 1) AS oldest) AS counted
) AS kept ON shown.fingerprint IS NOT NULL
ORDER BY count DESC, last_seen DESC, shown.fingerprint;

-- reads/fleet.py WORKERS
SELECT lease, name, pid, queues, concurrency, started_at, seen_at,
       seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AS is_alive,
       clock_timestamp() - seen_at AS silent_for,
       (SELECT count(*) FROM jobs WHERE jobs.lease = workers.lease AND (status = 'running' OR stopping) AND NOT stopping) AS running
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
           clock_timestamp() - min(coalesce(dispatched_at, updated_at)) FILTER (WHERE (status IN ('queued', 'retrying') AND coalesce(hold = 'organization_limit', true))) AS oldest,
           sum(losses)::int AS losses
    FROM jobs WHERE status IN ('queued', 'running', 'retrying') AND hold IS DISTINCT FROM 'external'
    GROUP BY queue
)
SELECT coalesce(served.queue, filled.queue, paused_queues.queue) AS name, coalesce(workers, 0) AS workers,
       coalesce(slots, 0)::int AS slots, coalesce(running, 0) AS running, coalesce(waiting, 0) AS waiting,
       coalesce(held, 0) AS held, oldest, coalesce(losses, 0) AS losses, paused_by, reason, paused_at
FROM served FULL JOIN filled ON served.queue = filled.queue
     FULL JOIN paused_queues ON paused_queues.queue = coalesce(served.queue, filled.queue)
ORDER BY 1;

-- reads/graphs.py JOBS
SELECT jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, coalesce(follows, CAST(born.detail ->> 'follows' AS uuid)) AS followed,
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

-- reads/measured.py ACTIVE_JOBS
WITH RECURSIVE lines AS (
    (SELECT organization_id FROM jobs WHERE status IN ('queued', 'running', 'retrying') ORDER BY organization_id LIMIT 1)
    UNION ALL
    SELECT (SELECT organization_id FROM jobs
            WHERE status IN ('queued', 'running', 'retrying') AND organization_id > lines.organization_id
            ORDER BY organization_id LIMIT 1)
    FROM lines WHERE lines.organization_id IS NOT NULL
),
active AS (
    SELECT lines.organization_id, mine.*
    FROM lines CROSS JOIN LATERAL (
        SELECT queue, job_type, hold, status, coalesce(dispatched_at, updated_at) AS since FROM jobs
        WHERE jobs.organization_id = lines.organization_id AND status IN ('queued', 'running', 'retrying')
        LIMIT :'most') AS mine
    LIMIT :'most'
), counted AS (
    SELECT queue, job_type, organization_id, hold, status, count(*) AS number, min(since) AS since
    FROM active GROUP BY queue, job_type, organization_id, hold, status
)
SELECT CASE 15 - grouping(queue, job_type, organization_id, hold)
           WHEN 8 THEN 'queue' WHEN 4 THEN 'job_type' WHEN 2 THEN 'organization_id' WHEN 1 THEN 'hold'
       END AS by,
       coalesce(queue, job_type, organization_id, hold) AS name,
       coalesce(sum(number) FILTER (WHERE hold IS DISTINCT FROM 'external' AND (status IN ('queued', 'retrying') AND coalesce(hold = 'organization_limit', true))), 0)::int AS waiting,
       coalesce(sum(number) FILTER (WHERE hold IS DISTINCT FROM 'external' AND NOT (status IN ('queued', 'retrying') AND coalesce(hold = 'organization_limit', true)) AND status IN ('queued', 'retrying')), 0)::int AS held,
       coalesce(sum(number) FILTER (WHERE hold IS DISTINCT FROM 'external' AND status = 'running'), 0)::int AS running,
       coalesce(sum(number), 0)::int AS total,
       clock_timestamp() - min(since) FILTER (WHERE hold IS DISTINCT FROM 'external' AND (status IN ('queued', 'retrying') AND coalesce(hold = 'organization_limit', true))) AS oldest
FROM counted
GROUP BY GROUPING SETS ((queue), (job_type), (organization_id), (hold), ())
ORDER BY waiting DESC, held DESC, running DESC, name;

-- reads/measured.py FLEET
WITH known AS (
    SELECT queues, concurrency, seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval) AS is_alive
    FROM workers
)
SELECT NULL AS queue, is_alive, count(*)::int AS workers, 0 AS slots FROM known GROUP BY is_alive
UNION ALL
SELECT queue, true, count(*)::int, sum(concurrency)::int
FROM known CROSS JOIN LATERAL unnest(queues) AS consumed (queue)
WHERE is_alive GROUP BY queue;

-- reads/measured.py CIRCUITS
SELECT job_type, probe_id IS NOT NULL OR probe_at <= clock_timestamp() AS is_half_open, count(*)::int AS number
FROM circuits GROUP BY 1, 2 ORDER BY number DESC, job_type LIMIT 200;

-- reads/measured.py UNSENT
SELECT count(*)::int AS number, clock_timestamp() - min(updated_at) AS oldest
FROM (SELECT updated_at FROM jobs WHERE status IN ('queued', 'retrying') AND hold IS NULL AND dispatched_at IS NULL
      ORDER BY created_at LIMIT :'most') AS unsent;

-- reads/organizations.py ONE
SELECT this.id, coalesce((SELECT concurrency FROM organizations WHERE id = this.id), CAST(:'limit' AS int)) AS "limit",
       NOT EXISTS (SELECT FROM organizations WHERE organizations.id = this.id) AS is_default_limit,
       coalesce((SELECT weight FROM organization_weights WHERE organization_id = this.id), 1) AS weight,
       (SELECT most FROM waiting_limits WHERE organization_id = this.id) AS waiting_limit,
       (SELECT count(*) FROM jobs WHERE organization_id = this.id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping)) AS executing,
       line.in_line, (SELECT count(*) FROM jobs WHERE organization_id = this.id AND status IN ('queued', 'retrying') AND hold IS DISTINCT FROM 'external') AS waiting, line.oldest,
       ended.finished, ended.failed, ended.worker_time FROM (SELECT CAST(:'organization_id' AS text) AS id) AS this
CROSS JOIN LATERAL (
    SELECT count(*) AS in_line, clock_timestamp() - min(created_at) AS oldest
    FROM jobs WHERE organization_id = this.id AND hold = 'organization_limit'
) AS line
CROSS JOIN LATERAL (
    SELECT count(*) AS finished, count(*) FILTER (WHERE status = 'failed') AS failed,
           coalesce(sum(completed_at - started_at), interval '0') AS worker_time
    FROM jobs WHERE organization_id = this.id AND completed_at IS NOT NULL AND completed_at > now() - CAST(:'window' AS interval)
) AS ended;

-- reads/organizations.py PAGE
WITH RECURSIVE lines AS (
    (SELECT organization_id FROM jobs WHERE organization_id > :'after' ORDER BY organization_id LIMIT 1)
    UNION ALL
    SELECT (SELECT organization_id FROM jobs
            WHERE organization_id > :'after' AND organization_id > lines.organization_id
            ORDER BY organization_id LIMIT 1)
    FROM lines WHERE lines.organization_id IS NOT NULL
), known AS (
    (SELECT organization_id AS id FROM lines WHERE organization_id NOT LIKE 'webhooks:%' LIMIT :'size')
    UNION (SELECT id FROM organizations WHERE id > :'after' ORDER BY id LIMIT :'size')
    UNION (SELECT organization_id FROM organization_weights WHERE organization_id > :'after'
           ORDER BY organization_id LIMIT :'size')
    UNION (SELECT organization_id FROM waiting_limits WHERE organization_id > :'after'
           ORDER BY organization_id LIMIT :'size')
)
SELECT this.id, coalesce((SELECT concurrency FROM organizations WHERE id = this.id), CAST(:'limit' AS int)) AS "limit",
       NOT EXISTS (SELECT FROM organizations WHERE organizations.id = this.id) AS is_default_limit,
       coalesce((SELECT weight FROM organization_weights WHERE organization_id = this.id), 1) AS weight,
       (SELECT most FROM waiting_limits WHERE organization_id = this.id) AS waiting_limit,
       (SELECT count(*) FROM jobs WHERE organization_id = this.id AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping)) AS executing,
       line.in_line, (SELECT count(*) FROM jobs WHERE organization_id = this.id AND status IN ('queued', 'retrying') AND hold IS DISTINCT FROM 'external') AS waiting, line.oldest,
       ended.finished, ended.failed, ended.worker_time FROM (SELECT id FROM known ORDER BY id LIMIT :'size') AS this
CROSS JOIN LATERAL (
    SELECT count(*) AS in_line, clock_timestamp() - min(created_at) AS oldest
    FROM jobs WHERE organization_id = this.id AND hold = 'organization_limit'
) AS line
CROSS JOIN LATERAL (
    SELECT count(*) AS finished, count(*) FILTER (WHERE status = 'failed') AS failed,
           coalesce(sum(completed_at - started_at), interval '0') AS worker_time
    FROM jobs WHERE organization_id = this.id AND completed_at IS NOT NULL AND completed_at > now() - CAST(:'window' AS interval)
) AS ended
ORDER BY this.id;

-- reads/organizations.py NEIGHBOURS
WITH there AS (
    SELECT organization_id, queue, true AS is_taken, created_at FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping)
    UNION ALL
    SELECT organization_id, queue, false, created_at FROM jobs WHERE hold = 'organization_limit'
)
SELECT organization_id AS id, array_agg(DISTINCT queue) AS queues, count(*) FILTER (WHERE is_taken) AS taken,
       count(*) FILTER (WHERE NOT is_taken) AS in_line,
       clock_timestamp() - min(created_at) FILTER (WHERE NOT is_taken) AS oldest
FROM there
WHERE organization_id <> :'organization_id' AND organization_id NOT LIKE 'webhooks:%'
  AND queue IN (SELECT queue FROM there WHERE organization_id = :'organization_id')
GROUP BY organization_id
ORDER BY taken DESC, in_line DESC, id LIMIT :'most';

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
    SELECT mine.organization_id, mine.job_type, mine.queue, mine.status, mine.hold, mine.dispatched_at, mine.updated_at
    FROM lines CROSS JOIN LATERAL (
        SELECT organization_id, job_type, queue, status, hold, dispatched_at, updated_at FROM jobs
        WHERE jobs.organization_id = lines.organization_id AND status IN ('queued', 'running', 'retrying') AND hold IS DISTINCT FROM 'external'
        LIMIT :'most') AS mine
    LIMIT :'most'
), ended AS (
    SELECT mine.organization_id, mine.job_type, mine.queue, mine.status, mine.hold, mine.dispatched_at, mine.updated_at
    FROM lines CROSS JOIN LATERAL (
        SELECT organization_id, job_type, queue, status, hold, dispatched_at, updated_at FROM jobs
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
       clock_timestamp() - min(coalesce(dispatched_at, updated_at)) FILTER (WHERE (status IN ('queued', 'retrying') AND coalesce(hold = 'organization_limit', true))) AS oldest
FROM (SELECT * FROM active UNION ALL SELECT * FROM ended) AS read
GROUP BY GROUPING SETS ((organization_id), (job_type), (queue), ())
ORDER BY waiting DESC, failed DESC, running DESC, name;

-- reads/past.py UNTIL
SELECT entry.* FROM jobs CROSS JOIN LATERAL (
    SELECT history.id, history.job_id, history.organization_id, history.user_id, history.job_type, history.event, history.from_status, history.to_status, history.attempt, history.dispatch, history.actor, history.detail, history.circuit_key, history.origin, history.at FROM history WHERE job_id = jobs.id AND at >= jobs.created_at - interval '1 hour' AND at <= :'at'
    ORDER BY id DESC LIMIT :'most') AS entry
WHERE jobs.id = ANY(CAST(:'ids' AS uuid[]))
ORDER BY entry.job_id, entry.id;

-- reads/past.py STATS
WITH others AS MATERIALIZED (
    (SELECT id, created_at FROM jobs WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND (CAST(:'project_id' AS text) IS NULL OR project_id = :'project_id') AND created_at <= :'at' AND status IN ('queued', 'running', 'retrying') LIMIT :'most')
    UNION ALL
    (SELECT id, created_at FROM jobs WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND (CAST(:'project_id' AS text) IS NULL OR project_id = :'project_id') AND created_at <= :'at' AND completed_at IS NOT NULL AND completed_at > :'at' LIMIT :'most')
), were AS (
    SELECT last.* FROM others CROSS JOIN LATERAL (
        SELECT to_status AS status, at AS since,
               CASE WHEN to_status IN ('succeeded', 'failed', 'cancelled') THEN NULL
                    WHEN event = 'due' THEN detail ->> 'next' WHEN event = 'failed' THEN 'backoff'
                    ELSE detail ->> 'hold' END AS hold
        FROM history
        WHERE job_id = others.id AND at >= others.created_at - interval '1 hour' AND at <= :'at'
          AND event IN ('created', 'held', 'due', 'started', 'failed', 'released', 'retried', 'completed', 'cancelled')
        ORDER BY history.id DESC LIMIT 1) AS last
)
SELECT status, hold, count(*) AS number, min(since) AS since, CAST(NULL AS interval) AS ran
FROM were
WHERE status IN ('queued', 'running', 'retrying') OR CAST(:'window' AS interval) IS NULL OR since > :'at' - CAST(:'window' AS interval)
GROUP BY status, hold
UNION ALL
SELECT status, NULL, count(*), min(completed_at), avg(completed_at - started_at)
FROM jobs
WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND (CAST(:'project_id' AS text) IS NULL OR project_id = :'project_id') AND completed_at IS NOT NULL AND completed_at <= :'at'
  AND completed_at > CASE WHEN CAST(:'window' AS interval) IS NULL THEN CAST('-infinity' AS timestamptz)
                          ELSE :'at' - CAST(:'window' AS interval) END
GROUP BY status;

-- reads/restored.py NEWEST
SELECT at FROM history ORDER BY id DESC LIMIT 1;

-- reads/restored.py KNOWN
SELECT id, dispatch, attempt, status, job_type, organization_id FROM jobs WHERE id = ANY(CAST(:'ids' AS uuid[]));

-- reads/restored.py SENT
SELECT id, dispatch, attempt, status, job_type, organization_id FROM jobs
WHERE status IN ('queued', 'retrying') AND hold IS NULL AND dispatched_at IS NOT NULL;

-- reads/restored.py RUNNING
SELECT id, dispatch, attempt, status, job_type, organization_id FROM jobs
WHERE (status = 'running' AND hold IS DISTINCT FROM 'external' OR stopping)
  AND NOT EXISTS (SELECT FROM workers WHERE workers.lease = jobs.lease AND workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval));

-- reads/restored.py OVERDUE
SELECT id, name, organization_id, next_at, catch_up FROM schedules
WHERE NOT paused AND next_at <= clock_timestamp() ORDER BY next_at;

-- reads/restored.py GOING_ON
SELECT id, action, organization_id FROM operations WHERE state IN ('canary', 'running') ORDER BY id;

-- reads/restored.py UNTOLD
SELECT (SELECT count(*) FROM (SELECT id FROM history WHERE id > history_id ORDER BY id LIMIT :'most') AS events)
FROM webhook_position;

-- reads/restored.py ORGANIZATIONS
WITH RECURSIVE lines AS (
    (SELECT organization_id FROM jobs WHERE true ORDER BY organization_id LIMIT 1)
    UNION ALL
    SELECT (SELECT organization_id FROM jobs
            WHERE true AND organization_id > lines.organization_id
            ORDER BY organization_id LIMIT 1)
    FROM lines WHERE lines.organization_id IS NOT NULL
)
SELECT organization_id FROM lines WHERE organization_id IS NOT NULL
UNION SELECT organization_id FROM files ORDER BY 1;

-- reads/schedules.py GET
SELECT schedules.id, schedules.organization_id, schedules.user_id, schedules.name, schedules.job_type, schedules.payload, schedules.priority, schedules.max_retries, schedules.project_id, schedules.metadata, schedules.cron, schedules.timezone, schedules.every_seconds, schedules.catch_up, schedules.overlap, schedules.template, schedules.granted, schedules.granted_template, schedules.anchor, schedules.since, schedules.next_at, schedules.paused, schedules.paused_by, schedules.paused_at, schedules.version, schedules.changed_by, schedules.created_at, schedules.updated_at FROM schedules WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id');

-- reads/schedules.py PAGE
SELECT schedules.id, schedules.organization_id, schedules.user_id, schedules.name, schedules.job_type, schedules.payload, schedules.priority, schedules.max_retries, schedules.project_id, schedules.metadata, schedules.cron, schedules.timezone, schedules.every_seconds, schedules.catch_up, schedules.overlap, schedules.template, schedules.granted, schedules.granted_template, schedules.anchor, schedules.since, schedules.next_at, schedules.paused, schedules.paused_by, schedules.paused_at, schedules.version, schedules.changed_by, schedules.created_at, schedules.updated_at FROM schedules
WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND (CAST(:'after' AS text) IS NULL OR name > CAST(:'after' AS text))
ORDER BY name LIMIT :'size';

-- reads/schedules.py EVERYWHERE
SELECT schedules.id, schedules.organization_id, schedules.user_id, schedules.name, schedules.job_type, schedules.payload, schedules.priority, schedules.max_retries, schedules.project_id, schedules.metadata, schedules.cron, schedules.timezone, schedules.every_seconds, schedules.catch_up, schedules.overlap, schedules.template, schedules.granted, schedules.granted_template, schedules.anchor, schedules.since, schedules.next_at, schedules.paused, schedules.paused_by, schedules.paused_at, schedules.version, schedules.changed_by, schedules.created_at, schedules.updated_at FROM schedules
WHERE (organization_id, name) > (CAST(:'organization_id' AS text), CAST(:'after' AS text))
ORDER BY organization_id, name LIMIT :'size';

-- reads/schedules.py ALL
SELECT schedules.id, schedules.organization_id, schedules.user_id, schedules.name, schedules.job_type, schedules.payload, schedules.priority, schedules.max_retries, schedules.project_id, schedules.metadata, schedules.cron, schedules.timezone, schedules.every_seconds, schedules.catch_up, schedules.overlap, schedules.template, schedules.granted, schedules.granted_template, schedules.anchor, schedules.since, schedules.next_at, schedules.paused, schedules.paused_by, schedules.paused_at, schedules.version, schedules.changed_by, schedules.created_at, schedules.updated_at FROM schedules
WHERE CAST(:'organization_id' AS text) IS NULL OR organization_id = :'organization_id'
ORDER BY organization_id, name;

-- reads/search.py TYPES
WITH RECURSIVE kinds AS (
    (SELECT job_type FROM jobs WHERE organization_id = :'organization_id' AND completed_at IS NOT NULL ORDER BY job_type LIMIT 1)
    UNION ALL
    SELECT next.job_type FROM kinds CROSS JOIN LATERAL (
        SELECT job_type FROM jobs WHERE organization_id = :'organization_id' AND completed_at IS NOT NULL AND jobs.job_type > kinds.job_type
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

-- reads/seen.py ENDED
SELECT id FROM jobs WHERE id = ANY(:'ids') AND status IN ('succeeded', 'failed', 'cancelled');

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
    WHERE locktype = 'relation' AND relation IN (CAST('history' AS regclass), CAST('events' AS regclass))
      AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND mode = 'RowExclusiveLock' AND granted;

-- reads/tail.py HOLDERS
SELECT pid FROM (SELECT pid FROM pg_locks
WHERE locktype = 'relation' AND relation IN (CAST('history' AS regclass), CAST('events' AS regclass))
  AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND mode = 'RowExclusiveLock' AND granted AND pid IS NOT NULL) AS writing JOIN pg_stat_activity USING (pid)
ORDER BY xact_start;

-- reads/tail.py ROWS
SELECT happened.id, happened.job_id, happened.organization_id, happened.user_id, happened.job_type,
       happened.event, happened.to_status, happened.attempt, happened.actor,
       happened.detail - 'traceback' - 'exception' - 'children' AS detail,
       (SELECT project_id FROM jobs WHERE jobs.id = happened.job_id) AS project_id FROM history AS happened
WHERE id > :'after' AND id <= :'until' ORDER BY id LIMIT :'most';

-- reads/tail.py EVENTS
SELECT events.id, events.at, events.organization_id, events.user_id, events.project_id, events.job_type, events.event, events.subject_id, events.detail FROM events WHERE id > :'after' AND id <= :'until' ORDER BY id LIMIT :'most';

-- reads/tail.py SCANNED
SELECT (SELECT count(*) FROM (SELECT FROM history WHERE organization_id = :'organization_id' AND id > :'after' AND id <= :'until' LIMIT :'most') AS scanned) + (SELECT count(*) FROM (SELECT FROM events WHERE organization_id = :'organization_id' AND id > :'after' AND id <= :'until' LIMIT :'most') AS scanned);

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

-- reads/tail.py HAS_LOST_JOBS
SELECT EXISTS (SELECT FROM history WHERE organization_id = :'organization_id' AND id > :'after' AND id <= :'until' AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = job_id));

-- reads/tail.py MISSED_EVENTS
SELECT events.id, events.at, events.organization_id, events.user_id, events.project_id, events.job_type, events.event, events.subject_id, events.detail FROM events
WHERE organization_id = :'organization_id' AND id > :'after' AND id <= :'until'
  AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id')
  AND (CAST(:'job_type' AS text) IS NULL OR job_type = :'job_type')
  AND (CAST(:'project_id' AS text) IS NULL OR project_id = :'project_id')
ORDER BY id;

-- reads/throughput.py FINISHED
WITH counted AS (
    SELECT date_bin(CAST(:'width' AS interval), completed_at, timestamptz '2000-01-01Z') AS start, status,
           count(*) AS number
    FROM jobs
    WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND completed_at IS NOT NULL AND completed_at >= date_bin(CAST(:'width' AS interval), now(), timestamptz '2000-01-01Z') - (:'slices' - 1) * CAST(:'width' AS interval)
    GROUP BY 1, 2
), parts AS (
    SELECT part.start,
           coalesce(sum(number) FILTER (WHERE status = 'succeeded'), 0)::int AS succeeded,
           coalesce(sum(number) FILTER (WHERE status = 'failed'), 0)::int AS failed,
           coalesce(sum(number) FILTER (WHERE status = 'cancelled'), 0)::int AS cancelled
    FROM generate_series(date_bin(CAST(:'width' AS interval), now(), timestamptz '2000-01-01Z') - (:'slices' - 1) * CAST(:'width' AS interval), date_bin(CAST(:'width' AS interval), now(), timestamptz '2000-01-01Z'), CAST(:'width' AS interval)) AS part (start)
    LEFT JOIN counted USING (start)
    GROUP BY part.start
)
SELECT start, succeeded, failed, cancelled, median, slowest
FROM parts LEFT JOIN LATERAL (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY waited) AS median,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY waited) AS slowest
    FROM (
        SELECT started_at - greatest(created_at, scheduled_at) AS waited, attempt, depends_on, external
        FROM jobs
        WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND completed_at IS NOT NULL AND completed_at >= parts.start
          AND completed_at < parts.start + CAST(:'width' AS interval)
        ORDER BY completed_at DESC, id DESC LIMIT :'most') AS latest
    WHERE waited >= interval '0' AND attempt = 1 AND depends_on = '{}' AND NOT external
) AS waits ON succeeded + failed + cancelled > 0
ORDER BY start;

-- reads/throughput.py BY_TYPE
WITH ended AS (
    SELECT date_bin(CAST(:'width' AS interval), completed_at, timestamptz '2000-01-01Z') AS start,
           coalesce(job_type, '') AS name
    FROM jobs
    WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND completed_at IS NOT NULL AND completed_at >= date_bin(CAST(:'width' AS interval), now(), timestamptz '2000-01-01Z') - (:'slices' - 1) * CAST(:'width' AS interval)
    ORDER BY completed_at DESC, id DESC LIMIT :'most'
), largest AS (
    SELECT name FROM ended GROUP BY name ORDER BY count(*) DESC, name LIMIT :'groups'
)
SELECT ended.start, largest.name, count(*)::int AS number
FROM ended LEFT JOIN largest ON largest.name = ended.name
GROUP BY ended.start, largest.name;

-- reads/throughput.py BY_QUEUE
WITH ended AS (
    SELECT date_bin(CAST(:'width' AS interval), completed_at, timestamptz '2000-01-01Z') AS start,
           coalesce(queue, '') AS name
    FROM jobs
    WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND completed_at IS NOT NULL AND completed_at >= date_bin(CAST(:'width' AS interval), now(), timestamptz '2000-01-01Z') - (:'slices' - 1) * CAST(:'width' AS interval)
    ORDER BY completed_at DESC, id DESC LIMIT :'most'
), largest AS (
    SELECT name FROM ended GROUP BY name ORDER BY count(*) DESC, name LIMIT :'groups'
)
SELECT ended.start, largest.name, count(*)::int AS number
FROM ended LEFT JOIN largest ON largest.name = ended.name
GROUP BY ended.start, largest.name;

-- reads/throughput.py BY_WORKER
WITH ended AS (
    SELECT date_bin(CAST(:'width' AS interval), completed_at, timestamptz '2000-01-01Z') AS start,
           coalesce(worker, '') AS name
    FROM jobs
    WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND completed_at IS NOT NULL AND completed_at >= date_bin(CAST(:'width' AS interval), now(), timestamptz '2000-01-01Z') - (:'slices' - 1) * CAST(:'width' AS interval)
    ORDER BY completed_at DESC, id DESC LIMIT :'most'
), largest AS (
    SELECT name FROM ended GROUP BY name ORDER BY count(*) DESC, name LIMIT :'groups'
)
SELECT ended.start, largest.name, count(*)::int AS number
FROM ended LEFT JOIN largest ON largest.name = ended.name
GROUP BY ended.start, largest.name;

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

-- reads/types.py DURATIONS_LIKE
SELECT count(*) AS number, percentile_cont(0.5) WITHIN GROUP (ORDER BY completed_at - started_at) AS median, percentile_cont(0.95) WITHIN GROUP (ORDER BY completed_at - started_at) AS slowest
FROM (
    SELECT id, user_id, status, started_at, completed_at FROM jobs
    WHERE organization_id = :'organization_id' AND job_type = :'job_type' AND completed_at IS NOT NULL
    ORDER BY created_at DESC, id DESC LIMIT :'most'
) AS latest
WHERE status = 'succeeded' AND started_at IS NOT NULL AND id <> :'id'
  AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id');

-- reads/unserved.py UNSERVED
WITH RECURSIVE lines (queue) AS (
    SELECT min(queue) FROM jobs WHERE organization_id = :'organization_id' AND hold = 'organization_limit'
    UNION ALL
    SELECT (SELECT min(jobs.queue) FROM jobs WHERE organization_id = :'organization_id' AND hold = 'organization_limit' AND jobs.queue > lines.queue)
    FROM lines WHERE lines.queue IS NOT NULL
), filled (queue) AS (
    SELECT queue FROM lines WHERE queue IS NOT NULL
    UNION
    SELECT queue FROM jobs WHERE organization_id = :'organization_id' AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND status IN ('queued', 'retrying') AND hold IS NULL
), deserted (queue) AS MATERIALIZED (
    SELECT queue FROM filled
    WHERE NOT EXISTS (SELECT FROM workers
                      WHERE seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)
                        AND filled.queue = ANY (workers.queues))
)
SELECT deserted.queue, found.waiting, found.types
FROM deserted, LATERAL (
    SELECT count(*) AS waiting, coalesce(array_agg(DISTINCT job_type), ARRAY[]::text[]) AS types
    FROM (SELECT job_type FROM jobs
          WHERE organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') AND jobs.queue = deserted.queue AND (status IN ('queued', 'retrying') AND (hold IS NULL OR hold = 'organization_limit')) LIMIT :'most') AS standing
) AS found
WHERE found.waiting > 0
ORDER BY deserted.queue;

-- reads/waiting.py MEMBERS
SELECT id FROM jobs
WHERE group_id = :'group_id' AND follows_group IS DISTINCT FROM :'group_id'
ORDER BY group_index, id;

-- reads/waiting.py ERRBACKS
SELECT jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at FROM jobs
WHERE root_id = :'root_id' AND root_id <> id AND parent_id = :'id' AND error_type IS DISTINCT FROM 'DependencyEnded'
ORDER BY created_at, group_index, id;

-- reads/waiting.py ARE_WAITING
SELECT (EXISTS (SELECT FROM jobs AS waiting WHERE waiting.follows = jobs.id AND coalesce(waiting.hold, '') = 'dependency')
                OR EXISTS (SELECT FROM jobs AS waiting WHERE waiting.follows_group = jobs.group_id AND coalesce(waiting.hold, '') = 'dependency')) FROM jobs WHERE id = :'id' AND status IN ('succeeded', 'failed', 'cancelled');

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

-- reads/waits.py ENTRIES
SELECT event, to_status, attempt, at,
       CASE WHEN event = 'failed' THEN 'backoff'
            WHEN event = 'released' AND detail ->> 'reason' = 'replaced' THEN 'dependency'
            ELSE detail ->> 'hold' END AS hold
FROM history
WHERE job_id = :'job_id' AND attempt IN (:'attempt', :'attempt' - 1)
  AND at >= (SELECT created_at - INTERVAL '1 hour' FROM jobs WHERE id = :'job_id')
  AND event NOT IN ('progress', 'duplicate_refused', 'edited', 'seen')
ORDER BY id DESC LIMIT 100;

-- removals.py IS_ANY
SELECT EXISTS (SELECT FROM removals WHERE organization_id = :'organization_id' AND last_id > :'after')
    OR EXISTS (SELECT FROM removals WHERE organization_id IS NULL AND last_id > :'after');

-- renumbering.py RENUMBER
SELECT setval(sequence, coalesce(pg_sequence_last_value(sequence), 0) + :'ahead')
FROM CAST(pg_get_serial_sequence('history', 'id') AS regclass) AS sequence;

-- renumbering.py NOTE
INSERT INTO removals (organization_id, last_id) VALUES (NULL, :'number');

-- replication.py WRITTEN
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0');

-- replication.py REPLAYED
SELECT CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0') END;

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

-- retention.py _DELETE_THERE
WITH gone AS (
        DELETE FROM jobs
        WHERE ctid = ANY(CAST(:'which' AS tid[])) AND status = :'status' AND completed_at IS NOT NULL AND NOT stopping
        RETURNING id, created_at
    ), traces AS (
        DELETE FROM history USING gone
        WHERE history.job_id = gone.id AND at >= gone.created_at - interval '1 hour' AND at < :'until'
        RETURNING history.*
    ), kept AS (
        INSERT INTO audit (id, at, organization_id, actor, actor_organization_id, action, target, source, address, request_id, outcome, code, detail) SELECT id, at, organization_id, coalesce(origin ->> 'actor', actor), origin ->> 'organization', coalesce(CASE event WHEN 'created' THEN 'job.create' WHEN 'cancelled' THEN 'job.cancel' WHEN 'retried' THEN 'job.retry' WHEN 'retried_anew' THEN 'job.retry' END, 'job.change'), CAST(job_id AS text), origin ->> 'source', origin ->> 'address', origin ->> 'request', 'done', CAST(NULL AS text), jsonb_strip_nulls(jsonb_build_object('jobType', job_type, 'from', from_status, 'to', to_status))
        FROM traces WHERE origin IS NOT NULL
    ), noted AS (
    INSERT INTO removals (organization_id, last_id)
    SELECT organization_id, max(id) FROM traces GROUP BY organization_id
    RETURNING organization_id, last_id
), needless AS (
    DELETE FROM removals WHERE ctid = ANY(ARRAY(
        SELECT removals.ctid FROM removals JOIN noted USING (organization_id)
        WHERE removals.last_id <= noted.last_id
        FOR UPDATE OF removals SKIP LOCKED))
)
    SELECT (SELECT count(*) FROM gone) AS jobs, (SELECT count(*) FROM traces) AS history;

-- retention.py _DELETE_THOSE
WITH gone AS (
        DELETE FROM jobs
        WHERE id = ANY(:'which') AND status = :'status' AND completed_at IS NOT NULL AND NOT stopping
        RETURNING id, created_at
    ), traces AS (
        DELETE FROM history USING gone
        WHERE history.job_id = gone.id AND at >= gone.created_at - interval '1 hour' AND at < :'until'
        RETURNING history.*
    ), kept AS (
        INSERT INTO audit (id, at, organization_id, actor, actor_organization_id, action, target, source, address, request_id, outcome, code, detail) SELECT id, at, organization_id, coalesce(origin ->> 'actor', actor), origin ->> 'organization', coalesce(CASE event WHEN 'created' THEN 'job.create' WHEN 'cancelled' THEN 'job.cancel' WHEN 'retried' THEN 'job.retry' WHEN 'retried_anew' THEN 'job.retry' END, 'job.change'), CAST(job_id AS text), origin ->> 'source', origin ->> 'address', origin ->> 'request', 'done', CAST(NULL AS text), jsonb_strip_nulls(jsonb_build_object('jobType', job_type, 'from', from_status, 'to', to_status))
        FROM traces WHERE origin IS NOT NULL
    ), noted AS (
    INSERT INTO removals (organization_id, last_id)
    SELECT organization_id, max(id) FROM traces GROUP BY organization_id
    RETURNING organization_id, last_id
), needless AS (
    DELETE FROM removals WHERE ctid = ANY(ARRAY(
        SELECT removals.ctid FROM removals JOIN noted USING (organization_id)
        WHERE removals.last_id <= noted.last_id
        FOR UPDATE OF removals SKIP LOCKED))
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
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
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

-- rights.py LACKING
SELECT pg_roles.rolname AS role, wanted.name, wanted.verb
FROM unnest(CAST(:'roles' AS text[]), CAST(:'tables' AS text[]), CAST(:'verbs' AS text[])) AS wanted (of, name, verb)
JOIN pg_roles ON rolname = CASE wanted.of WHEN 'celeriac_platform' THEN current_user ELSE wanted.of END
WHERE to_regclass(wanted.name) IS NOT NULL AND NOT has_table_privilege(pg_roles.oid, wanted.name, wanted.verb)
ORDER BY wanted.name, wanted.verb, role;

-- roles.py ROLE
SELECT current_user AS login, pg_has_role(oid, 'MEMBER') AS is_ours,
       rolsuper OR rolbypassrls OR EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('jobs')
                                           AND pg_has_role(tenant.oid, relowner, 'MEMBER')) AS is_above,
       coalesce(has_table_privilege(oid, to_regclass('jobs'), 'SELECT'), false) AS is_granted
FROM pg_roles AS tenant WHERE rolname = :'role';

-- roles.py OPEN
SELECT name FROM unnest(CAST(:'tables' AS text[])) AS name
LEFT JOIN pg_class ON pg_class.oid = to_regclass(name)
WHERE NOT coalesce(relrowsecurity AND relforcerowsecurity, false);

-- roles.py LOGIN
SELECT rolname AS login,
       CASE WHEN rolsuper THEN 'a superuser' WHEN rolbypassrls THEN 'a role with BYPASSRLS'
            WHEN EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('jobs') AND relowner = pg_roles.oid)
            THEN 'the owner of the tables' END AS above
FROM pg_roles WHERE rolname = current_user;

-- row_security.py TABLE
SELECT relrowsecurity AND relforcerowsecurity AS is_secured,
       ARRAY(SELECT CAST(polname AS text) FROM pg_policy WHERE polrelid = pg_class.oid) AS policies,
       ARRAY(SELECT quote_ident(rolname) FROM pg_policy JOIN pg_roles ON pg_roles.oid = ANY(polroles)
             WHERE polrelid = pg_class.oid AND polname = 'everything') AS seen_by,
       ARRAY(SELECT quote_ident(rolname) FROM pg_roles
             WHERE pg_roles.oid = relowner OR rolname = :'platform') AS seeing
FROM pg_class WHERE oid = CAST(:'table' AS regclass);

-- row_security.py FUNCTIONS
SELECT CAST(CAST(oid AS regprocedure) AS text) AS function, prosecdef AS is_secured,
       CAST(CAST(pronamespace AS regnamespace) AS text) AS schema
FROM pg_proc WHERE proname = ANY(:'names') AND pronamespace = CAST(current_schema() AS regnamespace);

-- row_security.py UNGRANTED
SELECT name, privilege FROM pg_roles CROSS JOIN unnest(CAST(:'tables' AS text[]), CAST(:'rights' AS text[]))
                        AS wanted (name, privilege)
WHERE rolname = :'role' AND NOT has_table_privilege(pg_roles.oid, name, privilege);

-- row_security.py UNCALLED
SELECT CAST(CAST(oid AS regprocedure) AS text) FROM pg_proc WHERE proname = ANY(:'names') AND pronamespace = CAST(current_schema() AS regnamespace)
  AND EXISTS (SELECT FROM pg_roles WHERE rolname = :'role'
                AND NOT has_function_privilege(pg_roles.oid, pg_proc.oid, 'EXECUTE'));

-- row_security.py UNNUMBERED
SELECT NOT has_sequence_privilege(oid, 'history_id_seq', 'USAGE') FROM pg_roles WHERE rolname = :'role';

-- schedules/firing.py MOVE
UPDATE schedules SET since = :'since', next_at = :'next_at', updated_at = clock_timestamp()
WHERE id = :'id'
RETURNING schedules.id, schedules.organization_id, schedules.user_id, schedules.name, schedules.job_type, schedules.payload, schedules.priority, schedules.max_retries, schedules.project_id, schedules.metadata, schedules.cron, schedules.timezone, schedules.every_seconds, schedules.catch_up, schedules.overlap, schedules.template, schedules.granted, schedules.granted_template, schedules.anchor, schedules.since, schedules.next_at, schedules.paused, schedules.paused_by, schedules.paused_at, schedules.version, schedules.changed_by, schedules.created_at, schedules.updated_at;

-- schedules/firing.py WAITING
SELECT id
FROM (SELECT id, next_at, row_number() OVER (PARTITION BY organization_id ORDER BY next_at) AS place
      FROM schedules WHERE NOT paused AND next_at <= clock_timestamp()) AS due
ORDER BY place, next_at
LIMIT :'limit';

-- schedules/firing.py TAKE
SELECT schedules.id, schedules.organization_id, schedules.user_id, schedules.name, schedules.job_type, schedules.payload, schedules.priority, schedules.max_retries, schedules.project_id, schedules.metadata, schedules.cron, schedules.timezone, schedules.every_seconds, schedules.catch_up, schedules.overlap, schedules.template, schedules.granted, schedules.granted_template, schedules.anchor, schedules.since, schedules.next_at, schedules.paused, schedules.paused_by, schedules.paused_at, schedules.version, schedules.changed_by, schedules.created_at, schedules.updated_at, clock_timestamp() AS now FROM schedules
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
SELECT schedules.id, schedules.organization_id, schedules.user_id, schedules.name, schedules.job_type, schedules.payload, schedules.priority, schedules.max_retries, schedules.project_id, schedules.metadata, schedules.cron, schedules.timezone, schedules.every_seconds, schedules.catch_up, schedules.overlap, schedules.template, schedules.granted, schedules.granted_template, schedules.anchor, schedules.since, schedules.next_at, schedules.paused, schedules.paused_by, schedules.paused_at, schedules.version, schedules.changed_by, schedules.created_at, schedules.updated_at FROM schedules
WHERE cron IS NOT NULL AND (CAST(:'after' AS uuid) IS NULL OR id > CAST(:'after' AS uuid))
ORDER BY id LIMIT :'limit';

-- schedules/firing.py RECOMPUTE
UPDATE schedules SET next_at = :'next_at', updated_at = clock_timestamp()
WHERE id = :'id' AND since = :'since' AND version = :'version';

-- schedules/keeping.py LOCK
SELECT schedules.id, schedules.organization_id, schedules.user_id, schedules.name, schedules.job_type, schedules.payload, schedules.priority, schedules.max_retries, schedules.project_id, schedules.metadata, schedules.cron, schedules.timezone, schedules.every_seconds, schedules.catch_up, schedules.overlap, schedules.template, schedules.granted, schedules.granted_template, schedules.anchor, schedules.since, schedules.next_at, schedules.paused, schedules.paused_by, schedules.paused_at, schedules.version, schedules.changed_by, schedules.created_at, schedules.updated_at FROM schedules WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') FOR UPDATE;

-- schedules/keeping.py ONE_AT_A_TIME
SELECT pg_advisory_xact_lock(hashtextextended('schedules of ' || :'organization_id', 0));

-- schedules/keeping.py COUNT
SELECT count(*) FROM schedules WHERE organization_id = :'organization_id';

-- schedules/keeping.py NAMED
SELECT schedules.id, schedules.organization_id, schedules.user_id, schedules.name, schedules.job_type, schedules.payload, schedules.priority, schedules.max_retries, schedules.project_id, schedules.metadata, schedules.cron, schedules.timezone, schedules.every_seconds, schedules.catch_up, schedules.overlap, schedules.template, schedules.granted, schedules.granted_template, schedules.anchor, schedules.since, schedules.next_at, schedules.paused, schedules.paused_by, schedules.paused_at, schedules.version, schedules.changed_by, schedules.created_at, schedules.updated_at FROM schedules WHERE organization_id = :'organization_id' AND name = :'name';

-- schedules/keeping.py CREATE
INSERT INTO schedules (id, organization_id, user_id, name, job_type, payload, priority, max_retries, project_id, metadata, cron, timezone, every_seconds, catch_up, overlap, template, granted,
                       granted_template, anchor, since, next_at,
                       paused, paused_by, paused_at, changed_by)
VALUES (:'id', :'organization_id', :'user_id', :'name', :'job_type', :'payload', :'priority', :'max_retries', :'project_id', :'metadata', :'cron', :'timezone', :'every_seconds', :'catch_up', :'overlap', :'template', :'granted',
        :'granted_template', :'now', :'now', :'next_at',
        CAST(:'paused_by' AS text) IS NOT NULL, :'paused_by',
        CASE WHEN CAST(:'paused_by' AS text) IS NOT NULL THEN CAST(:'now' AS timestamptz) END, :'actor')
ON CONFLICT (organization_id, name) DO NOTHING
RETURNING schedules.id, schedules.organization_id, schedules.user_id, schedules.name, schedules.job_type, schedules.payload, schedules.priority, schedules.max_retries, schedules.project_id, schedules.metadata, schedules.cron, schedules.timezone, schedules.every_seconds, schedules.catch_up, schedules.overlap, schedules.template, schedules.granted, schedules.granted_template, schedules.anchor, schedules.since, schedules.next_at, schedules.paused, schedules.paused_by, schedules.paused_at, schedules.version, schedules.changed_by, schedules.created_at, schedules.updated_at;

-- schedules/keeping.py CHANGE
UPDATE schedules
SET name = :'name', job_type = :'job_type', payload = :'payload', priority = :'priority', max_retries = :'max_retries', project_id = :'project_id', metadata = :'metadata', cron = :'cron', timezone = :'timezone', every_seconds = :'every_seconds', catch_up = :'catch_up', overlap = :'overlap', template = :'template', granted = :'granted',
    granted_template = :'granted_template', anchor = :'anchor',
    since = :'since', next_at = :'next_at', version = version + 1, changed_by = :'actor', updated_at = clock_timestamp()
WHERE id = :'id'
RETURNING schedules.id, schedules.organization_id, schedules.user_id, schedules.name, schedules.job_type, schedules.payload, schedules.priority, schedules.max_retries, schedules.project_id, schedules.metadata, schedules.cron, schedules.timezone, schedules.every_seconds, schedules.catch_up, schedules.overlap, schedules.template, schedules.granted, schedules.granted_template, schedules.anchor, schedules.since, schedules.next_at, schedules.paused, schedules.paused_by, schedules.paused_at, schedules.version, schedules.changed_by, schedules.created_at, schedules.updated_at;

-- schedules/keeping.py PAUSE
UPDATE schedules
SET paused = true, paused_by = :'actor', paused_at = clock_timestamp(), version = version + 1, changed_by = :'actor',
    updated_at = clock_timestamp()
WHERE id = :'id'
RETURNING schedules.id, schedules.organization_id, schedules.user_id, schedules.name, schedules.job_type, schedules.payload, schedules.priority, schedules.max_retries, schedules.project_id, schedules.metadata, schedules.cron, schedules.timezone, schedules.every_seconds, schedules.catch_up, schedules.overlap, schedules.template, schedules.granted, schedules.granted_template, schedules.anchor, schedules.since, schedules.next_at, schedules.paused, schedules.paused_by, schedules.paused_at, schedules.version, schedules.changed_by, schedules.created_at, schedules.updated_at;

-- schedules/keeping.py RESUME
UPDATE schedules
SET paused = false, paused_by = NULL, paused_at = NULL, since = :'since', next_at = :'next_at', version = version + 1,
    changed_by = :'actor', updated_at = clock_timestamp()
WHERE id = :'id'
RETURNING schedules.id, schedules.organization_id, schedules.user_id, schedules.name, schedules.job_type, schedules.payload, schedules.priority, schedules.max_retries, schedules.project_id, schedules.metadata, schedules.cron, schedules.timezone, schedules.every_seconds, schedules.catch_up, schedules.overlap, schedules.template, schedules.granted, schedules.granted_template, schedules.anchor, schedules.since, schedules.next_at, schedules.paused, schedules.paused_by, schedules.paused_at, schedules.version, schedules.changed_by, schedules.created_at, schedules.updated_at;

-- schedules/keeping.py MOVE
UPDATE schedules SET since = :'since', next_at = :'next_at', updated_at = clock_timestamp()
WHERE id = :'id'
RETURNING schedules.id, schedules.organization_id, schedules.user_id, schedules.name, schedules.job_type, schedules.payload, schedules.priority, schedules.max_retries, schedules.project_id, schedules.metadata, schedules.cron, schedules.timezone, schedules.every_seconds, schedules.catch_up, schedules.overlap, schedules.template, schedules.granted, schedules.granted_template, schedules.anchor, schedules.since, schedules.next_at, schedules.paused, schedules.paused_by, schedules.paused_at, schedules.version, schedules.changed_by, schedules.created_at, schedules.updated_at;

-- schedules/keeping.py REMOVE
DELETE FROM schedules WHERE id = :'id' AND (CAST(:'organization_id' AS text) = '' OR organization_id = :'organization_id') AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') RETURNING schedules.id, schedules.organization_id, schedules.user_id, schedules.name, schedules.job_type, schedules.payload, schedules.priority, schedules.max_retries, schedules.project_id, schedules.metadata, schedules.cron, schedules.timezone, schedules.every_seconds, schedules.catch_up, schedules.overlap, schedules.template, schedules.granted, schedules.granted_template, schedules.anchor, schedules.since, schedules.next_at, schedules.paused, schedules.paused_by, schedules.paused_at, schedules.version, schedules.changed_by, schedules.created_at, schedules.updated_at;

-- schedules/outcomes.py PROLONG
UPDATE schedule_outcomes SET last_due_at = :'last_due_at', count = count + :'count', at = clock_timestamp()
WHERE schedule_id = :'schedule_id' AND due_at = (SELECT max(due_at) FROM schedule_outcomes WHERE schedule_id = :'schedule_id') AND became = :'became' AND reason = :'reason'
  AND actor IS NULL AND CAST(:'actor' AS text) IS NULL AND last_due_at < CAST(:'due_at' AS timestamptz)
RETURNING due_at;

-- schedules/outcomes.py NOTE
INSERT INTO schedule_outcomes (schedule_id, due_at, last_due_at, count, became, reason, actor)
VALUES (:'schedule_id', :'due_at', :'last_due_at', :'count', :'became', :'reason', :'actor')
ON CONFLICT DO NOTHING
RETURNING due_at;

-- schedules/outcomes.py NOTE_JOB
INSERT INTO schedule_outcomes (schedule_id, due_at, last_due_at, became, job_id, actor)
VALUES (:'schedule_id', :'due_at', :'due_at', 'job', :'job_id', :'actor')
ON CONFLICT DO NOTHING
RETURNING due_at;

-- schedules/outcomes.py FORETOLD
SELECT due_at FROM schedule_outcomes WHERE schedule_id = :'schedule_id' AND due_at > :'after';

-- schedules/outcomes.py LATEST
SELECT found.*, jobs.status
FROM unnest(CAST(:'ids' AS uuid[])) AS asked (id)
CROSS JOIN LATERAL (SELECT schedule_outcomes.schedule_id, schedule_outcomes.due_at, schedule_outcomes.last_due_at, schedule_outcomes.count, schedule_outcomes.became, schedule_outcomes.job_id, schedule_outcomes.reason, schedule_outcomes.actor, schedule_outcomes.at FROM schedule_outcomes WHERE schedule_id = asked.id
                    ORDER BY due_at DESC LIMIT :'number') AS found
LEFT JOIN jobs ON jobs.id = found.job_id
ORDER BY found.schedule_id, found.due_at DESC;

-- schedules/outcomes.py PAGE
SELECT found.*, jobs.status
FROM (SELECT schedule_outcomes.schedule_id, schedule_outcomes.due_at, schedule_outcomes.last_due_at, schedule_outcomes.count, schedule_outcomes.became, schedule_outcomes.job_id, schedule_outcomes.reason, schedule_outcomes.actor, schedule_outcomes.at FROM schedule_outcomes
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
INSERT INTO sessions (digest, organization_id, user_id, permissions, expires_at, token_id, issued_at)
VALUES (:'digest', :'organization_id', :'user_id', CAST(:'permissions' AS text[]),
        least(CAST(:'until' AS timestamptz), clock_timestamp() + CAST(:'longest' AS interval)),
        :'token_id', :'issued_at');

-- sessions.py FIND
WITH seen AS (
    UPDATE sessions SET seen_at = clock_timestamp()
    WHERE digest = :'digest' AND expires_at > clock_timestamp() AND seen_at > clock_timestamp() - CAST(:'idle' AS interval) AND seen_at < clock_timestamp() - interval '1 minute'
)
SELECT organization_id, user_id, permissions, expires_at, token_id, coalesce(issued_at, created_at) AS issued_at
FROM sessions WHERE digest = :'digest' AND expires_at > clock_timestamp() AND seen_at > clock_timestamp() - CAST(:'idle' AS interval);

-- sessions.py END
DELETE FROM sessions WHERE digest = :'digest';

-- sessions.py ALIVE
SELECT digest FROM sessions WHERE digest = ANY(CAST(:'digests' AS bytea[])) AND expires_at > clock_timestamp() AND seen_at > clock_timestamp() - CAST(:'idle' AS interval);

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
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, CAST(NULL AS text) AS from_status, jobs.xmax = 0 AS is_new
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
    WHEN (EXISTS (SELECT FROM pauses
                   WHERE coalesce(pauses.organization_id, asked.organization_id) = asked.organization_id
                     AND coalesce(pauses.job_type, asked.job_type) = asked.job_type)
            OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = asked.queue)) THEN 'paused'
    WHEN EXISTS (SELECT FROM circuits AS broken
                   WHERE broken.job_type = asked.job_type AND broken.key = asked.circuit_key
                     AND broken.organization_id IN (asked.organization_id, '')
                     AND broken.probe_id IS DISTINCT FROM asked.id) THEN 'circuit'
    WHEN (EXISTS (SELECT FROM job_limits) AND (EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type = asked.job_type
                      AND coalesce(bound.organization_id, asked.organization_id) = asked.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(asked.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)) OR EXISTS (SELECT FROM job_limits AS bound
                    WHERE bound.job_type IS NULL
                      AND coalesce(bound.organization_id, asked.organization_id) = asked.organization_id
                      AND (bound.per <> 'key'
                           OR nullif(asked.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL)))) THEN 'limit'
    WHEN (coalesce((SELECT concurrency FROM organizations WHERE id = asked.organization_id), CAST(:'limit' AS int)) > 0 OR is_contended(asked.organization_id, asked.queue, :'lease_timeout')) THEN 'organization_limit'
END AS hold) AS next
     CROSS JOIN LATERAL (
         SELECT CASE WHEN next.hold = 'organization_limit' AND (asked.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
            OR NOT EXISTS (SELECT FROM workers WHERE workers.seen_at > clock_timestamp() - CAST(:'lease_timeout' AS interval)))
                     THEN sent_level(asked.organization_id, asked.queue, asked.priority, :'limit', :'lease_timeout')
                END AS level) AS sent WHERE (from_status IN ('queued', 'retrying') OR why = 'DependencyEnded')),
        due_at = CASE WHEN (from_status IN ('queued', 'retrying') OR why = 'DependencyEnded') THEN asked.due_at END,
        error_type = CASE WHEN (from_status IN ('queued', 'retrying') OR why = 'DependencyEnded') THEN NULL ELSE jobs.error_type END,
        error_message = CASE WHEN (from_status IN ('queued', 'retrying') OR why = 'DependencyEnded') THEN NULL ELSE jobs.error_message END,
        fingerprint = CASE WHEN (from_status IN ('queued', 'retrying') OR why = 'DependencyEnded') THEN NULL ELSE jobs.fingerprint END,
        cancel_requested_at = CASE WHEN (from_status IN ('queued', 'retrying') OR why = 'DependencyEnded') THEN NULL ELSE jobs.cancel_requested_at END,
        completed_at = CASE WHEN (from_status IN ('queued', 'retrying') OR why = 'DependencyEnded') THEN NULL ELSE jobs.completed_at END, updated_at = clock_timestamp()
    FROM locked, (SELECT CAST(:'id' AS uuid) AS id, CAST(:'organization_id' AS text) AS organization_id,
                         'queued' AS status, 0 AS attempt, CAST(:'priority' AS int) AS priority,
                         CAST(NULL AS uuid) AS follows,
                         CAST(NULL AS text) AS follows_group, CAST(:'payload' AS jsonb) AS payload,
                         CAST(:'job_type' AS text) AS job_type, CAST(:'queue' AS text) AS queue,
                         CAST(:'depends_on' AS uuid[]) AS depends_on, CAST(NULL AS text[]) AS depends_when,
                         false AS unresolved, CAST(:'circuit_key' AS text) AS circuit_key,
                         false AS external,
                         coalesce(CAST(:'scheduled_at' AS timestamptz),
                                  clock_timestamp() + CAST(:'delay' AS interval)) AS due_at) AS asked
    WHERE jobs.id = locked.id
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status, locked.held
), logged AS (
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                         attempt, dispatch, actor, detail, circuit_key, origin, at)
    SELECT id, organization_id, user_id, job_type, CASE WHEN from_status <> 'queued' THEN 'retried' WHEN hold IN ('paused', 'circuit') THEN 'held' ELSE 'due' END,
           from_status, status, attempt, dispatch, 'admission',
           jsonb_strip_nulls(jsonb_build_object('hold', CASE WHEN hold IN ('paused', 'circuit') THEN hold ELSE held END, 'next', CASE WHEN NOT hold IN ('paused', 'circuit') THEN hold END)) || '{}', NULL, NULL, clock_timestamp()
    FROM moved WHERE status = 'queued'
)
SELECT id, dispatch, organization_id, user_id, project_id, job_type, status, hold, due_at, priority, sent_priority, queue, attempt, retry_count, max_retries, losses, metadata, parent_id, root_id, group_id, group_index, result, typed_result, error_type, error_message, fingerprint, message, progress, progress_detail, current_step, total_steps, circuit_key, limit_key, worker, lease, claim_id, stopping, external, depends_on, depends_when, unresolved, follows, follows_group, retry_of, idempotency_key, request_hash, scheduled_at, dispatched_at, cancel_requested_at, cancel_seen_at, started_at, completed_at, created_at, updated_at, (SELECT revoked_by FROM revocations WHERE stamp = '' AND value = to_jsonb(moved.id)
            UNION ALL
            SELECT revoked_by FROM jsonb_each(moved.delivery -> 'stamps') AS stamped
            JOIN revocations ON revocations.stamp = stamped.key AND stamped.value @> revocations.value
            LIMIT 1) AS revoked_by FROM moved;

-- successors.py CULPRIT
SELECT jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at,
       ended.detail -> 'exception' AS exception, coalesce(error_message, ended.detail ->> 'reason') AS why
FROM jobs LEFT JOIN LATERAL (
    SELECT detail FROM history
    WHERE job_id = jobs.id AND at >= jobs.created_at - interval '1 hour' AND to_status = jobs.status
    ORDER BY history.id DESC LIMIT 1) AS ended ON true
WHERE id = :'id' AND status IN ('succeeded', 'failed', 'cancelled');

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
        fingerprint = CASE WHEN NOT CAST(:'status' AS text) = 'cancelled' THEN error_fingerprint(jobs.job_type, :'error_type', :'error_message') END,
        cancel_requested_at = CASE WHEN CAST(:'status' AS text) = 'cancelled' THEN clock_timestamp() END,
        completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM locked
    WHERE jobs.id = locked.id AND jobs.id = ANY(ARRAY(SELECT id FROM locked))
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
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

-- templates.py EVERYWHERE
SELECT templates.id, organization_id, name, job_type, templates.created_at, templates.version AS newest, made.version, payload, metadata, priority, max_retries, permission, schedule, changed_by, changed_at
FROM templates JOIN template_versions AS made ON made.template_id = templates.id
WHERE made.version = templates.version
  AND (organization_id, name) > (CAST(:'organization_id' AS text), CAST(:'after' AS text))
ORDER BY organization_id, name LIMIT :'size';

-- templates.py VERSIONS
SELECT templates.id, organization_id, name, job_type, templates.created_at, templates.version AS newest, made.version, payload, metadata, priority, max_retries, permission, schedule, changed_by, changed_at
FROM templates JOIN template_versions AS made ON made.template_id = templates.id
WHERE organization_id = :'organization_id' AND name = :'name'
  AND (CAST(:'before' AS int) IS NULL OR made.version < CAST(:'before' AS int))
ORDER BY made.version DESC LIMIT :'size';

-- tenancy.py HAS_TENANTS
SELECT pg_has_role(oid, 'MEMBER') AND has_table_privilege(oid, to_regclass('jobs'), 'SELECT')
FROM pg_roles WHERE rolname = :'role';

-- tenancy.py LEAVE
SELECT current_setting('role') AS was, set_config('role', 'none', true);

-- tenancy.py RETURN
SELECT set_config('role', :'role', true);

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
INSERT INTO tickets (digest, purpose, organization_id, user_id, permissions, rights_until, expires_at,
                     token_id, issued_at)
VALUES (:'digest', :'purpose', :'organization_id', :'user_id', CAST(:'permissions' AS text[]), :'rights_until',
        clock_timestamp() + CAST(:'lifetime' AS interval), :'token_id', :'issued_at')
RETURNING expires_at;

-- tickets.py SPEND
DELETE FROM tickets
WHERE digest = :'digest' AND purpose = :'purpose' AND expires_at >= clock_timestamp()
RETURNING organization_id, user_id, permissions, rights_until, token_id, issued_at;

-- totals.py POSITION
SELECT history_id FROM totals_position FOR UPDATE;

-- totals.py BEGIN
INSERT INTO totals_position (history_id) VALUES (:'until') ON CONFLICT DO NOTHING;

-- totals.py ADVANCE
UPDATE totals_position SET history_id = :'to', moved_at = clock_timestamp();

-- totals.py TOTALS
SELECT measure, job_type, queue, outcome, up_to, number, seconds FROM totals;

-- totals.py UNCOUNTED
SELECT greatest(coalesce(pg_sequence_last_value('history_id_seq'), 0) - history_id, 0) FROM totals_position;

-- totals.py COUNT
WITH chunk AS MATERIALIZED (
    SELECT id, job_id, job_type, event, from_status, to_status, detail, at
    FROM history WHERE id > :'after' AND id <= :'until' ORDER BY id LIMIT :'most'
), happened AS (
    SELECT chunk.*, coalesce(queue, '') AS queue, created_at
    FROM chunk LEFT JOIN LATERAL (
        SELECT queue, created_at FROM jobs WHERE jobs.id = chunk.job_id LIMIT 1
    ) AS job ON true
    WHERE event IN ('created', 'started', 'completed', 'failed', 'cancelled', 'released', 'duplicate_refused')
), measured AS MATERIALIZED (
    SELECT job_type, queue, found.*
    FROM happened LEFT JOIN LATERAL (
        SELECT greatest(extract(EPOCH FROM happened.at - at), 0) AS seconds
        FROM history AS earlier
        WHERE happened.event = 'started' AND earlier.job_id = happened.job_id AND id < happened.id
          AND at >= happened.created_at - interval '1 hour' AND (event IN ('created', 'released', 'retried')
                   OR event = 'due' AND coalesce(detail ->> 'hold', '') NOT IN ('limit', 'organization_limit'))
        ORDER BY id DESC LIMIT 1
    ) AS waited ON true
    CROSS JOIN LATERAL (VALUES
        (CASE event WHEN 'created' THEN 'created' END, '', NULL),
        (CASE WHEN to_status IN ('succeeded', 'failed', 'cancelled') AND event IN ('completed', 'failed', 'cancelled') THEN 'ended' END,
         to_status, NULL),
        (CASE WHEN from_status = 'running' AND to_status <> 'running' THEN 'attempts' END,
         CASE WHEN detail -> 'lost' IS NOT NULL THEN 'lost'
              WHEN event = 'completed' THEN 'succeeded'
              WHEN event = 'cancelled' THEN 'cancelled'
              WHEN event = 'released' THEN 'released'
              WHEN to_status = 'retrying' THEN 'retried'
              ELSE 'failed' END, NULL),
        (CASE event WHEN 'duplicate_refused' THEN 'refused' END, detail ->> 'reason', NULL),
        (CASE WHEN waited.seconds IS NOT NULL THEN 'waited' END, '', waited.seconds),
        (CASE WHEN from_status = 'running' AND detail -> 'duration' IS NOT NULL THEN 'ran' END,
         '', greatest(CAST(detail ->> 'duration' AS numeric) / 1000, 0))
    ) AS found (measure, outcome, seconds)
    WHERE measure IS NOT NULL
), known AS MATERIALIZED (
    SELECT DISTINCT job_type, queue FROM totals
), pairs AS (
    SELECT job_type, queue, is_known IS NOT NULL
           OR (SELECT count(*) FROM known)
              + count(*) FILTER (WHERE is_known IS NULL) OVER (ORDER BY job_type, queue)
              <= CAST(:'pairs' AS int) AS is_told
    FROM (SELECT DISTINCT job_type, queue FROM measured) AS seen
    LEFT JOIN (SELECT *, true AS is_known FROM known) AS known USING (job_type, queue)
), added AS (
    INSERT INTO totals (measure, job_type, queue, outcome, up_to, number, seconds)
    SELECT measure, CASE WHEN is_told THEN job_type ELSE '(others)' END,
           CASE WHEN is_told THEN queue ELSE '(others)' END, coalesce(outcome, ''),
           CASE WHEN seconds IS NULL THEN 'Infinity' ELSE (
               SELECT min(bound) FROM unnest(CAST(ARRAY['0.05', '0.1', '0.25', '0.5', '1.0', '2.5', '5.0', '10.0', '30.0', '60.0', '300.0', '900.0', '3600.0', '14400.0', 'inf'] AS double precision[])) AS bound
               WHERE bound >= seconds) END,
           count(*), coalesce(sum(seconds), 0)
    FROM measured JOIN pairs USING (job_type, queue)
    GROUP BY 1, 2, 3, 4, 5
    ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (measure, job_type, queue, outcome, up_to) DO UPDATE
    SET number = totals.number + excluded.number, seconds = totals.seconds + excluded.seconds
)
SELECT count(*) AS number, max(id) AS last FROM chunk;

-- uploads.py LOCK
SELECT pg_advisory_xact_lock(hashtextextended('files of ' || :'organization_id', 0));

-- uploads.py ADD
INSERT INTO files (id, organization_id, user_id, name, size, sha256, expires_at)
SELECT CAST(:'id' AS uuid), CAST(:'organization_id' AS text), CAST(:'user_id' AS text), CAST(:'name' AS text),
       CAST(:'size' AS bigint), CAST(:'checksum' AS text), clock_timestamp() + CAST(:'lifetime' AS interval)
WHERE (SELECT count(*) FROM files WHERE organization_id = :'organization_id') < CAST(:'most' AS integer)
RETURNING id, organization_id, user_id, name, size, sha256, created_at, expires_at;

-- uploads.py GET
SELECT id, organization_id, user_id, name, size, sha256, created_at, expires_at FROM files WHERE id = :'id' AND organization_id = :'organization_id' AND user_id = coalesce(CAST(:'user_id' AS text), user_id)
      AND expires_at >= clock_timestamp();

-- uploads.py EVERY
SELECT id, organization_id, user_id, name, size, sha256, created_at, expires_at FROM files WHERE organization_id = :'organization_id' AND user_id = coalesce(CAST(:'user_id' AS text), user_id)
      AND expires_at >= clock_timestamp() ORDER BY created_at DESC, id DESC;

-- uploads.py EVERYWHERE
SELECT id, organization_id, user_id, name, size, sha256, created_at, expires_at FROM files
WHERE (CAST(:'before' AS uuid) IS NULL OR id < CAST(:'before' AS uuid)) AND expires_at >= clock_timestamp()
ORDER BY id DESC LIMIT :'size';

-- uploads.py REMOVE
DELETE FROM files WHERE id = :'id' AND organization_id = :'organization_id' AND user_id = coalesce(CAST(:'user_id' AS text), user_id)
      AND expires_at >= clock_timestamp() RETURNING id, organization_id, user_id, name, size, sha256, created_at, expires_at;

-- uploads.py KNOWN
SELECT id, expires_at < clock_timestamp() AS has_expired FROM files
WHERE organization_id = :'organization_id' ORDER BY created_at, id;

-- uploads.py FORGET
DELETE FROM files WHERE organization_id = :'organization_id' AND id = ANY(CAST(:'ids' AS uuid[]));

-- versions.py THERE
SELECT to_regclass('alembic_version') IS NOT NULL AS is_told, to_regclass('jobs') IS NOT NULL AS has_jobs;

-- versions.py NEWEST_TOLD
SELECT max(version_num) FROM alembic_version;

-- views.py LOCK
SELECT pg_advisory_xact_lock(hashtextextended('views of ' || :'user_id' || ' of ' || :'organization_id', 0));

-- views.py COUNT
SELECT count(*) FROM saved_views WHERE organization_id = :'organization_id' AND user_id = :'user_id';

-- views.py SAVE
INSERT INTO saved_views (id, organization_id, user_id, name, search)
VALUES (:'id', :'organization_id', :'user_id', :'name', :'search')
ON CONFLICT (organization_id, user_id, name) DO NOTHING
RETURNING id, organization_id, user_id, name, search, created_at;

-- views.py EVERY
SELECT id, organization_id, user_id, name, search, created_at FROM saved_views WHERE organization_id = :'organization_id' AND user_id = :'user_id' ORDER BY name;

-- views.py GET
SELECT id, organization_id, user_id, name, search, created_at FROM saved_views WHERE id = :'id' AND organization_id = :'organization_id';

-- views.py LOCKED
SELECT id, organization_id, user_id, name, search, created_at FROM saved_views WHERE id = :'id' AND organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') FOR UPDATE;

-- views.py CHANGE
UPDATE saved_views AS known SET name = :'name', search = :'search'
WHERE known.id = :'id' AND known.organization_id = :'organization_id' AND NOT EXISTS (
    SELECT FROM saved_views AS other
    WHERE other.organization_id = known.organization_id AND other.user_id = known.user_id
      AND other.name = :'name' AND other.id <> known.id)
RETURNING id, organization_id, user_id, name, search, created_at;

-- views.py REMOVE
DELETE FROM saved_views WHERE id = :'id' AND organization_id = :'organization_id' AND (CAST(:'user_id' AS text) IS NULL OR user_id = :'user_id') RETURNING id, organization_id, user_id, name, search, created_at;

-- webhooks.py LOCK
SELECT pg_advisory_xact_lock(hashtextextended('webhooks of ' || :'organization_id', 0));

-- webhooks.py COUNT
SELECT count(*) FROM webhooks WHERE organization_id = :'organization_id';

-- webhooks.py CREATE
INSERT INTO webhooks (id, organization_id, url, events, job_types, project_id, description, enabled, secret,
                      created_by)
VALUES (:'id', :'organization_id', :'url', CAST(:'events' AS text[]), CAST(:'job_types' AS text[]), :'project_id',
        :'description', :'enabled', :'secret', :'actor')
RETURNING webhooks.id, webhooks.organization_id, webhooks.url, webhooks.events, webhooks.job_types, webhooks.project_id, webhooks.description, webhooks.secret, webhooks.former_secret, webhooks.former_until, webhooks.earlier_secrets, webhooks.enabled, webhooks.disabled_because, webhooks.failing_since, webhooks.created_by, webhooks.created_at, webhooks.updated_at,
     CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until,
     ARRAY(SELECT said ->> 'secret' FROM jsonb_array_elements(earlier_secrets) WITH ORDINALITY AS each (said, place)
            WHERE CAST(said ->> 'until' AS timestamptz) > clock_timestamp() ORDER BY place) AS living_earlier;

-- webhooks.py CHANGE
UPDATE webhooks
SET url = :'url', events = CAST(:'events' AS text[]), job_types = CAST(:'job_types' AS text[]), project_id = :'project_id',
    description = :'description', enabled = :'enabled', updated_at = clock_timestamp(),
    disabled_because = CASE WHEN CAST(:'enabled' AS boolean) THEN NULL ELSE disabled_because END,
    failing_since = CASE WHEN enabled = CAST(:'enabled' AS boolean) AND url = :'url' THEN failing_since END
WHERE id = :'id' AND organization_id = :'organization_id'
RETURNING webhooks.id, webhooks.organization_id, webhooks.url, webhooks.events, webhooks.job_types, webhooks.project_id, webhooks.description, webhooks.secret, webhooks.former_secret, webhooks.former_until, webhooks.earlier_secrets, webhooks.enabled, webhooks.disabled_because, webhooks.failing_since, webhooks.created_by, webhooks.created_at, webhooks.updated_at,
     CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until,
     ARRAY(SELECT said ->> 'secret' FROM jsonb_array_elements(earlier_secrets) WITH ORDINALITY AS each (said, place)
            WHERE CAST(said ->> 'until' AS timestamptz) > clock_timestamp() ORDER BY place) AS living_earlier;

-- webhooks.py ROTATE
UPDATE webhooks
SET former_secret = secret, former_until = clock_timestamp() + CAST(:'rotation' AS interval), secret = :'secret',
    earlier_secrets = CASE WHEN former_until > clock_timestamp()
                      THEN jsonb_build_array(jsonb_build_object('secret', former_secret, 'until', former_until))
                           || (SELECT coalesce(jsonb_agg(said ORDER BY place), '[]') FROM jsonb_array_elements(earlier_secrets) WITH ORDINALITY AS each (said, place)
            WHERE CAST(said ->> 'until' AS timestamptz) > clock_timestamp())
                      ELSE '[]' END,
    updated_at = clock_timestamp()
WHERE id = :'id' AND organization_id = :'organization_id' AND (SELECT count(*) FROM jsonb_array_elements(earlier_secrets) WITH ORDINALITY AS each (said, place)
            WHERE CAST(said ->> 'until' AS timestamptz) > clock_timestamp()) < 9
RETURNING webhooks.id, webhooks.organization_id, webhooks.url, webhooks.events, webhooks.job_types, webhooks.project_id, webhooks.description, webhooks.secret, webhooks.former_secret, webhooks.former_until, webhooks.earlier_secrets, webhooks.enabled, webhooks.disabled_because, webhooks.failing_since, webhooks.created_by, webhooks.created_at, webhooks.updated_at,
     CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until,
     ARRAY(SELECT said ->> 'secret' FROM jsonb_array_elements(earlier_secrets) WITH ORDINALITY AS each (said, place)
            WHERE CAST(said ->> 'until' AS timestamptz) > clock_timestamp() ORDER BY place) AS living_earlier;

-- webhooks.py REMOVE
DELETE FROM webhooks WHERE id = :'id' AND organization_id = :'organization_id' RETURNING webhooks.id, webhooks.organization_id, webhooks.url, webhooks.events, webhooks.job_types, webhooks.project_id, webhooks.description, webhooks.secret, webhooks.former_secret, webhooks.former_until, webhooks.earlier_secrets, webhooks.enabled, webhooks.disabled_because, webhooks.failing_since, webhooks.created_by, webhooks.created_at, webhooks.updated_at,
         CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until,
         ARRAY(SELECT said ->> 'secret' FROM jsonb_array_elements(earlier_secrets) WITH ORDINALITY AS each (said, place)
                WHERE CAST(said ->> 'until' AS timestamptz) > clock_timestamp() ORDER BY place) AS living_earlier;

-- webhooks.py GET
SELECT webhooks.id, webhooks.organization_id, webhooks.url, webhooks.events, webhooks.job_types, webhooks.project_id, webhooks.description, webhooks.secret, webhooks.former_secret, webhooks.former_until, webhooks.earlier_secrets, webhooks.enabled, webhooks.disabled_because, webhooks.failing_since, webhooks.created_by, webhooks.created_at, webhooks.updated_at,
         CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until,
         ARRAY(SELECT said ->> 'secret' FROM jsonb_array_elements(earlier_secrets) WITH ORDINALITY AS each (said, place)
                WHERE CAST(said ->> 'until' AS timestamptz) > clock_timestamp() ORDER BY place) AS living_earlier FROM webhooks WHERE id = :'id' AND organization_id = :'organization_id';

-- webhooks.py FIND
SELECT webhooks.id, webhooks.organization_id, webhooks.url, webhooks.events, webhooks.job_types, webhooks.project_id, webhooks.description, webhooks.secret, webhooks.former_secret, webhooks.former_until, webhooks.earlier_secrets, webhooks.enabled, webhooks.disabled_because, webhooks.failing_since, webhooks.created_by, webhooks.created_at, webhooks.updated_at,
         CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until,
         ARRAY(SELECT said ->> 'secret' FROM jsonb_array_elements(earlier_secrets) WITH ORDINALITY AS each (said, place)
                WHERE CAST(said ->> 'until' AS timestamptz) > clock_timestamp() ORDER BY place) AS living_earlier FROM webhooks WHERE id = :'id';

-- webhooks.py PAGE
SELECT webhooks.id, webhooks.organization_id, webhooks.url, webhooks.events, webhooks.job_types, webhooks.project_id, webhooks.description, webhooks.secret, webhooks.former_secret, webhooks.former_until, webhooks.earlier_secrets, webhooks.enabled, webhooks.disabled_because, webhooks.failing_since, webhooks.created_by, webhooks.created_at, webhooks.updated_at,
         CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until,
         ARRAY(SELECT said ->> 'secret' FROM jsonb_array_elements(earlier_secrets) WITH ORDINALITY AS each (said, place)
                WHERE CAST(said ->> 'until' AS timestamptz) > clock_timestamp() ORDER BY place) AS living_earlier FROM webhooks WHERE organization_id = :'organization_id' AND id > CAST(:'after' AS uuid) ORDER BY id LIMIT :'size';

-- webhooks.py EVERYWHERE
SELECT webhooks.id, webhooks.organization_id, webhooks.url, webhooks.events, webhooks.job_types, webhooks.project_id, webhooks.description, webhooks.secret, webhooks.former_secret, webhooks.former_until, webhooks.earlier_secrets, webhooks.enabled, webhooks.disabled_because, webhooks.failing_since, webhooks.created_by, webhooks.created_at, webhooks.updated_at,
         CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until,
         ARRAY(SELECT said ->> 'secret' FROM jsonb_array_elements(earlier_secrets) WITH ORDINALITY AS each (said, place)
                WHERE CAST(said ->> 'until' AS timestamptz) > clock_timestamp() ORDER BY place) AS living_earlier FROM webhooks WHERE id > CAST(:'after' AS uuid) ORDER BY id LIMIT :'size';

-- webhooks.py LISTENING
SELECT webhooks.id, webhooks.organization_id, webhooks.url, webhooks.events, webhooks.job_types, webhooks.project_id, webhooks.description, webhooks.secret, webhooks.former_secret, webhooks.former_until, webhooks.earlier_secrets, webhooks.enabled, webhooks.disabled_because, webhooks.failing_since, webhooks.created_by, webhooks.created_at, webhooks.updated_at,
         CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until,
         ARRAY(SELECT said ->> 'secret' FROM jsonb_array_elements(earlier_secrets) WITH ORDINALITY AS each (said, place)
                WHERE CAST(said ->> 'until' AS timestamptz) > clock_timestamp() ORDER BY place) AS living_earlier FROM webhooks WHERE organization_id = ANY(CAST(:'organization_ids' AS text[])) AND enabled;

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

-- webhooks.py CLOSE
DELETE FROM circuits
WHERE job_type = :'job_type'
  AND NOT EXISTS (SELECT FROM webhooks WHERE CAST(webhooks.id AS text) = circuits.key AND enabled);

-- webhooks.py HAPPENED
SELECT history.id, history.at, job.result IS NOT NULL AS has_result,
       CASE WHEN octet_length(CAST(job.result AS text)) <= :'most_bytes' THEN job.result END AS result
FROM history LEFT JOIN LATERAL (
    SELECT result FROM jobs WHERE jobs.id = history.job_id AND history.to_status = 'succeeded'
    OFFSET 0) AS job ON true
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
      FROM history
      WHERE history.job_id = ANY(ARRAY(SELECT jobs.id FROM jobs
                                       WHERE jobs.root_id = workflows.id AND jobs.root_id <> jobs.id
                                         AND NOT jobs.external))
        AND at >= workflows.created_at - interval '1 hour'
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
SELECT node.workflow_id, node.key, node.place, node.job_id, node.run, node.job_type, node.payload, node.after, node.priority, node.max_retries, node.scheduled_at, node.message, node.metadata, node.ended, CASE WHEN jobs.id IS NULL THEN coalesce(node.ended, 'cancelled')
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
SET status = status_now, completed_at = last_end, updated_at = clock_timestamp(),
    worker_ms = greatest(workflows.worker_ms, ended.worker_ms)
FROM ended
WHERE workflows.id = ended.id AND status_now NOT IN ('queued', 'running') AND completed_at IS NULL
RETURNING workflows.id;

-- workflows/concluding.py KEEP_ENDS
UPDATE workflow_jobs SET ended = status_now
FROM (
SELECT node.workflow_id, node.key, node.place, node.job_id, node.run, node.job_type, node.payload, node.after, node.priority, node.max_retries, node.scheduled_at, node.message, node.metadata, node.ended, CASE WHEN jobs.id IS NULL THEN coalesce(node.ended, 'cancelled')
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

-- workflows/concluding.py BEGUN
WITH begun AS (
    SELECT id FROM workflows
    WHERE completed_at IS NULL AND told_at IS NULL
      AND (CAST(:'ids' AS uuid[]) IS NULL OR id = ANY(CAST(:'ids' AS uuid[])))
      AND (SELECT true FROM workflow_jobs JOIN jobs ON jobs.id = job_id WHERE workflow_id = workflows.id AND workflow_jobs.run = workflows.run AND attempt > 0 LIMIT 1)
    ORDER BY id
    LIMIT :'batch'
    FOR UPDATE SKIP LOCKED
), told AS (
    UPDATE workflows SET told_at = clock_timestamp() FROM begun WHERE workflows.id = begun.id RETURNING workflows.*
)
INSERT INTO events (id, organization_id, user_id, project_id, event, subject_id, detail)
SELECT nextval('history_id_seq'), organization_id, user_id, project_id, 'workflow.started', id,
       jsonb_build_object('name', name, 'run', run)
FROM told;

-- workflows/concluding.py TELL_ENDS
INSERT INTO events (id, organization_id, user_id, project_id, event, subject_id, detail)
SELECT nextval('history_id_seq'), organization_id, user_id, project_id,
       CASE status WHEN 'succeeded' THEN 'workflow.completed'
                   WHEN 'failed' THEN 'workflow.failed'
                   ELSE 'workflow.cancelled' END,
       id,
       jsonb_build_object('name', name, 'run', run, 'duration', (SELECT floor(1000 * extract(EPOCH FROM workflows.completed_at - min(jobs.started_at))) FROM workflow_jobs JOIN jobs ON jobs.id = job_id WHERE workflow_id = workflows.id AND workflow_jobs.run = workflows.run), 'jobs', ended.jobs)
       || CASE status WHEN 'failed' THEN jsonb_build_object('failed', ended.failed)
                      WHEN 'cancelled'
                      THEN jsonb_build_object('by', cancelled_by, 'reason', reason)
                      ELSE '{}' END
FROM workflows
CROSS JOIN LATERAL (
    SELECT (SELECT jsonb_object_agg(ended, number)
            FROM (SELECT ended, count(*) AS number FROM workflow_jobs
                  WHERE workflow_id = workflows.id GROUP BY ended) AS counted) AS jobs,
           (SELECT jsonb_agg(key ORDER BY place)
            FROM (SELECT key, place FROM workflow_jobs
                  WHERE workflow_id = workflows.id AND ended = 'failed'
                  ORDER BY place LIMIT 10) AS first) AS failed) AS ended
WHERE id = ANY(CAST(:'ids' AS uuid[]))
ORDER BY completed_at, id;

-- workflows/concluding.py FORGET
WITH old AS (
    SELECT id FROM workflows
    WHERE completed_at < clock_timestamp() - CAST(:'older_than' AS interval)
      AND NOT EXISTS (SELECT FROM workflow_jobs CROSS JOIN LATERAL (
                          SELECT FROM jobs WHERE jobs.id = job_id
                          OFFSET 0) AS kept
                      WHERE workflow_id = workflows.id
                      OFFSET 0)
    ORDER BY completed_at
    LIMIT :'limit'
    FOR UPDATE SKIP LOCKED
), jobs_of AS (
    DELETE FROM workflow_jobs USING old WHERE workflow_id = old.id
)
DELETE FROM workflows USING old WHERE workflows.id = old.id
RETURNING workflows.id;

-- workflows/filling.py UNFILLED
SELECT id, dispatch, updated_at, root_id, organization_id, job_type, payload FROM jobs
WHERE hold = 'dependency' AND unresolved AND depends_on @> ARRAY[CAST(:'job_id' AS uuid)] AND NOT EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                 WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                   WHERE dependency.id = wanted.id AND (dependency.status = coalesce(wanted.ending, 'succeeded')
            OR wanted.ending = 'finished' AND dependency.status IN ('succeeded', 'failed', 'cancelled')
               AND NOT dependency.stopping)))
LIMIT :'batch';

-- workflows/filling.py UNFILLED_IN_WINDOW
SELECT id, dispatch, updated_at, root_id, organization_id, job_type, payload FROM jobs
WHERE hold = 'dependency' AND unresolved AND hold = 'dependency' AND jobs.id = ANY(ARRAY(SELECT id FROM jobs WHERE hold = 'dependency' AND id > CAST(:'after' AS uuid) ORDER BY id LIMIT :'window')) AND NOT EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
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
    SELECT id, status AS from_status FROM jobs WHERE id = :'id' AND dispatch = :'dispatch' AND updated_at = :'changed_at'
      AND hold = 'dependency' AND unresolved AND NOT EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
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
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
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
    RETURNING jobs.id, jobs.dispatch, jobs.organization_id, jobs.user_id, jobs.project_id, jobs.job_type, jobs.status, jobs.hold, jobs.due_at, jobs.priority, jobs.sent_priority, jobs.queue, jobs.attempt, jobs.retry_count, jobs.max_retries, jobs.losses, jobs.payload, jobs.metadata, jobs.delivery, jobs.parent_id, jobs.root_id, jobs.group_id, jobs.group_index, jobs.result, jobs.typed_result, jobs.error_type, jobs.error_message, jobs.fingerprint, jobs.message, jobs.progress, jobs.progress_detail, jobs.current_step, jobs.total_steps, jobs.circuit_key, jobs.limit_key, jobs.worker, jobs.lease, jobs.claim_id, jobs.stopping, jobs.external, jobs.depends_on, jobs.depends_when, jobs.unresolved, jobs.follows, jobs.follows_group, jobs.retry_of, jobs.idempotency_key, jobs.request_hash, jobs.scheduled_at, jobs.dispatched_at, jobs.cancel_requested_at, jobs.cancel_seen_at, jobs.started_at, jobs.completed_at, jobs.created_at, jobs.updated_at, locked.from_status
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
SELECT workflows.id, workflows.organization_id, workflows.user_id, workflows.name, workflows.project_id, workflows.run, workflows.status, workflows.worker_ms, workflows.cancelled_by, workflows.reason, workflows.idempotency_key, workflows.request_hash, workflows.created_at, workflows.updated_at, workflows.completed_at, workflows.told_at, state.*, coalesce(workflows.completed_at, state.last_end) AS completed_at_now,
           CASE WHEN workflows.completed_at IS NULL THEN (
    SELECT CAST(greatest(0, coalesce(sum(1000 * extract(EPOCH FROM coalesce(next_at, clock_timestamp()) - at)), 0))
                AS bigint)
    FROM (SELECT history.at, event, to_status,
                 lead(history.at) OVER path AS next_at, lead(event) OVER path AS next_event
          FROM history
          WHERE history.job_id = ANY(ARRAY(SELECT jobs.id FROM jobs
                                           WHERE jobs.root_id = workflows.id AND jobs.root_id <> jobs.id
                                             AND NOT jobs.external))
            AND at >= workflows.created_at - interval '1 hour'
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
    SELECT node.workflow_id, node.key, node.place, node.job_id, node.run, node.job_type, node.payload, node.after, node.priority, node.max_retries, node.scheduled_at, node.message, node.metadata, node.ended, CASE WHEN jobs.id IS NULL THEN coalesce(node.ended, 'cancelled')
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
SELECT node.workflow_id, node.key, node.place, node.job_id, node.run, node.job_type, node.payload, node.after, node.priority, node.max_retries, node.scheduled_at, node.message, node.metadata, node.ended, CASE WHEN jobs.id IS NULL THEN coalesce(node.ended, 'cancelled')
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
SELECT workflows.id, workflows.organization_id, workflows.user_id, workflows.name, workflows.project_id, workflows.run, workflows.status, workflows.worker_ms, workflows.cancelled_by, workflows.reason, workflows.idempotency_key, workflows.request_hash, workflows.created_at, workflows.updated_at, workflows.completed_at, workflows.told_at, state.*, coalesce(workflows.completed_at, state.last_end) AS completed_at_now,
       CASE WHEN workflows.completed_at IS NULL THEN (
SELECT CAST(greatest(0, coalesce(sum(1000 * extract(EPOCH FROM coalesce(next_at, clock_timestamp()) - at)), 0))
            AS bigint)
FROM (SELECT history.at, event, to_status,
             lead(history.at) OVER path AS next_at, lead(event) OVER path AS next_event
      FROM history
      WHERE history.job_id = ANY(ARRAY(SELECT jobs.id FROM jobs
                                       WHERE jobs.root_id = workflows.id AND jobs.root_id <> jobs.id
                                         AND NOT jobs.external))
        AND at >= workflows.created_at - interval '1 hour'
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
SELECT node.workflow_id, node.key, node.place, node.job_id, node.run, node.job_type, node.payload, node.after, node.priority, node.max_retries, node.scheduled_at, node.message, node.metadata, node.ended, CASE WHEN jobs.id IS NULL THEN coalesce(node.ended, 'cancelled')
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

-- workflows/reads.py EVERYWHERE
WITH RECURSIVE whose AS (
    SELECT min(organization_id) AS id FROM workflows
    UNION ALL
    SELECT (SELECT min(organization_id) FROM workflows WHERE organization_id > whose.id)
    FROM whose WHERE whose.id IS NOT NULL
), found AS MATERIALIZED (
    SELECT theirs.id FROM whose CROSS JOIN LATERAL (
        SELECT id, created_at FROM workflows
        WHERE organization_id = whose.id AND (CAST(:'name' AS text) IS NULL OR name = :'name')
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
SELECT node.workflow_id, node.key, node.place, node.job_id, node.run, node.job_type, node.payload, node.after, node.priority, node.max_retries, node.scheduled_at, node.message, node.metadata, node.ended, CASE WHEN jobs.id IS NULL THEN coalesce(node.ended, 'cancelled')
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
    ) AS theirs
    ORDER BY theirs.created_at DESC, theirs.id DESC
    LIMIT :'size'
)
SELECT workflows.id, workflows.organization_id, workflows.user_id, workflows.name, workflows.project_id, workflows.run, workflows.status, workflows.worker_ms, workflows.cancelled_by, workflows.reason, workflows.idempotency_key, workflows.request_hash, workflows.created_at, workflows.updated_at, workflows.completed_at, workflows.told_at, state.*, coalesce(workflows.completed_at, state.last_end) AS completed_at_now,
       CASE WHEN workflows.completed_at IS NULL THEN (
SELECT CAST(greatest(0, coalesce(sum(1000 * extract(EPOCH FROM coalesce(next_at, clock_timestamp()) - at)), 0))
            AS bigint)
FROM (SELECT history.at, event, to_status,
             lead(history.at) OVER path AS next_at, lead(event) OVER path AS next_event
      FROM history
      WHERE history.job_id = ANY(ARRAY(SELECT jobs.id FROM jobs
                                       WHERE jobs.root_id = workflows.id AND jobs.root_id <> jobs.id
                                         AND NOT jobs.external))
        AND at >= workflows.created_at - interval '1 hour'
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
SELECT node.workflow_id, node.key, node.place, node.job_id, node.run, node.job_type, node.payload, node.after, node.priority, node.max_retries, node.scheduled_at, node.message, node.metadata, node.ended, CASE WHEN jobs.id IS NULL THEN coalesce(node.ended, 'cancelled')
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
SELECT node.workflow_id, node.key, node.place, node.job_id, node.run, node.job_type, node.payload, node.after, node.priority, node.max_retries, node.scheduled_at, node.message, node.metadata, node.ended, CASE WHEN jobs.id IS NULL THEN coalesce(node.ended, 'cancelled')
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
