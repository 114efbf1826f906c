"""`python -m bench.scale.neighbours`: what loud tenants cost a quiet one: its answers, and the start of its jobs.

Twelve clients of one tenant ask for the worst reads, 2,000 of its people poll, 60 webhooks of two others fail, and a
thousand organizations have jobs in line, while another tenant asks for a status ten times a second, and makes jobs.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import click
import httpx2
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from bench import variables
from bench.api import Callers, serving
from bench.latency import is_ready, percentile
from bench.launch import program
from bench.scale.fill import LARGE, Size, fill_finished
from bench.scale.noise import Noise, failing_receiver, make
from bench.scale.reads import NOISY, ROUTES, WORST
from bench.servers import Servers, private_servers
from tracking.db import Database
from tracking.exit_status import Exit
from tracking.settings import settings

POLLERS, POLLED_EVERY = 2000, 10.0  # seconds, as Retry-After says to those whose job waits
HOOKS = {"hooked-1": 30, "hooked-2": 30}
NEIGHBOUR = "neighbour"
SLOTS = 2  # of the worker
PAUSE = 0.1  # seconds between two questions of the neighbour
EVERY = 2.0  # seconds between two jobs of the neighbour
BEGINNING = 2.0  # seconds of the noise that are not listened to, and as many at its end
WORSE = 5.0  # times that the p99 of a status may be of what it is when all is quiet
DONE = 60.0  # seconds that the neighbour's last job may take
RIGHTS = ("jobs.create_jobs", "jobs.view_jobs", "jobs.view_all", "jobs.manage_jobs", "jobs.manage_webhooks")


@dataclass(frozen=True)
class Heard:
    """What the neighbour got: milliseconds of its statuses, all statuses of its answers, and its jobs."""

    milliseconds: list[float]
    answers: Counter[int]
    jobs: list[UUID]


def listen(client: httpx2.Client, seconds: float) -> Heard:
    """Ask for a status again and again, and make a job now and then; one waits at a time, as the bound is for one."""
    heard, end, due, waits = Heard([], Counter(), []), time.monotonic() + seconds, time.monotonic(), False
    while (now := time.monotonic()) < end:
        if now >= due and not waits:
            response = client.post("/v1/jobs", json={"jobType": "bench.noop"})
            heard.answers[response.status_code] += 1
            heard.jobs.append(UUID(response.raise_for_status().json()["jobId"]))
            due = now + EVERY
        began = time.perf_counter()
        response = client.get(f"/v1/jobs/{heard.jobs[-1]}/status")
        heard.milliseconds.append(1000 * (time.perf_counter() - began))
        heard.answers[response.status_code] += 1
        waits = response.is_success and response.json()["job"]["status"] == "queued"
        time.sleep(PAUSE)
    return heard


@contextmanager
def platform(servers: Servers, callers: Callers) -> Iterator[str]:
    """The URL of an API beside a worker of two bodies, and one for webhooks."""
    witness = servers.directory / "witness"
    witness.touch()
    environment = {
        "DATABASE_URL": servers.tracked_url,
        "BROKER_URL": servers.valkey.url,
        "CELERIAC_DATA_DIR": str(servers.directory),
        "CELERIAC_IMPORTS": "bench.handlers",
        "CELERIAC_LOG_LEVEL": "WARNING",
        "CELERIAC_WEBHOOKS_PRIVATE": "true",
        variables.WITNESS: str(witness),
    }
    command, logs = [sys.executable, "-m", "celeriac", "worker"], servers.directory
    usual = [*command, "--queues", "default,maintenance", "--concurrency", str(SLOTS)]
    hooks = [*command, "--queues", "webhooks", "--pool", "threads", "--concurrency", "20"]
    workers = [
        program("worker", usual, environment, logs / "worker.log"),
        program("webhooks", hooks, environment, logs / "webhooks.log"),
    ]
    with serving(callers, environment, logs / "api.log", is_ready, *workers) as url:
        yield url


def measure(database: Database, url: str, callers: Callers, organizations: int, seconds: float) -> tuple[Heard, ...]:
    """The neighbour alone, and beside the others; the second time with how many answers those got, by status."""
    with httpx2.Client(base_url=url, headers=callers.rights(NEIGHBOUR, "ann", RIGHTS), timeout=30) as client:
        listen(client, 2)  # warms up
        quiet = listen(client, seconds / 2)
        noise = _noise(database, url, callers, seconds)
        with database.autocommit() as connection:
            connection.execute(text(IN_LINE), {"organizations": organizations, "each": _each(seconds)})
        context = multiprocessing.get_context("spawn")
        statuses: multiprocessing.Queue[Counter[int]] = context.Queue()
        process = context.Process(target=make, args=(noise, statuses))
        process.start()
        time.sleep(BEGINNING)
        loud = listen(client, seconds - 2 * BEGINNING)
        others = statuses.get(timeout=60)
        process.join(10)
        _wait_for(client, loud.jobs)
    return quiet, loud, Heard([], others, [])


def _each(seconds: float) -> int:
    return max(5, round(seconds * 0.4))  # 400 jobs a second of a thousand organizations: more than there can be


def _noise(database: Database, url: str, callers: Callers, seconds: float) -> Noise:
    address, hooked = failing_receiver(), []
    for organization, count in HOOKS.items():
        rights = callers.rights(organization, "ann", RIGHTS)
        hooked.append(rights)
        for _ in range(count):
            httpx2.post(f"{url}/v1/webhooks", json={"url": address}, headers=rights, timeout=30).raise_for_status()
    with database.autocommit() as connection:
        connection.execute(text(BUSY), {"organization": LARGE})
        polled = connection.execute(text(WAITING), {"organization": LARGE}).scalars().first()
    day = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime())
    reads = [ROUTES[name].format(last=polled, day=day, today=day) for name in WORST]
    rights = callers.rights(LARGE, "user-1", RIGHTS)
    return Noise(url, rights, reads, NOISY, f"/v1/jobs/{polled}/status", POLLERS, POLLED_EVERY, hooked, seconds)


def _wait_for(client: httpx2.Client, jobs: list[UUID]) -> None:
    """Until the last of these has started."""
    deadline = time.monotonic() + DONE
    while client.get(f"/v1/jobs/{jobs[-1]}").json()["startedAt"] is None and time.monotonic() < deadline:
        time.sleep(PAUSE)


def starts_before(database: Database, jobs: list[UUID]) -> list[tuple[int, float]]:
    """Of each job how many others started between its creation and its start, and the seconds between both."""
    with database.autocommit() as connection:
        rows = connection.execute(text(STARTS), {"ids": jobs}).all()
    assert len(rows) == len(jobs), f"{len(jobs) - len(rows)} jobs of the neighbour never started"
    return [(row.others, row.seconds) for row in rows]


@click.command()
@click.option("--jobs", default=100_000, show_default=True, type=click.IntRange(1000), help="Finished jobs.")
@click.option("--organizations", default=1000, show_default=True, type=click.IntRange(10), help="With jobs in line.")
@click.option("--seconds", default=40.0, show_default=True, type=click.FloatRange(10), help="Of noise.")
def main(*, jobs: int, organizations: int, seconds: float) -> None:
    """Measure a quiet tenant beside loud ones; ends with 1 when it paid for them."""
    callers, console = Callers(), Console()
    with private_servers() as servers:
        database = Database(servers.tracked_url, settings().model_copy(update={"statement_timeout": 600}))
        fill_finished(database, Size(jobs, organizations), lambda _: None)
        with platform(servers, callers) as url:
            quiet, loud, others = measure(database, url, callers, organizations, seconds)
            before = {"quiet": starts_before(database, quiet.jobs), "loud": starts_before(database, loud.jobs)}
        database.close()
    table, is_broken = told(quiet, loud, others, before, organizations)
    console.print(table)
    sys.exit(Exit.FAILED if is_broken else Exit.FINE)


def told(
    quiet: Heard, loud: Heard, others: Heard, before: Mapping[str, list[tuple[int, float]]], organizations: int
) -> tuple[Table, bool]:
    """The table, and whether a promise is broken."""
    table = Table("of the neighbour", "quiet", "beside the others", "bound")
    for percent in (50, 99):
        was, became = (percentile(heard.milliseconds, percent) for heard in (quiet, loud))
        table.add_row(f"status, p{percent}, ms", f"{was:.1f}", f"{became:.1f}", f"{WORSE * was:.1f}")
    others_first = [max(number for number, _ in before[when]) for when in ("quiet", "loud")]
    bound = SLOTS + organizations + len(HOOKS) + 1
    table.add_row("starts of others before its job, most", *map(str, others_first), str(bound))
    slowest = [max(seconds for _, seconds in before[when]) for when in ("quiet", "loud")]
    table.add_row("from its create to its start, most, s", *(f"{each:.2f}" for each in slowest), "")
    failures = {name: _errors(heard) for name, heard in (("neighbour", loud), ("others", others))}
    table.add_row("5xx", str(_errors(quiet)), f"{failures['neighbour']}, and {failures['others']} of the others", "0")
    table.add_row("answers of the others", "", ", ".join(f"{n:,} x {s}" for s, n in sorted(others.answers.items())), "")
    return table, became > WORSE * was or any(failures.values()) or others_first[1] > bound


def _errors(heard: Heard) -> int:
    return sum(count for status, count in heard.answers.items() if status >= httpx2.codes.INTERNAL_SERVER_ERROR)


IN_LINE = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, queue, max_retries, created_at)
    SELECT gen_random_uuid(), 'tenant-' || o, 'ann', 'bench.noop', 'queued', 'organization_limit', 'default', 3,
           now() + n * interval '1 microsecond'
    FROM generate_series(1, :organizations) AS o, generate_series(1, :each) AS n"""
# Its slots are taken for long, by a worker that lives, so that what it has in line stays there.
BUSY = """
    WITH worker AS (
        INSERT INTO workers (lease, name, pid, queues, concurrency, seen_at)
        VALUES (gen_random_uuid(), 'elsewhere', 1, '{elsewhere}', 5, now() + interval '1 hour') RETURNING lease
    )
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, queue, max_retries, attempt, lease, worker,
                      dispatched_at, started_at, created_at)
    SELECT gen_random_uuid(), :organization, 'user-1', 'type-' || n, 'running', 'elsewhere', 3, 1, lease, 'elsewhere',
           now(), now(), now() - interval '1 minute'
    FROM worker, generate_series(1, 5) AS n"""
WAITING = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, queue, max_retries, priority, created_at)
    SELECT gen_random_uuid(), :organization, 'user-' || n % 40, 'type-' || n % 15, 'queued', 'organization_limit',
           'elsewhere', 3, n % 10, now() - n * interval '1 millisecond'
    FROM generate_series(1, 20000) AS n RETURNING id"""
STARTS = """
    SELECT extract(epoch FROM mine.started_at - mine.created_at)::float AS seconds,
           (SELECT count(*) FROM jobs AS other WHERE other.started_at > mine.created_at
              AND other.started_at < mine.started_at AND other.queue = 'default' AND other.id <> mine.id) AS others
    FROM jobs AS mine WHERE id = ANY(:ids) AND started_at IS NOT NULL"""


if __name__ == "__main__":
    main(prog_name="python -m bench.scale.neighbours")
