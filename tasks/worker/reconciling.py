"""The last resort: a row that says it runs here is compared with what this worker really holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from celery.concurrency.prefork import TaskPool

from tasks import current
from tasks.platform import Platform
from tasks.worker import shutdown
from tasks.worker.losses import lose
from tracking import jobs
from tracking.identifiers import job_id_of
from tracking.models import Failure, Fence, Outcome

log = structlog.get_logger(__name__)

PATIENCE = 20.0  # seconds for the recorder, which may wait for a row that somebody keeps
NOBODY = Failure("WorkerLost", "its worker holds no body of it any more")


@dataclass(frozen=True, slots=True)
class _Missed:
    """The first look that has missed a body; `at` on the monotonic clock."""

    at: float
    is_written: Callable[[], bool]


class Reconciling:
    """Settles what this worker's lease covers and nobody here runs: whatever the reason was, somebody must say so.

    A row is looked at twice. A body holds its place from before its claim until after its outcome, so what runs in the
    row and is not here in two looks, one after the other, was not on its way in or out. But the recorder may have to
    write how it ended, or that it never began, and wait for the database: what it had at the first look is let pass.
    """

    def __init__(self, worker: Any, lease: UUID) -> None:
        self._worker = worker
        self._platform: Platform = worker.app.platform
        self._lease = lease
        self._missing: dict[Fence, _Missed] = {}

    def turn(self) -> None:
        """Look once. Raises SQLAlchemyError."""
        if shutdown.is_begun() or not self._worker.pool.active:
            return
        with self._platform.database.autocommit() as connection:
            in_rows = jobs.running(connection, self._lease)
        here = held(self._worker.pool)
        if self._worker.lookahead is not None:
            here |= self._worker.lookahead.held()
        now = _Missed(time.monotonic(), self._platform.recorder.mark())
        before, self._missing = self._missing, {each: now for each in in_rows if each.job_id not in here}
        for fence in self._missing.keys() & before.keys():
            self._missing[fence] = since = before[fence]
            if since.is_written() or since.at < now.at - PATIENCE:
                log.error("attempt.unheld", job_id=str(fence.job_id), worker=self._worker.hostname)
                lose(self._platform, Outcome(fence, "lost", self._worker.hostname, failure=NOBODY))


def held(pool: Any) -> set[UUID]:
    """The jobs that a worker's pool has taken and not given back: it knows them by Celery's ids."""
    if not isinstance(pool, TaskPool):
        return {fence.job_id for fence in current.in_this_process()}
    taken = tuple(pool._pool._cache.values())  # type: ignore[attr-defined]  # noqa: SLF001 - billiard has no other way to ask
    return {job_id_of(str(result.correlation_id)) for result in taken}
