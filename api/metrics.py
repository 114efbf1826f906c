"""What Prometheus reads at `/metrics`: the platform as its rows say, and the answers of this process.

The rows are the truth, so nothing is counted beside them: they are read when somebody asks, at most every few seconds,
and every API process gives the same. Labels are few: job types, queues, states, and the organizations with most
waiting jobs only for those who bring a token, as their names are nobody else's business.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import structlog
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from starlette.types import Scope

from api.families import OfRows
from api.live.reader import Reader
from tasks.platform import Platform
from tracking.db import Database, DBAPIError, PoolTimeoutError
from tracking.reads.measured import Measured, measured
from tracking.tenancy import confined_to

MAX_AGE = 5.0  # seconds that rows are shown again: two scrapers and a person cost what one does
# Seconds: from a status that is answered from memory to the time limit of a slow read.
BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
UNMATCHED = "none"  # the route of what no route answers

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rows:
    """What was read, and when, on the monotonic clock; None: the database could not be read."""

    at: float
    measured: Measured | None = None


class Metrics:
    """Those of one API process.

    `own` is for its reads alone: where callers have all connections for slow reads, the numbers that tell so must come.
    `pools` are those whose use is told, by their names.
    """

    def __init__(self, platform: Platform, own: Database, reader: Reader, pools: Mapping[str, Database]) -> None:
        self._platform = platform
        self._database = own
        self._lock = threading.Lock()
        self._rows = Rows(-MAX_AGE)
        self._own = CollectorRegistry()
        self._latency = Histogram(
            "celeriac_http_request_seconds",
            "Time to the end of an answer of this process.",
            ("method", "route", "status"),
            buckets=BUCKETS,
            registry=self._own,
        )
        backlog = Gauge(
            "celeriac_dispatch_backlog", "Messages of this process that are still to go out.", registry=self._own
        )
        backlog.set_function(lambda: float(platform.dispatcher.backlog))
        lag = Gauge("celeriac_tail_lag_seconds", "How far live events of this process are behind.", registry=self._own)
        lag.set_function(lambda: reader.lag)
        connections = Gauge(
            "celeriac_database_connections",
            "Connections of this process to the database.",
            ("pool", "state"),
            registry=self._own,
        )
        for name, pool in pools.items():
            connections.labels(name, "in_use").set_function(partial(_in_use, pool))
            connections.labels(name, "most").set(pool.size)

    def answered(self, scope: Scope, status: int | None, seconds: float) -> None:
        """Remember a request: by its route, so that no address of a caller's makes a label."""
        route: str = getattr(scope.get("route"), "path", UNMATCHED)
        method = scope["method"] if route != UNMATCHED else UNMATCHED
        self._latency.labels(method, route, "none" if status is None else f"{status // 100}xx").observe(seconds)

    def text(self, *, organizations: bool) -> bytes:
        """The metrics in Prometheus's text format; those of organizations only where they may be seen."""
        registry = CollectorRegistry()
        registry.register(OfRows(self._newest().measured, organizations=organizations))
        return bytes(generate_latest(registry) + generate_latest(self._own))

    def close(self) -> None:
        """Give the connection back."""
        self._database.close()

    def _newest(self) -> Rows:
        with self._lock:
            if time.monotonic() - self._rows.at >= MAX_AGE:
                self._rows = self._read()
            return self._rows

    def _read(self) -> Rows:
        try:
            with confined_to(None), self._database.autocommit() as connection:
                return Rows(time.monotonic(), measured(connection, self._platform.limits.lease_timeout))
        except (DBAPIError, PoolTimeoutError) as error:
            log.warning("metrics.unread", error=type(getattr(error, "orig", None) or error).__name__)
            return Rows(time.monotonic())


def _in_use(pool: Database) -> float:
    return float(pool.in_use)
