"""The leader's work on bulk operations: a batch of one of them at a time, so that others are not kept waiting."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import structlog

from tasks.platform import Platform
from tracking.crashpoints import ADVANCED, WORKED, crash_point
from tracking.db import SQLAlchemyError
from tracking.jobs import Applied
from tracking.operated import Action
from tracking.operations import reads, work
from tracking.operations.values import Operation
from tracking.states import IN_LINE

log = structlog.get_logger(__name__)

BATCH = 100  # jobs in a transaction: an abort waits for them, and of a larger one others notice more than they may
ROWS = 2000  # of operations that ended long ago, in a transaction


class Operating:
    """The two duties; they know nothing from one turn to the next."""

    def __init__(self, platform: Platform, batch: int = BATCH) -> None:
        self._platform = platform
        self._batch = batch
        self._patience = timedelta(seconds=platform.settings.bulk_canary_timeout)
        self._keep = timedelta(days=platform.settings.retention_bulk_days)

    def turn(self) -> bool:
        """Do one batch of the operation whose turn it is; whether there was one."""
        operation: Operation | None = None
        try:
            with self._platform.database.begin() as connection:
                operation = work.next_one(connection)
                if operation is None:
                    return False
                applied = work.work(connection, operation, self._platform.limits, self._batch, self._patience)
                crash_point(WORKED)
        except Exception:
            self._postpone(operation)
            raise
        crash_point(ADVANCED)
        self._follow(operation, applied)
        return True

    def _postpone(self, operation: Operation | None) -> None:
        """After an error, let others have their turn; an outage is everybody's, and then it does not matter."""
        if operation is not None:
            with suppress(SQLAlchemyError), self._platform.database.autocommit() as connection:
                work.postpone(connection, operation)

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
        if operation.action is Action.CANCEL or any(job.hold in IN_LINE for job in jobs):
            dispatcher.refill(operation.organization_id)
