"""What loud tenants do, in a process of its own, so that whoever measures beside it does not wait for it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Queue
from threading import Thread
from typing import Any

import httpx2

REST = 0.05  # seconds after a refusal: an impatient client, not a flood
HOOKED_EVERY = 0.5  # seconds between two jobs whose ends the webhooks tell
LISTENERS = 100  # connections of all pollers together
IDLE = 2.0  # seconds that a connection is kept for the next question: the API ends it after five
BROKEN = 0  # counted as a status: the connection ended without an answer


@dataclass(frozen=True)
class Noise:
    """Who is loud: `readers` of one tenant, `pollers` with their seconds between two questions, jobs with webhooks."""

    url: str
    reader: Mapping[str, str]
    reads: Sequence[str]
    readers: int
    polled: str
    pollers: int
    every: float
    hooked: Sequence[Mapping[str, str]]
    seconds: float


def make(noise: Noise, statuses: Queue[Counter[int]]) -> None:
    """Make it for its seconds, and tell how many answers had which status."""
    seen: Counter[int] = Counter()
    asyncio.run(_make(noise, seen))
    statuses.put(seen)


async def _make(noise: Noise, seen: Counter[int]) -> None:
    end = time.monotonic() + noise.seconds
    many = httpx2.Limits(max_connections=LISTENERS, keepalive_expiry=IDLE)
    few = httpx2.Limits(max_connections=noise.readers, keepalive_expiry=IDLE)
    async with (
        httpx2.AsyncClient(base_url=noise.url, headers=noise.reader, timeout=30, limits=few) as readers,
        httpx2.AsyncClient(base_url=noise.url, headers=noise.reader, timeout=30, limits=many) as pollers,
        asyncio.TaskGroup() as tasks,
    ):
        for number in range(noise.readers):
            tasks.create_task(_read(readers, noise.reads[number % len(noise.reads)], end, seen))
        tasks.create_task(_poll(pollers, noise, end, seen))
        for rights in noise.hooked:
            tasks.create_task(_create(noise.url, rights, end, seen))


async def _read(client: httpx2.AsyncClient, path: str, end: float, seen: Counter[int]) -> None:
    while time.monotonic() < end:
        status = await _asked(client, "GET", path, seen)
        if status != httpx2.codes.OK:
            await asyncio.sleep(REST)


async def _poll(client: httpx2.AsyncClient, noise: Noise, end: float, seen: Counter[int]) -> None:
    """As many questions a second as all pollers together ask; with LISTENERS unanswered, those that are due wait."""
    pause, due, room = noise.every / noise.pollers, time.monotonic(), asyncio.Semaphore(LISTENERS)

    async def ask() -> None:
        try:
            await _asked(client, "GET", noise.polled, seen)
        finally:
            room.release()

    async with asyncio.TaskGroup() as asked:
        while due < end and time.monotonic() < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await room.acquire()
            asked.create_task(ask())
            due += pause


async def _asked(client: httpx2.AsyncClient, method: str, path: str, seen: Counter[int], body: Any = None) -> int:
    try:
        status = (await client.request(method, path, json=body)).status_code
    except httpx2.TransportError:
        status = BROKEN
    seen[status] += 1
    return status


async def _create(url: str, rights: Mapping[str, str], end: float, seen: Counter[int]) -> None:
    limits = httpx2.Limits(keepalive_expiry=IDLE)
    async with httpx2.AsyncClient(base_url=url, headers=rights, timeout=30, limits=limits) as client:
        while time.monotonic() < end:
            await _asked(client, "POST", "/v1/jobs", seen, {"jobType": "bench.noop"})
            await asyncio.sleep(HOOKED_EVERY)


class _Failing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Take what is said, and fail."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def failing_receiver() -> str:
    """The URL of a receiver of webhooks that answers each with 500, until this process ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Failing)
    Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/hook"
