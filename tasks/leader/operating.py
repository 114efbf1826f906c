"""The leader's work on bulk operations: a batch of one of them at a time, so that others are not kept waiting."""

from __future__ import annotations

import time
from datetime import timedelta

import structlog

from tasks.platform import Platform
from tracking.crashpoints import ADVANCED, WORKED, crash_point
from tracking.jobs import Applied
from tracking.operated import Action
from tracking.operations import reads, work
from tracking.operations.values import Operation
from tracking.states import Hold

log = structlog.get_logger(__name__)

BATCH = 200  # jobs in a transaction: so long is what an abort waits for, and what is done again after a crash
SHARE = 2  # of the time, one part in so many is worked: the database is for others, too
LONGEST_REST = 2.0  # seconds between two batches
ROWS = 2000  # of operations that ended long ago, in a transaction


class Operating:
    """What is known from one turn to the next: how long to rest."""

    def __init__(self, platform: Platform, batch: int = BATCH) -> None:
        self._platform = platform
        self._batch = batch
        self._patience = timedelta(seconds=platform.settings.bulk_canary_timeout)
        self._keep = timedelta(days=platform.settings.retention_bulk_days)
        self._rest = 0.0

    def turn(self) -> bool:
        """Do one batch of the operation whose turn it is; whether there was one."""
        time.sleep(self._rest)
        began = time.monotonic()
        with self._platform.database.begin() as connection:
            operation = work.next_one(connection)
            if operation is None:
                self._rest = 0.0
                return False
            applied = work.work(connection, operation, self._platform.limits, self._batch, self._patience)
            crash_point(WORKED)
        crash_point(ADVANCED)
        self._follow(operation, applied)
        self._rest = min(LONGEST_REST, (SHARE - 1) * (time.monotonic() - began))
        return True

    def forget(self) -> bool:
        """Remove rows of operations that ended long ago; whether there are more."""
        with self._platform.database.begin() as connection:
            removed = reads.forget(connection, self._keep, ROWS)
        if removed:
            log.info("retention.operations_pruned", rows=removed)
        return removed > 0

    def _follow(self, operation: Operation, applied: Applied) -> None:
        """Send what may run now, and stop what must not; other jobs that wait for these, the leader finds anyway."""
        if not applied.done or operation.action is Action.DELETE:
            return
        dispatcher, jobs = self._platform.dispatcher, list(applied.done.values())
        if operation.action is Action.CANCEL:
            for job in jobs:
                if job.stopping:
                    dispatcher.interrupt(job)
        else:
            dispatcher.send_all([job for job in jobs if job.dispatched_at is None])
        if operation.action is Action.CANCEL or any(job.hold is Hold.ORGANIZATION_LIMIT for job in jobs):
            dispatcher.refill(operation.organization_id)
