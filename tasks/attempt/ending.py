"""The end of an attempt: its outcome is in the row before a hook of the handler hears of it, whatever comes between."""

from __future__ import annotations

from typing import Any

import structlog
from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]  # missing in the stubs
from celery.app.task import Context

from tasks import current, interrupts
from tasks.attempt import outcomes
from tasks.attempt.accepting import accept, accept_alone
from tasks.attempt.exceptions import failure_of
from tasks.attempt.interruptions import was_cancelled, was_interrupted
from tasks.current import Running
from tasks.persistence import DatabaseAway
from tasks.platform import Platform
from tracking.models import Outcome

log = structlog.get_logger(__name__)

TRIES = 5  # to write an outcome that cannot be written as it is


def succeed(platform: Platform, request: Any, result: Any, *, is_kept: bool) -> None:
    """The body returned, and its successors are collected: accept the result, and them, in one transaction.

    Celery has sent the successors before: tasks.app.Messages keeps them for this. Raises UnkeepableResult.
    """
    now = current.of(request)
    if now is None or now.settled:
        return
    if now.again is not None:
        end(platform, request, now.again)
    else:
        interrupts.hold(lambda: accept(platform, now, outcomes.of_result(request, now, result, is_kept=is_kept)))


def end(platform: Platform, request: Any, error: BaseException) -> None:
    """The body raised: write what that means. Does nothing when the attempt is settled already."""
    now = current.of(request)
    if now is not None and not now.settled:
        interrupts.hold(lambda: _end(platform, request, now, error))


def _end(platform: Platform, request: Any, now: Running, error: BaseException) -> None:
    if not was_interrupted(platform.app, request, now, error):
        handler = platform.app.tasks[now.attempt.job_type]
        accept(platform, now, outcomes.of_error(request, now, error, handler), error)
    elif not was_cancelled(platform, request, now):
        accept(platform, now, outcomes.of_mistake(request, now))


def settle(platform: Platform, context: Context, now: Running, error: BaseException | None, result: Any = None) -> None:
    """Settle what Celery's trace has not, whatever comes between."""
    for _ in range(TRIES):
        if now.settled:
            return
        try:
            if error is None:
                succeed(platform, context, result, is_kept=not context.ignore_result)
            else:
                end(platform, context, error)
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
        platform.recorder.record(lambda: accept_alone(platform, last))
