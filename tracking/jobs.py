"""The verbs that change a job: each one guarded statement together with its history row.

Every verb takes a connection, and is one transaction of its own on `Database.autocommit()` or part of the caller's on
`Database.begin()`. Nothing back from a verb means that the world has moved on: an answer, not an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Row

from tracking import statements
from tracking.admission import holds
from tracking.admission.holds import Limits
from tracking.db import run
from tracking.errors import IdempotencyConflict, IllegalMove, InvalidValue, JobNotFound, UnknownDependency
from tracking.models import (
    Attempt,
    Cancelled,
    Claim,
    Fence,
    JobRecord,
    NewJob,
    Outcome,
    Owner,
    Progress,
    Refusal,
    Scope,
    Settled,
    StoppingBody,
    Submitted,
)
from tracking.sql import record
from tracking.states import FINISHED, WAITING, Event, Status, sources

MAX_LOSSES = 3


def submit(connection: Connection, job: NewJob, limits: Limits, *, scope: Scope | None = None) -> Submitted:
    """Accept a job: its row and its first history row.

    The same id, or the same idempotency key of the same user, is the same job: nothing is written and `created` is
    False. Raises IdempotencyConflict when the key was used with another `request_hash`, or the id for another type or
    other arguments, UnknownDependency when it
    depends on a job outside of `scope` (None: its owner's own), and InvalidValue when it depends on itself.
    """
    unknown = _unknown_dependencies(connection, job, scope or Scope(job.owner.organization_id, job.owner.user_id))
    if not unknown:
        row = run(connection, statements.SUBMIT, {**_submission(job), **limits.parameters})
        if row is not None:
            return Submitted(unless_revoked(connection, record(row), row.revoked_by), created=True)
    existing = connection.execute(statements.EXISTING, _identity(job)).first()
    if existing is None and unknown:
        raise UnknownDependency(f"there is no job {unknown[0]} to depend on", job_ids=unknown)
    if existing is None:
        raise IdempotencyConflict(f"the id {job.id} belongs to another job")
    found = record(existing)
    if job.idempotency_key is not None and found.request_hash != job.request_hash:
        raise IdempotencyConflict
    if job.idempotency_key is None and not existing.is_same:
        raise IdempotencyConflict(f"the id {job.id} was used for another job: its type or its arguments differ")
    return Submitted(found, created=False)


def unless_revoked(connection: Connection, job: JobRecord, revoked_by: str | None) -> JobRecord:
    """A job that was just submitted: cancelled when it was revoked before."""
    if revoked_by is None:
        return job
    cancelled = cancel_dispatch(connection, job.fence, actor=revoked_by, reason="revoked before it was submitted")
    return cancelled.job if cancelled is not None else job


def claim(connection: Connection, claims: Sequence[Claim]) -> list[Attempt | Refusal]:
    """Take queued jobs for one attempt each; an answer for each claim, in their order.

    A refused claim is written to the job's history when there is such a job.
    """
    return [_grant(connection, wish) or _refuse(connection, wish) for wish in claims]


def refuse(connection: Connection, fence: Fence, held: Fence, *, worker: str) -> Refusal:
    """Write into its job's history that a message was not run, as its worker has the message of `held` already."""
    refusal = Refusal.REPEATED if fence == held else Refusal.STALE
    return _log_refusal(connection, fence, worker, refusal)


def report(connection: Connection, progress: Progress) -> bool:
    """Record progress of a running attempt. False when the attempt is not the job's current one any more."""
    parameters = {
        **_fenced(progress.fence),
        "attempt": progress.attempt,
        "percent": progress.percent,
        "message": progress.message,
        "detail": progress.detail,
        "current_step": progress.current_step,
        "total_steps": progress.total_steps,
        "moved_on": progress.moved_on,
        "milestones": [
            {
                "percentage": milestone.percent,
                "message": milestone.message,
                "current": milestone.current_step,
                "total": milestone.total_steps,
                "ago": milestone.ago.total_seconds(),
            }
            for milestone in progress.milestones
        ],
    }
    return connection.execute(statements.REPORT, parameters).first() is not None


def settle(connection: Connection, outcomes: Sequence[Outcome], *, max_losses: int = MAX_LOSSES) -> list[Settled]:
    """Write how attempts ended; returns those that were accepted, because their job still expected them."""
    rows = [(outcome.fence, run(connection, *_settlement(outcome, max_losses))) for outcome in outcomes]
    return [
        Settled(fence, row.organization_id, Status(row.status), row.is_awaited, row.is_followed)
        for fence, row in rows
        if row is not None
    ]


def seen(connection: Connection, fence: Fence, *, actor: str) -> bool:
    """Record that the worker of a cancelled job has heard of it. False when it had before, or the body is over."""
    return connection.execute(statements.SEEN, {**_fenced(fence), "actor": actor}).first() is not None


def running(connection: Connection, lease: UUID) -> list[Fence]:
    """The dispatches whose attempts a worker runs."""
    return _fences(connection.execute(statements.RUNNING, {"lease": lease}))


def stopping(connection: Connection, lease: UUID) -> list[StoppingBody]:
    """The cancelled jobs whose bodies a worker has not ended yet."""
    rows = connection.execute(statements.STOPPING, {"lease": lease})
    return [StoppingBody(Fence(row.id, row.dispatch), row.requested_for, row.seen_for) for row in rows]


def stopped(connection: Connection, fence: Fence, *, actor: str, how: str) -> bool:
    """Record that the body of a cancelled job is over. False when nobody waits for that."""
    parameters = {**_fenced(fence), "actor": actor, "how": how}
    return connection.execute(statements.STOPPED, parameters).first() is not None


def cancel(connection: Connection, job_id: UUID, scope: Scope, *, actor: str, reason: str | None = None) -> Cancelled:
    """End a job that is not finished. Raises JobNotFound (also for somebody else's) or IllegalMove."""
    parameters = {"id": job_id, "actor": actor, "reason": reason, **_scoped(scope)}
    row = connection.execute(statements.CANCEL, parameters).first()
    if row is None:
        raise _why_not(connection, job_id, scope, "is finished and cannot be cancelled")
    return Cancelled(record(row), was_running=row.from_status == Status.RUNNING)


def retry(
    connection: Connection,
    job_id: UUID,
    scope: Scope,
    *,
    actor: str,
    limits: Limits,
    force: bool = False,
) -> JobRecord:
    """Queue a failed or cancelled job again, for a new dispatch; under a limit it joins its organization's line.

    `force` lifts the limit of max_retries. Raises JobNotFound, or IllegalMove: not failed or cancelled, no retry
    left, or its cancelled body is still stopping (then `retry_after` of the error is set, in seconds).
    """
    parameters = {"id": job_id, "actor": actor, "force": force, **_scoped(scope), **limits.parameters}
    row = connection.execute(statements.RETRY, parameters).first()
    if row is None:
        raise _why_not(connection, job_id, scope, "cannot be retried")
    return record(row)


def fail_waiting(connection: Connection, fence: Fence, *, actor: str, error_type: str, message: str) -> bool:
    """Fail a job that no worker can ever run. False when this dispatch of it does not wait."""
    parameters = {**_fenced(fence), "actor": actor, "error_type": error_type, "error_message": message}
    return connection.execute(statements.FAIL_WAITING, parameters).first() is not None


def redispatch(connection: Connection, fence: Fence) -> bool:
    """Have the message of a waiting job sent again. False when this dispatch of it does not wait."""
    return connection.execute(statements.REDISPATCH, _fenced(fence)).first() is not None


def cancel_dispatch(connection: Connection, fence: Fence, *, actor: str, reason: str) -> Cancelled | None:
    """Cancel the job whose current dispatch this is, whatever its owner. None when that is over already."""
    parameters = {**_fenced(fence), "actor": actor, "reason": reason}
    row = connection.execute(statements.CANCEL_DISPATCH, parameters).first()
    return Cancelled(record(row), was_running=row.from_status == Status.RUNNING) if row is not None else None


def undispatched(connection: Connection, older_than: timedelta, limit: int) -> list[JobRecord]:
    """Jobs that were accepted at least `older_than` ago and whose message the broker has not confirmed."""
    return [record(row) for row in connection.execute(statements.UNDISPATCHED, {"age": older_than, "limit": limit})]


def mark_dispatched(connection: Connection, fences: Iterable[Fence]) -> None:
    """Record that the broker has confirmed these dispatches."""
    connection.execute(statements.MARK_DISPATCHED, _unnested(list(fences)))


def waiting_queues(connection: Connection, age: timedelta) -> list[tuple[str, datetime]]:
    """The queues with a job that was sent `age` ago and still waits for a worker, and the time of this answer."""
    return [(row.queue, row.at) for row in connection.execute(statements.WAITING_QUEUES, {"age": age})]


def missing(connection: Connection, queue: str, at: datetime, age: timedelta, *, ready: int, limit: int) -> list[Fence]:
    """The jobs, oldest first, by which those that wait are more than the broker had `ready` after `at`.

    Only such as were sent `age` before `at`.
    """
    parameters = {"queue": queue, "at": at, "age": age, "ready": ready, "limit": limit}
    return _fences(connection.execute(statements.MISSING, parameters))


def send_again(connection: Connection, fences: Sequence[Fence]) -> list[UUID]:
    """Have the messages of waiting jobs sent once more, with the same numbers; returns the jobs."""
    return list(connection.execute(statements.SEND_AGAIN, _unnested(fences)).scalars())


def orphans(connection: Connection, lease_timeout: timedelta, limit: int) -> tuple[Sequence[Fence], Sequence[Fence]]:
    """The running jobs, and the stopping bodies, of workers without a heartbeat for `lease_timeout`."""
    parameters = {"timeout": lease_timeout, "limit": limit}
    running = _fences(connection.execute(statements.ORPHANS, parameters))
    return running, _fences(connection.execute(statements.ABANDONED_STOPS, parameters))


def _unknown_dependencies(connection: Connection, job: NewJob, scope: Scope) -> Sequence[UUID]:
    if not job.depends_on:
        return ()
    if job.id in job.depends_on:
        raise InvalidValue("a job cannot depend on itself")
    wanted = {"ids": list(job.depends_on), **_scoped(scope)}
    return connection.execute(statements.UNKNOWN_OF, wanted).scalars().all()


def _grant(connection: Connection, wish: Claim) -> Attempt | None:
    parameters = {
        **_fenced(wish.fence),
        "claim_id": wish.claim_id,
        "worker": wish.worker,
        "lease": wish.lease,
    }
    row = run(connection, statements.CLAIM, parameters)
    return _attempt(row) if row is not None else None


def _refuse(connection: Connection, wish: Claim) -> Attempt | Refusal:
    known = connection.execute(statements.KNOWN, {"id": wish.fence.job_id}).first()
    if known is None:
        return Refusal.UNKNOWN
    is_current = known.dispatch == wish.fence.dispatch
    if is_current and known.claim_id == wish.claim_id and known.status == Status.RUNNING:
        return _attempt(known)  # granted before; the reply was lost
    if is_current and Status(known.status) in WAITING and known.hold is None:
        holds.hold_back(connection, wish.fence)
        return Refusal.HELD
    return _log_refusal(connection, wish.fence, wish.worker, _refusal(known) if is_current else Refusal.STALE)


def _log_refusal(connection: Connection, fence: Fence, worker: str, refusal: Refusal) -> Refusal:
    details = {"reason": refusal, "dispatch": fence.dispatch}
    connection.execute(statements.LOG_REFUSAL, {"id": fence.job_id, "actor": worker, "detail": details})
    return refusal


def _refusal(known: Row[Any]) -> Refusal:
    status = Status(known.status)
    if status is Status.CANCELLED:
        return Refusal.CANCELLED
    if status is Status.RUNNING:
        return Refusal.RUNNING
    return Refusal.FINISHED if status in FINISHED else Refusal.HELD


def _why_not(connection: Connection, job_id: UUID, scope: Scope, what: str) -> JobNotFound | IllegalMove:
    known = connection.execute(statements.IN_SCOPE, {"id": job_id, **_scoped(scope)}).first()
    if known is None:
        return JobNotFound()
    if known.stopping:
        return IllegalMove(f"the job {job_id} was cancelled and its body is still stopping", retry_after=2)
    if what == "cannot be retried" and known.why_uncalled is not None:
        return IllegalMove(f"the job {job_id} was never called; retry what it waited for: {known.why_uncalled}")
    if what == "cannot be retried" and known.status in sources(Event.RETRIED):
        return IllegalMove(
            f"the job {job_id} has used {known.retry_count} of {known.max_retries} retries; force it to retry anyway"
        )
    return IllegalMove(f"the job {job_id} is {known.status}: it {what}")


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        fence=Fence(row.id, row.dispatch),
        attempt=row.attempt,
        owner=Owner(row.organization_id, row.user_id),
        project_id=row.project_id,
        job_type=row.job_type,
        retry_count=row.retry_count,
        max_retries=row.max_retries,
        root_id=row.root_id,
        group_id=row.group_id,
        leaves_place=getattr(row, "leaves_place", False),
    )


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
        "delivery": dict(job.delivery),
        "message": job.message,
        "parent_id": job.parent_id,
        "root_id": job.root_id or job.id,
        "group_id": job.group_id,
        "group_index": job.group_index,
        "idempotency_key": job.idempotency_key,
        "request_hash": job.request_hash,
        "circuit_key": job.circuit_key,
        "depends_on": list(job.depends_on),
        "follows": job.follows,
        "follows_group": job.follows_group,
        "scheduled_at": job.scheduled_at,
        "delay": job.delay,
        "actor": job.actor or job.owner.user_id,
    }


def _submission(job: NewJob) -> dict[str, Any]:
    return {name: Jsonb(value) if isinstance(value, dict) else value for name, value in columns(job).items()}


def _identity(job: NewJob) -> dict[str, Any]:
    names = ("id", "organization_id", "user_id", "idempotency_key", "job_type", "payload", "delivery")
    submitted = _submission(job)
    return {name: submitted[name] for name in names}


def _fenced(fence: Fence) -> dict[str, Any]:
    return {"id": fence.job_id, "dispatch": fence.dispatch}


def _unnested(fences: Sequence[Fence]) -> dict[str, Any]:
    return {"job_ids": [each.job_id for each in fences], "dispatches": [each.dispatch for each in fences]}


def _fences(rows: Iterable[Row[Any]]) -> list[Fence]:
    return [Fence(row.id, row.dispatch) for row in rows]


def _json(value: Any) -> Jsonb | None:
    return None if value is None else Jsonb(value)


def _scoped(scope: Scope) -> dict[str, Any]:
    return {"organization_id": scope.organization_id, "user_id": scope.user_id}


def _settlement(outcome: Outcome, max_losses: int) -> tuple[str, dict[str, Any]]:
    if (
        outcome.kind == "succeeded"
        and outcome.attempt is not None
        and not (outcome.last_news or outcome.children or outcome.typed_result is not None)
    ):
        written = {"attempt": outcome.attempt, "actor": outcome.actor, "result": _json(outcome.result)}
        return statements.SUCCEED, {**_fenced(outcome.fence), **written}
    return statements.SETTLE, _outcome(outcome, max_losses)


def _outcome(outcome: Outcome, max_losses: int) -> dict[str, Any]:
    failure, news, changes = outcome.failure, outcome.last_news, outcome.changes
    return {
        **_fenced(outcome.fence),
        "max_losses": max_losses,
        "attempt": outcome.attempt,
        "kind": outcome.kind,
        "actor": outcome.actor,
        "result": _json(outcome.result),
        "typed_result": _json(outcome.typed_result),
        "error_type": failure.type if failure else None,
        "error_message": failure.message if failure else None,
        "traceback": failure.traceback if failure else None,
        "kept": _json(_kept(outcome)),
        "delay": outcome.delay.total_seconds(),
        "payload": _json(changes.payload),
        "delivery": _json(changes.delivery),
        "queue": changes.queue,
        "priority": changes.priority,
        "max_retries": changes.max_retries,
        "circuit_key": changes.circuit_key,
        "counts": not (failure and failure.blames_payload),
        "percent": news.percent if news else None,
        "message": news.message if news else None,
        "detail": _json(news.detail) if news else None,
        "current_step": news.current_step if news else None,
        "total_steps": news.total_steps if news else None,
    }


def _kept(outcome: Outcome) -> dict[str, Any]:
    """What the history keeps as it is, nulls included, for whoever asks for the result."""
    exception = outcome.failure.exception if outcome.failure else None
    kept = {"exception": dict(exception) if exception else None, "children": list(outcome.children)}
    return {name: value for name, value in kept.items() if value}
