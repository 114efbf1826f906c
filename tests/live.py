"""A worker, a producer and an API as processes of their own, on the servers of one test.

`platform.start_worker()`, `platform.submit()`, `platform.run(code)` and `serving(...)` of tests/api take processes from
a fork server (tests/forkserver.py), which has imported the platform: nothing is to be done for it, and a start takes a
tenth of the processor time. `platform.start(..., warm=False)` starts a program as a person does; take it where the
command line itself is the subject, or an environment variable that the interpreter reads at its start. What is started
answers `pid`, `poll()`, `wait(seconds)`, `send_signal()`, `terminate()` and `kill()`, as a Popen does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from select import select as select_readable
from typing import Any, Self
from uuid import UUID

import psutil
from kombu import Connection
from sqlalchemy import Uuid, any_, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from tests.forkserver import Forked, ForkServer
from tracking.db import Database
from tracking.models import JobRecord
from tracking.reads import lists
from tracking.reads.answers import HistoryEntry
from tracking.schema import history, jobs, workers
from tracking.settings import settings
from tracking.sql import record
from tracking.states import FINISHED

PRODUCER = """
import json, sys
from tasks import app
for name, args, kwargs, options in json.loads(stdin):
    print(app.send_task(name, args, kwargs, **options).id)
"""

# A process that runs one piece of code after another: starting one for each would take most of the tests' time.
INTERPRETER = """
import contextlib, io, json, sys, traceback
answers = sys.stdout
for line in sys.stdin:
    request, printed, error = json.loads(line), io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        try:
            exec(request["code"], {"stdin": request["stdin"]})
        except Exception:
            error = traceback.format_exc()
    print(json.dumps({"printed": printed.getvalue(), "error": error}), file=answers, flush=True)
"""


SOONEST, LATEST = 0.02, 0.25  # seconds between two looks at what is waited for

fork_server = ForkServer()

Process = subprocess.Popen[bytes] | Forked


def eventually(ask: Callable[[], Any], *, within: float = 60.0, what: str = "it") -> Any:
    """The first true answer of `ask`; fails when there is none `within` seconds."""
    for _ in looks(within):
        if answer := ask():
            return answer
    raise AssertionError(f"{what} did not happen within {within} s")


def looks(within: float) -> Iterator[None]:
    """When to look whether something has happened: the more seldom, the longer it takes, and last after the deadline.

    What is waited for needs the processor that a look takes.
    """
    began = time.monotonic()
    while (waited := time.monotonic() - began) <= within:
        yield
        time.sleep(min(max(SOONEST, waited / 20), LATEST))
    yield


def is_alive(pid: int) -> bool:
    """Whether a process runs and is no zombie."""
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def empty_queues(broker_url: str) -> None:
    """Forget what is in the queues of a broker."""
    with Connection(broker_url) as connection:
        channel: Any = connection.default_channel
        for queue in ("default", "maintenance"):
            channel.queue_delete(queue)
        if connection.transport.driver_type == "redis":  # what killed workers have not acknowledged
            channel.client.delete(channel.unacked_key, channel.unacked_index_key)


class LivePlatform:
    """Processes of the platform on one database and one broker; all are ended with the test."""

    def __init__(self, database_url: str, broker_url: str, directory: Path, **environment: str) -> None:
        self.code: Path | None = None  # a directory with other code of this project, that is started from now on
        self.broker_url = broker_url
        self.database = Database(database_url, settings())
        self.directory = directory
        self.environment = {
            **os.environ,
            "DATABASE_URL": database_url,
            "BROKER_URL": broker_url,
            "CELERIAC_DATA_DIR": str(directory / "data"),
            "CELERIAC_SWEEP_INTERVAL": "0.25",
            **environment,
        }
        self._stack = ExitStack()
        self._number = 0
        self.worker_pid = 0  # main process of the worker started last
        self._producer: _Interpreter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.database.close()

    def start(self, *command: str, log: str = "process.log", warm: bool = True, **environment: str) -> Process:
        """Start a program of the virtual environment in a session of its own; its output goes to `log`."""
        program = (str(Path(sys.executable).parent / command[0]), *command[1:])
        variables = {**self.environment, **environment}
        warm = warm and self.code is None and command[0] in ("celery", "celeriac")
        with (self.directory / log).open("ab") as output:
            process: Process = (
                _fork(program, variables, output.fileno())
                if warm
                else _execute(program, variables, output.fileno(), self.code)
            )
        self._stack.callback(_end, process)
        return process

    def start_worker(
        self, *options: str, concurrency: int = 2, queues: str = "default,maintenance", **environment: str
    ) -> Process:
        """Start a worker and wait until it consumes."""
        self._number += 1
        name = f"worker{self._number}@{self.directory.name}"
        command = ("celery", "-A", "tasks", "worker", "-n", name, "-c", str(concurrency), "-Q", queues)
        quick = ("--without-mingle", "--without-gossip")  # a second each; no test has neighbours to learn from
        log = f"worker{self._number}.log"
        process = self.start(*command, *quick, "-l", "INFO", *options, log=log, warm=True, **environment)
        eventually(lambda: f"{name} ready" in (self.directory / log).read_text(), what=f"start of {name}")
        self.worker_pid = process.pid
        return process

    def submit_all(self, calls: Iterable[tuple[str, list[Any], dict[str, Any], dict[str, Any]]]) -> list[UUID]:
        """Send (name, args, kwargs, options) each, from a producer's process; returns the jobs' ids."""
        done = self.run(PRODUCER, json.dumps(list(calls)))
        return [UUID(line) for line in done.split()]

    def submit(self, name: str, *args: Any, payload: dict[str, Any] | None = None, **options: Any) -> UUID:
        """Send one task from a producer's process."""
        kwargs = {} if payload is None else {"payload": payload}
        return self.submit_all([(name, list(args), kwargs, options)])[0]

    def run(self, code: str, stdin: str = "", *, timeout: float = 60) -> str:
        """What Python code prints in a producer's process; `stdin` is a variable of it. The code must end well."""
        answer = self._interpreter().ask({"code": code, "stdin": stdin}, timeout)
        assert answer["error"] is None, answer["error"]
        return str(answer["printed"])

    def _interpreter(self) -> _Interpreter:
        if self._producer is None:
            self._producer = _Interpreter(self.environment, self.directory / "producer.log")
            self._stack.callback(self._producer.close)
        return self._producer

    def job(self, job_id: UUID) -> JobRecord:
        with self.database.autocommit() as connection:
            found = lists.find(connection, job_id)
        assert found is not None
        return found

    def jobs(self) -> list[JobRecord]:
        with self.database.autocommit() as connection:
            return list(map(record, connection.execute(select(jobs).order_by(jobs.c.created_at, jobs.c.id))))

    def history(self, job_id: UUID) -> list[HistoryEntry]:
        """The job's history, oldest first."""
        with self.database.autocommit() as connection:
            return list(lists.timeline(connection, job_id))

    def events(self, job_id: UUID) -> list[str]:
        """The names of the job's events, oldest first, without progress."""
        return [str(entry.event) for entry in self.history(job_id) if entry.event != "progress"]

    def wait_for(self, job_id: UUID, *statuses: str, within: float = 60.0) -> JobRecord:
        """The job once its status is one of these; a time-out shows what it is instead."""
        wanted = statuses or ("succeeded", "failed", "cancelled")
        for _ in looks(within):
            job = self.job(job_id)
            if job.status in wanted:
                return job
        raise AssertionError(f"job is {job.status} ({job.error_message}), not {wanted}: {self.events(job_id)}")

    def all_ended(self, ids: Sequence[UUID], *, within: float = 60.0) -> list[JobRecord]:
        """The jobs, once each has come to an end; of hundreds each look is one statement."""
        left = select(func.count()).where(jobs.c.id == any_(literal(ids, ARRAY(Uuid))), jobs.c.status.not_in(FINISHED))

        def have_ended() -> bool:
            with self.database.autocommit() as connection:
                return not connection.execute(left).scalar_one()

        with suppress(AssertionError):
            eventually(have_ended, within=within)
        found = {job.id: job for job in self.jobs()}
        lasting = [found[job_id] for job_id in ids if found[job_id].status not in FINISHED]
        told = [(str(job.id), str(job.status), self.events(job.id)) for job in lasting[:3]]
        assert not lasting, f"{len(lasting)} of {len(ids)} jobs have not ended within {within} s: {told}"
        return [found[job_id] for job_id in ids]

    def all_events(self) -> dict[UUID, list[str]]:
        """What `events` says, of every job."""
        told = dict[UUID, list[str]]()
        columns = history.c.job_id, history.c.event
        with self.database.autocommit() as connection:
            for job_id, event in connection.execute(
                select(*columns).where(history.c.event != "progress").order_by(history.c.id)
            ):
                told.setdefault(job_id, []).append(str(event))
        return told

    def workers(self) -> int:
        """How many workers are registered."""
        with self.database.autocommit() as connection:
            return len(connection.execute(select(workers.c.lease)).all())

    def log(self, name: str = "worker1.log") -> str:
        """What a process has printed so far."""
        return (self.directory / name).read_text()


class _Interpreter:
    """A producer's process, with a pipe for what it is to run and one for its answers."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        (stdin, requests), (answers, stdout) = os.pipe(), os.pipe()
        with log.open("ab") as errors:
            self._process = fork_server.start(
                ("-c", INTERPRETER), environment=environment, stdin=stdin, stdout=stdout, stderr=errors.fileno()
            )
        os.close(stdin)
        os.close(stdout)
        self._requests = os.fdopen(requests, "w")
        self._answers = os.fdopen(answers)

    def ask(self, request: dict[str, str], timeout: float) -> dict[str, Any]:
        """Its answer; fails without one in `timeout` seconds."""
        print(json.dumps(request), file=self._requests, flush=True)
        ready, _, _ = select_readable([self._answers], [], [], timeout)
        assert ready, f"no answer within {timeout} s"
        return dict(json.loads(self._answers.readline()))

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self._requests.close()
        self._answers.close()


def _fork(command: Sequence[str], environment: Mapping[str, str], output: int) -> Process:
    with Path(os.devnull).open() as nothing:
        return fork_server.start(command, environment=environment, stdin=nothing.fileno(), stdout=output, stderr=output)


def _execute(command: Sequence[str], environment: Mapping[str, str], output: int, code: Path | None) -> Process:
    if code is not None:  # before what is installed; Celery puts the directory that it runs in before both
        environment = {**environment, "PYTHONPATH": str(code)}
    return subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True, cwd=code)


def _end(process: Process) -> None:
    """By kill -9: no test looks at how it ends, and a stop takes seconds."""
    children = _children(process.pid)
    process.kill()
    process.wait(10)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def _children(pid: int) -> list[Any]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []
