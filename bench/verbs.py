"""What the verbs of a job cost, in CPU time and without a broker: `python -m bench.verbs`, on a PostgreSQL of its own.

PostgreSQL's microseconds are those of the session's server process, commit included; the client's are those of this
process's thread. Wall time is mostly the disk's.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from bench.servers import private_servers
from tracking import jobs
from tracking.admission.rule import UNLIMITED
from tracking.db import Connection, Database
from tracking.models import Attempt, Claim, Fence, NewJob, Outcome, Owner, Scope, Submitted
from tracking.settings import settings

SIZES = (1, 4, 16, 64)
SUBMITTED = (1, 100, 1000, 5000)
WARM_UP = 640  # jobs, so that every statement has its cached plan


@dataclass
class Meter:
    """CPU seconds of a session's server process and of this thread, and wall time."""

    server: Path
    postgres: float = 0.0
    client: float = 0.0
    wall: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what the block takes."""
        postgres, client, wall = self._postgres(), time.thread_time(), time.perf_counter()
        yield
        self.wall += time.perf_counter() - wall
        self.client += time.thread_time() - client
        self.postgres += self._postgres() - postgres

    def _postgres(self) -> float:
        return int(self.server.read_text().split()[0]) / 1e9  # nanoseconds on a CPU


def new_jobs(count: int) -> list[NewJob]:
    """No-op jobs of one user."""
    owner = Owner("acme", "u1")
    return [NewJob(uuid4(), owner, "bench.noop", "default", delivery={"args": []}) for _ in range(count)]


def submit_each(connection: Connection, new: Sequence[NewJob]) -> list[Fence]:
    """Accept jobs, a statement and a commit each."""
    return [jobs.submit(connection, job, UNLIMITED).job.fence for job in new]


def claim_all(connection: Connection, fences: Sequence[Fence]) -> list[Outcome]:
    """Claim jobs; their outcomes, in one call."""
    lease = uuid4()
    answers = jobs.claim(connection, [Claim(fence, uuid4(), "bench@host", lease, "bench.noop") for fence in fences])
    granted = [answer for answer in answers if isinstance(answer, Attempt)]
    assert len(granted) == len(fences)
    return [Outcome(each.fence, "succeeded", "bench@host", each.attempt, result={"ok": True}) for each in granted]


def settle_all(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    """Write that the attempts succeeded, in one call."""
    assert len([each for each in jobs.settle(connection, outcomes) if each]) == len(outcomes)


def run_in_batches(meters: tuple[Meter, Meter], connection: Connection, fences: Sequence[Fence], size: int) -> None:
    """Claim and settle that many jobs at a time."""
    for start in range(0, len(fences), size):
        with meters[0].running():
            outcomes = claim_all(connection, fences[start : start + size])
        with meters[1].running():
            settle_all(connection, outcomes)


def measure_runs(database: Database, count: int, size: int) -> tuple[Meter, Meter]:
    """What claim, and settle, of `count` jobs take."""
    with database.autocommit() as connection:
        server = _server_of(connection)
        warm, meters = (Meter(server), Meter(server)), (Meter(server), Meter(server))
        run_in_batches(warm, connection, submit_each(connection, new_jobs(max(WARM_UP, 12 * size))), size)
        run_in_batches(meters, connection, submit_each(connection, new_jobs(count)), size)
    return meters


def measure_submits(database: Database, count: int, size: int) -> tuple[Meter, int]:
    """What accepting `count` jobs takes, `size` of them at once; and how many there were."""
    with database.begin() as connection:
        meter, warm = Meter(_server_of(connection)), new_jobs(6 * size)
    for start in range(0, len(warm), size):
        _submit_some(database, warm[start : start + size])
    wanted = new_jobs(count)
    with meter.running():
        for start in range(0, count, size):
            _submit_some(database, wanted[start : start + size])
    return meter, count


def _own(job: NewJob) -> Scope:
    return Scope(job.owner.organization_id, job.owner.user_id)


def _submit_some(database: Database, new: Sequence[NewJob]) -> None:
    with database.begin() as connection:
        if len(new) == 1:
            jobs.submit(connection, new[0], UNLIMITED)
        else:
            assert all(
                isinstance(answer, Submitted) for answer in jobs.submit_all(connection, new, UNLIMITED, scope=_own)
            )


def report_submits(database: Database, rounds: int) -> None:
    """The median round of each size is printed, with the jobs a second."""
    print("| submit of a job | PostgreSQL us | client us | wall us |\n| --- | --- | --- | --- |")
    for size in SUBMITTED:
        runs = [measure_submits(database, max(500, 10 * size), size) for _ in range(rounds)]
        meter, count = sorted(runs, key=lambda run: run[0].wall)[rounds // 2]
        print(_row(f"{size} at once: {count / meter.wall:,.0f} a second", [meter], count))


def _server_of(connection: Connection) -> Path:
    pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    return Path(f"/proc/{pid}/schedstat")


def _row(name: str, meters: Sequence[Meter], count: int) -> str:
    figures = [(sum(getattr(m, part) for m in meters)) / count * 1e6 for part in ("postgres", "client", "wall")]
    return f"| {name} | " + " | ".join(f"{figure:,.0f}" for figure in figures) + " |"


def report_runs(database: Database, count: int, rounds: int) -> None:
    """Sizes take turns; the median round of each is printed."""
    found: dict[int, list[tuple[Meter, Meter]]] = {size: [] for size in SIZES}
    for _ in range(rounds):
        for size in SIZES:
            found[size].append(measure_runs(database, count, size))
    print("| claim + settle of a job | PostgreSQL us | client us | wall us |\n| --- | --- | --- | --- |")
    for size, runs in found.items():
        middle = sorted(runs, key=lambda pair: pair[0].postgres + pair[1].postgres)[len(runs) // 2]
        print(_row(f"batch of {size}", middle, count))
        print(_row("... its claim", middle[:1], count))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.verbs", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1920, help="of each size, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with private_servers() as servers:
        database = Database(servers.tracked_url, settings())
        print("load: " + " ".join(f"{load:.1f}" for load in os.getloadavg()))
        report_submits(database, given.rounds)
        report_runs(database, given.jobs, given.rounds)
        database.close()


if __name__ == "__main__":
    main()
