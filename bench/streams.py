"""`python -m bench.streams`: thousands of live streams of one API process, beside jobs that come and go."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit
from uuid import uuid4

import click
import httpx2
import psutil
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from bench.api import Callers, serving
from bench.latency import percentile
from bench.servers import Servers, private_servers
from tracking import jobs
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.exits import StartError
from tracking.models import Claim, Fence, NewJob, Outcome, Owner, Progress
from tracking.settings import settings

EACH_USERS = 20  # streams: as many as one may have
PARSED = 10  # of each so many streams one is read event by event; of the others the events are counted
OPENING = 50  # streams at a time
LAST_EVENTS = 3.0  # seconds for them to arrive
EVENT = re.compile(rb"^id: (\d+)\nevent: job:", re.MULTILINE)
DELAY_LIMIT = 1000.0  # milliseconds, p99


@dataclass
class Heard:
    """What the clients of all streams have heard: events by organization and stream, and when each was read."""

    events: dict[int, int] = field(default_factory=Counter)
    resyncs: int = 0
    arrivals: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Load:
    """What was asked for, and what it took of the API: bytes of memory, seconds of processor in so many seconds."""

    streams: int
    organizations: int
    memory: int
    cpu: float
    seconds: float


@dataclass(frozen=True)
class Result:
    """Of a run. Delays in milliseconds, from the writing of the history's row to its reading by the client."""

    streams: int
    organizations: int
    events: int
    delivered: int
    missing: int
    resyncs: int
    delay_p50: float
    delay_p99: float
    delay_max: float
    kib_per_stream: float
    cpu_percent: float
    cpu_us_per_delivery: float


class Client(asyncio.Protocol):
    """One stream."""

    def __init__(self, number: int, request: bytes, heard: Heard) -> None:
        self.number = number
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._heard = heard

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count what came. One write of the server arrives as one part, but for very long ones."""
        if not self.begun.done() and b"\nid: " in data:
            self.begun.set_result(None)
        self._heard.events[self.number] += data.count(b"\nevent: job:")
        self._heard.resyncs += data.count(b"event: resync")
        if self.number % PARSED == 0:
            now = time.time()
            self._heard.arrivals += [(int(match[1]), now) for match in EVENT.finditer(data)]

    def connection_lost(self, exc: Exception | None) -> None:
        """The server has ended it."""
        if not self.begun.done():
            self.begun.set_exception(exc or ConnectionError("the stream was refused"))


def write(url: str, organizations: int, rate: float, seconds: float) -> None:
    """Let jobs come, start, report and succeed: a process of its own."""
    database = Database(url, settings(), pool_size=1)
    began = time.monotonic()
    with database.autocommit() as connection:
        for number in range(int(rate * seconds)):
            job_id = uuid4()
            owner = Owner(f"org-{number % organizations}", "u")
            jobs.submit(connection, NewJob(job_id, owner, "bench", "default"), UNLIMITED)
            fence = Fence(job_id, 1)
            jobs.claim(connection, [Claim(fence, uuid4(), "worker-1", None)])
            jobs.report(connection, Progress(fence, 1, percent=50, message="half"))
            jobs.settle(connection, [Outcome(fence, "succeeded", "worker-1", attempt=1)])
            time.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))
    database.close()


@click.command()
@click.option("--streams", default=1000, show_default=True, type=click.IntRange(1))
@click.option("--organizations", default=50, show_default=True, type=click.IntRange(1), help="That share the streams.")
@click.option("--rate", default=50.0, show_default=True, type=click.FloatRange(1), help="Jobs a second, of all.")
@click.option("--seconds", default=20.0, show_default=True, type=click.FloatRange(1))
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the measurements.")
def main(*, streams: int, organizations: int, rate: float, seconds: float, json_file: Path | None) -> None:
    """Open streams of one API process, let jobs run, and say how late their events were read and how many were not."""
    try:
        with private_servers() as servers:
            result = asyncio.run(_measure(servers, streams, organizations, rate, seconds))
    except (StartError, AssertionError, OSError) as error:
        raise click.ClickException(str(error)) from None
    Console().print(_table(result, rate))
    if json_file:
        json_file.write_text(json.dumps(asdict(result), indent=2) + "\n")


async def _measure(servers: Servers, streams: int, organizations: int, rate: float, seconds: float) -> Result:
    callers, heard = Callers(), Heard()
    environment = {
        "DATABASE_URL": servers.tracked_url,
        "BROKER_URL": servers.valkey.url,
        "CELERIAC_DATA_DIR": str(servers.directory),
        "CELERIAC_LOG_LEVEL": "WARNING",
        "CELERIAC_API_CONNECTIONS": str(2 * streams + 100),
    }
    with ExitStack() as stack:
        url = stack.enter_context(serving(callers, environment, servers.directory / "streams-api.log", _is_ready))
        process = _process_of(url)
        before = process.memory_info().rss
        requests = [_request(callers, number, organizations) for number in range(streams)]
        clients = await _open(url, requests, heard)
        memory = process.memory_info().rss - before
        writer = multiprocessing.get_context("spawn").Process(
            target=write, args=(servers.tracked_url, organizations, rate, seconds)
        )
        began, cpu = time.monotonic(), _cpu(process)
        writer.start()
        await asyncio.to_thread(writer.join)
        await asyncio.sleep(LAST_EVENTS)
        cpu, passed = _cpu(process) - cpu, time.monotonic() - began
        for client in clients:
            client.transport.close()
        assert writer.exitcode == 0, "the jobs could not be written"
    load = Load(streams, organizations, memory, cpu, passed)
    return _result(servers, heard, load)


async def _open(url: str, requests: Sequence[bytes], heard: Heard) -> list[Client]:
    loop, parts, clients = asyncio.get_running_loop(), urlsplit(url), list[Client]()
    host, port = str(parts.hostname), int(parts.port or 0)
    for start in range(0, len(requests), OPENING):
        opened = [Client(start + place, each, heard) for place, each in enumerate(requests[start : start + OPENING])]
        for client in opened:
            await loop.create_connection(partial(_same, client), host, port)
        async with asyncio.timeout(60):
            await asyncio.gather(*(client.begun for client in opened))
        clients += opened
    return clients


def _same(client: Client) -> Client:
    return client


def _request(callers: Callers, number: int, organizations: int) -> bytes:
    organization, user = number % organizations, number // organizations // EACH_USERS
    rights = callers.rights(f"org-{organization}", f"user-{user}", ("jobs.view_jobs", "jobs.view_all"))
    headers = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "bench", **rights}.items())
    return f"GET /v1/events HTTP/1.1\r\n{headers}\r\n".encode()


def _result(servers: Servers, heard: Heard, load: Load) -> Result:
    database = Database(servers.tracked_url, settings(), pool_size=1)
    with database.autocommit() as connection:
        rows = connection.execute(text("SELECT id, extract(epoch FROM at) AS at, organization_id FROM history")).all()
    database.close()
    written = {row.id: float(row.at) for row in rows}
    per_organization = Counter(row.organization_id for row in rows)
    delays = [1000 * (at - written[number]) for number, at in heard.arrivals]
    wanted = {number: per_organization[f"org-{number % load.organizations}"] for number in range(load.streams)}
    delivered = sum(heard.events.values())
    return Result(
        streams=load.streams,
        organizations=load.organizations,
        events=len(rows),
        delivered=delivered,
        missing=_missing(wanted, heard.events),
        resyncs=heard.resyncs,
        delay_p50=percentile(delays, 50),
        delay_p99=percentile(delays, 99),
        delay_max=max(delays),
        kib_per_stream=load.memory / 1024 / load.streams,
        cpu_percent=100 * load.cpu / load.seconds,
        cpu_us_per_delivery=1e6 * load.cpu / max(1, delivered),
    )


def _missing(wanted: Mapping[int, int], found: Mapping[int, int]) -> int:
    """Events that a stream should have heard and has not, or has heard twice."""
    return sum(abs(count - found.get(number, 0)) for number, count in wanted.items())


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _process_of(url: str) -> psutil.Process:
    port = urlsplit(url).port
    for process in psutil.Process().children(recursive=True):
        if any(each.laddr.port == port for each in process.net_connections("tcp")):
            return process
    raise StartError("the API does not listen")


def _is_ready(url: str) -> bool:
    try:
        return bool(httpx2.get(f"{url}/readyz").json()["checks"]["database"] == "ok")
    except httpx2.TransportError:  # not yet serving
        return False


def _table(result: Result, rate: float) -> Table:
    table = Table("measure", "", title=f"{result.streams:,} streams, {rate:g} jobs/s")
    table.add_row("events written, delivered", f"{result.events:,}, {result.delivered:,}")
    table.add_row("missing or twice, resyncs", f"{result.missing:,}, {result.resyncs:,}")
    delays = f"{result.delay_p50:.0f}, {result.delay_p99:.0f}, {result.delay_max:.0f} ms"
    table.add_row(f"delay p50, p99 (≤ {DELAY_LIMIT:.0f}), max", delays)
    table.add_row("memory of a stream", f"{result.kib_per_stream:.1f} KiB")
    table.add_row("processor of the API", f"{result.cpu_percent:.0f} %, {result.cpu_us_per_delivery:.0f} µs an event")
    return table


if __name__ == "__main__":
    main(prog_name="python -m bench.streams")
