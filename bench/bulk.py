"""What a bulk retry costs others: `python -m bench.bulk`, on servers of its own.

One organization has 100,000 failed jobs retried by one operation. POSTs of another one, one at a time, are timed before
and meanwhile. No worker consumes the queue of the retried jobs: what is measured is the operation, not their run.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from typing import Any

import httpx2
import psutil
from sqlalchemy import text

from bench.api import Callers, serving
from bench.latency import percentile
from bench.launch import program
from bench.posts import Client, is_ready
from bench.servers import Servers, private_servers
from bench.sides import TRACKED
from tracking.db import Database
from tracking.settings import Settings

CHUNK = 20_000  # jobs in a statement
PAUSE = 0.01  # seconds between two POSTs

FAILED = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, queue, max_retries, attempt, progress, payload,
                      error_type, error_message, lease, dispatched_at, started_at, completed_at, created_at, updated_at)
    SELECT gen_random_uuid(), 'large', 'bench', 'bench.noop', 'failed', 'elsewhere', 3, 1, 30,
           jsonb_build_object('text', repeat('x', 200)), 'ValueError', 'the row ' || n || ' cannot be read',
           gen_random_uuid(), at, at, at + interval '2 seconds', at, at + interval '2 seconds'
    FROM generate_series(CAST(:first AS int), :last) AS n, LATERAL (SELECT now() - interval '1 hour' AS at) AS of_it"""


def report(servers: Servers, jobs: int, seconds: float) -> None:
    """Time POSTs before an operation and beside it, and print both."""
    database = Database(servers.tracked_url, Settings(statement_timeout=60))
    with database.autocommit() as connection:
        for first in range(0, jobs, CHUNK):
            connection.execute(text(FAILED), {"first": first, "last": min(first + CHUNK, jobs) - 1})
        connection.execute(text("VACUUM ANALYZE jobs"))
    callers, environment = Callers(), TRACKED.environment(servers, servers.valkey, "INFO")
    logs, name = servers.directory, "bulk"
    environment |= {"CELERIAC_ORGANIZATION_LIMIT": "5"}
    worker = program("worker", TRACKED.worker(name, name, "INFO", "prefork"), environment, logs / "bulk-worker.log")
    with serving(callers, environment, logs / "bulk-api.log", is_ready, worker) as url:
        rights = callers.rights("other", "bench", ("jobs.create_jobs",))
        post(url, rights, until=time.monotonic() + seconds / 2)  # warms up
        idle = post(url, rights, until=time.monotonic() + seconds)
        mine = callers.rights("large", "bench", ("jobs.retry_jobs", "jobs.view_jobs"))
        began = time.monotonic()
        asked = {"action": "retry", "filter": {"status": ["failed"]}}
        answer = httpx2.post(f"{url}/v1/bulk", json=asked, headers=mine, timeout=30)
        assert answer.status_code == httpx2.codes.ACCEPTED, answer.text
        accepted, path = time.monotonic() - began, f"{url}{answer.headers['Location']}"
        ended = threading.Event()
        beside: list[float] = []
        poster = threading.Thread(target=lambda: beside.extend(post(url, rights, until=None, ended=ended)))
        poster.start()
        operation: dict[str, Any] = {"completedAt": None}
        while operation["completedAt"] is None:
            time.sleep(1)
            operation = httpx2.get(path, headers=mine).json()
        took = time.monotonic() - began
        ended.set()
        poster.join()
    print(f"{jobs:,} jobs: accepted in {1000 * accepted:.0f} ms, done in {took:.1f} s ({jobs / took:,.0f} a second)")
    print(f"counts: {operation['counts']}")
    print("| POSTs of another organization | count | p50 ms | p99 ms |\n| --- | --- | --- | --- |")
    for label, found in (("idle", idle), ("beside the operation", beside)):
        print(f"| {label} | {len(found)} | {percentile(found, 50):.1f} | {percentile(found, 99):.1f} |")


def post(url: str, rights: dict[str, str], *, until: float | None, ended: threading.Event | None = None) -> list[float]:
    """The milliseconds that POSTs take, one after the other with a pause, up to a time or an event."""
    client, found = Client(url, rights), []
    while (until is None or time.monotonic() < until) and not (ended and ended.is_set()):
        found.append(client.post())
        time.sleep(PAUSE)
    client.close()
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.bulk", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of POSTs before the operation")
    given = parser.parse_args()
    with private_servers() as servers:
        print("load: " + " ".join(f"{load:.1f}" for load in os.getloadavg()), f"processors: {psutil.cpu_count()}")
        report(servers, given.jobs, given.seconds)


if __name__ == "__main__":
    main()
