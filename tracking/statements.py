"""The SQL of the verbs. Each locks its rows, changes them if they are still as expected, and writes their history.

A row is found by its id alone, so that no table is too small or too new for a good plan; its dispatch is tested after
the row is locked. The clock is read then, too, so that the times of one job follow the order of its changes.
"""

from __future__ import annotations

from sqlalchemy import TextClause, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import Integer, Uuid

from tracking.admission.rule import (
    FIRST_HOLD,
    is_awaited,
    is_broken,
    is_paused,
    is_uncalled,
    leaves_place,
    let_through,
    next_hold,
)
from tracking.sql import for_driver, listed, logged, statement
from tracking.states import FINISHED, WAITING, Event, Status, sources

NULLABLE_JSON = JSONB(none_as_null=True)
_FENCES = {"job_ids": ARRAY(Uuid), "dispatches": ARRAY(Integer)}

SCOPE = """organization_id = :organization_id AND (CAST(:user_id AS text) IS NULL OR user_id = :user_id)"""


def revoked_by(job: str) -> str:
    """SQL: who has revoked this job before its row was written; null = nobody."""
    return f"""(SELECT revoked_by FROM revocations WHERE stamp = '' AND value = to_jsonb({job}.id)
                UNION ALL
                SELECT revoked_by FROM jsonb_each({job}.delivery -> 'stamps') AS stamped
                JOIN revocations ON revocations.stamp = stamped.key AND stamped.value @> revocations.value
                LIMIT 1)"""


def is_followed(job: str) -> str:
    """SQL: whether another job waits to be called with this one's result, or with those of its group."""
    return f"""(EXISTS (SELECT FROM jobs AS waiting WHERE waiting.follows = {job}.id AND waiting.hold = 'dependency')
                OR EXISTS (SELECT FROM jobs AS waiting
                           WHERE waiting.follows_group = {job}.group_id AND waiting.hold = 'dependency'))"""


# What an uncalled job waits for has not failed, and was not cancelled.
MAY_BE_CALLED = f"""NOT EXISTS (SELECT FROM jobs AS followed
                                WHERE followed.status IN ('{Status.FAILED}', '{Status.CANCELLED}')
                                  AND (followed.id = jobs.follows
                                       OR followed.group_id = jobs.follows_group AND followed.id <> jobs.id))"""

SUBMIT = for_driver(
    f"""
    WITH created AS (
        INSERT INTO jobs (id, organization_id, user_id, project_id, job_type, status, priority, queue,
                          max_retries, payload, metadata, delivery, message, parent_id, root_id, group_id,
                          group_index, idempotency_key, request_hash, depends_on, scheduled_at, due_at, circuit_key,
                          hold, sent_priority)
        SELECT id, organization_id, :user_id, :project_id, job_type, status, priority, queue,
               :max_retries, :payload, :metadata, :delivery, :message, CAST(:parent_id AS uuid), CAST(:root_id AS uuid),
               :group_id, CAST(:group_index AS int), :idempotency_key, :request_hash, depends_on, due_at, due_at,
               circuit_key, {FIRST_HOLD}, sent.level
        FROM (SELECT CAST(:id AS uuid) AS id, CAST(:organization_id AS text) AS organization_id, 'queued' AS status,
                     0 AS attempt, CAST(:priority AS int) AS priority,
                     CAST(NULL AS uuid) AS follows, CAST(NULL AS text) AS follows_group,
                     CAST(:job_type AS text) AS job_type, CAST(:queue AS text) AS queue,
                     CAST(:circuit_key AS text) AS circuit_key,
                     CAST(:depends_on AS uuid[]) AS depends_on,
                     coalesce(CAST(:scheduled_at AS timestamptz),
                              clock_timestamp() + CAST(:delay AS interval)) AS due_at) AS asked
        CROSS JOIN LATERAL {let_through("asked")}
        ON CONFLICT DO NOTHING
        RETURNING *, CAST(NULL AS text) AS from_status
    ), logged AS ({
        logged(
            "created",
            f"'{Event.CREATED}'",
            "CAST(:actor AS text)",
            "jsonb_build_object('priority', priority, 'hold', hold, 'dueAt', due_at,"
            " 'parentId', parent_id, 'rootId', root_id, 'groupId', group_id,"
            " 'dependsOn', nullif(to_jsonb(depends_on), '[]'))",
        )
    })
    SELECT *, {revoked_by("created")} AS revoked_by FROM created"""
)

UNKNOWN_OF = statement(
    f"""
    SELECT wanted.id FROM unnest(:ids) AS wanted (id)
    WHERE NOT EXISTS (SELECT FROM jobs WHERE jobs.id = wanted.id AND {SCOPE})""",
    ids=ARRAY(Uuid),
)

EXISTING = text(
    """
    SELECT *, job_type = CAST(:job_type AS text) AND payload = :payload AND delivery -> 'passing'
              IS NOT DISTINCT FROM CAST(:delivery AS jsonb) -> 'passing' AS is_same
    FROM jobs
    WHERE organization_id = :organization_id
      AND (user_id = :user_id AND idempotency_key = CAST(:idempotency_key AS text)
           OR CAST(:idempotency_key AS text) IS NULL AND id = :id)"""
)

_ATTEMPT = (
    "dispatch, attempt, organization_id, user_id, project_id, job_type, retry_count, max_retries, root_id, group_id"
)

# These two run for every job and go to the driver as they are (db.run). They look for the row by its id alone and test
# the rest afterwards, so that no index of a few rows can look cheaper while the table is small.

CLAIM = f"""
    WITH locked AS (
        SELECT id, status AS from_status, hold AS held, dispatch AS from_dispatch FROM jobs WHERE id = %(id)s FOR UPDATE
    ), moved AS (
        UPDATE jobs
        SET status = 'running', attempt = attempt + 1, worker = %(worker)s, lease = %(lease)s, claim_id = %(claim_id)s,
            due_at = NULL, started_at = clock_timestamp(), progress = 0, progress_detail = NULL, current_step = 0,
            updated_at = clock_timestamp(), dispatched_at = coalesce(dispatched_at, clock_timestamp())
        FROM locked
        WHERE jobs.id = locked.id AND from_dispatch = %(dispatch)s AND from_status IN ({listed(sources(Event.STARTED))})
          AND held IS NULL AND NOT {is_paused("jobs")} AND NOT {is_broken("jobs")}
        RETURNING jobs.id, {_ATTEMPT}, status, priority, worker, from_status, queue
    ), logged AS ({
    logged("moved", f"'{Event.STARTED}'", "worker", "jsonb_build_object('priority', priority, 'worker', worker)")
})
    SELECT id, {_ATTEMPT}, {leaves_place("moved")} AS leaves_place FROM moved"""

KNOWN = text(f"SELECT id, {_ATTEMPT}, status, hold, claim_id FROM jobs WHERE id = :id")

LOG_REFUSAL = statement(
    f"""
    WITH refused AS (SELECT *, status AS from_status FROM jobs WHERE id = :id FOR NO KEY UPDATE)
    {logged("refused", f"'{Event.DUPLICATE_REFUSED}'", "CAST(:actor AS text)", "CAST(:detail AS jsonb)")}""",
    detail=JSONB,
)

REPORT = statement(
    f"""
    WITH moved AS (
        UPDATE jobs
        SET progress = greatest(progress, least(99, coalesce(CAST(:percent AS int), 0))),
            message = coalesce(:message, message),
            progress_detail = coalesce(:detail, progress_detail),
            current_step = greatest(current_step, CAST(:current_step AS int)),
            total_steps = greatest(total_steps, CAST(:total_steps AS int)),
            updated_at = clock_timestamp()
        WHERE id = :id AND dispatch = :dispatch AND attempt = :attempt AND status = 'running'
        RETURNING *, status AS from_status
    ), told AS (
        SELECT place, milestone - 'ago' AS point, make_interval(secs => CAST(milestone ->> 'ago' AS float)) AS ago
        FROM jsonb_array_elements(:milestones) WITH ORDINALITY AS told (milestone, place)
        UNION ALL
        SELECT 1 + jsonb_array_length(:milestones), jsonb_build_object('percentage', progress, 'message', message,
               'current', current_step, 'total', total_steps, 'detail', progress_detail), interval '0' FROM moved
        WHERE :moved_on
    ), logged AS ({
        logged(
            "moved CROSS JOIN told ORDER BY place",
            f"'{Event.PROGRESS}'",
            "worker",
            "point - 'detail'",
            kept="CASE WHEN jsonb_typeof(point -> 'detail') <> 'null'"
            " THEN jsonb_build_object('detail', point -> 'detail') ELSE '{}' END",
            at="greatest(started_at, clock_timestamp() - ago)",
        )
    })
    SELECT id FROM moved""",
    detail=NULLABLE_JSON,
    milestones=JSONB,
)

# The last entry of those who watch a job's progress: one that never reported any has none.
_LAST_PERCENT = "CASE WHEN status = 'succeeded' AND reached > 0 THEN 100 END"

SETTLE = f"""
    WITH locked AS (
        SELECT id, status AS from_status, dispatch AS from_dispatch, attempt AS from_attempt,
               CASE WHEN %(counts)s AND %(kind)s IN ('succeeded', 'failed', 'retry') THEN circuit_key END AS counts_in,
               CASE %(kind)s
                   WHEN 'succeeded' THEN 'succeeded'
                   WHEN 'failed' THEN 'failed'
                   WHEN 'retry' THEN 'retrying'
                   WHEN 'cancelled' THEN 'cancelled'
                   WHEN 'released' THEN 'queued'
                   WHEN 'replaced' THEN 'queued'
                   ELSE CASE WHEN losses + 1 < %(max_losses)s THEN 'queued' ELSE 'failed' END
               END AS target,
               %(kind)s = 'lost' AND losses + 1 >= %(max_losses)s AS is_poison, progress AS reached
        FROM jobs
        WHERE id = %(id)s
        FOR UPDATE
    ), moved AS (
        UPDATE jobs
        SET status = target, dispatch = dispatch + CASE target WHEN 'queued' THEN 1 ELSE 0 END,
            dispatched_at = CASE target WHEN 'queued' THEN NULL ELSE dispatched_at END,
            hold = CASE WHEN target = 'retrying' THEN 'backoff' WHEN %(kind)s = 'replaced' THEN 'dependency' END,
            follows = CASE %(kind)s WHEN 'replaced' THEN jobs.id END,
            started_at = CASE %(kind)s WHEN 'replaced' THEN NULL ELSE started_at END,
            due_at = CASE target WHEN 'retrying' THEN clock_timestamp() + make_interval(secs => %(delay)s) END,
            retry_count = CASE WHEN %(kind)s = 'replaced' THEN 0 WHEN target = 'retrying' THEN retry_count + 1
                          ELSE retry_count END,
            losses = CASE WHEN %(kind)s IN ('lost', 'returned') THEN losses + 1 WHEN %(kind)s = 'replaced' THEN 0
                     ELSE losses END,
            payload = coalesce(%(payload)s, payload),
            delivery = coalesce(delivery || %(delivery)s, delivery),
            queue = coalesce(%(queue)s, queue),
            priority = coalesce(%(priority)s, priority),
            max_retries = greatest(max_retries, %(max_retries)s),
            circuit_key = coalesce(%(circuit_key)s, circuit_key),
            result = %(result)s,
            typed_result = %(typed_result)s,
            error_type = CASE WHEN is_poison THEN 'WorkerLost' ELSE %(error_type)s END,
            error_message = CASE WHEN is_poison THEN 'the job took down ' || (losses + 1) || ' workers'
                            ELSE %(error_message)s END,
            progress = CASE target WHEN 'succeeded' THEN 100
                       ELSE greatest(progress, least(99, coalesce(%(percent)s, 0))) END,
            message = coalesce(%(message)s, message),
            progress_detail = coalesce(%(detail)s, progress_detail),
            current_step = greatest(current_step, %(current_step)s),
            total_steps = greatest(total_steps, %(total_steps)s),
            cancel_requested_at = CASE target WHEN 'cancelled' THEN clock_timestamp() END,
            completed_at = CASE WHEN target IN ({listed(FINISHED)}) THEN clock_timestamp() END,
            updated_at = clock_timestamp()
        FROM locked
        WHERE jobs.id = locked.id AND from_dispatch = %(dispatch)s AND from_status = 'running'
          AND from_attempt = coalesce(%(attempt)s, from_attempt)
        RETURNING jobs.id, organization_id, user_id, job_type, status, attempt, error_type, error_message, due_at,
                  started_at, completed_at, group_id, from_status, from_dispatch, counts_in, reached
    ), logged AS ({
    logged(
        "moved",
        "CASE status WHEN 'succeeded' THEN 'completed' WHEN 'queued' THEN 'released'"
        " WHEN 'cancelled' THEN 'cancelled' ELSE 'failed' END",
        "CAST(%(actor)s AS text)",
        "jsonb_build_object("
        " 'reason', CASE WHEN status IN ('queued', 'cancelled') THEN coalesce(error_message, %(kind)s) END,"
        " 'errorType', error_type, 'error', error_message, 'traceback', CAST(%(traceback)s AS text), 'dueAt', due_at,"
        " 'willRetry', CASE status WHEN 'retrying' THEN true WHEN 'failed' THEN false END,"
        " 'duration', CASE WHEN completed_at IS NOT NULL"
        " THEN round(1000 * extract(epoch FROM completed_at - started_at)) END,"
        f" 'percentage', {_LAST_PERCENT})",
        dispatch="from_dispatch",
        circuit_key="counts_in",
        kept="coalesce(CAST(%(kept)s AS jsonb), '{}')",
    )
})
    SELECT organization_id, status,
           {is_awaited("moved")} AS is_awaited, {is_followed("moved")} AS is_followed
    FROM moved"""

# SETTLE for the outcome that nearly all jobs have: with 5 parameters instead of 24 it takes a third less time.
SUCCEED = f"""
    WITH locked AS (
        SELECT id, status AS from_status, dispatch AS from_dispatch, attempt AS from_attempt, progress AS reached
        FROM jobs WHERE id = %(id)s FOR UPDATE
    ), moved AS (
        UPDATE jobs
        SET status = 'succeeded', result = %(result)s, progress = 100, error_type = NULL, error_message = NULL,
            completed_at = clock_timestamp(), updated_at = clock_timestamp()
        FROM locked
        WHERE jobs.id = locked.id AND from_dispatch = %(dispatch)s AND from_status = 'running'
          AND from_attempt = %(attempt)s
        RETURNING jobs.id, dispatch, organization_id, user_id, job_type, status, attempt, started_at, completed_at,
                  from_status, circuit_key, reached
    ), logged AS ({
    logged(
        "moved",
        f"'{Event.COMPLETED}'",
        "CAST(%(actor)s AS text)",
        "jsonb_build_object('duration', round(1000 * extract(epoch FROM completed_at - started_at)),"
        f" 'percentage', {_LAST_PERCENT})",
        circuit_key="circuit_key",
    )
})
    SELECT organization_id, status, {is_awaited("moved")} AS is_awaited, false AS is_followed
    FROM moved"""

_AFTER = "round(1000 * extract(epoch FROM clock_timestamp() - cancel_requested_at))"

SEEN = text(
    f"""
    WITH moved AS (
        UPDATE jobs SET cancel_seen_at = clock_timestamp(), updated_at = clock_timestamp()
        WHERE id = :id AND dispatch = :dispatch AND stopping AND cancel_seen_at IS NULL
        RETURNING *, status AS from_status
    ), logged AS ({
        logged("moved", f"'{Event.SEEN}'", "CAST(:actor AS text)", f"jsonb_build_object('after', {_AFTER})")
    })
    SELECT id FROM moved"""
)

# A body that is over has seen the cancel at the latest now, unless it ended with its worker.
STOPPED = text(
    f"""
    WITH locked AS (
        SELECT id, cancel_seen_at IS NULL AND CAST(:how AS text) <> 'worker lost' AS unseen FROM jobs
        WHERE id = :id AND dispatch = :dispatch AND stopping
        FOR UPDATE
    ), moved AS (
        UPDATE jobs
        SET stopping = false, updated_at = clock_timestamp(),
            cancel_seen_at = CASE WHEN unseen THEN clock_timestamp() ELSE cancel_seen_at END
        FROM locked
        WHERE jobs.id = locked.id
        RETURNING jobs.*, status AS from_status, unseen
    ), logged AS ({
        logged(
            f"moved JOIN (VALUES (1, '{Event.SEEN}'), (2, '{Event.STOPPED}')) AS happened (place, what)"
            f" ON what = '{Event.STOPPED}' OR unseen ORDER BY place",
            "what",
            "CAST(:actor AS text)",
            f"jsonb_build_object('after', {_AFTER},"
            f" 'how', CASE what WHEN '{Event.STOPPED}' THEN CAST(:how AS text) END)",
        )
    })
    SELECT id FROM moved"""
)

# These two are of one worker.

RUNNING = text("SELECT id, dispatch FROM jobs WHERE lease = :lease AND status = 'running'")

STOPPING = text(
    """
    SELECT id, dispatch, clock_timestamp() - cancel_requested_at AS requested_for,
           clock_timestamp() - cancel_seen_at AS seen_for
    FROM jobs WHERE lease = :lease AND stopping"""
)


def cancelling(which: str) -> TextClause:
    """The cancel of a job that is not finished, by `:actor` for `:reason`; `which` finds one row."""
    return text(
        f"""
    WITH locked AS (
        SELECT id, status AS from_status FROM jobs
        WHERE {which} AND status IN ({listed(sources(Event.CANCELLED))})
        FOR UPDATE
    ), moved AS (
        UPDATE jobs
        SET status = 'cancelled', hold = NULL, due_at = NULL, stopping = locked.from_status = 'running',
            cancel_requested_at = clock_timestamp(), cancel_seen_at = NULL, completed_at = clock_timestamp(),
            updated_at = clock_timestamp()
        FROM locked
        WHERE jobs.id = locked.id
        RETURNING jobs.*, locked.from_status
    ), logged AS ({
            logged(
                "moved",
                f"'{Event.CANCELLED}'",
                "CAST(:actor AS text)",
                "jsonb_build_object('by', CAST(:actor AS text), 'reason', CAST(:reason AS text))",
            )
        })
    SELECT * FROM moved"""
    )


CANCEL = cancelling(f"id = :id AND {SCOPE}")

# Without a scope: for a worker, of the message that it has.
CANCEL_DISPATCH = cancelling("id = :id AND dispatch = :dispatch")

RETRY = text(
    f"""
    WITH locked AS (
        SELECT id, status AS from_status FROM jobs
        WHERE id = :id AND {SCOPE} AND status IN ({listed(sources(Event.RETRIED))}) AND NOT stopping
          AND (retry_count < max_retries OR :force)
          AND (NOT {is_uncalled("jobs")} OR {MAY_BE_CALLED})
        FOR UPDATE
    ), moved AS (
        UPDATE jobs
        SET status = 'queued', dispatch = dispatch + 1, retry_count = retry_count + 1, losses = 0,
            hold = {next_hold("jobs", due_at="CAST(NULL AS timestamptz)")}, delivery = delivery - 'expires',
            due_at = NULL, dispatched_at = NULL, sent_priority = NULL, result = NULL, typed_result = NULL,
            error_type = NULL, error_message = NULL, message = NULL, progress = 0, progress_detail = NULL,
            current_step = 0, cancel_requested_at = NULL, cancel_seen_at = NULL, started_at = NULL,
            completed_at = NULL, updated_at = clock_timestamp()
        FROM locked
        WHERE jobs.id = locked.id
        RETURNING jobs.*, locked.from_status
    ), logged AS ({
        logged(
            "moved",
            f"'{Event.RETRIED}'",
            "CAST(:actor AS text)",
            "jsonb_build_object('by', CAST(:actor AS text), 'force', CAST(:force AS boolean))",
        )
    })
    SELECT * FROM moved"""
)

IN_SCOPE = text(
    f"""
    SELECT status, stopping, retry_count, max_retries,
           CASE WHEN {is_uncalled("jobs")} AND NOT {MAY_BE_CALLED} THEN error_message END AS why_uncalled
    FROM jobs WHERE id = :id AND {SCOPE}"""
)

FAIL_WAITING = text(
    f"""
    WITH locked AS (
        SELECT id, status AS from_status FROM jobs
        WHERE id = :id AND dispatch = :dispatch AND status IN ({listed(WAITING)})
        FOR UPDATE
    ), moved AS (
        UPDATE jobs
        SET status = 'failed', hold = NULL, due_at = NULL, error_type = :error_type, error_message = :error_message,
            completed_at = clock_timestamp(), updated_at = clock_timestamp()
        FROM locked
        WHERE jobs.id = locked.id
        RETURNING jobs.*, locked.from_status
    ), logged AS ({
        logged(
            "moved",
            f"'{Event.FAILED}'",
            "CAST(:actor AS text)",
            "jsonb_build_object('errorType', error_type, 'error', error_message, 'willRetry', false)",
        )
    })
    SELECT id FROM moved"""
)

# What a producer has just accepted it sends itself; what was released, nobody else will.
UNDISPATCHED = text(
    f"""
    SELECT * FROM jobs
    WHERE status IN ({listed(WAITING)}) AND hold IS NULL AND dispatched_at IS NULL
      AND (status = 'queued' AND started_at IS NOT NULL OR updated_at <= clock_timestamp() - CAST(:age AS interval))
    ORDER BY updated_at
    LIMIT :limit"""
)

MARK_DISPATCHED = statement(
    """
    UPDATE jobs SET dispatched_at = clock_timestamp()
    FROM unnest(:job_ids, :dispatches) AS sent (job_id, dispatch)
    WHERE jobs.id = sent.job_id AND jobs.dispatch = sent.dispatch AND dispatched_at IS NULL""",
    **_FENCES,
)

REDISPATCH = text(
    f"""
    UPDATE jobs SET dispatched_at = NULL, updated_at = clock_timestamp()
    WHERE id = :id AND dispatch = :dispatch AND status IN ({listed(WAITING)})
    RETURNING id"""
)

_IS_SENT = f"status IN ({listed(WAITING)}) AND hold IS NULL AND dispatched_at IS NOT NULL"

WAITING_QUEUES = text(
    f"""
    SELECT queue, statement_timestamp() AS at FROM jobs
    WHERE {_IS_SENT}
    GROUP BY queue
    HAVING min(dispatched_at) < statement_timestamp() - CAST(:age AS interval)"""
)

# What was sent before `at` and waits still, was ready or on its way to a worker when the broker was asked after `at`.
MISSING = text(
    f"""
    WITH waiting AS (
        SELECT id, dispatch, dispatched_at FROM jobs WHERE {_IS_SENT} AND queue = :queue AND dispatched_at < :at
    )
    SELECT id, dispatch FROM waiting
    WHERE dispatched_at < :at - CAST(:age AS interval)
    ORDER BY dispatched_at
    LIMIT least(:limit, greatest(0, (SELECT count(*) FROM waiting) - :ready))"""
)

# Its last change was long ago: upkeep finds it at once.
SEND_AGAIN = statement(
    f"""
    UPDATE jobs SET dispatched_at = NULL
    FROM unnest(:job_ids, :dispatches) AS lost (job_id, dispatch)
    WHERE jobs.id = lost.job_id AND jobs.dispatch = lost.dispatch AND {_IS_SENT}
    RETURNING jobs.id""",
    **_FENCES,
)

_DEAD = """NOT EXISTS (SELECT FROM workers WHERE workers.lease = jobs.lease
                       AND workers.seen_at > clock_timestamp() - CAST(:timeout AS interval))"""

ORPHANS = text(f"SELECT id, dispatch FROM jobs WHERE status = 'running' AND {_DEAD} ORDER BY lease LIMIT :limit")

ABANDONED_STOPS = text(f"SELECT id, dispatch FROM jobs WHERE stopping AND {_DEAD} ORDER BY lease LIMIT :limit")
