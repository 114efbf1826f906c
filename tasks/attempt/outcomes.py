"""How an attempt ended, as a value: nothing here asks or tells anybody, and nothing of it is written yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, Retry, SoftTimeLimitExceeded
from kombu.exceptions import EncodeError

from tasks.attempt import results
from tasks.attempt.exceptions import described, failure_of, rejection
from tasks.current import Running
from tasks.progress import JobCancelled
from tracking.models import Breaker, Failure, NewJob, Outcome, Progress
from tracking.states import OutcomeKind
from tracking.values import check_seconds, storable_text

log = structlog.get_logger(__name__)

FINISHED_FIRST = "finished first"  # how a body ended that was to be stopped, for the receipt of the cancel

# What a body ends its job by, on purpose or because it has to.
ENDS = (Reject, Ignore, SoftTimeLimitExceeded, JobCancelled)

PLAIN = ("succeeded", "failed", "retry")  # kinds of outcomes that are all there is to write, unless something follows


class UnkeepableResult(EncodeError):
    """The body returned what the row cannot keep; the cause says why."""


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended, and what is to follow from it.

    `how`: how its body ended, which counts if the job was cancelled meanwhile. `request`: Celery's, with the chain,
    chord and errbacks of the row. `successors` are the jobs that are called when it succeeded, and `uncalled` is
    one of which Celery could make no call; `replacement` is what runs in the job's place; `group_id`: of its chord.
    """

    outcome: Outcome
    how: str
    request: Any
    successors: Sequence[NewJob] = ()
    uncalled: NewJob | None = None
    replacement: Sequence[NewJob] = ()
    group_id: str | None = None

    @property
    def may_be_followed(self) -> bool:
        """Whether anything can follow, by what Celery and the body have said."""
        if self.outcome.kind == "succeeded" and self.successors:
            return True
        linked = self.request.chord or self.request.chain or self.request.errbacks
        return bool(linked or self.uncalled or self.outcome.kind == "replaced")

    @property
    def is_plain(self) -> bool:
        """Whether it is a success or a failure that nothing follows: any process can write that, many at a time."""
        return self.outcome.kind in PLAIN and not self.may_be_followed

    def with_news(self, last: Progress | None) -> End:
        """The same, with what the body said last and nobody has written."""
        return self if last is None else replace(self, outcome=replace(self.outcome, last_news=last))


def of_result(request: Any, now: Running, result: Any, *, is_kept: bool) -> End:
    """The body returned. Raises UnkeepableResult."""
    if now.replacement is not None:  # the body has caught what was to end it
        return _end(request, now, "replaced", how=FINISHED_FIRST)
    try:
        plain, typed = results.kept(result) if is_kept else (None, None)
    except BaseException as error:  # whatever the methods of a result raise, and a generator's body
        raise UnkeepableResult("the result cannot be kept") from error
    success = {"result": plain, "typed_result": typed, "children": _children(request)}
    return _end(request, now, "succeeded", how=FINISHED_FIRST, **success)


def of_error(request: Any, now: Running, error: BaseException, handler: Any) -> End:
    """The body raised, or its result cannot be kept; `handler` judges whose fault that is."""
    was_returned = isinstance(error, UnkeepableResult)
    error = cause_of(error)
    if isinstance(error, Retry):
        return _of_retry(request, now, error, handler)
    if now.again is not None and isinstance(error, Exception) and not isinstance(error, ENDS):
        return _of_retry(request, now, Retry(exc=error, when=now.again.when), handler)
    if isinstance(error, Reject):
        return _of_reject(request, now, error, handler)
    if isinstance(error, Ignore) and now.replacement is not None:
        return _end(request, now, "replaced", how=FINISHED_FIRST)
    if isinstance(error, Ignore):
        failure = Failure("Ignore", "its handler ignored the job")
        return _end(request, now, "cancelled", how="at a step", failure=failure)
    failure = failure_of(error) if was_returned else _judged(error, handler)
    return _failed(request, now, failure, handler, children=_children(request))


def of_mistake(request: Any, now: Running) -> End:
    """The body was interrupted, and the interruption was not meant for it: it runs again."""
    failure = Failure("Interrupted", "interrupted by mistake")
    return _end(request, now, "returned", how="interrupted", failure=failure)


def breaker_of(handler: Any) -> Breaker | None:
    """When failures of its jobs open their circuit; None: never."""
    if handler.circuit_failures <= 0:
        return None
    return Breaker(handler.circuit_failures, timedelta(seconds=handler.circuit_pause))


def cause_of(error: BaseException) -> BaseException:
    """What made a result unkeepable; every other error itself."""
    return (error.__cause__ if isinstance(error, UnkeepableResult) else None) or error


def _of_reject(request: Any, now: Running, error: Reject, handler: Any) -> End:
    reason, requeue = rejection(error)
    failure = Failure("Reject", storable_text(reason or "its handler rejected the job"), exception=described(error))
    if requeue:
        return _end(request, now, "returned", how="rejected", failure=failure)
    return _failed(request, now, failure, handler, how="rejected")


def _of_retry(request: Any, now: Running, asked: Retry, handler: Any) -> End:
    attempt = now.attempt
    if now.retry is None and attempt.retry_count >= attempt.max_retries:  # raised by the body: nobody has counted
        error = asked.exc or MaxRetriesExceededError(f"the job has used its {attempt.max_retries} retries")
        return _failed(request, now, _judged(error, handler), handler)
    failure, delay = _judged(asked.exc or asked, handler), _delay(asked.when)
    return _failed(request, now, failure, handler, "retry", delay=delay, changes=now.changes)


def _failed(
    request: Any,
    now: Running,
    failure: Failure,
    handler: Any,
    kind: OutcomeKind = "failed",
    *,
    how: str = "interrupted",
    **details: Any,
) -> End:
    breaker = None if failure.blames_payload else breaker_of(handler)
    return _end(request, now, kind, how=how, failure=failure, breaker=breaker, **details)


def _end(request: Any, now: Running, kind: OutcomeKind, *, how: str, **details: Any) -> End:
    return End(
        Outcome(now.attempt.fence, kind, request.hostname, now.attempt.attempt, **details),
        how,
        request,
        successors=now.successors,
        uncalled=now.uncalled,
        replacement=now.replacement or (),
        group_id=now.attempt.group_id,
    )


def _children(request: Any) -> list[Any]:
    """What the body has sent, in the form in which Celery keeps results."""
    return [child.as_tuple() for child in request.children or ()]


def _judged(error: BaseException, handler: Any) -> Failure:
    """What the body raised, and whether that was its payload's fault, as its handler says."""
    try:
        blamed = bool(handler.blames_payload(error))
    except Exception as failed:  # noqa: BLE001 - the handler's own code; the outcome is written all the same
        log.warning("blames_payload.failed", error=type(failed).__name__)
        blamed = False
    return replace(failure_of(error), blames_payload=blamed)


def _delay(when: Any) -> timedelta:
    if isinstance(when, datetime):
        return max(timedelta(0), (when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime.now(UTC))
    return max(timedelta(0), check_seconds(when or 0, "the time until the retry"))
