"""Celery's signals in the worker's main process, as outcomes in the row; and how an outcome is written.

What a body does is settled by its attempt, see attempts.py. Celery's signals tell of the rest: of a process that died,
of limits and revocations, of messages that are no tasks. They repeat and cannot stop anything; so each leads to one
guarded verb, written by a thread, because the event loop of the main process must not wait.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import current_app, signals
from celery.exceptions import InvalidTaskError, Reject, SoftTimeLimitExceeded

from tasks import current, revoking, submission
from tasks.attempt import succession
from tasks.attempt.exceptions import failure_of
from tasks.broker.dispatcher import dispatcher
from tasks.broker.messages import fence_of
from tasks.current import Running
from tasks.persistence import DatabaseAway, persist, recorder
from tasks.refusals import instead_of
from tasks.worker import dead_letters, shutdown
from tracking import groups, jobs
from tracking.admission import circuits
from tracking.crashpoints import FINISHED, SETTLED, crash_point
from tracking.db import database
from tracking.logs import configure_logging
from tracking.models import Failure, Fence, JobRecord, Outcome, Settled
from tracking.settings import settings
from tracking.states import OutcomeKind
from tracking.values import MESSAGE_BYTES, bounded

log = structlog.get_logger(__name__)

UPKEEP = "worker"

# What an outcome has led to: where its job is now, and the jobs that were accepted with it.
Accepted = tuple[Settled, list[JobRecord]]


def on_failure(sender: Any, exception: BaseException, einfo: Any = None, **_: Any) -> None:
    """Celery says that a task has failed."""
    settle_from_main(sender, sender.request, exception, einfo)


def settle_from_main(handler: Any, request: Any, exception: BaseException, einfo: Any = None) -> None:
    """The child of a body died, ran out of time, could not even begin, or could not say how it ended."""
    fence = fence_of(request.id, request.headers)
    if request.is_eager or fence is None or current.of(request) or fence in current.in_this_process():
        return  # called like a function, or settled by its attempt
    failure = failure_of(exception, einfo)
    if isinstance(exception, WorkerLostError):
        lost = Outcome(fence, "lost", UPKEEP, failure=failure)
        outcome = shutdown.released(fence, UPKEEP) if shutdown.is_begun() else lost
        _from_main(lambda: _written(lambda: lose(outcome), outcome))
    elif isinstance(exception, TimeLimitExceeded):
        timed_out = Outcome(fence, "failed", UPKEEP, failure=failure)
        _from_main(lambda: _written(lambda: _fail(timed_out, handler), timed_out))
    elif not isinstance(exception, Reject):
        failed = Outcome(fence, "failed", UPKEEP, failure=failure)
        _from_main(lambda: _written(lambda: _fail_unknown(failed), failed))


def on_revoked(request: Any, terminated: bool, signum: Any, expired: bool, **_: Any) -> None:  # noqa: FBT001 - Celery's
    """The worker dropped a task that has expired, or ended one that was revoked: by us, or by any remote control."""
    fence = fence_of(request.id, request.headers)
    if fence is None:
        return
    hostname = request.hostname or UPKEEP
    if expired:
        _from_main(lambda: _expire(fence, hostname))
    else:
        _from_main(lambda: _end_revoked(fence, hostname, signum if terminated else None))


def on_unknown(sender: Any, message: Any, name: str, **_: Any) -> None:
    """A message for a job type that this worker does not know."""
    failure = Failure("NotRegistered", bounded(f"no handler is registered for {name!r}", MESSAGE_BYTES))
    dead_letters.set_aside(message, failure, worker=sender.hostname, job_type=name)


def on_rejected(sender: Any, message: Any, exc: Exception | None, **_: Any) -> None:
    """A message that is no task at all."""
    reason = str(exc) if isinstance(exc, InvalidTaskError) else f"{type(exc).__name__}: {exc}"
    text = bounded(f"the message could not be read as a task: {reason}", MESSAGE_BYTES)
    failure = Failure("MalformedMessage", text)
    dead_letters.set_aside(message, failure, worker=sender.hostname)


def on_logging(**_: Any) -> None:
    """Celery is about to set up its own logging: ours takes its place."""
    configure_logging(settings())


def end_attempt(request: Any, now: Running, kind: OutcomeKind, *, how: str, **details: Any) -> None:
    """Write how an attempt ended, and what follows from it; `how`: how its body ended if the job was cancelled.

    Raises DatabaseAway when the database cannot be reached for an hour.
    """
    attempt = now.attempt
    outcome = Outcome(attempt.fence, kind, request.hostname, attempt.attempt, last_news=now.reporter.close(), **details)
    crash_point(FINISHED)
    accepted = _written(lambda: _accept(request, now, outcome), outcome)
    crash_point(SETTLED)
    now.settled = True
    if accepted is None:
        persist(lambda: stopped(attempt.fence, request.hostname, how), job_id=str(attempt.job_id))
        log.warning("outcome.refused", outcome=kind, how=how)
        dispatcher().follow(attempt.job_id, attempt.owner.organization_id)
        return
    settled, successors = accepted
    log.info("job.ended", status=str(settled.status))
    for successor in successors:
        submission.dispatch(successor)
    _follow([settled])
    if kind in ("failed", "retry"):
        persist(lambda: _trip(handler_of(now), settled.job_id), job_id=str(settled.job_id))


def stopped(fence: Fence, actor: str, how: str) -> bool:
    """Record that the body of a cancelled job is over. False when nobody waits for that."""
    with database().autocommit() as connection:
        return jobs.stopped(connection, fence, actor=actor, how=how)


def accept_alone(outcome: Outcome) -> Accepted | None:
    """Write an outcome without what would follow from it; None when nobody expects it any more."""
    with database().autocommit() as connection:
        settled = jobs.settle(connection, [outcome], max_losses=settings().max_losses)
    return (settled[0], []) if settled else None


def settle_elsewhere(outcome: Outcome) -> list[Settled]:
    """Write an outcome that its own process could not write, and what follows from it, in one transaction."""
    with database().begin() as connection:
        settled = jobs.settle(connection, [outcome], max_losses=settings().max_losses)
        followers = [job for each in settled for job in succession.end_elsewhere(connection, each)]
    for follower in followers:
        submission.dispatch(follower)
    _follow(settled)
    return settled


def lose(outcome: Outcome) -> None:
    """Write that the process of an attempt has died, or that nobody runs it; the job runs again, or has failed."""
    settled = settle_elsewhere(outcome)
    with database().autocommit() as connection:
        if not settled and not jobs.stopped(connection, outcome.fence, actor=UPKEEP, how="killed"):
            jobs.redispatch(connection, outcome.fence)  # the child died before it could claim
    log.error("worker.child_lost", job_id=str(outcome.fence.job_id), status=str(settled[0].status) if settled else None)


def handler_of(now: Running) -> Any:
    """The task of an attempt."""
    return current_app.tasks[now.attempt.job_type]


def connect() -> None:
    """Listen to Celery."""
    receivers: dict[Any, Callable[..., None]] = {
        signals.task_failure: on_failure,
        signals.task_revoked: on_revoked,
        signals.task_unknown: on_unknown,
        signals.task_rejected: on_rejected,
        signals.setup_logging: on_logging,
    }
    for sent, receiver in receivers.items():
        sent.connect(receiver, weak=False)


def _written(write: Callable[[], Accepted | None], outcome: Outcome) -> Accepted | None:
    """What `write` makes of an outcome; when the database refuses that for good, the attempt fails with the reason."""
    job_id = str(outcome.fence.job_id)
    try:
        return persist(write, job_id=job_id)
    except (DatabaseAway, SoftTimeLimitExceeded):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is: without an outcome the job would run for ever
        instead = instead_of(outcome, error)
        log.error("outcome.unwritable", job_id=job_id, outcome=outcome.kind, error=type(error).__name__)  # noqa: TRY400 - no payloads in the log
        return persist(lambda: accept_alone(instead), job_id=job_id)


def _follow(settled: Iterable[Settled]) -> None:
    for each in settled:
        if each.is_awaited or each.is_followed:
            dispatcher().follow(each.job_id, each.organization_id)


def _trip(handler: Any, job_id: UUID) -> None:
    if handler.circuit_failures <= 0:
        return
    pause = timedelta(seconds=handler.circuit_pause)
    with database().autocommit() as connection:
        opened = circuits.trip(connection, job_id, failures=handler.circuit_failures, pause=pause)
    if opened is not None:
        log.error("circuit.opened", job_type=opened.job_type, organization=opened.organization_id)


def _accept(request: Any, now: Running, outcome: Outcome) -> Accepted | None:
    """The outcome, and what follows from it, in one transaction; None when nobody expects it any more."""
    if not succession.concerns(request, now, outcome):
        return accept_alone(outcome)
    with database().begin() as connection:
        if request.chord and now.attempt.group_id:
            groups.lock(connection, now.attempt.group_id)
        settled = jobs.settle(connection, [outcome], max_losses=settings().max_losses)
        if not settled:
            return None
        followers = succession.follow(connection, request, now, outcome, settled[0])
    is_left = settled[0].is_followed and not (request.chain or request.chord)
    return replace(settled[0], is_followed=is_left), followers


def _fail(outcome: Outcome, handler: Any) -> None:
    settled = settle_elsewhere(outcome)
    if settled:
        _trip(handler, settled[0].job_id)
    else:
        with database().autocommit() as connection:
            jobs.stopped(connection, outcome.fence, actor=UPKEEP, how="killed")


def _fail_unknown(outcome: Outcome) -> None:
    """The pool gave back an error instead of an outcome: of a task that never began, or of one that nobody settled."""
    failure = outcome.failure or Failure("Exception", "")
    if not settle_elsewhere(outcome):
        with database().autocommit() as connection:
            jobs.fail_waiting(connection, outcome.fence, actor=UPKEEP, error_type=failure.type, message=failure.message)
    log.error("job.cannot_run", job_id=str(outcome.fence.job_id), error=failure.type)


def _expire(fence: Fence, actor: str) -> None:
    with database().autocommit() as connection:
        cancelled = jobs.expire(connection, fence, actor=actor)
    if cancelled is not None:
        revoking.follow(cancelled)


def _cancel(fence: Fence, actor: str, reason: str) -> None:
    with database().autocommit() as connection:
        cancelled = jobs.cancel_dispatch(connection, fence, actor=actor, reason=reason)
    if cancelled is not None:
        revoking.follow(cancelled)


def _end_revoked(fence: Fence, actor: str, signum: Any) -> None:
    _cancel(fence, f"remote control of {actor}", "terminated")
    with database().autocommit() as connection:
        if signum == signal.SIGUSR1:
            jobs.seen(connection, fence, actor=actor)
        elif signum is not None:
            jobs.stopped(connection, fence, actor=actor, how="killed")


def _from_main(write: Callable[[], object]) -> None:
    recorder().record(write)
