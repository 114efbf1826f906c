"""How many POSTs a second an API takes, and what one costs: `python -m bench.posts`, on servers of its own.

The clients are one user, whose organization has a line: no worker runs, so the first jobs take its slots. `one` pauses
before each POST, as somebody does who meets an idle platform. CPU is in microseconds a POST.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2
import psutil

from bench.api import Callers, serving
from bench.cpu import Roots, read_cpu
from bench.latency import PAUSE, percentile
from bench.servers import Servers, private_servers
from bench.sides import TRACKED

CLIENTS = (1, 8, 32)
PATIENCE = 30.0  # seconds for an answer
WARM_UP = 300  # POSTs
ACCEPTED = b"HTTP/1.1 202"


@dataclass
class Taken:
    """What the POSTs of a round took: milliseconds of each, seconds of all, CPU seconds by process."""

    milliseconds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def row(self) -> str:
        """Cells of a table: how many a second, p50 and p99, CPU of the API and of the database."""
        count = len(self.milliseconds)
        figures = [percentile(self.milliseconds, 50), percentile(self.milliseconds, 99)]
        costs = [1e6 * self.cpu[name] / count for name in ("api", "database")]
        return f"{count / self.seconds:,.0f} | {figures[0]:.1f} | {figures[1]:.1f} | {costs[0]:,.0f} | {costs[1]:,.0f}"


class Client:
    """A connection that is kept, and the same request each time: a client's library would take as long as the API.

    `rights`: headers of those who ask in turn.
    """

    def __init__(self, url: str, *rights: dict[str, str]) -> None:
        address = urlsplit(url)
        self._requests = cycle([_request(address.netloc, each) for each in rights])
        self._socket = socket.create_connection((address.hostname or "", address.port or 0), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self) -> float:
        """Create a job; the milliseconds until it was accepted. Raises AssertionError when it is not."""
        began = time.perf_counter()
        self._socket.sendall(next(self._requests))
        answer = self._socket.recv(65536)
        while not _is_whole(answer):
            answer += self._socket.recv(65536)
        assert answer.startswith(ACCEPTED), answer.decode()
        return 1000 * (time.perf_counter() - began)

    def close(self) -> None:
        self._socket.close()


def _request(host: str, rights: dict[str, str]) -> bytes:
    body = json.dumps({"jobType": "bench.noop"})
    headers = {"Host": host, "Content-Type": "application/json", "Content-Length": len(body), **rights}
    lines = ["POST /v1/jobs HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", body]
    return "\r\n".join(lines).encode()


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        assert answer, "the API has closed the connection"
        return False
    lengths = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(body) >= int(lengths[0])


def measure(url: str, rights: dict[str, str], roots: Roots, *, clients: int, seconds: float) -> Taken:
    """What POSTs of so many clients at once take, each sending the next one when it is answered; one alone pauses."""
    taken, end = Taken(), time.monotonic() + seconds
    connections = [Client(url, rights) for _ in range(clients)]
    before, began = read_cpu(roots), time.perf_counter()
    failed: list[Exception] = []

    def run(client: Client) -> None:
        try:
            while time.monotonic() < end and not failed:
                if clients == 1:
                    time.sleep(random.uniform(*PAUSE))
                taken.milliseconds.append(client.post())
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that asked
            failed.append(error)

    threads = [threading.Thread(target=run, args=(client,)) for client in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken.seconds = time.perf_counter() - began
    taken.cpu = {name: spent - before[name] for name, spent in read_cpu(roots).items()}
    for client in connections:
        client.close()
    for error in failed:
        raise error
    return taken


def _warm_up(url: str, rights: dict[str, str]) -> None:
    client = Client(url, rights)
    for _ in range(WARM_UP):
        client.post()
    client.close()


def is_ready(url: str) -> bool:
    """Whether the API answers, and reaches its database."""
    try:
        return bool(httpx2.get(f"{url}/readyz").json()["checks"]["database"] == "ok")
    except httpx2.TransportError:  # not yet serving
        return False


def report(servers: Servers, counts: Sequence[int], *, seconds: float, rounds: int) -> None:
    """Numbers of clients take turns; the middle round of each is printed."""
    callers = Callers()
    environment = TRACKED.environment(servers, servers.valkey, "INFO") | {"CELERIAC_ORGANIZATION_LIMIT": "5"}
    found: dict[int, list[Taken]] = {count: [] for count in counts}
    with serving(callers, environment, servers.directory / "posts-api.log", is_ready) as url:
        roots: Roots = {"api": [_listening(url)], "database": [servers.postgres_pid]}
        for _ in range(rounds):
            for count in counts:
                rights = callers.rights(f"posts-{uuid4().hex[:8]}", "bench", ("jobs.create_jobs",))
                _warm_up(url, rights)
                found[count].append(measure(url, rights, roots, clients=count, seconds=seconds))
    print("| clients | POSTs a second | p50 ms | p99 ms | CPU: API | PostgreSQL |\n|" + " --- |" * 6)
    for count, runs in found.items():
        middle = sorted(runs, key=lambda run: len(run.milliseconds) / run.seconds)[len(runs) // 2]
        print(f"| {count if count > 1 else 'one'} | {middle.row} |")


def _listening(url: str) -> int | None:
    """The process of the API: it is a child of this one's."""
    for process in psutil.Process().children(recursive=True):
        if any(each.laddr.port == urlsplit(url).port and process.name() != "sh" for each in process.net_connections()):
            return process.pid
    return None


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.posts", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each number of clients, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with private_servers() as servers:
        print("load: " + " ".join(f"{load:.1f}" for load in os.getloadavg()))
        report(servers, given.clients, seconds=given.seconds, rounds=given.rounds)


if __name__ == "__main__":
    main()
