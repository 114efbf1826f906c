"""Accepting a job: its row, and its first history row, in one statement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, text

from tracking.admission.rule import FIRST_HOLD, Limits, let_through
from tracking.db import run
from tracking.errors import IdempotencyConflict, InvalidValue, UnknownDependency
from tracking.jobs.cancel import cancel_dispatch
from tracking.models import JobRecord, NewJob, Scope, Submitted
from tracking.sql import JOB, ORIGIN, array, for_driver, logged, own, record
from tracking.states import Event, Status
from tracking.traces import carried


def submit(connection: Connection, job: NewJob, limits: Limits, *, scope: Scope | None = None) -> Submitted:
    """Accept a job: its row and its first history row.

    The same id, or the same idempotency key of the same user, is the same job: nothing is written and `created` is
    False. Raises IdempotencyConflict when the key was used with another `request_hash`, or the id for another type or
    other arguments, UnknownDependency when it depends on a job outside of `scope` (None: its owner's own), and
    InvalidValue when it depends on itself.
    """
    unknown = unknown_dependencies(connection, job, scope or Scope(job.owner.organization_id, job.owner.user_id))
    if not unknown:
        [created] = run(connection, (SUBMIT, {**submission(job), **limits.parameters}))
        for row in created:
            return Submitted(unless_revoked(connection, record(row), row.revoked_by), created=True)
    return existing(connection, job, unknown)


def existing(connection: Connection, job: NewJob, unknown: Sequence[UUID] = ()) -> Submitted:
    """The job that was there already instead of this one, which was not written. Raises what `submit` does."""
    return same(job, connection.execute(EXISTING, _identity(job)).first(), unknown)


def same(job: NewJob, row: Any, unknown: Sequence[UUID] = ()) -> Submitted:
    """The job of the row that was there instead of this one; None: there is none. Raises what `submit` does."""
    if row is None and unknown:
        raise UnknownDependency(f"there is no job {unknown[0]} to depend on", job_ids=unknown)
    if row is None:
        raise IdempotencyConflict(f"the id {job.id} belongs to another job")
    found = record(row)
    if job.idempotency_key is not None and found.request_hash != job.request_hash:
        raise IdempotencyConflict
    if job.idempotency_key is None and not row.is_same:
        raise IdempotencyConflict(f"the id {job.id} was used for another job: its type or its arguments differ")
    return Submitted(found, created=False)


def unless_revoked(connection: Connection, job: JobRecord, revoked_by: str | None) -> JobRecord:
    """A job that was just submitted: cancelled when it was revoked before."""
    if revoked_by is None:
        return job
    cancelled = cancel_dispatch(connection, job.fence, actor=revoked_by, reason="revoked before it was submitted")
    return cancelled.job if cancelled is not None else job


def columns(job: NewJob) -> dict[str, Any]:
    """What a new row begins with, by the names of its columns; and `delay`, and the `actor` of its history."""
    return {
        "id": job.id,
        "organization_id": job.owner.organization_id,
        "user_id": job.owner.user_id,
        "project_id": job.project_id,
        "job_type": job.job_type,
        "priority": job.priority,
        "queue": job.queue,
        "max_retries": job.max_retries,
        "payload": dict(job.payload),
        "metadata": dict(job.metadata),
        "delivery": {**job.delivery, **carried()},
        "message": job.message,
        "parent_id": job.parent_id,
        "root_id": job.root_id or job.id,
        "group_id": job.group_id,
        "group_index": job.group_index,
        "idempotency_key": job.idempotency_key,
        "request_hash": job.request_hash,
        "circuit_key": job.circuit_key,
        "external": job.external,
        "depends_on": list(job.depends_on),
        "depends_when": None if job.depends_when is None else [*map(str, job.depends_when)],
        "unresolved": job.unresolved,
        "follows": job.follows,
        "follows_group": job.follows_group,
        "scheduled_at": job.scheduled_at,
        "delay": job.delay,
        "origin": job.origin.plain if job.origin else None,
        "actor": job.actor or job.owner.user_id,
    }


def submission(job: NewJob) -> dict[str, Any]:
    """The same as the parameters of a statement."""
    return {name: Jsonb(value) if isinstance(value, dict) else value for name, value in columns(job).items()}


def _identity(job: NewJob) -> dict[str, Any]:
    names = ("id", "organization_id", "user_id", "idempotency_key", "job_type", "payload", "delivery")
    given = submission(job)
    return {name: given[name] for name in names}


def unknown_dependencies(connection: Connection, job: NewJob, scope: Scope) -> Sequence[UUID]:
    """What the job depends on and is not in `scope`. Raises InvalidValue when it depends on itself."""
    if job.id in job.depends_on:
        raise InvalidValue("a job cannot depend on itself")
    return unknown_among(connection, [(job, scope)]).get(0, ())


def unknown_among(connection: Connection, new: Iterable[tuple[NewJob, Scope]]) -> dict[int, list[UUID]]:
    """What jobs depend on and is not in their scopes, by their places; without dependencies nothing is asked."""
    asked = [(place, each, scope) for place, (job, scope) in enumerate(new) for each in job.depends_on]
    if not asked:
        return {}
    parameters = {
        "place": array(place for place, _, _ in asked),
        "id": array(each for _, each, _ in asked),
        "organization_id": array(scope.organization_id for _, _, scope in asked),
        "user_id": array(scope.user_id for _, _, scope in asked),
    }
    [rows] = run(connection, (UNKNOWN, parameters))
    unknown: dict[int, list[UUID]] = {}
    for row in rows:
        unknown.setdefault(row.place, []).append(row.id)
    return unknown


def revoked_by(job: str) -> str:
    """SQL: who has revoked this job before its row was written; null = nobody."""
    return f"""(SELECT revoked_by FROM revocations WHERE stamp = '' AND value = to_jsonb({job}.id)
                UNION ALL
                SELECT revoked_by FROM jsonb_each({job}.delivery -> 'stamps') AS stamped
                JOIN revocations ON revocations.stamp = stamped.key AND stamped.value @> revocations.value
                LIMIT 1)"""


def is_external(said: str, job_type: str) -> str:
    """SQL, a column: whether the work of a job is done elsewhere; where that is null, as an operator has said."""
    return f"coalesce({said}, EXISTS (SELECT FROM external_types WHERE name = {job_type})) AS external"


INSERTED = """id, organization_id, user_id, project_id, job_type, status, priority, queue,
                          max_retries, payload, metadata, delivery, message, parent_id, root_id, group_id,
                          group_index, idempotency_key, request_hash, depends_on, depends_when, unresolved,
                          scheduled_at, due_at, circuit_key, external"""

# What the history says of a new job.
CREATED = """jsonb_build_object('priority', priority, 'hold', hold, 'dueAt', due_at,
                                  'parentId', parent_id, 'rootId', root_id, 'groupId', group_id,
                                  'dependsOn', nullif(to_jsonb(depends_on), '[]'))"""

SUBMIT = for_driver(
    f"""
    WITH created AS (
        INSERT INTO jobs ({INSERTED}, hold, sent_priority)
        SELECT id, organization_id, :user_id, :project_id, job_type, status, priority, queue,
               :max_retries, payload, :metadata, :delivery, :message, CAST(:parent_id AS uuid), CAST(:root_id AS uuid),
               :group_id, CAST(:group_index AS int), :idempotency_key, :request_hash, depends_on,
               depends_when, unresolved, due_at, due_at,
               circuit_key, external, {FIRST_HOLD}, sent.level
        FROM (SELECT CAST(:id AS uuid) AS id, CAST(:organization_id AS text) AS organization_id,
                     '{Status.QUEUED}' AS status,
                     0 AS attempt, CAST(:priority AS int) AS priority,
                     CAST(NULL AS uuid) AS follows, CAST(NULL AS text) AS follows_group,
                     CAST(:job_type AS text) AS job_type, CAST(:queue AS text) AS queue,
                     CAST(:circuit_key AS text) AS circuit_key,
                     {is_external("CAST(:external AS boolean)", ":job_type")},
                     CAST(:payload AS jsonb) AS payload, CAST(:depends_on AS uuid[]) AS depends_on,
                     CAST(:depends_when AS text[]) AS depends_when, CAST(:unresolved AS boolean) AS unresolved,
                     coalesce(CAST(:scheduled_at AS timestamptz),
                              clock_timestamp() + CAST(:delay AS interval)) AS due_at) AS asked
        CROSS JOIN LATERAL {let_through("asked")}
        ON CONFLICT DO NOTHING
        RETURNING {JOB}, CAST(NULL AS text) AS from_status
    ), logged AS ({logged("created", Event.CREATED, CREATED, origin=ORIGIN)})
    SELECT *, {revoked_by("created")} AS revoked_by FROM created"""
)

UNKNOWN = for_driver(
    f"""
    SELECT place, id FROM unnest(CAST(:place AS int[]), CAST(:id AS uuid[]), CAST(:organization_id AS text[]),
                                 CAST(:user_id AS text[])) AS wanted (place, id, organization_id, user_id)
    WHERE NOT EXISTS (SELECT FROM jobs
                      WHERE jobs.id = wanted.id AND {own("jobs.organization_id", "wanted.organization_id")}
                        AND (wanted.user_id IS NULL OR jobs.user_id = wanted.user_id))"""
)


def is_same(job_type: str, payload: str, delivery: str) -> str:
    """SQL, a column: whether a row of `jobs` is of this type, and has these arguments."""
    return f"""jobs.job_type = {job_type} AND jobs.payload = {payload}
              AND coalesce(jobs.delivery -> 'passing', 'null') = coalesce({delivery} -> 'passing', 'null') AS is_same"""


EXISTING = text(
    f"""
    SELECT {JOB}, {is_same("CAST(:job_type AS text)", ":payload", "CAST(:delivery AS jsonb)")}
    FROM jobs
    WHERE {own()}
      AND (user_id = :user_id AND idempotency_key = CAST(:idempotency_key AS text)
           OR CAST(:idempotency_key AS text) IS NULL AND id = :id)"""
)
