"""One attempt, in the process of its body: claimed before Celery's trace begins, and settled whatever becomes of it.

Nothing here hangs on what a handler or its base class can override. Celery calls a task's hooks (`before_start`,
`on_failure`, `after_return` ...) within its trace: the claim is made before it, the outcome is in the row before they
are called, and what escapes from it is caught behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any
from uuid import uuid4

import structlog
from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]  # missing in the stubs
from billiard.einfo import ExceptionInfo
from celery import current_app, states
from celery.app.task import Context
from celery.app.trace import TraceInfo, build_tracer, trace_ok_t
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, Retry, SoftTimeLimitExceeded
from celery.utils.serialization import UnpickleableExceptionWrapper
from kombu.exceptions import EncodeError

from tasks import current
from tasks.attempt import results
from tasks.attempt.exceptions import described, failure_of, rejection
from tasks.broker.dispatcher import dispatcher
from tasks.broker.messages import called, fence_of
from tasks.canvases import Rest
from tasks.current import Running
from tasks.persistence import DatabaseAway, persist, recorder
from tasks.progress import JobCancelled, Reporter
from tasks.worker import dead_letters, lease
from tasks.worker.signals import accept_alone, end_attempt, handler_of, stopped
from tracking import jobs
from tracking.crashpoints import CLAIMED, crash_point
from tracking.db import DBAPIError, database
from tracking.models import Attempt, Claim, Failure, Fence, Outcome, Progress, Refusal
from tracking.settings import settings
from tracking.values import check_seconds, storable_text

log = structlog.get_logger(__name__)

Tracer = Callable[..., Any]

INTERRUPTION_GRACE = 2.0  # seconds in which the cancel that caused an interruption must show in the row
TRIES = 5  # to write an outcome that signals interrupt, or that cannot be written as it is
LIMIT_TOLERANCE = 1.0  # seconds; the main process counts a time limit from a little earlier than the body's process
# What Celery's context of a running task has from the message, and from the worker; the row says everything else.
MESSAGE_SAYS = frozenset(
    {"id", "task", "lang", "origin", "argsrepr", "kwargsrepr", "correlation_id", "properties", "delivery_info", "utc"}
    | {"hostname", "loglevel", "logfile", "is_eager"}
)
SIGNAL_HANDLER = "soft_timeout_sighandler"  # billiard.pool


# What a body ends its job by, on purpose or because it has to.
ENDS = (Reject, Ignore, SoftTimeLimitExceeded, JobCancelled)


class UnkeepableResult(EncodeError):
    """The body returned what the row cannot keep; the cause says why."""


class Ends(TraceInfo):
    """What Celery does with a body that raised, after its outcome is in the row: no hook keeps it from there."""

    def handle_error_state(
        self,
        task: Any,
        req: Any,
        eager: bool = False,  # noqa: FBT001, FBT002 - Celery's signature
        call_errbacks: bool = True,  # noqa: FBT001, FBT002 - as above
    ) -> Any:
        """The body raised, or asked for a retry."""
        end(req, self.retval)
        if isinstance(self.retval, UnkeepableResult):
            self.retval = self.retval.__cause__
            self.state = states.RETRY if isinstance(self.retval, Retry) else states.FAILURE
        return super().handle_error_state(task, req, eager, call_errbacks)

    def handle_reject(self, task: Any, req: Any, **options: Any) -> None:
        """The body gave its message back."""
        end(req, self.retval)
        super().handle_reject(task, req, **options)

    def handle_ignore(self, task: Any, req: Any, **options: Any) -> None:
        """The body wants no outcome."""
        end(req, self.retval)
        super().handle_ignore(task, req, **options)


def tracer(task: Any) -> Tracer:
    """What a worker calls with a message of this task."""
    trace = build_tracer(task.name, task, app=task.app, Info=Ends)

    def attempt(task_id: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        context = Context(request or {}, args=args, kwargs=kwargs)
        structlog.contextvars.bind_contextvars(job_type=task.name)
        try:
            now = _claim(context, task, fence_of(task_id, context.headers))
            return _run(trace, context, now) if isinstance(now, Running) else now
        finally:
            current.over(context)
            structlog.contextvars.clear_contextvars()

    return attempt


def succeed(request: Any, result: Any, *, is_kept: bool) -> None:
    """The body returned, and its successors are collected: accept the result, and them, in one transaction.

    Raises UnkeepableResult.
    """
    now = current.of(request)
    if now is None or now.settled:
        return
    if now.again is not None:
        _retry(request, now, now.again)
        return
    if now.replacement is not None:  # the body has caught what was to end it
        end_attempt(request, now, "replaced", how="finished first")
        return
    try:
        plain, typed = results.kept(result) if is_kept else (None, None)
    except BaseException as error:  # whatever the methods of a result raise, and a generator's body
        raise UnkeepableResult("the result cannot be kept") from error
    children = [child.as_tuple() for child in request.children or ()]
    success = {"result": plain, "typed_result": typed, "children": children}
    end_attempt(request, now, "succeeded", how="finished first", **success)


def end(request: Any, error: BaseException) -> None:
    """The body raised: write what that means. Does nothing when the attempt is settled already."""
    now = current.of(request)
    if now is None or now.settled:
        return
    was_returned = isinstance(error, UnkeepableResult)
    error = (error.__cause__ if was_returned else None) or error
    if isinstance(error, Retry):
        _retry(request, now, error)
    elif now.again is not None and isinstance(error, Exception) and not isinstance(error, ENDS):
        _retry(request, now, Retry(exc=error, when=now.again.when))
    elif isinstance(error, Reject):
        reason, requeue = rejection(error)
        failure = Failure("Reject", storable_text(reason or "its handler rejected the job"), exception=described(error))
        end_attempt(request, now, "returned" if requeue else "failed", how="rejected", failure=failure)
    elif isinstance(error, Ignore) and now.replacement is not None:
        end_attempt(request, now, "replaced", how="finished first")
    elif isinstance(error, Ignore):
        failure = Failure("Ignore", "its handler ignored the job")
        end_attempt(request, now, "cancelled", how="at a step", failure=failure)
    elif not _is_interruption(error, request, now):
        end_attempt(
            request,
            now,
            "failed",
            how="interrupted",
            failure=failure_of(error) if was_returned else _judged(now, error),
        )


def write_progress(progress: Progress) -> bool:
    """Write what a body says of itself; False when nobody expects this attempt any more."""

    def write() -> bool:
        with database().autocommit() as connection:
            return jobs.report(connection, progress)

    try:
        return persist(write, patience=0, defer_interrupt=True, job_id=str(progress.fence.job_id))
    except DatabaseAway:
        return True  # progress may be missed; the outcome will be written when the database is back
    except (DBAPIError, ValueError) as error:  # refused for good: what a body reports never fails it
        log.warning("progress.refused", job_id=str(progress.fence.job_id), error=type(error).__name__)
        return True


def _claim(context: Context, task: Any, fence: Fence | None) -> Any:
    """The attempt; or what the main process is told when there is none to run."""
    since = time.monotonic()  # like the time limits of Celery, which do not wait for the claim
    try:
        answer, interrupted = (Refusal.UNKNOWN, False) if fence is None else _ask(context, task.name, fence)
        if answer is Refusal.UNKNOWN:
            dead_letters.keep_unknown(context)
    except DatabaseAway:
        return _message_of(Reject("the database is away", requeue=True))
    if isinstance(answer, Refusal):
        log.warning("claim.refused", reason=str(answer))
        return _told(Ignore())
    crash_point(CLAIMED)
    structlog.contextvars.bind_contextvars(attempt=answer.attempt)
    log.info("job.started", organization=answer.owner.organization_id)
    if answer.leaves_place:
        dispatcher().refill(answer.owner.organization_id)
    now = Running(answer, Reporter(answer, write_progress), since)
    end_of_it = _follow_row(context, task, answer)
    current.keep(context, now)
    if end_of_it is None and interrupted:
        end_of_it = _end_before_begin(context, now)
    if end_of_it is None:
        return now
    _settle(context, now, end_of_it)
    return _told(end_of_it)


def _follow_row(context: Context, task: Any, attempt: Attempt) -> BaseException | None:
    """Let the context be what the row says, whatever the message has said; returns why that cannot be."""
    for name in vars(context).keys() - MESSAGE_SAYS:
        delattr(context, name)
    try:
        context.update(called(attempt, takes_payload=task.takes_payload))
    except Exception as error:  # noqa: BLE001 - whatever the decoder of an unknown mark raises
        return error
    return None


def _end_before_begin(context: Context, now: Running) -> BaseException | None:
    """What an interruption of the claim means; None: nothing, it was meant for another job."""
    if _is_over_limit(context, now):
        return SoftTimeLimitExceeded("before the body began")
    return None if write_progress(Progress(now.attempt.fence, now.attempt.attempt)) else JobCancelled()


def _ask(context: Context, job_type: str, fence: Fence) -> tuple[Attempt | Refusal, bool]:
    """The answer to the claim, and whether a revocation arrived meanwhile. Raises DatabaseAway."""
    structlog.contextvars.bind_contextvars(job_id=str(fence.job_id), dispatch=fence.dispatch)
    wish = Claim(fence, uuid4(), str(context.hostname), lease.current(), job_type)
    answers: list[Attempt | Refusal] = []
    try:
        persist(lambda: answers.append(_grant(wish)), patience=settings().claim_patience, defer_interrupt=True)
    except SoftTimeLimitExceeded:
        if not answers:
            raise DatabaseAway from None
        return answers[-1], True
    return answers[-1], False


def _grant(wish: Claim) -> Attempt | Refusal:
    with database().autocommit() as connection:
        return jobs.claim(connection, [wish])[0]


def _run(trace: Tracer, context: Context, now: Running) -> Any:
    """Let Celery run the body; returns what the main process is told."""
    error: BaseException | None = None
    result = runtime = text = None
    try:
        delivery = {**(context.delivery_info or {}), "redelivered": _was_begun_before(context, now.attempt)}
        rest = Rest(context.chain) if context.chain else None
        request = {**vars(context), "delivery_info": delivery, "chain": rest}
        result, info, runtime, text = trace(context.id, context.args, context.kwargs, request)
        error = info.retval if info else None
    except BaseException as escaped:
        if terminate_handler_fired():  # the process ends, and the main process will settle what it ran
            raise
        error = escaped
    _settle(context, now, error, result)
    if error is None:
        return trace_ok_t(None, None, runtime, text)
    return _told(error, getattr(result, "traceback", None))


def _retry(request: Any, now: Running, asked: Retry) -> None:
    if _is_interruption(asked.exc, request, now):
        return
    attempt = now.attempt
    if now.retry is None and attempt.retry_count >= attempt.max_retries:  # raised by the body: nobody has counted
        error = asked.exc or MaxRetriesExceededError(f"the job has used its {attempt.max_retries} retries")
        end_attempt(request, now, "failed", how="interrupted", failure=_judged(now, error))
        return
    failure, delay = _judged(now, asked.exc or asked), _delay(asked.when)
    end_attempt(request, now, "retry", how="interrupted", failure=failure, delay=delay, changes=now.changes)


def _was_begun_before(context: Context, attempt: Attempt) -> bool:
    """Whether a body of this job has begun before whose outcome nobody knows: what a broker says of a redelivery."""
    return bool((context.delivery_info or {}).get("redelivered")) or attempt.attempt > attempt.retry_count + 1


def _settle(context: Context, now: Running, error: BaseException | None, result: Any = None) -> None:
    """Settle what Celery's trace has not, whatever comes between."""
    for _ in range(TRIES):
        if now.settled:
            return
        try:
            if error is None:
                succeed(context, result, is_kept=not context.ignore_result)
            else:
                end(context, error)
        except SoftTimeLimitExceeded:
            continue
        except DatabaseAway:
            break
        except BaseException as trouble:
            if terminate_handler_fired():
                raise
            error = trouble
    if not now.settled:  # the database was away for an hour: this process has other jobs to run
        log.critical("attempt.unsettled")
        late = failure_of(error or DatabaseAway("its outcome could not be written in time"))
        last = Outcome(now.attempt.fence, "failed", str(context.hostname), now.attempt.attempt, failure=late)
        recorder().record(lambda: accept_alone(last))


def _judged(now: Running, error: BaseException) -> Failure:
    """What the body raised, and whether that was its payload's fault, as its handler says."""
    try:
        blamed = bool(handler_of(now).blames_payload(error))
    except Exception as failed:  # noqa: BLE001 - the handler's own code; the outcome is written all the same
        log.warning("blames_payload.failed", error=type(failed).__name__)
        blamed = False
    return replace(failure_of(error), blames_payload=blamed)


def _is_interruption(error: BaseException | None, request: Any, now: Running) -> bool:
    """Whether the body was interrupted by a signal that is not its own time limit; if so the attempt is settled here.

    Celery sends the signal of a revocation to the process in which the task ran, which may run another job by now. So
    the row decides: a job that is not cancelled within a moment was interrupted by mistake, and runs again.
    """
    if not isinstance(error, SoftTimeLimitExceeded) or not _was_signalled(error) or _is_over_limit(request, now):
        return False
    deadline = time.monotonic() + INTERRUPTION_GRACE
    while time.monotonic() < deadline:
        if persist(lambda: stopped(now.attempt.fence, request.hostname, "interrupted")):
            now.settled = True
            log.info("job.interrupted")
            dispatcher().follow(now.attempt.job_id, now.attempt.owner.organization_id)
            return True
        time.sleep(0.05)
    end_attempt(request, now, "returned", how="interrupted", failure=Failure("Interrupted", "interrupted by mistake"))
    return True


def _was_signalled(error: BaseException) -> bool:
    """Whether a signal has raised this, and not the handler itself."""
    frame: TracebackType | None = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_name == SIGNAL_HANDLER:
            return True
        frame = frame.tb_next
    return False


def _is_over_limit(request: Any, now: Running) -> bool:
    """Whether the body has used up its time: the limit of its call, of its handler, or of this worker."""
    handler = current_app.tasks.get(now.attempt.job_type)
    limit = request.soft_time_limit or getattr(handler, "soft_time_limit", None) or lease.soft_time_limit()
    if not limit:
        return False
    return time.monotonic() - now.since >= limit - min(LIMIT_TOLERANCE, limit / 10)


def _delay(when: Any) -> timedelta:
    if isinstance(when, datetime):
        return max(timedelta(0), (when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime.now(UTC))
    return max(timedelta(0), check_seconds(when or 0, "the time until the retry"))


def _told(error: BaseException, traceback: str | None = None) -> Any:
    """What the main process is told: nothing of the handler's own, which it might fail to read, or might obey."""
    if isinstance(error, Retry):
        asked = Retry(storable_text(error.message or ""), _stand_in(error.exc or error), error.when)
        return _message_of(asked, traceback)
    is_over = not isinstance(error, Ignore) and not (isinstance(error, Reject) and rejection(error)[1])
    return _message_of(_stand_in(error) if is_over else Ignore(), traceback)


def _message_of(told: Exception, traceback: str | None = None) -> Any:
    try:
        raise told  # noqa: TRY301 - Celery's value wants an exception that was raised
    except Exception as raised:  # noqa: BLE001 - as above
        said = ExceptionInfo()
        said.traceback = traceback or said.traceback
        return trace_ok_t(said, TraceInfo(states.FAILURE, raised), 0.0, None)


def _stand_in(error: BaseException) -> Exception:
    """An exception that says what another was, and that every process can read."""
    about = described(error)
    text = storable_text(error)
    return UnpickleableExceptionWrapper(about["exc_module"], about["exc_type"], (text,), f"{about['exc_type']}: {text}")
