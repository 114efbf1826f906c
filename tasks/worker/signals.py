"""Celery's signals: what the worker's main process is told of that no attempt can say itself.

They tell of a process that died, of limits and revocations, of messages that are no tasks; they repeat and cannot stop
anything. In a body's own process `worker_process_init` is sent, and `task_failure`, whose attempt has settled itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import signals
from celery.exceptions import InvalidTaskError

from tasks import interrupts
from tasks.broker.messages import fence_of
from tasks.worker import dead_letters, losses
from tracking.logs import configure_logging
from tracking.models import Failure
from tracking.settings import settings
from tracking.values import MESSAGE_BYTES, bounded


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


def on_process(**_: Any) -> None:
    """A process for bodies begins."""
    interrupts.install()


def connect() -> None:
    """Listen to Celery."""
    receivers: dict[Any, Callable[..., None]] = {
        signals.task_failure: on_failure,
        signals.task_revoked: on_revoked,
        signals.task_unknown: on_unknown,
        signals.task_rejected: on_rejected,
        signals.setup_logging: on_logging,
        signals.worker_process_init: on_process,
    }
    for sent, receiver in receivers.items():
        sent.connect(receiver, weak=False)
