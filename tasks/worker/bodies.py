"""The bodies that a worker's pool runs now: Celery counts only those that have processes, and frees slots of theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.concurrency import prefork, solo, thread
from celery.concurrency.asynpool import AsynPool
from celery.worker import state

POOLS = (prefork.TaskPool, thread.TaskPool, solo.TaskPool)


class Processes(AsynPool):
    """Celery's processes. What one had been given when it died goes to another one, unless it said that it had begun.

    But it may have begun and died before it could say so. A claim that was made for it is good for one body, so that
    such an attempt is lost; without one the next process asks the row, which refuses it.
    """

    def on_partial_read(self, job: Any, proc: Any) -> None:
        """A process has died of whom nobody knows whether it has begun a job."""
        request = state.requests.get(job.correlation_id)
        if not job._accepted and getattr(request, "attempt", None) is not None:  # noqa: SLF001 - Celery's own way to ask
            job._accepted = True  # noqa: SLF001 - as above
            self.mark_as_worker_lost(job, proc.exitcode)
        super().on_partial_read(job, proc)


class Bodies:
    """Those of one worker. `ended` is called in its event loop after each body that has no process of its own."""

    def __init__(self, worker: Any, ended: Callable[[], None]) -> None:
        self._worker = worker
        self._ended = ended
        self._running = 0
        self.have_processes = isinstance(worker.pool, prefork.TaskPool)
        if self.have_processes:
            worker.pool.Pool = Processes
        else:
            self._apply = worker.pool.on_apply
            worker.pool.on_apply = self._watched

    @property
    def running(self) -> int:
        """How many there are, those included that are on their way to a process."""
        if self.have_processes:
            return len(self._worker.pool._pool._cache)  # noqa: SLF001 - billiard has no other way to ask
        return self._running

    def _watched(self, *args: Any, **options: Any) -> Any:
        """What the pool does, with a word at the body's end, however it ends: here and now, or in a thread."""
        self._running += 1
        future = None
        try:
            result = self._apply(*args, **options)
            future = getattr(result, "f", None)  # a thread has it
        finally:
            if future is None:
                self._end_soon()
        if future is not None:
            future.add_done_callback(lambda _: self._end_soon())
        return result

    def _end_soon(self) -> None:
        self._worker.hub.call_soon(self._end)

    def _end(self) -> None:
        self._running -= 1
        self._worker.semaphore.release()
        self._ended()
