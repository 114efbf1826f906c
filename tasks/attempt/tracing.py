"""One attempt, in the process of its body: claimed before Celery's trace begins, and settled whatever becomes of it.

Nothing here hangs on what a handler or its base class can override. Celery calls a task's hooks (`before_start`,
`on_failure`, `after_return` ...) within its trace: the claim is made before it, the outcome is in the row before they
are called, and what escapes from it is caught behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog
from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]  # missing in the stubs
from billiard.einfo import ExceptionInfo
from celery import states
from celery.app.task import Context
from celery.app.trace import TraceInfo, build_tracer, trace_ok_t
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.serialization import UnpickleableExceptionWrapper

from tasks import current, interrupts
from tasks.attempt.claiming import claim, end_before_begin
from tasks.attempt.ending import end, settle
from tasks.attempt.exceptions import described, rejection
from tasks.attempt.handing import Grant, Handed, Offer
from tasks.attempt.outcomes import UnkeepableResult
from tasks.attempt.telling import traced
from tasks.broker.messages import DISPATCH_HEADER, fence_of
from tasks.canvases import Rest
from tasks.current import Running
from tasks.platform import Platform
from tracking.models import Attempt
from tracking.values import storable_text

Tracer = Callable[..., Any]


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
        end(task.app.platform, req, self.retval)
        if isinstance(self.retval, UnkeepableResult):
            self.retval = self.retval.__cause__
            self.state = states.RETRY if isinstance(self.retval, Retry) else states.FAILURE
        return super().handle_error_state(task, req, eager, call_errbacks)

    def handle_reject(self, task: Any, req: Any, **options: Any) -> None:
        """The body gave its message back."""
        end(task.app.platform, req, self.retval)
        super().handle_reject(task, req, **options)

    def handle_ignore(self, task: Any, req: Any, **options: Any) -> None:
        """The body wants no outcome."""
        end(task.app.platform, req, self.retval)
        super().handle_ignore(task, req, **options)


def tracer(task: Any) -> Tracer:
    """What the pool's process calls with a message of this task: Celery finds it as `Job.__trace__`."""
    trace = build_tracer(task.name, task, app=task.app, Info=Ends)

    def attempt(task_id: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        context = _context(request or {}, args, kwargs)
        structlog.contextvars.bind_contextvars(job_type=task.name)
        try:
            return _attempt(task, trace, context, task_id)
        finally:
            current.over(context)
            structlog.contextvars.clear_contextvars()

    return attempt


def _context(request: dict[str, Any], args: Any, kwargs: Any) -> Context:
    """Celery's context of a message. It takes long to find which headers are not Celery's: ours has the one."""
    if isinstance(request.get(current.CLAIMED), Grant | Offer) and request.get("headers") is None:
        request["headers"] = {DISPATCH_HEADER: request.get(DISPATCH_HEADER)}
    return Context(request, args=args, kwargs=kwargs)


def _attempt(task: Any, trace: Tracer, context: Context, task_id: str) -> Any:
    """Claim, run and settle it; returns what the main process is told."""
    platform: Platform = task.app.platform
    asked_at = time.time_ns()
    try:
        now, error = claim(platform, context, task, fence_of(task_id, context.headers))
    except (Ignore, Reject) as nothing:
        return _message_of(nothing)
    if error is None and task.external:
        error = RuntimeError(f"the work of a {task.name} is done elsewhere: whoever sent this does not know that")
    with traced(platform, now, str(context.hostname), asked_at):
        if error is None:
            return _run(platform, trace, context, now)
        settle(platform, context, now, error)
    return _handed_over(now, error) if now.handed is not None else _told(error)


def _run(platform: Platform, trace: Tracer, context: Context, now: Running) -> Any:
    """Let Celery run the body; returns what the main process is told."""
    error: BaseException | None = None
    result = runtime = text = None
    try:
        result, info, runtime, text = interrupts.allow(lambda came: _body(platform, trace, context, now, came))
        error = info.retval if info else None
    except BaseException as escaped:
        interrupts.end()
        if terminate_handler_fired():  # the process ends, and the main process will settle what it ran
            raise
        error = escaped
    settle(platform, context, now, error, result)
    traceback = getattr(result, "traceback", None)
    if now.handed is not None:  # whatever has come after it
        return _handed_over(now, error, traceback, runtime or 0.0, text or "")
    if error is None:
        return trace_ok_t(None, None, runtime, text)
    return _told(error, traceback)


def _handed_over(
    now: Running, error: BaseException | None, traceback: str | None = None, runtime: float = 0.0, text: str = ""
) -> Any:
    """What the main process is told of an end that it is to write."""
    handed: Any = Handed(now.handed or b"", text)
    if not now.has_failed or error is None:
        return trace_ok_t(None, None, runtime, handed)
    told = _told(error, traceback)
    return told._replace(retval=handed._replace(said=told.retval))


def _body(platform: Platform, trace: Tracer, context: Context, now: Running, was_interrupted: bool) -> Any:  # noqa: FBT001 - read by name
    """Celery's trace: it runs the body, and tells of a success by RowBackend.mark_as_done, of anything else by Ends."""
    error = end_before_begin(platform, context, now) if was_interrupted else None
    if error is not None:
        raise error
    delivery = {**(context.delivery_info or {}), "redelivered": _was_begun_before(now.attempt)}
    rest = Rest(context.chain) if context.chain else None
    request = {**vars(context), "delivery_info": delivery, "chain": rest}
    return trace(context.id, context.args, context.kwargs, request)


def _was_begun_before(attempt: Attempt) -> bool:
    """Whether an attempt of this job has begun before whose outcome nobody knows: what Celery asks a broker.

    A broker says it of every message that a worker gave back, also unclaimed.
    """
    return attempt.attempt > attempt.retry_count + 1


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
