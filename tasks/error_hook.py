"""CELERIAC_ERROR_HOOK: a function of the user's that hears of each attempt that failed, to tell an error tracker.

It is called after the outcome is in the row, in a thread of its own: whatever it does, and however long, no job waits
for it, and none fails by it.
"""

from __future__ import annotations

import contextvars
import importlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

import structlog

from tasks import threads
from tasks.failures import failures
from tracking.errors import ConfigurationError
from tracking.models import Attempt, JobRecord

log = structlog.get_logger(__name__)

BACKLOG = 100  # calls that wait for one that takes long; what comes then is dropped
POLL = 0.01  # seconds


class AttemptLost(Exception):
    """The process of the attempt died or was ended, so that nobody has its exception."""


@dataclass(frozen=True, slots=True)
class FailedJob:
    """Whose attempt failed. Not what it was asked for: that is its organization's, and no error tracker's."""

    id: UUID
    type: str
    organization: str
    user: str
    project: str | None
    root_id: UUID | None

    @classmethod
    def of(cls, job: JobRecord) -> Self:
        return cls(job.id, job.job_type, job.organization_id, job.user_id, job.project_id, job.root_id)

    @classmethod
    def that_runs(cls, job: Attempt) -> Self:
        owner = job.owner
        return cls(job.job_id, job.job_type, owner.organization_id, owner.user_id, job.project_id, job.root_id)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """`error_type`: as the row has it; `will_retry`: the job runs again; `trace_id`: that of its submit, if traced."""

    number: int
    worker: str
    error_type: str
    will_retry: bool
    trace_id: str | None


Hook = Callable[[FailedJob, FailedAttempt, BaseException], object]


def found(name: str) -> Hook | None:
    """The function of this name, package.module:function; None: it is empty. Raises ConfigurationError."""
    if not name:
        return None
    module, _, function = name.partition(":")
    try:
        hook: Any = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        reason = f"there is no {name!r}, as package.module:function: {error}"
        raise ConfigurationError(f"CELERIAC_ERROR_HOOK: {reason}") from error
    if not callable(hook):
        raise ConfigurationError(f"CELERIAC_ERROR_HOOK: {name!r} cannot be called")
    return hook  # type: ignore[no-any-return]  # whatever it takes


class ErrorHook:
    """Calls the function, in this process."""

    def __init__(self, name: str) -> None:
        self._hook = found(name)
        self._calls: queue.Queue[Callable[[], object]] = queue.Queue(BACKLOG)
        self._thread: threading.Thread | None = None

    @property
    def is_set(self) -> bool:
        """Whether there is a function to call."""
        return self._hook is not None

    def tell(self, job: FailedJob, attempt: FailedAttempt, error: BaseException) -> None:
        """Have it called soon, in the context of the caller: with the span that is current here, say."""
        if self._hook is None:
            return
        hook, context = self._hook, contextvars.copy_context()
        try:
            self._calls.put_nowait(lambda: context.run(hook, job, attempt, error))
        except queue.Full:
            log.warning("error_hook.behind", job_id=str(job.id), error=attempt.error_type)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="error hook", daemon=True)
            with threads.apart():
                self._thread.start()

    def flush(self, timeout: float) -> None:
        """Wait until it has been called for all, for `timeout` seconds at most."""
        deadline = time.monotonic() + timeout
        while self._calls.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(POLL)

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - a function of the user's, that may exit as well
                failures.note("error_hook.failed", error)
            else:
                failures.clear("error_hook.failed")
            finally:
                self._calls.task_done()
