"""Celery's signals: what the worker's main process is told of that no attempt can say itself.

They tell of a process that died, of limits and revocations, of messages that are no tasks; they repeat and cannot stop
anything. In a body's own process `worker_process_init` is sent, and `task_failure`, whose attempt has settled itself.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from celery import current_app, signals
from celery.exceptions import InvalidTaskError

from tasks import interrupts
from tasks.attempt.handing import OURS
from tasks.broker.messages import fence_of
from tasks.worker import dead_letters, losses
from tracking.logs import configure_logging
from tracking.models import Failure
from tracking.prints import log_prints
from tracking.settings import settings
from tracking.values import MESSAGE_BYTES, bounded

LAST_WORDS = 2.0  # seconds; a process that ends is waited for


def on_failure(sender: Any, exception: BaseException, einfo: Any = None, **_: Any) -> None:
    """A task has failed."""
    losses.settle(sender, sender.request, exception, einfo)


def on_revoked(
    sender: Any,
    request: Any,
    terminated: bool,  # noqa: FBT001 - as above
    signum: Any,
    expired: bool,  # noqa: FBT001 - as above
    **_: Any,
) -> None:
    """The worker dropped a task that has expired, or ended one that was revoked: by us, or by any remote control."""
    fence, hostname = fence_of(request.id, request.headers), request.hostname or losses.ACTOR
    if fence is None:
        return
    if expired:
        losses.expire(sender.app.platform, fence, hostname)
    else:
        losses.end_revoked(sender.app.platform, fence, hostname, signum if terminated else None)


def on_unknown(sender: Any, message: Any, name: str, **_: Any) -> None:
    """A message for a job type that this worker does not know."""
    failure = Failure("NotRegistered", bounded(f"no handler is registered for {name!r}", MESSAGE_BYTES))
    dead_letters.set_aside(sender.app.platform, message, failure, worker=sender.hostname, job_type=name)


def on_rejected(sender: Any, message: Any, exc: Exception | None, **_: Any) -> None:
    """A message that is no task at all."""
    reason = str(exc) if isinstance(exc, InvalidTaskError) else f"{type(exc).__name__}: {exc}"
    text = bounded(f"the message could not be read as a task: {reason}", MESSAGE_BYTES)
    failure = Failure("MalformedMessage", text)
    dead_letters.set_aside(sender.app.platform, message, failure, worker=sender.hostname)


def on_logging(**_: Any) -> None:
    """Celery is about to set up its own logging: ours takes its place, by the settings that this process began with."""
    configure_logging(settings())
    if settings().log_format == "json":
        log_prints()


def on_process(**_: Any) -> None:
    """A process for bodies begins."""
    interrupts.install()
    # What was imported is never garbage, and the collector waits for a quarter as much again before it looks at what is
    # old: the frames of bodies that failed, which refer to each other, would pile up to a hundred megabytes until then.
    gc.freeze()
    gc.collect()


def on_process_end(**_: Any) -> None:
    """A process for bodies ends, in good order."""
    app: Any = current_app
    app.platform.last_words(LAST_WORDS)


def connect() -> None:
    """Listen to Celery."""
    receivers: dict[Any, Callable[..., None]] = {
        signals.task_failure: on_failure,
        signals.task_revoked: on_revoked,
        signals.task_unknown: on_unknown,
        signals.task_rejected: on_rejected,
        signals.setup_logging: on_logging,
        signals.worker_process_init: on_process,
        signals.worker_process_shutdown: on_process_end,
    }
    for sent, receiver in receivers.items():
        sent.connect(receiver, weak=False, dispatch_uid=OURS)
