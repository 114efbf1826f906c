"""The end of a worker: what it still runs after the grace period is handed back, for another worker to run."""

from __future__ import annotations

import os
import signal
import threading
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID

import structlog
from celery import signals
from celery.concurrency.prefork import TaskPool

from tasks.persistence import DatabaseAway, persist
from tasks.platform import Platform
from tasks.refusals import reason_of
from tracking import jobs
from tracking.db import Connection, DBAPIError, is_away
from tracking.models import Failure, Fence, Outcome

log = structlog.get_logger(__name__)

PATIENCE = 3.0  # seconds to reach the database; without it the jobs run again when the lease has run out
SHUTDOWN = Failure("WorkerShutdown", "worker shut down")
GIVEN_BACK = Failure("GivenBack", "given back before its body began: its worker had no slot for it in time")

_begun = threading.Event()


class HandingBack:
    """Watches a worker that stops: kills its processes when it has taken too long, and releases their jobs.

    Only where the jobs have processes of their own; threads cannot be ended.
    """

    def __init__(self, worker: Any, lease: UUID) -> None:
        self._worker = worker
        self._platform: Platform = worker.app.platform
        self._lease = lease
        self._ends: SimpleQueue[bool] = SimpleQueue()  # unlike an Event it may be used while a signal is handled
        self._earlier = count()  # requests; unlike `+=` not to be interrupted by the next signal half-way
        # It is sent while a signal is handled, which the next one may interrupt where this lock is held.
        signals.worker_shutting_down.lock = threading.RLock()  # type: ignore[attr-defined]  # celery-types knows no lock
        signals.worker_shutting_down.connect(self._on_signal, weak=False)

    def begin(self) -> None:
        """The worker takes no more jobs; the grace period begins."""
        if isinstance(self._worker.pool, TaskPool):
            threading.Thread(target=self._watch, name="handing-back", daemon=True).start()

    def end(self) -> None:
        """The pool has stopped, so that there is nothing to hand back."""
        self._ends.put(item=True)

    def _on_signal(self, **_: Any) -> None:
        if next(self._earlier):  # somebody is in a hurry
            self._ends.put(item=False)

    def _watch(self) -> None:
        try:
            stopped = self._ends.get(timeout=self._platform.settings.shutdown_grace)
        except Empty:
            stopped = False
        if not stopped:
            self._hand_back()

    def _hand_back(self) -> None:
        _begun.set()
        processes = tuple(self._worker.pool._pool._pool)  # noqa: SLF001 - billiard has no other way to ask
        log.warning("worker.handing_back", worker=self._worker.hostname, processes=[each.pid for each in processes])
        for process in processes:
            kill(process.pid)
        self.release()

    def release(self) -> None:
        """Hand back what the rows say that this worker runs, when no body is here any more.

        Mostly that is nothing. But a claim may have been committed whose answer was lost, and nobody asks again while
        the worker stops.
        """
        try:
            persist(self._release, patience=PATIENCE, worker=self._worker.hostname)
        except (DatabaseAway, DBAPIError) as error:
            log.error("worker.handing_back_failed", worker=self._worker.hostname, error=type(error).__name__)  # noqa: TRY400 - no payloads in the log

    def _release(self) -> None:
        with self._platform.database.autocommit() as connection:
            for fence in jobs.running(connection, self._lease):
                log.warning("attempt.handed_back", job_id=str(fence.job_id), worker=self._worker.hostname)
                self._release_one(connection, fence)

    def _release_one(self, connection: Connection, fence: Fence) -> None:
        try:
            jobs.settle(connection, [released(fence, self._worker.hostname)])
        except DBAPIError as error:
            if is_away(error):
                raise
            log.error("worker.release_refused", job_id=str(fence.job_id), error=reason_of(error).type)  # noqa: TRY400 - no payloads in the log


def released(fence: Fence, actor: str, why: Failure = SHUTDOWN) -> Outcome:
    """What becomes of an attempt that another worker is to repeat."""
    return Outcome(fence, "released", actor, failure=why)


def is_begun() -> bool:
    """Whether this worker's processes die because it hands their jobs back."""
    return _begun.is_set()


def kill(pid: int) -> None:
    """End a process of this worker's pool, whatever it does."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it was faster
        return
