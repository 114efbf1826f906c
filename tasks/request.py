"""The worker's view of a task that it runs: a job that runs out of memory fails, and the worker lives."""

from __future__ import annotations

from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback  # type: ignore[attr-defined]  # missing in the stubs
from celery.worker.request import Request as CeleryRequest


class OutOfMemory(Exception):
    """The job ran out of memory."""


class Request(CeleryRequest):
    """Celery's request. Celery shuts a worker down when one of its jobs raises MemoryError.

    That is right for the process that ran out of memory; but the job's process said so in good order, and the worker's
    main process, which hears of it here, has its memory still.
    """

    def on_failure(self, exc_info: ExceptionInfo, *args: Any, **options: Any) -> None:
        """The job has failed, in its process or with it."""
        error = exc_info.exception
        if isinstance(error.exc if isinstance(error, ExceptionWithTraceback) else error, MemoryError):
            exc_info.exception = OutOfMemory(str(error) or "out of memory")  # the traceback stays
        super().on_failure(exc_info, *args, **options)
