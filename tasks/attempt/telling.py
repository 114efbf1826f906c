"""Who hears of an attempt besides its row: the log, the trace in which it was submitted, and the error hook."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import structlog
from celery.exceptions import Retry

from tasks.attempt.outcomes import cause_of
from tasks.current import Running
from tasks.error_hook import AttemptLost, FailedAttempt, FailedJob
from tracking import traces
from tracking.db import SQLAlchemyError
from tracking.identifiers import trace_ids
from tracking.reads import lists, waits
from tracking.states import Status

if TYPE_CHECKING:
    from tasks.platform import Platform
    from tracking.models import Attempt, JobRecord, Outcome, Settled
    from tracking.telemetry import Spans

log = structlog.get_logger(__name__)

LOST = "WorkerLost"  # of an attempt that nobody runs any more
FAILURES = ("failed", "retry", "lost")  # what an attempt that failed ends with


def traced(platform: Platform, now: Running, worker: str, asked_at: int) -> AbstractContextManager[None]:
    """Within: the span of an attempt, if somebody wants traces; `asked_at`: when it asked for its claim, in ns."""
    spans = traces.spans()
    return nullcontext() if spans is None else _traced(spans, platform, now, worker, asked_at)


@contextmanager
def _traced(spans: Spans, platform: Platform, now: Running, worker: str, asked_at: int) -> Iterator[None]:
    claimed_at = asked_at if now.is_granted else time.time_ns()
    with spans.attempt(now.attempt, worker, (asked_at, claimed_at)) as span:
        is_recorded = span.is_recording()
        if spans.trace_id is not None:
            structlog.contextvars.bind_contextvars(trace_id=spans.trace_id)
        yield
    if is_recorded:
        _tell_waits(spans, platform, now.attempt)


def _tell_waits(spans: Spans, platform: Platform, attempt: Attempt) -> None:
    """After the body, which waits for nothing that is only looked at."""
    try:
        with platform.database.autocommit() as connection:
            spans.waited(attempt, waits.before(connection, attempt.job_id, attempt.attempt))
    except SQLAlchemyError as error:  # the trace lacks them
        log.warning("trace.incomplete", error=type(error).__name__)


def ending(outcome: Outcome) -> None:
    """An attempt of this process ends so: its span says it."""
    spans = traces.spans()
    if spans is not None:
        spans.ended(outcome.kind, outcome.failure.type if outcome.failure else None)


def ended(platform: Platform, now: Running, outcome: Outcome, settled: Settled, error: BaseException | None) -> None:
    """The outcome of an attempt of this process is in its row."""
    if outcome.kind not in FAILURES or outcome.failure is None:
        log.info("job.ended", status=str(settled.status))
        return
    log.info("job.ended", status=str(settled.status), error=outcome.failure.type)
    attempt = _failed(outcome, settled, now.attempt)
    if platform.error_hook.is_set and error is not None:
        platform.error_hook.tell(FailedJob.that_runs(now.attempt), attempt, _behind(error))


def ended_elsewhere(platform: Platform, outcome: Outcome, settled: Settled) -> None:
    """The outcome of an attempt whose own process could not write it is in its row; the caller logs it."""
    if outcome.kind not in FAILURES or not platform.error_hook.is_set:
        return
    with platform.database.autocommit() as connection:
        job = lists.find(connection, settled.job_id)
    if job is not None:
        attempt = _failed(outcome, settled, job)
        platform.error_hook.tell(FailedJob.of(job), attempt, AttemptLost(attempt.error_type))


def type_of(outcome: Outcome) -> str:
    """The type of its error, as the log has it."""
    return outcome.failure.type if outcome.failure else LOST


def _failed(outcome: Outcome, settled: Settled, job: Attempt | JobRecord) -> FailedAttempt:
    return FailedAttempt(
        job.attempt,
        outcome.actor,
        type_of(outcome),
        will_retry=settled.status is not Status.FAILED,
        trace_id=trace_ids(job.delivery).get("trace_id"),
    )


def _behind(error: BaseException) -> BaseException:
    """What the body raised, if that was made a retry, or a result that cannot be kept."""
    error = cause_of(error)
    return error.exc if isinstance(error, Retry) and isinstance(error.exc, BaseException) else error
