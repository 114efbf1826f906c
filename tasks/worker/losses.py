"""Outcomes that the worker's main process writes: of attempts whose own process died, or was not told what to do.

Each is one guarded verb, written by the recorder's thread: the event loop of the main process must not wait. An
attempt that has settled itself is not changed by any of them.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import structlog
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.exceptions import Reject

from tasks import current, revoking, submission
from tasks.attempt import telling
from tasks.attempt.accepting import Accepted, follow, stopped, trip, written
from tasks.attempt.exceptions import failure_of
from tasks.attempt.outcomes import breaker_of
from tasks.attempt.succession import Succession
from tasks.broker.messages import fence_of
from tasks.platform import Platform
from tasks.worker import shutdown
from tracking import jobs
from tracking.models import Failure, Fence, Outcome, Settled

log = structlog.get_logger(__name__)

ACTOR = "worker"


def settle(handler: Any, request: Any, exception: BaseException, einfo: Any = None) -> None:
    """The child of a body died, ran out of time, could not even begin, or could not say how it ended."""
    fence = fence_of(request.id, request.headers)
    if request.is_eager or fence is None or current.of(request) or fence in current.in_this_process():
        return  # called like a function, or settled by its attempt
    failure, platform = failure_of(exception, einfo), handler.app.platform
    if isinstance(exception, WorkerLostError):
        lost = Outcome(fence, "lost", ACTOR, failure=failure)
        outcome = shutdown.released(fence, ACTOR) if shutdown.is_begun() else lost
        _record(platform, outcome, lambda: lose(platform, outcome))
    elif isinstance(exception, TimeLimitExceeded):
        timed_out = Outcome(fence, "failed", ACTOR, failure=failure, breaker=breaker_of(handler))
        _record(platform, timed_out, lambda: _fail(platform, timed_out))
    elif not isinstance(exception, Reject):
        failed = Outcome(fence, "failed", ACTOR, failure=failure)
        _record(platform, failed, lambda: _fail_unknown(platform, failed))


def settle_elsewhere(platform: Platform, outcome: Outcome) -> Settled | None:
    """Write an outcome that its own process could not write, and what follows from it, in one transaction."""
    with platform.database.begin() as connection:
        [settled] = jobs.settle(connection, [outcome], max_losses=platform.settings.max_losses)
        followers = Succession(platform, connection).end_elsewhere(settled) if settled else []
    for follower in followers:
        submission.dispatch(platform, follower)
    if settled is not None:
        follow(platform, settled)
        telling.ended_elsewhere(platform, outcome, settled)
    return settled


def lose(platform: Platform, outcome: Outcome) -> None:
    """Write that the process of an attempt has died, or that nobody runs it; the job runs again, or has failed."""
    settled = settle_elsewhere(platform, outcome)
    with platform.database.autocommit() as connection:
        if not settled and not jobs.stopped(connection, outcome.fence, actor=ACTOR, how="killed"):
            jobs.redispatch(connection, outcome.fence)  # the child died before it could claim
    told = {"status": str(settled.status) if settled else None, "error": telling.type_of(outcome)}
    tell = log.info if outcome.kind == "released" else log.error  # who hands jobs back has ended it, and said so
    tell("worker.child_lost", job_id=str(outcome.fence.job_id), **told)


def expire(platform: Platform, fence: Fence, actor: str) -> None:
    """Have written that a job was not started in time."""

    def write() -> None:
        with platform.database.autocommit() as connection:
            cancelled = jobs.expire(connection, fence, actor=actor)
        if cancelled is not None:
            revoking.follow(platform, cancelled)

    platform.recorder.record(write)


def end_revoked(platform: Platform, fence: Fence, actor: str, signum: Any) -> None:
    """Have written that a remote control has ended a job; `signum`: the signal to its body; None: it had none."""

    def write() -> None:
        with platform.database.autocommit() as connection:
            by = revoking.remote_control_of(actor)
            cancelled = jobs.cancel_dispatch(connection, fence, actor=by, reason="terminated")
        if cancelled is not None:
            revoking.follow(platform, cancelled)
        with platform.database.autocommit() as connection:
            if signum == signal.SIGUSR1:
                jobs.seen(connection, fence, actor=actor)
            elif signum is not None:
                jobs.stopped(connection, fence, actor=actor, how="killed")

    platform.recorder.record(write)


def _record(platform: Platform, outcome: Outcome, write: Callable[[], Accepted | None]) -> None:
    platform.recorder.record(lambda: written(platform, outcome, write))


def _fail(platform: Platform, outcome: Outcome) -> None:
    settled = settle_elsewhere(platform, outcome)
    if settled:
        told = {"status": str(settled.status), "error": telling.type_of(outcome)}
        log.error("job.timed_out", job_id=str(settled.job_id), **told)
        trip(platform, outcome, settled)
    else:
        stopped(platform, outcome.fence, ACTOR, "killed")


def _fail_unknown(platform: Platform, outcome: Outcome) -> None:
    """The pool gave back an error instead of an outcome: of a task that never began, or of one that nobody settled."""
    failure = outcome.failure or Failure("Exception", "")
    if not settle_elsewhere(platform, outcome):
        with platform.database.autocommit() as connection:
            jobs.fail_waiting(connection, outcome.fence, actor=ACTOR, error_type=failure.type, message=failure.message)
    log.error("job.cannot_run", job_id=str(outcome.fence.job_id), error=failure.type)
