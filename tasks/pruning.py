"""The leader's removal of old jobs: a batch at a time, between its other duties."""

from __future__ import annotations

import time
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from tracking import dead_letters, retention, revocations
from tracking.db import database
from tracking.settings import settings

log = structlog.get_logger(__name__)

INTERVAL = 60.0  # seconds between two looks for old jobs
KEEP_LETTERS = timedelta(days=90)  # as long as failed jobs: they are the same kind of trouble
BATCH = 200  # jobs; with their history they must go within the statement timeout


class Pruning:
    """What is known from one turn to the next: when to look again, and how much to remove at once."""

    def __init__(self) -> None:
        self._look_at = 0.0
        self._batch = BATCH

    def turn(self) -> None:
        """Remove one batch of old jobs if it is time; an error is logged, and half as many are tried next time."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + INTERVAL
        try:
            with database().begin() as connection:
                policy = retention.Policy.configured(settings())
                pruned = retention.prune(connection, policy, limit=self._batch)
                letters = dead_letters.forget(connection, KEEP_LETTERS)
                revocations.forget(connection)
        except SQLAlchemyError as error:  # a long history may not go in time: fewer jobs will
            log.warning("retention.failed", batch=self._batch, error=type(error).__name__)
            self._batch = max(1, self._batch // 2)
            return
        if pruned.total or pruned.groups:
            log.info("retention.pruned", jobs=pruned.total, history=pruned.history, groups=pruned.groups)
        if letters:
            log.info("retention.letters_pruned", letters=letters)
        if pruned.more:
            self._look_at = 0.0  # in the next turn, after whatever is due
        else:
            self._batch = BATCH
