"""No-op jobs per second, and the CPU time they cost, of one side on one broker.

A round starts a worker, fills a queue that nobody reads yet, warms the worker up, and then tells it to read that queue.
The rate is that of the bodies between the first and the last of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import uuid4

import psutil
from celery import Celery
from celery.utils.nodenames import gethostname
from sqlalchemy import NullPool, create_engine

from bench import variables, witness
from bench.cpu import Roots, read_busy, read_cpu
from bench.launch import PATIENCE, clean_environment, program, say_nothing
from bench.servers import Broker, Servers, delete_queues
from bench.sides import Side, Workers
from celeriac.embedded.processes import run
from celeriac.embedded.supervisor import Supervisor

WARM_UP = 100  # jobs; both children have connected then, and the driver has prepared its statements
QUIET = 0.3  # seconds after the last body in which outcomes and acknowledgements are still paid for, on all sides
SLOWEST = 20.0  # jobs per second; slower is a failure
LOOK = 0.02  # seconds between two looks at the witness


@dataclass(frozen=True)
class Round:
    """One measurement. `cpu` is seconds per 1,000 jobs by part; `elsewhere` the share of the machine others used."""

    side: str
    jobs: int
    rate: float
    cpu: dict[str, float]
    elsewhere: float

    @property
    def total_cpu(self) -> float:
        """CPU seconds per 1,000 jobs of worker, broker and database together."""
        return sum(self.cpu.values())


def measure(
    side: Side,
    workers: Workers,
    broker: Broker,
    servers: Servers,
    *,
    jobs: int,
    log_level: str,
    show: Callable[[int], None],
) -> Round:
    """One round; `show` is told how many bodies have run.

    Raises StartError when anything takes too long, AssertionError when a job did not run exactly once.
    """
    bench = _Bench(side, workers, broker, servers, log_level)
    try:
        return bench.run(jobs, show)
    finally:
        bench.tidy()


class _Bench:
    def __init__(self, side: Side, workers: Workers, broker: Broker, servers: Servers, log_level: str) -> None:
        self._side, self._workers, self._broker = side, workers, broker
        self._servers, self._level = servers, log_level
        self._name = f"bench-{side.key}-{uuid4().hex[:8]}"
        self._warm, self._queue = f"{self._name}-warm", f"{self._name}-run"
        self._names = [f"{self._name}-{number}" for number in range(workers.count)]
        self._nodes = [f"{name}@{gethostname()}" for name in self._names]
        self._marks = servers.directory / f"{self._name}.marks"
        self._marks.touch()
        self._environment = {**side.environment(servers, broker, log_level), variables.WITNESS: str(self._marks)}
        self._app = Celery(broker=broker.url, set_as_current=False)

    def run(self, jobs: int, show: Callable[[int], None]) -> Round:
        with Supervisor(show=say_nothing) as supervisor:
            for name in self._names:
                command = self._side.worker(name, self._warm, self._level, self._workers.pool)
                supervisor.start(program(name, command, self._environment, self._servers.directory / f"{name}.log"))
            self._fill(jobs)
            supervisor.wait_for(self._answers, PATIENCE, self._names[0])
            self._await_marks(supervisor, WARM_UP, show)
            # Else it is paid for in the measured time, and by Celery's rows nobody could tell it from that of the jobs.
            self._await_record(supervisor, self._warm, witness.read_marks(self._marks))
            measured = self._measure(supervisor, jobs, show)
            self._verify(supervisor, jobs)
        return measured

    def tidy(self) -> None:
        delete_queues(self._broker, self._warm, self._queue)
        self._app.close()

    def _measure(self, supervisor: Supervisor, jobs: int, show: Callable[[int], None]) -> Round:
        roots: Roots = {
            "worker": [supervisor.processes[name].pid for name in self._names],
            "broker": [self._broker.pid],
            "database": [self._servers.postgres_pid if self._side.database_url(self._servers) else None],
        }
        began, cpu, busy = time.monotonic(), read_cpu(roots), read_busy()
        self._consume()
        self._await_marks(supervisor, WARM_UP + jobs, show)
        time.sleep(QUIET)
        used = {name: seconds - cpu[name] for name, seconds in read_cpu(roots).items()}
        capacity = (time.monotonic() - began) * (psutil.cpu_count() or 1)
        others = read_busy() - busy - sum(used.values())
        marks = self._run_marks()
        return Round(
            side=self._side.key,
            jobs=jobs,
            rate=(jobs - 1) / (marks[-1] - marks[0]),
            cpu={name: 1000 * seconds / jobs for name, seconds in used.items()},
            elsewhere=max(0.0, others / capacity),
        )

    def _fill(self, jobs: int) -> None:
        command = self._side.filler({self._warm: WARM_UP, self._queue: jobs})
        environment = {**clean_environment(), **self._environment}
        run(command, seconds=PATIENCE + jobs / SLOWEST, environment=environment)

    def _answers(self) -> bool:
        answers = self._app.control.ping(destination=self._nodes, timeout=0.3, limit=len(self._nodes))
        return len(answers or ()) == len(self._nodes)

    def _consume(self) -> None:
        reached = self._app.control.add_consumer(
            self._queue, destination=self._nodes, reply=True, timeout=PATIENCE, limit=len(self._nodes)
        )
        assert len(reached or ()) == len(self._nodes), f"not all of {self._nodes} answer"

    def _await_marks(self, supervisor: Supervisor, count: int, show: Callable[[int], None]) -> None:
        def have_run() -> bool:
            done = witness.count_marks(self._marks)
            show(max(0, done - WARM_UP))
            return done >= count

        supervisor.wait_for(have_run, PATIENCE + count / SLOWEST, self._names[0], every=LOOK)

    def _run_marks(self) -> list[float]:
        return witness.read_marks(self._marks)[WARM_UP:]

    def _verify(self, supervisor: Supervisor, jobs: int) -> None:
        """Every job ran once, and its database, if there is one, shows it as done once."""
        marks = self._run_marks()
        assert len(marks) == jobs, f"{len(marks)} bodies ran for {jobs} jobs"
        self._await_record(supervisor, self._queue, marks)

    def _await_record(self, supervisor: Supervisor, queue: str, marks: Sequence[float]) -> None:
        url = self._side.database_url(self._servers)
        if url is None:
            return
        with create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
            supervisor.wait_for(
                lambda: self._side.count_done(connection, queue, since=marks[0]) == len(marks),
                PATIENCE,
                f"the record of {len(marks)} jobs as done once",
            )
