"""The jobs of a canvas that wait for the result of another: their rows from the submit on, their call, their end.

A row that `follows` a job, or a canvas group, lacks arguments: that result. Whoever writes the success calls it in the
same transaction; from then on it is a job like any other. What ends without a result ends its successors, with the
reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Row, text
from uuid_utils.compat import uuid7

from tracking import groups
from tracking.admission.rule import ACTOR, BY_ADMISSION, FIRST_HOLD, IS_GATED, NEXT, Limits, let_through
from tracking.errors import TrackingError, UnknownDependency
from tracking.fingerprints import printed
from tracking.jobs.bulk import submit_all as accept_all
from tracking.jobs.submit import columns, revoked_by, submission, unknown_dependencies, unless_revoked
from tracking.jobs.submit import submit as accept
from tracking.models import UNCALLED, Failure, JobRecord, JsonObject, NewJob, Scope, Submitted
from tracking.schema import jobs
from tracking.sql import JOB, in_life, listed, logged, move, record
from tracking.states import FINISHED, WAITING, Event, Status
from tracking.values import MESSAGE_BYTES, bounded

BATCH = 500  # rows in one statement: none may take long
PROVISIONAL = "with:"  # begins the name of a canvas group that has no id yet; a later plan gives it
NOT_CALLED = Failure("NotCalled", "the job that it follows has succeeded and called something else")


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that ended before its body could say how; `exception` in the form of Celery's result backends.

    `calls_errbacks`: whether its errbacks are called. They are when it had begun, or when it is the body of a chord
    whose header had begun.
    """

    job: JobRecord
    exception: JsonObject
    calls_errbacks: bool


def submit(connection: Connection, job: NewJob, limits: Limits, *, scope: Scope) -> Submitted:
    """Accept a job together with the rows of what follows it; those of them that join a chord become its members.

    Wants a transaction. Raises what `jobs.submit` raises.
    """
    submitted = accept(connection, job, limits, scope=scope)
    if submitted.created:
        _accompany(connection, job)
    return submitted


def submit_all(
    connection: Connection, new: Sequence[NewJob], limits: Limits, *, scope: Callable[[NewJob], Scope]
) -> list[Submitted | TrackingError]:
    """The same of many jobs at once, as `jobs.submit_all` accepts them. Wants a transaction."""
    answers = accept_all(connection, new, limits, scope=scope)
    for job, answer in zip(new, answers, strict=True):
        if isinstance(answer, Submitted) and answer.created:
            _accompany(connection, job)
    return answers


def plan(connection: Connection, planned: Sequence[NewJob]) -> list[JobRecord]:
    """Write the rows of jobs that follow others; returns the new ones.

    An existing row stays as it is, with two exceptions. Its job is being replaced, and waits for another job now. Or
    the id of the group that it follows was not known, or has changed: Celery gives a chord in the body of another one a
    new id.
    """
    created: list[JobRecord] = []
    for start in range(0, len(planned), BATCH):
        batch = planned[start : start + BATCH]
        rows = json.dumps([columns(job) for job in batch], default=str)  # ids and times as their text
        parameters = {"jobs": rows, "actor": batch[0].actor or batch[0].owner.user_id}
        created += [record(row) for row in connection.execute(PLAN, parameters)]
    return created


def call(connection: Connection, job: NewJob, limits: Limits, by: Collection[UUID | str]) -> JobRecord | None:
    """Give a planned job its arguments and what follows it, and let it run; `by`: the job or group that it followed.

    One that had ended with its predecessor runs after all; one that somebody has cancelled stays cancelled. None when
    there is no such row, or it has been called before. Raises UnknownDependency or InvalidValue as `jobs.submit` does.
    """
    unknown = unknown_dependencies(connection, job, Scope(job.owner.organization_id, None))
    if unknown:
        raise UnknownDependency(f"there is no job {unknown[0]} to depend on", job_ids=unknown)
    row = connection.execute(CALL, {**submission(job), **limits.parameters, **_followed(by)}).first()
    if row is None:
        return None
    _accompany(connection, job)
    called = record(row, payload=dict(job.payload), delivery=dict(job.delivery))
    return unless_revoked(connection, called, row.revoked_by)


def end(connection: Connection, job_id: UUID) -> list[Ended]:
    """End what waits for the result of a job that ended without one, and what waits for that in turn.

    They fail with its exception, or are cancelled with it; the body of a chord fails because a member did. What still
    waits for a job that has succeeded was not called by it, and fails. Nothing happens while the job is not over.
    """
    ended: list[Ended] = []
    culprits = [job_id]
    groups: set[str | None] = {None}
    while culprits:
        row = connection.execute(CULPRIT, {"id": culprits.pop()}).first()
        if row is None:
            continue
        if row.status == Status.SUCCEEDED:
            return end_uncalled(connection, job_id, NOT_CALLED)
        found = [*_end_chain(connection, row), *_end_bodies(connection, row)]
        ended += found
        for each in found:
            if each.job.group_id not in groups:  # one member that has failed is enough
                groups.add(each.job.group_id)
                culprits.append(each.job.id)
    return ended


def ended(connection: Connection, job_id: UUID) -> list[Ended]:
    """A job that is over, and why: none when it is not."""
    row = connection.execute(CULPRIT, {"id": job_id}).first()
    return [Ended(record(row), _exception_of(row), calls_errbacks=True)] if row is not None else []


def end_uncalled(connection: Connection, job_id: UUID, failure: Failure) -> list[Ended]:
    """Fail what still waits for a job that has succeeded: it could not be called, for this reason."""
    return _end(connection, [job_id], Status.FAILED, failure)


def end_bodies(connection: Connection, group_id: str, failure: Failure) -> list[Ended]:
    """Fail what still waits for the results of a group, and what waits for that in turn, for this reason."""
    bodies = list(connection.execute(FOLLOWERS, {"group_id": group_id, "id": None}).scalars())
    return _end(connection, bodies, Status.FAILED, failure)


def refuse(connection: Connection, job: NewJob, failure: Failure, by: Collection[UUID | str]) -> list[Ended]:
    """Fail a job that cannot be accepted, and what waits for it; `by`: the job or group that it was to follow.

    The row that was planned for it says so, or else a new one, under another id when its own is taken.
    """
    known = connection.execute(
        KNOWN, {"id": job.id, "organization_id": job.owner.organization_id, **_followed(by)}
    ).first()
    if known is None or not known.is_planned:
        job = replace(job, id=job.id if known is None else uuid7(), follows=job.parent_id)
        plan(connection, [job])
    _accompany(connection, job)
    return [*_end(connection, [job.id], Status.FAILED, failure, calls=False), *end_refused(connection, job, failure)]


def end_refused(connection: Connection, job: NewJob, failure: Failure) -> list[Ended]:
    """Fail what waits for a job that was not accepted: its own successors, and the bodies of its group."""
    bodies = end_bodies(connection, job.group_id, failure) if job.group_id is not None else []
    return [*_end(connection, [each.id for each in job.successors], Status.FAILED, failure, calls=False), *bodies]


def _accompany(connection: Connection, job: NewJob) -> None:
    """Write what comes with an accepted job: the rows of its successors, and the members that its groups wait for."""
    groups.begin(connection, job.begins)
    plan(connection, job.successors)
    for joined in (each.group_id for each in (job, *job.successors) if each.joins):
        if joined is not None:
            groups.grow(connection, joined)


def _followed(by: Collection[UUID | str]) -> dict[str, Any]:
    """The jobs and groups in `by` as the statements want them."""
    return {
        "by": [each for each in by if isinstance(each, UUID)],
        "by_groups": [each for each in by if isinstance(each, str)],
    }


def _end_chain(connection: Connection, culprit: Row[Any]) -> list[Ended]:
    why = ": ".join(filter(None, (culprit.status, culprit.error_type, culprit.why)))
    reason = culprit.error_message if _never_ran(culprit) else f"it follows the job {culprit.id}, which is {why}"
    failure = Failure(UNCALLED, str(reason), exception=_exception_of(culprit))
    return _end(connection, [culprit.id], Status(culprit.status), failure)


def _end_bodies(connection: Connection, culprit: Row[Any]) -> list[Ended]:
    if culprit.group_id is None:
        return []
    bodies = list(connection.execute(FOLLOWERS, {"group_id": culprit.group_id, "id": culprit.id}).scalars())
    if not bodies:
        return []
    exception = cause = _exception_of(culprit)
    reason = f"Dependency {culprit.id} raised {_repr(cause)}"
    begun = not _never_ran(culprit) or groups.is_begun(connection, culprit.group_id)
    if begun and len(bodies) == 1:  # Celery gives each member of a group the cause itself
        exception = {"exc_type": "ChordError", "exc_message": [reason], "exc_module": "celery.exceptions"}
    return _end(connection, bodies, Status.FAILED, Failure(UNCALLED, reason, exception=exception), calls=begun)


def _end(
    connection: Connection, roots: Sequence[UUID], status: Status, failure: Failure, *, calls: bool = True
) -> list[Ended]:
    """End all jobs that wait for one of `roots`, directly or through others, and those roots that wait themselves.

    A root that waits is the body of a chord; `calls`: whether its errbacks are called.
    """
    exception = failure.exception or _exception(failure.type, failure.message)
    parameters = {
        "status": str(status),
        "error_type": UNCALLED,
        "error_message": bounded(failure.message, MESSAGE_BYTES),
        "kept": Jsonb({"exception": dict(exception)}),
        "batch": BATCH,
    }
    ended: list[Ended] = []
    found = BATCH
    while found == BATCH:
        known = [*roots, *(each.job.id for each in ended)]
        rows = [record(row) for row in connection.execute(END, {**parameters, "roots": known})]
        ended += [Ended(job, exception, calls_errbacks=calls and job.id in roots) for job in rows]
        found = len(rows)
    return ended


def _never_ran(culprit: Row[Any]) -> bool:
    return bool(culprit.error_type == UNCALLED)


def _exception_of(culprit: Row[Any]) -> JsonObject:
    if culprit.exception:
        return dict(culprit.exception)
    if culprit.status == Status.CANCELLED:
        reason = culprit.why or "cancelled"  # such as "expired", as Celery says it
        return {"exc_type": "TaskRevokedError", "exc_message": [reason], "exc_module": "celery.exceptions"}
    return _exception(culprit.error_type or "Exception", culprit.error_message or "")


def _exception(name: str, message: str) -> dict[str, Any]:
    return {"exc_type": name, "exc_message": [message], "exc_module": "builtins"}


def _repr(exception: Mapping[str, Any]) -> str:
    """As Python shows an exception of this class with these arguments."""
    return f"{exception['exc_type']}({', '.join(map(repr, exception['exc_message']))})"


_COLUMNS = """id, organization_id, user_id, project_id, job_type, priority, queue, max_retries, payload, delivery,
           parent_id, root_id, group_id, group_index, follows, follows_group"""

PLAN = text(
    f"""
    WITH asked AS (
        SELECT * FROM jsonb_to_recordset(CAST(:jobs AS jsonb)) AS asked (
            id uuid, organization_id text, user_id text, project_id text, job_type text, priority smallint, queue text,
            max_retries int, payload jsonb, delivery jsonb, parent_id uuid, root_id uuid, group_id text,
            group_index int, follows uuid, follows_group text)
    ), created AS (
        INSERT INTO jobs (status, hold, {_COLUMNS})
        SELECT '{Status.QUEUED}', 'dependency', {_COLUMNS} FROM asked
        ON CONFLICT (id) DO UPDATE
        SET job_type = excluded.job_type, priority = excluded.priority, queue = excluded.queue,
            max_retries = excluded.max_retries, payload = excluded.payload, delivery = excluded.delivery,
            follows = excluded.follows, follows_group = excluded.follows_group, updated_at = clock_timestamp()
        WHERE (jobs.follows = jobs.id OR starts_with(jobs.follows_group, '{PROVISIONAL}')
               OR jobs.hold = 'dependency' AND jobs.follows_group <> excluded.follows_group
                  AND jobs.root_id = excluded.root_id)
          AND jobs.organization_id = excluded.organization_id
        RETURNING {JOB}, CAST(NULL AS text) AS from_status, jobs.xmax = 0 AS is_new
    ), logged AS ({
        logged(
            "created WHERE is_new",
            Event.CREATED,
            "jsonb_build_object('priority', priority, 'hold', hold, 'parentId', parent_id, 'rootId', root_id,"
            " 'groupId', group_id, 'follows', follows, 'followsGroup', follows_group)",
        )
    })
    SELECT * FROM created WHERE is_new"""
)

# What the caller has just sent does not come back: what is left of a long chain takes longer than all the rest.
_ALL_BUT_SENT = ", ".join(name for name in jobs.c.keys() if name not in {"payload", "delivery"})  # noqa: SIM118 - SQLAlchemy's public name

_IS_PLANNED = """organization_id = :organization_id
          AND (follows = ANY(CAST(:by AS uuid[])) OR follows_group = ANY(CAST(:by_groups AS text[])))"""

KNOWN = text(f"SELECT coalesce({_IS_PLANNED}, false) AS is_planned FROM jobs WHERE id = :id")

_RUNS = f"(from_status IN ({listed(WAITING)}) OR why = '{UNCALLED}')"

CALL = text(
    move(
        f"CASE WHEN from_status <> '{Status.QUEUED}' THEN '{Event.RETRIED}' WHEN {IS_GATED} THEN '{Event.HELD}'"
        f" ELSE '{Event.DUE}' END",
        f"""follows = NULL, follows_group = NULL, job_type = asked.job_type, queue = asked.queue,
            priority = :priority, max_retries = :max_retries, payload = :payload, delivery = :delivery,
            message = :message, group_id = :group_id, group_index = CAST(:group_index AS int),
            parent_id = coalesce(nullif(CAST(:parent_id AS uuid), jobs.id), jobs.parent_id),
            depends_on = asked.depends_on, circuit_key = asked.circuit_key, scheduled_at = asked.due_at,
            status = CASE WHEN {_RUNS} THEN '{Status.QUEUED}' ELSE jobs.status END,
            dispatch = dispatch + CASE WHEN {_RUNS} AND from_status NOT IN ({listed(WAITING)}) THEN 1 ELSE 0 END,
            (hold, sent_priority) = (SELECT {FIRST_HOLD}, sent.level FROM {let_through("asked")} WHERE {_RUNS}),
            due_at = CASE WHEN {_RUNS} THEN asked.due_at END,
            error_type = CASE WHEN {_RUNS} THEN NULL ELSE jobs.error_type END,
            error_message = CASE WHEN {_RUNS} THEN NULL ELSE jobs.error_message END,
            fingerprint = CASE WHEN {_RUNS} THEN NULL ELSE jobs.fingerprint END,
            cancel_requested_at = CASE WHEN {_RUNS} THEN NULL ELSE jobs.cancel_requested_at END,
            completed_at = CASE WHEN {_RUNS} THEN NULL ELSE jobs.completed_at END""",
        f"jsonb_build_object('hold', CASE WHEN {IS_GATED} THEN hold ELSE held END, {NEXT})",
        find=f"id = :id AND {_IS_PLANNED}",
        read="hold AS held, error_type AS why",
        beside="""(SELECT CAST(:id AS uuid) AS id, CAST(:organization_id AS text) AS organization_id,
                             'queued' AS status, 0 AS attempt, CAST(:priority AS int) AS priority,
                             CAST(NULL AS uuid) AS follows,
                             CAST(NULL AS text) AS follows_group, CAST(:payload AS jsonb) AS payload,
                             CAST(:job_type AS text) AS job_type, CAST(:queue AS text) AS queue,
                             CAST(:depends_on AS uuid[]) AS depends_on, CAST(NULL AS text[]) AS depends_when,
                             false AS unresolved, CAST(:circuit_key AS text) AS circuit_key,
                             false AS external,
                             coalesce(CAST(:scheduled_at AS timestamptz),
                                      clock_timestamp() + CAST(:delay AS interval)) AS due_at) AS asked""",
        returning=f"{JOB}, locked.from_status, locked.held",
        by=BY_ADMISSION,
        logs=f"moved WHERE status = '{Status.QUEUED}'",
        answer=f"SELECT {_ALL_BUT_SENT}, {revoked_by('moved')} AS revoked_by FROM moved",
    )
)

CULPRIT = text(
    f"""
    SELECT {JOB},
           ended.detail -> 'exception' AS exception, coalesce(error_message, ended.detail ->> 'reason') AS why
    FROM jobs LEFT JOIN LATERAL (
        SELECT detail FROM history
        WHERE job_id = jobs.id AND {in_life("jobs")} AND to_status = jobs.status
        ORDER BY history.id DESC LIMIT 1) AS ended ON true
    WHERE id = :id AND status IN ({listed(FINISHED)})"""
)

FOLLOWERS = text(
    """
    SELECT id FROM jobs
    WHERE follows_group = :group_id AND hold = 'dependency' AND id IS DISTINCT FROM CAST(:id AS uuid)
    ORDER BY id"""
)


_IS_CANCELLED = f"CAST(:status AS text) = '{Status.CANCELLED}'"

END = text(
    move(
        f"CASE status WHEN '{Status.CANCELLED}' THEN '{Event.CANCELLED}' ELSE '{Event.FAILED}' END",
        f"""status = :status, hold = NULL, due_at = NULL, error_type = :error_type, error_message = :error_message,
            {printed(":error_type", ":error_message", when=f"NOT {_IS_CANCELLED}")},
            cancel_requested_at = CASE WHEN {_IS_CANCELLED} THEN clock_timestamp() END,
            completed_at = clock_timestamp()""",
        f"""CASE status WHEN '{Status.CANCELLED}' THEN jsonb_build_object('by', '{ACTOR}', 'reason', error_message)
               ELSE jsonb_build_object('errorType', error_type, 'error', error_message, 'willRetry', false) END""",
        given="""doomed AS (
        SELECT unnest(CAST(:roots AS uuid[])) AS id
        UNION
        -- One probe of its index for each: a join, or another index, would read all that waits at every step.
        SELECT next.id FROM doomed CROSS JOIN LATERAL (
            SELECT id FROM jobs WHERE jobs.follows = doomed.id
            OFFSET 0) AS next
    )""",
        locked=f"""SELECT found.id, from_status FROM doomed CROSS JOIN LATERAL (
            SELECT id, status AS from_status, hold AS held FROM jobs WHERE jobs.id = doomed.id
            OFFSET 0 FOR UPDATE) AS found
        WHERE held = 'dependency' AND from_status IN ({listed(WAITING)})
        LIMIT :batch""",
        # The planner takes them for very many, and would read all jobs for that: of an array it expects few.
        guard="jobs.id = ANY(ARRAY(SELECT id FROM locked))",
        by=BY_ADMISSION,
        kept="CAST(:kept AS jsonb)",
    )
)
