"""The leader's counting of what happens, for the metrics."""

from __future__ import annotations

import structlog

from tasks.platform import Platform
from tracking import totals
from tracking.reads.tail import SequenceReset, Tail

ROWS = 2000  # of the history in a transaction: a tenth of a second

log = structlog.get_logger(__name__)


class Counting:
    """Up to where the history can be counted: what is committed, and nothing older is still on its way."""

    INTERVAL = 2.0  # seconds between two looks: metrics are shown for five

    def __init__(self, platform: Platform) -> None:
        self._database = platform.database
        self._tail = Tail()

    def turn(self) -> bool:
        """Count some of it; whether there is more."""
        with self._database.autocommit() as connection:
            try:
                self._tail.poll(connection, is_wanted=False)
            except SequenceReset:
                log.warning("totals.history_reset", position=self._tail.position)
                self._tail = Tail()
                return False
        if self._tail.position is None:
            return False
        with self._database.begin() as connection:
            return totals.count(connection, self._tail.position, most=ROWS)
