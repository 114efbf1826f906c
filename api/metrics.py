"""What Prometheus reads at `/metrics`: the platform as its rows say, and the answers of this process.

The rows are the truth, so nothing is counted beside them: they are read when somebody asks, at most every few seconds,
and every API process gives the same. Labels are few: job types, queues, states, and the organizations with most
waiting jobs only for those who bring a token, as their names are nobody else's business.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import Scope

from tasks.platform import Platform
from tracking.db import Database, DBAPIError, PoolTimeoutError
from tracking.reads import fleet
from tracking.reads.fleet import QueueState, WorkerState
from tracking.reads.overview import By, Load, Overview, overview

MAX_AGE = 5.0  # seconds that rows are shown again: two scrapers and a person cost what one does
WINDOW = timedelta(hours=1)  # in which jobs ended whose number is shown
MOST_ORGANIZATIONS = 20
MOST_TYPES = 200
# Seconds: from a status that is answered from memory to the time limit of a slow read.
BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
STATES = ("waiting", "held", "running")
OUTCOMES = ("succeeded", "failed", "cancelled")
UNMATCHED = "none"  # the route of what no route answers

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rows:
    """What was read, and when, on the monotonic clock; without an overview the database could not be read."""

    at: float
    queues: Sequence[QueueState] = ()
    workers: Sequence[WorkerState] = ()
    held: Mapping[str, int] = field(default_factory=dict)
    overview: Overview | None = None


class Metrics:
    """Those of one API process."""

    def __init__(self, platform: Platform, slow_reads: Database) -> None:
        self._platform = platform
        self._slow_reads = slow_reads
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

    def answered(self, scope: Scope, status: int | None, seconds: float) -> None:
        """Remember a request: by its route, so that no address of a caller's makes a label."""
        route: str = getattr(scope.get("route"), "path", UNMATCHED)
        method = scope["method"] if route != UNMATCHED else UNMATCHED
        self._latency.labels(method, route, "none" if status is None else f"{status // 100}xx").observe(seconds)

    def text(self, *, organizations: bool) -> bytes:
        """The metrics in Prometheus's text format; those of organizations only where they may be seen."""
        registry = CollectorRegistry()
        registry.register(_OfRows(self._newest(), organizations=organizations))
        return bytes(generate_latest(registry) + generate_latest(self._own))

    def _newest(self) -> Rows:
        with self._lock:
            if time.monotonic() - self._rows.at >= MAX_AGE:
                self._rows = self._read()
            return self._rows

    def _read(self) -> Rows:
        lease = self._platform.limits.lease_timeout
        try:
            with self._slow_reads.autocommit() as connection:
                return Rows(
                    time.monotonic(),
                    fleet.all_queues(connection, lease),
                    fleet.all_workers(connection, lease),
                    fleet.held(connection),
                    overview(connection, window=WINDOW),
                )
        except (DBAPIError, PoolTimeoutError) as error:
            log.warning("metrics.unread", error=type(getattr(error, "orig", None) or error).__name__)
            return Rows(time.monotonic())


class _OfRows(Collector):
    """The gauges that were read."""

    def __init__(self, rows: Rows, *, organizations: bool) -> None:
        self._rows = rows
        self._organizations = organizations

    def collect(self) -> Iterator[GaugeMetricFamily]:
        rows = self._rows
        yield GaugeMetricFamily("celeriac_up", "Whether the rows could be read.", rows.overview is not None)
        if rows.overview is None:
            return
        yield _gauge("jobs", "Jobs that are not finished.", ("queue", "state"), _by_state(rows.queues))
        oldest = [((each.name,), each.oldest.total_seconds() if each.oldest else 0.0) for each in rows.queues]
        yield _gauge("oldest_waiting_seconds", "How long the first job has waited that could run.", ("queue",), oldest)
        workers = [((each.name,), each.workers) for each in rows.queues]
        yield _gauge("queue_workers", "Living workers that take jobs of the queue.", ("queue",), workers)
        slots = [((each.name,), each.slots) for each in rows.queues]
        yield _gauge("queue_slots", "Jobs of the queue that they can run at once.", ("queue",), slots)
        held = [((reason,), count) for reason, count in rows.held.items()]
        yield _gauge("held_jobs", "Jobs that wait for something.", ("reason",), held)
        alive = sum(worker.is_alive for worker in rows.workers)
        known = [(("alive",), alive), (("silent",), len(rows.workers) - alive)]
        yield _gauge("workers", "Workers that are known.", ("state",), known)
        types = [load for load in rows.overview.loads if load.by is By.TYPE][:MOST_TYPES]
        yield _gauge("type_jobs", "Jobs that are not finished.", ("type", "state"), _by_state(types))
        ended = [((each.name or "", outcome), getattr(each, outcome)) for each in types for outcome in OUTCOMES]
        yield _gauge("type_ended_last_hour", "Jobs that ended within an hour.", ("type", "outcome"), ended)
        if self._organizations:
            most = [load for load in rows.overview.loads if load.by is By.ORGANIZATION][:MOST_ORGANIZATIONS]
            states = ("organization", "state")
            yield _gauge("organization_jobs", "Of the organizations with most waiting jobs.", states, _by_state(most))


def _by_state(loads: Sequence[Load] | Sequence[QueueState]) -> Iterator[tuple[Sequence[str], float]]:
    return (((load.name or "", state), getattr(load, state)) for load in loads for state in STATES)


def _gauge(
    name: str, help_text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"celeriac_{name}", help_text, labels=labels)
    for named, value in values:
        family.add_metric(named, value)
    return family
