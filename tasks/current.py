"""What a worker knows of itself, and of the attempt that it runs now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from celery.exceptions import Retry

from tasks import threads
from tasks.progress import Reporter
from tracking.models import Attempt, Changes, Fence, NewJob

ATTRIBUTE = "running"
CLAIMED = "claimed"  # where a request has the attempt that the main process has claimed for it, or its offer

_live: set[Fence] = set()


@dataclass(frozen=True, slots=True)
class Lease:
    """The identity of a worker: one for each start, which the children inherit that its main process forks.

    `soft_time_limit`: the seconds that it gives a body which has no such limit of its own; None: any time.
    """

    id: UUID
    soft_time_limit: float | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body asked for with its retry; `max_retries` None: the job's own."""

    options: Mapping[str, Any]
    has_arguments: bool
    max_retries: int | None


@dataclass(slots=True)
class Running:
    """One claimed attempt, kept on Celery's request.

    `successors` (chain, link) wait here for the attempt's outcome; `retry` is what the body asked for with it,
    `changes` what that means for the row, and `again` Celery's word for it: from then on the attempt ends with a retry;
    `uncalled` is a successor that Celery could not make a call of; `replacement` is what runs in the job's place, and
    `joining` are the ids of further members of its chord; `since` is when its message reached this process, on the
    monotonic clock; `settled`: its outcome is in the row, or nobody expects one any more; `is_over`: its body has
    ended, though one of its threads may not have. `is_granted`: the main process has claimed it; `is_batched`: it takes
    a plain end of it (tasks/attempt/handing.py); `handed` is what that was told, `has_failed` whether of a failure.
    """

    attempt: Attempt
    reporter: Reporter
    since: float
    successors: list[NewJob] = field(default_factory=list)
    retry: Asked | None = None
    again: Retry | None = None
    changes: Changes = field(default_factory=Changes)
    uncalled: NewJob | None = None
    replacement: list[NewJob] | None = None
    joining: set[str] = field(default_factory=set)
    settled: bool = False
    is_over: bool = False
    is_granted: bool = False
    is_batched: bool = False
    handed: bytes | None = None
    has_failed: bool = False


def keep(request: Any, running: Running) -> None:
    """Remember the attempt with its request and this thread, until it is `over`."""
    request.update({ATTRIBUTE: running})
    threads.enter(running)
    _live.add(running.attempt.fence)


def over(request: Any) -> None:
    """The body has ended and its outcome is written."""
    now = of(request)
    if now is not None:
        now.is_over = True
        _live.discard(now.attempt.fence)
        threads.leave()


def in_this_process() -> set[Fence]:
    """The dispatches whose bodies run in this process."""
    return _live.copy()


def of(request: Any) -> Running | None:
    """The attempt of a request; None when nothing was claimed, as in the worker's main process."""
    return getattr(request, ATTRIBUTE, None)


def anywhere(job_type: str | None = None) -> Running | None:
    """The attempt that this thread works for, of this type or of any; None when no body has started it.

    Raises UnknownThread.
    """
    found = threads.attempt()
    return found if found is not None and job_type in (None, found.attempt.job_type) else None
