"""Running a job again that had ended, because somebody wants it: the job itself, or with another payload a new one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, TextClause, text
from uuid_utils.compat import uuid7

from tracking.admission.rule import Limits, is_uncalled, next_hold
from tracking.errors import IdempotencyConflict, IllegalMove
from tracking.jobs.cancel import refused_row
from tracking.jobs.each import Applied, apply, applying
from tracking.jobs.submit import CREATED, INSERTED
from tracking.models import Changes, Scope, Submitted
from tracking.origins import Origin, origin_parameter
from tracking.sql import ACTOR, JOB, ORIGIN, WITHIN_SCOPE, in_life, jsonb, listed, logged, move, own, record
from tracking.states import ACTIVE, Event, Status, sources


def retry(
    connection: Connection,
    job_id: UUID,
    scope: Scope,
    *,
    actor: str,
    limits: Limits,
    force: bool = False,
    priority: int | None = None,
    idempotency_key: str | None = None,
    origin: Origin | None = None,
) -> Submitted:
    """Queue a failed or cancelled job again, for a new dispatch; under a limit it joins its organization's line.

    `force` lifts the limit of max_retries; a `priority` of None stays. Under a key it is done once, however often it is
    asked for: then the job as it is now comes back. With a key, wants a transaction. Raises JobNotFound, IllegalMove:
    not failed or cancelled, no retry left, or its cancelled body is still stopping (then `retry_after` of the error is
    set, in seconds); and IdempotencyConflict when the key was used for another retry of this job.
    """
    parameters = {"id": job_id, "actor": actor, "force": force, "priority": priority, "key": idempotency_key}
    parameters |= scope.parameters | limits.parameters | origin_parameter(origin)
    _be_alone(connection, job_id, idempotency_key)
    row = connection.execute(RETRY, parameters).first()
    if row is not None:
        return Submitted(record(row), created=True)
    existing = connection.execute(RETRIED, parameters).first()
    if existing is None and not _is_taken(connection, EXISTING, job_id, scope, idempotency_key):
        raise _why_not(connection, job_id, scope)
    if existing is None or not existing.is_same:
        raise IdempotencyConflict
    return Submitted(record(existing), created=False)


def retry_each(
    connection: Connection,
    job_ids: Sequence[UUID],
    scope: Scope,
    *,
    actor: str,
    limits: Limits,
    force: bool,
    priority: int | None,
    operation: UUID,
) -> Applied:
    """Queue those of the jobs again that `retry` would, for a bulk operation."""
    parameters = {"actor": actor, "force": force, "priority": priority, "operation": operation, **limits.parameters}
    return apply(connection, RETRY_EACH, job_ids, parameters, facts=IN_SCOPE, why_not=_refusal, scope=scope)


def retry_anew(
    connection: Connection,
    job_id: UUID,
    scope: Scope,
    changes: Changes,
    *,
    actor: str,
    limits: Limits,
    force: bool = False,
    idempotency_key: str | None = None,
    request_hash: str | None = None,
    origin: Origin | None = None,
) -> Submitted:
    """Accept a new job that is as a failed or cancelled one, but for `changes`; that one stays as it ended.

    It belongs to the same user, whose key it is. `changes`: a payload, what comes with that, a priority. With a key,
    wants a transaction. Raises what `retry` does, and IdempotencyConflict when the key was used for another retry of
    this job.
    """
    parameters = {
        "id": job_id,
        "new_id": uuid7(),
        "actor": actor,
        "force": force,
        "payload": jsonb(changes.payload),
        "delivery": jsonb(changes.delivery),
        "circuit_key": changes.circuit_key,
        "priority": changes.priority,
        "idempotency_key": _kept(job_id, idempotency_key),
        "key": idempotency_key,
        "request_hash": request_hash,
    }
    parameters |= scope.parameters | limits.parameters | origin_parameter(origin)
    _be_alone(connection, job_id, idempotency_key)
    row = connection.execute(RETRY_ANEW, parameters).first()
    if row is not None:
        return Submitted(record(row), created=True)
    existing = connection.execute(EXISTING, parameters).first()
    if existing is None and not _is_taken(connection, RETRIED, job_id, scope, idempotency_key):
        raise _why_not(connection, job_id, scope)
    if existing is None or existing.request_hash != request_hash:
        raise IdempotencyConflict
    return Submitted(record(existing), created=False)


def _be_alone(connection: Connection, job_id: UUID, key: str | None) -> None:
    """Until the transaction ends, nobody else retries the job under this key.

    A statement that has waited for the job's row sees it as it is then, but not the other job that was made meanwhile.
    """
    if key is not None:
        connection.execute(ONE_AT_A_TIME, {"id": job_id, "key": key})


def _kept(job_id: UUID, key: str | None) -> str | None:
    """The key as the row of the new job has it."""
    return None if key is None else f"{job_id}/{key}"


def _is_taken(connection: Connection, by: TextClause, job_id: UUID, scope: Scope, key: str | None) -> bool:
    """Whether the key stands for a retry of the other kind: of the job itself, or with a payload of its own."""
    said = {"id": job_id, "key": key, "idempotency_key": _kept(job_id, key), "force": False, "priority": None}
    return connection.execute(by, {**said, **scope.parameters}).first() is not None


def _why_not(connection: Connection, job_id: UUID, scope: Scope) -> IllegalMove:
    return _refusal(job_id, connection.execute(IN_SCOPE, {"ids": [job_id], **scope.parameters}).first())


def _refusal(job_id: UUID, known: Any) -> IllegalMove:
    known = refused_row(job_id, known)
    if known.why_uncalled is not None:
        return IllegalMove(f"the job {job_id} was never called, and lacks arguments: {known.why_uncalled}")
    if known.status not in sources(Event.RETRIED):
        return IllegalMove(f"the job {job_id} is {known.status}: it cannot be retried")
    if known.retry_count < known.max_retries:
        return IllegalMove(f"the job {job_id} waits to be called with the result of another one: it has no payload yet")
    return IllegalMove(
        f"the job {job_id} has used {known.retry_count} of {known.max_retries} retries; force it to retry anyway"
    )


_FOLLOWED = """(followed.id = jobs.follows
                                    OR followed.group_id = jobs.follows_group AND followed.id <> jobs.id)"""

# An uncalled job is called when what it waits for succeeds: that is under way, and no part of it has ended otherwise.
_MAY_BE_CALLED = f"""EXISTS (SELECT FROM jobs AS followed WHERE followed.status IN ({listed(ACTIVE)}) AND {_FOLLOWED})
          AND NOT EXISTS (SELECT FROM jobs AS followed
                          WHERE followed.status IN ('{Status.FAILED}', '{Status.CANCELLED}') AND {_FOLLOWED})"""

_IS_LEFT = "NOT stopping AND (retry_count < max_retries OR :force)"

_IS_RETRYABLE = f"{_IS_LEFT} AND (NOT {is_uncalled('jobs')} OR ({_MAY_BE_CALLED}))"

_CHANGE = f"""dispatch = dispatch + 1, retry_count = retry_count + 1, losses = 0, limit_key = NULL,
            hold = {next_hold("jobs", due_at="CAST(NULL AS timestamptz)")}, delivery = delivery - 'expires',
            priority = coalesce(CAST(:priority AS int), priority),
            due_at = NULL, dispatched_at = NULL, sent_priority = NULL, result = NULL, typed_result = NULL,
            error_type = NULL, error_message = NULL, fingerprint = NULL, message = NULL,
            progress = 0, progress_detail = NULL, current_step = 0, cancel_requested_at = NULL,
            cancel_seen_at = NULL, started_at = NULL, completed_at = NULL"""
_DETAIL = f"""jsonb_build_object('by', {ACTOR}, 'force', CAST(:force AS boolean), 'priority', CAST(:priority AS int))"""
_KEYED_DETAIL = f"{_DETAIL} || jsonb_build_object('idempotencyKey', CAST(:key AS text))"
_OF_KEY = f"""history.job_id = jobs.id AND history.{in_life("jobs")} AND history.event = '{Event.RETRIED}'
              AND history.detail ->> 'idempotencyKey' = CAST(:key AS text)"""
_IS_REPEATED = """EXISTS (SELECT FROM jobs AS anew
              WHERE anew.organization_id = jobs.organization_id AND anew.user_id = jobs.user_id
                AND anew.idempotency_key = jobs.id || '/' || CAST(:key AS text))"""

# Whoever has seen that its workflow was over waits for this, and looks again.
REOPENED = f""", reopened AS (
        UPDATE workflows SET status = '{Status.RUNNING}', completed_at = NULL, updated_at = clock_timestamp()
        FROM moved WHERE moved.root_id <> moved.id AND workflows.id = moved.root_id
    )"""

# Whoever cancels or retries the whole workflow locks it before its jobs: so does this, else they block each other.
_OPENED = f"""opened AS (
        SELECT workflows.id FROM workflows
        WHERE workflows.id = (SELECT root_id FROM jobs WHERE id = :id AND {WITHIN_SCOPE}) FOR NO KEY UPDATE
    )"""

# A bulk operation does not wait for a workflow: it passes over its jobs while somebody else has it, and comes again.
_OPENED_EACH = f"""opened AS (
        SELECT workflows.id FROM workflows
        WHERE workflows.id IN (SELECT root_id FROM jobs WHERE id = ANY(CAST(:id AS uuid[])) AND {WITHIN_SCOPE})
        FOR NO KEY UPDATE SKIP LOCKED
    )"""
_IS_OPENED = """(root_id IN (SELECT id FROM opened)
                                  OR NOT EXISTS (SELECT FROM workflows WHERE workflows.id = root_id))"""

ONE_AT_A_TIME = text(
    "SELECT pg_advisory_xact_lock(hashtextextended('retry of ' || CAST(:id AS text) || '/' || :key, 0))"
)

RETRY = text(
    move(
        Event.RETRIED,
        _CHANGE,
        _KEYED_DETAIL,
        given=_OPENED,
        find=f"""(SELECT count(*) FROM opened) >= 0 AND id = :id AND {WITHIN_SCOPE} AND {_IS_RETRYABLE}
          AND (CAST(:key AS text) IS NULL
               OR NOT EXISTS (SELECT FROM history WHERE {_OF_KEY}) AND NOT {_IS_REPEATED})""",
        to=Status.QUEUED,
        origin=ORIGIN,
        answer=f"{REOPENED} SELECT * FROM moved",
    )
)
# The job whose retry under this key is asked for again, and whether it is the same retry.
RETRIED = text(
    f"""
    SELECT {JOB}, told.is_same
    FROM jobs
    CROSS JOIN LATERAL (SELECT detail -> 'force' = to_jsonb(CAST(:force AS boolean))
                               AND coalesce(detail ->> 'priority', '') = coalesce(CAST(:priority AS text), '')
                               AS is_same
                        FROM history WHERE {_OF_KEY} LIMIT 1) AS told
    WHERE id = :id AND {WITHIN_SCOPE}"""
)

RETRY_EACH = text(
    applying(
        Event.RETRIED,
        _CHANGE,
        _DETAIL,
        guard=f"{WITHIN_SCOPE} AND {_IS_RETRYABLE}",
        to=Status.QUEUED,
        given=_OPENED_EACH,
        among=_IS_OPENED,
        besides=REOPENED,
    )
)

_REPEATED = "(SELECT locked.*, created.id AS new_id FROM locked CROSS JOIN created) AS repeated"
_REPEATS = f"{CREATED} || jsonb_build_object('retryOf', retry_of)"
_REPEATED_BY = f"jsonb_build_object('by', {ACTOR}, 'force', CAST(:force AS boolean), 'jobId', new_id)"

# It waits for what the first one waited for, if that has never run: else that has succeeded, and may be removed by now.
RETRY_ANEW = text(
    f"""
    WITH locked AS (
        SELECT *, status AS from_status FROM jobs
        WHERE id = :id AND {WITHIN_SCOPE} AND status IN ({listed(sources(Event.RETRIED))}) AND {_IS_LEFT}
          AND NOT {is_uncalled("jobs")}
          AND (CAST(:key AS text) IS NULL OR NOT EXISTS (SELECT FROM history WHERE {_OF_KEY}))
        FOR UPDATE
    ), asked AS (
        SELECT CAST(:new_id AS uuid) AS id, organization_id, user_id, project_id, job_type, '{Status.QUEUED}' AS status,
               coalesce(CAST(:priority AS int), priority) AS priority, queue, max_retries,
               CAST(:payload AS jsonb) AS payload, metadata, delivery || CAST(:delivery AS jsonb) AS delivery,
               CAST(NULL AS text) AS message, CAST(NULL AS uuid) AS parent_id, CAST(:new_id AS uuid) AS root_id,
               CAST(NULL AS text) AS group_id, CAST(NULL AS int) AS group_index,
               CAST(:idempotency_key AS text) AS idempotency_key, CAST(:request_hash AS text) AS request_hash,
               CASE attempt WHEN 0 THEN depends_on ELSE '{{}}' END AS depends_on,
               CASE attempt WHEN 0 THEN depends_when END AS depends_when, false AS unresolved,
               CAST(NULL AS timestamptz) AS scheduled_at, CAST(NULL AS timestamptz) AS due_at,
               CAST(:circuit_key AS text) AS circuit_key, external, id AS retry_of, 0 AS attempt,
               CAST(NULL AS uuid) AS follows, CAST(NULL AS text) AS follows_group
        FROM locked
    ), created AS (
        INSERT INTO jobs ({INSERTED}, retry_of, hold)
        SELECT {INSERTED}, retry_of, {next_hold("asked")} FROM asked
        ON CONFLICT DO NOTHING
        RETURNING {JOB}, CAST(NULL AS text) AS from_status
    ), logged AS ({logged("created", Event.CREATED, _REPEATS, origin=ORIGIN)}
    ), told AS ({logged(_REPEATED, Event.RETRIED_ANEW, _REPEATED_BY, origin=ORIGIN)}
    )
    SELECT * FROM created"""
)

EXISTING = text(
    f"""
    SELECT {JOB} FROM jobs
    WHERE {own()} AND idempotency_key = CAST(:idempotency_key AS text)
      AND user_id = (SELECT user_id FROM jobs WHERE id = :id AND {WITHIN_SCOPE})"""
)

IN_SCOPE = text(
    f"""
    SELECT id, status, stopping, retry_count, max_retries,
           CASE WHEN {is_uncalled("jobs")} AND NOT ({_MAY_BE_CALLED}) THEN error_message END AS why_uncalled
    FROM jobs WHERE id = ANY(:ids) AND {WITHIN_SCOPE}"""
)
