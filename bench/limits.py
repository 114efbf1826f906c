"""No-op jobs a second by POST: under the default limit, of one and of twenty organizations, and without one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from uuid import uuid4

from bench import variables, witness
from bench.api import Callers, serving
from bench.latency import is_ready
from bench.launch import PATIENCE, program
from bench.posts import Client
from bench.servers import Broker, Servers, delete_queues
from bench.sides import TRACKED
from tracking.admission import line
from tracking.db import Database
from tracking.settings import Settings, settings

CLIENTS = 8
WARM_UP = 100  # jobs
SLOWEST = 20.0  # jobs per second; slower is a failure
LOOK = 0.005  # seconds between two looks at the witness
RIGHTS = ("jobs.create_jobs",)
LIMIT: int = Settings.model_fields["organization_limit"].default

UNLIMITED, ONE, TWENTY = "no limit", "1 organization", "20 organizations"


@dataclass
class Limited:
    """Jobs a second of one broker, from the first POST to the last body: a number for each round, by organizations."""

    broker: str
    rates: dict[str, list[float]] = field(default_factory=dict)

    def ratio(self, name: str) -> float:
        """The rate in relation to that without a limit, of the same rounds."""
        return median(own / base for own, base in zip(self.rates[name], self.rates[UNLIMITED], strict=True))


def measure_limits(broker: Broker, servers: Servers, *, jobs: int, rounds: int, log_level: str) -> Limited:
    """Let clients create so many jobs at a time; the three take turns. Raises StartError or TimeoutError."""
    found = Limited(broker.name, {UNLIMITED: [], ONE: [], TWENTY: []})
    with _platform(broker, servers, log_level) as platform:
        platform.run(1, WARM_UP, limit=0)
        for _ in range(rounds):
            found.rates[UNLIMITED].append(platform.run(1, jobs, limit=0))
            found.rates[ONE].append(platform.run(1, jobs, limit=LIMIT))
            found.rates[TWENTY].append(platform.run(20, jobs, limit=LIMIT))
    return found


@dataclass
class _Platform:
    url: str
    callers: Callers
    database: Database
    marks: Path

    def run(self, organizations: int, jobs: int, *, limit: int) -> float:
        """Jobs a second. The organizations are new, so that nobody has a line from before."""
        names = [f"limits-{uuid4().hex[:8]}" for _ in range(organizations)]
        with self.database.begin() as connection:
            for name in names:
                line.set_limit(connection, name, limit, actor="bench")
        rights = [self.callers.rights(name, "bench", RIGHTS) for name in names]
        # Each client begins with another organization, so that all of them have jobs at the same time.
        clients = [Client(self.url, *rights[number % organizations :], *rights) for number in range(CLIENTS)]
        before, began = witness.count_marks(self.marks), time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as threads:
            for done in [threads.submit(_post, client, jobs // CLIENTS) for client in clients]:
                done.result()
        wanted = before + jobs // CLIENTS * CLIENTS
        while witness.count_marks(self.marks) < wanted:
            if time.monotonic() - began > PATIENCE + jobs / SLOWEST:
                raise TimeoutError(f"{wanted - witness.count_marks(self.marks)} of {jobs} jobs have not run")
            time.sleep(LOOK)
        return (wanted - before) / (time.monotonic() - began)


def _post(client: Client, count: int) -> None:
    for _ in range(count):
        client.post()
    client.close()


@contextmanager
def _platform(broker: Broker, servers: Servers, log_level: str) -> Iterator[_Platform]:
    name, callers = f"bench-limits-{uuid4().hex[:8]}", Callers()
    marks = servers.directory / f"{name}.marks"
    marks.touch()
    environment = TRACKED.environment(servers, broker, log_level) | {
        variables.QUEUE: name,
        variables.WITNESS: str(marks),
    }
    logs = servers.directory
    command = TRACKED.worker(name, name, log_level, "prefork")
    worker = program("worker", command, environment, logs / f"{name}-worker.log")
    database = Database(servers.tracked_url, settings(), pool_size=1)
    try:
        with serving(callers, environment, logs / f"{name}-api.log", is_ready, worker) as url:
            yield _Platform(url, callers, database, marks)
    finally:
        database.close()
        delete_queues(broker, name)
