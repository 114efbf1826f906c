"""A replica of the database that lists are read from, as long as it is near enough; the primary in its place else."""

from __future__ import annotations

import time
from collections import deque

import structlog

from api.looking import INTERVAL, OK, UNKNOWN, Look, State
from tracking import replication
from tracking.db import Database, cause_of, outage
from tracking.settings import Settings

REST = 5.0  # seconds that nobody asks a replica which has just failed
KEPT = 1000  # positions of the primary, one a second: more than any lag that may be allowed

log = structlog.get_logger(__name__)


class Replica:
    """One standby: its connections for lists, and how far it is behind by the clock of this process.

    Once a second the primary says how far it has written, and the standby how far it has got. What the primary had
    written a while ago and the standby does not show yet is as old as that: a primary where nothing happens, and
    clocks that differ, make no lag.
    """

    def __init__(self, url: str, settings: Settings, reads: Database) -> None:
        self.database = reads
        self._lag = settings.replica_lag
        self._primary = Database(settings.database, settings, pool_size=1)
        self._standby = Database(url, settings, pool_size=1)
        self._positions: deque[tuple[float, int]] = deque(maxlen=KEPT)  # of the primary, that the standby lacks
        self._rested_at = 0.0
        self.look = Look(self._look, self._failed, {"replica": "silent"})

    @property
    def is_near(self) -> bool:
        """Whether it may be read now."""
        return self.look.state["replica"] == OK and time.monotonic() >= self._rested_at

    def let_rest(self, error: Exception) -> None:
        """It has just failed a read: leave it alone for a while."""
        self._rested_at = time.monotonic() + REST
        kind = outage(error)
        log.warning("replica.failed", outage=kind and kind.name.lower(), error=type(cause_of(error)).__name__)

    def close(self) -> None:
        """Drop all connections."""
        for each in (self.database, self._primary, self._standby):
            each.close()

    def _look(self) -> State:
        with self._primary.autocommit() as connection:
            self._positions.append((time.monotonic(), replication.written(connection)))
        with self._standby.autocommit() as connection:
            replayed = replication.replayed(connection)
        if replayed is None:
            return {"replica": "no_standby"}
        while self._positions and self._positions[0][1] <= replayed:
            self._positions.popleft()
        behind = time.monotonic() - self._positions[0][0] + INTERVAL if self._positions else 0.0
        return {"replica": OK if behind <= self._lag else "behind"}

    def _failed(self, error: Exception) -> State:
        return {"replica": "away" if outage(error) else UNKNOWN}
