"""A body that a signal has interrupted: by its own time limit, because it was cancelled, or by mistake."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog
from celery.exceptions import Retry

from tasks import interrupts
from tasks.attempt.accepting import stopped
from tasks.attempt.outcomes import cause_of
from tasks.current import Running
from tasks.persistence import persist
from tasks.platform import Platform

if TYPE_CHECKING:
    from tasks.app import JobApp

log = structlog.get_logger(__name__)

INTERRUPTION_GRACE = 2.0  # seconds in which the cancel that caused an interruption must show in the row
POLL = 0.05  # seconds between two looks for it
LIMIT_TOLERANCE = 1.0  # seconds; the main process counts a time limit from a little earlier than the body's process


def was_interrupted(app: JobApp, request: Any, now: Running, error: BaseException) -> bool:
    """Whether a body has ended, or has asked for a retry, by a signal that is not its own time limit."""
    error = cause_of(error)
    cause = error.exc if isinstance(error, Retry) else error
    return interrupts.is_of_signal(cause) and not is_over_limit(app, request, now)


def was_cancelled(platform: Platform, request: Any, now: Running) -> bool:
    """Whether an interruption was meant for this job; then the attempt is settled.

    Celery sends the signal of a revocation to the process in which the task ran, which may run another job by now. So
    the row decides: a job that is not cancelled within a moment was interrupted by mistake.
    """
    deadline = time.monotonic() + INTERRUPTION_GRACE
    while time.monotonic() < deadline:
        if persist(lambda: stopped(platform, now.attempt.fence, request.hostname, "interrupted")):
            now.settled = True
            log.info("job.interrupted")
            platform.dispatcher.follow(now.attempt.job_id, now.attempt.owner.organization_id)
            return True
        time.sleep(POLL)
    return False


def is_over_limit(app: JobApp, request: Any, now: Running) -> bool:
    """Whether the body has used up its time: the limit of its call, of its handler, or of this worker."""
    handler, lease = app.tasks.get(now.attempt.job_type), app.lease
    limit = (
        request.soft_time_limit
        or getattr(handler, "soft_time_limit", None)
        or (lease.soft_time_limit if lease is not None else None)
    )
    if not limit:
        return False
    return time.monotonic() - now.since >= limit - min(LIMIT_TOLERANCE, limit / 10)
