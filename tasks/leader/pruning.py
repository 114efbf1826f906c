"""The leader's removal of old jobs: a batch at a time, between its other duties."""

from __future__ import annotations

from datetime import timedelta

import structlog

from tasks.platform import Platform
from tracking import audit, dead_letters, retention
from tracking.db import SQLAlchemyError

log = structlog.get_logger(__name__)

KEEP_LETTERS = timedelta(days=90)  # as long as failed jobs: they are the same kind of trouble
ENTRIES = 2000  # of the audit, which go alone
BATCH = 200  # jobs; with their history they must go within the statement timeout


class Pruning:
    """What is known from one turn to the next: how much to remove at once."""

    INTERVAL = 60.0  # seconds between two looks for old jobs

    def __init__(self, platform: Platform, batch: int = BATCH) -> None:
        self._database = platform.database
        self._policy = retention.Policy.configured(platform.settings)
        self._keep_audit = timedelta(days=platform.settings.retention_audit_days)
        self._most = self._batch = batch

    def jobs(self) -> bool:
        """Remove one batch of old jobs; whether there are more. After an error half as many are tried next time."""
        try:
            with self._database.begin() as connection:
                pruned = retention.prune(connection, self._policy, limit=self._batch)
        except SQLAlchemyError:  # a long history may not go in time: fewer jobs will
            self._batch = max(1, self._batch // 2)
            raise
        if pruned.total or pruned.groups:
            log.info("retention.pruned", jobs=pruned.total, history=pruned.history, groups=pruned.groups)
        if not pruned.more:
            self._batch = self._most
        return pruned.more

    def audit(self) -> bool:
        """Remove one batch of old entries of the audit; whether there are more."""
        with self._database.begin() as connection:
            removed = audit.forget(connection, self._keep_audit, ENTRIES)
        if removed:
            log.info("retention.audit_pruned", entries=removed)
        return removed == ENTRIES

    def letters(self) -> None:
        with self._database.begin() as connection:
            removed = dead_letters.forget(connection, KEEP_LETTERS)
        if removed:
            log.info("retention.letters_pruned", letters=removed)
