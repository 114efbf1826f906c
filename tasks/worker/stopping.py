"""Ending the bodies of cancelled jobs: each worker looks for its own, whether or not anybody has told it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from celery.concurrency.prefork import TaskPool
from celery.worker import state

from tasks.attempt.accepting import stopped
from tasks.platform import Platform
from tasks.worker.shutdown import kill
from tracking import jobs
from tracking.identifiers import job_id_of
from tracking.jobs.cancel import StoppingBody
from tracking.models import Fence

log = structlog.get_logger(__name__)

LOOP_PATIENCE = 1.0  # seconds until the event loop counts as standing still: its broker is away, or the worker stops


class Stopping:
    """What a worker does with its cancelled bodies: interrupt them at once, and kill those that will not end.

    Only where the jobs have processes of their own; in threads they end at their next step, or do not begin.
    """

    def __init__(self, worker: Any, lease: UUID) -> None:
        self._worker = worker
        self._platform: Platform = worker.app.platform
        self._lease = lease

    def turn(self) -> None:
        """Look once. Raises SQLAlchemyError."""
        has_processes = isinstance(self._worker.pool, TaskPool)
        if not has_processes and self._worker.lookahead is None:
            return
        with self._platform.database.autocommit() as connection:
            bodies = jobs.stopping(connection, self._lease)
        for body in bodies:
            if has_processes:
                in_event_loop(self._worker.hub, lambda body=body: self._end(body))  # type: ignore[misc]
            else:
                self._worker.hub.call_soon(self._drop, body.fence)

    def _end(self, body: StoppingBody) -> None:
        grace = timedelta(seconds=self._platform.settings.cancel_grace)
        request = request_of(body.fence)
        if body.seen_for is None and request is not None and not request.is_revoked:
            request.terminate(self._worker.pool, signal="SIGUSR1")
        elif (body.seen_for or body.requested_for) > grace:
            self._kill(body.fence)

    def _drop(self, fence: Fence) -> None:
        request = request_of(fence)
        if request is not None:
            self._worker.lookahead.drop(request)

    def _kill(self, fence: Fence) -> None:
        if threading.current_thread() is threading.main_thread():
            self._worker.pool.maintain_pool()  # sees whom the last look has killed; Celery looks every five seconds
        request = request_of(fence)
        if request is not None and self._worker.lookahead is not None and self._worker.lookahead.drop(request):
            return
        pid = pid_of(self._worker.pool, fence.job_id)
        if pid is None:  # its process is gone, and nobody could say so
            self._platform.recorder.record(lambda: stopped(self._platform, fence, self._worker.hostname, "worker lost"))
            return
        log.warning("job.killed", job_id=str(fence.job_id), pid=pid, grace=self._platform.settings.cancel_grace)
        kill(pid)


def request_of(fence: Fence) -> Any:
    """What this worker has of that dispatch; None when it has nothing."""
    return next((each for each in tuple(state.requests.values()) if each.fence == fence), None)


def pid_of(pool: Any, job_id: UUID) -> int | None:
    """The process that runs this job; None when none does.

    Certain in the event loop: until that has read a process's result, it gives the process nothing else to run.
    """
    for result in tuple(pool._pool._cache.values()):  # noqa: SLF001 - billiard has no other way to ask
        if result.accepted() and job_id_of(result.correlation_id) == job_id:
            return next(iter(result.worker_pids()), None)
    return None


def in_event_loop(hub: Any, action: Callable[[], None]) -> None:
    """Call `action` in the worker's event loop; here and now when that stands still."""
    turn, done = threading.Lock(), threading.Event()

    def once() -> None:
        if turn.acquire(blocking=False):
            action()
            done.set()

    if hub is not None:
        hub.call_soon(once)
        done.wait(LOOP_PATIENCE)
    once()
