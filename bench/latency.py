"""How long a platform takes to answer a POST, to start that job's body, and to fill a slot that has become free."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from statistics import quantiles
from typing import Any
from uuid import uuid4

import httpx2

from bench import variables
from bench.api import Callers, serving
from bench.launch import program
from bench.servers import Broker, Servers, delete_queues
from bench.sides import CONCURRENCY, TRACKED
from bench.witness import MARK

WARM_UP = 20  # jobs
PAUSE = (0.03, 0.1)  # seconds between two jobs: idle again, and not in step with anything that polls
BUSY = 60  # jobs at once, for two slots
BUSY_FOR = 0.05  # seconds that each of them takes
ANSWER = 30.0  # seconds that a start of a body may take


@dataclass(frozen=True)
class Latency:
    """Milliseconds from sending a POST: until it was `answered`, and until the job's body `started`.

    `refilled`: from the end of a job to the start of the next one of an organization that has jobs in line.
    """

    broker: str
    answered: list[float]
    started: list[float]
    refilled: list[float]


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that at least `percent` of all are not above, interpolated."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def measure_latency(
    broker: Broker, servers: Servers, *, samples: int, log_level: str, show: Callable[[int], None]
) -> Latency:
    """Create `samples` jobs one by one; `show` is told how many are done.

    Raises StartError, TimeoutError or AssertionError when the platform does not start or answer as it should.
    """
    with _platform(broker, servers, log_level) as client, _line(servers) as line:
        for _ in range(WARM_UP):
            _call(client, line)
        pairs = []
        for number in range(samples):
            time.sleep(random.uniform(*PAUSE))
            pairs.append(_call(client, line))
            show(number + 1)
        refilled = _refills(client, line)
    return Latency(broker.name, [answered for answered, _ in pairs], [started for _, started in pairs], refilled)


def _call(client: httpx2.Client, line: socket.socket) -> tuple[float, float]:
    body = {"jobType": "bench.call", "payload": {"address": line.getsockname()}}
    sent = time.time()
    response = client.post("/v1/jobs", json=body)
    answered = time.time()
    assert response.status_code == httpx2.codes.ACCEPTED, f"{response.status_code}: {response.text}"
    (started,) = MARK.unpack(line.recv(MARK.size))
    return 1000 * (answered - sent), 1000 * (started - sent)


def _refills(client: httpx2.Client, line: socket.socket) -> list[float]:
    for _ in range(BUSY):
        body = {"jobType": "bench.call", "payload": {"address": line.getsockname(), "seconds": BUSY_FOR}}
        client.post("/v1/jobs", json=body).raise_for_status()
    for _ in range(BUSY):
        line.recv(MARK.size)
    jobs = _finished(client)
    starts = sorted(datetime.fromisoformat(job["startedAt"]) for job in jobs)
    ends = sorted(datetime.fromisoformat(job["completedAt"]) for job in jobs)
    return [1000 * (start - end).total_seconds() for end, start in zip(ends, starts[CONCURRENCY:], strict=False)]


def _finished(client: httpx2.Client) -> list[dict[str, Any]]:
    """The last jobs, once all of them have ended."""
    deadline = time.monotonic() + ANSWER
    while client.get("/v1/jobs/stats").raise_for_status().json()["totalActive"]:
        if time.monotonic() > deadline:
            raise TimeoutError("the jobs did not end in time")
        time.sleep(0.1)
    history: list[dict[str, Any]] = client.get("/v1/jobs/history", params={"limit": BUSY}).json()["history"]
    return history


@contextmanager
def _platform(broker: Broker, servers: Servers, log_level: str) -> Iterator[httpx2.Client]:
    """An API and a worker, ready; a client with the right to create jobs."""
    name, callers = f"bench-idle-{uuid4().hex[:8]}", Callers()
    environment = TRACKED.environment(servers, broker, log_level) | {
        variables.QUEUE: name,
        "CELERIAC_ORGANIZATION_LIMIT": "5",  # the default: a caller of the API has one
    }
    logs = servers.directory
    worker = program(
        "worker", TRACKED.worker(name, name, log_level, "prefork"), environment, logs / f"{name}-worker.log"
    )
    rights = callers.rights("bench", "bench", ("jobs.create_jobs", "jobs.view_jobs"))
    with (
        serving(callers, environment, logs / f"{name}-api.log", is_ready, worker) as url,
        httpx2.Client(base_url=url, headers=rights, timeout=ANSWER) as client,
    ):
        yield client
    delete_queues(broker, name)


def is_ready(url: str) -> bool:
    """Whether everything answers that the platform needs."""
    try:
        return set(httpx2.get(f"{url}/readyz").json()["checks"].values()) == {"ok"}
    except httpx2.TransportError:  # not yet serving
        return False


@contextmanager
def _line(servers: Servers) -> Iterator[socket.socket]:
    """Where a body says that it has started."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.settimeout(ANSWER)
        line.bind(str(servers.directory / f"call-{uuid4().hex[:8]}"))
        yield line
