"""The demo from its first line to its exit code."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from uuid import UUID

from rich.console import RenderableType

from celeriac.client import ApiError, Client
from celeriac.client.answers import Job, JobStatus, Stats
from celeriac.demo import workload
from celeriac.demo.comparison import Row, compared_columns, differences, read_rows, surprises, waits
from celeriac.demo.sandbox import Sandbox
from celeriac.demo.screen import (
    Screen,
    bad,
    counts,
    export_picture,
    good,
    jobs_picture,
    step_list,
    table,
    waiting,
    waits_table,
)
from celeriac.demo.workload import Accepted
from celeriac.embedded.supervisor import Supervisor
from tracking.errors import ConfigurationError
from tracking.exits import StartError
from tracking.states import Status

EQUAL, NOT_EQUAL, INTERRUPTED = 0, 1, 130

CONCURRENCY = 2  # jobs that run at once
CREATORS = 4  # threads that ask for jobs
JOBS_WITHIN = 600.0  # seconds; thousands may be asked for
EXPORT_WITHIN = 120.0
LOOK = 0.2  # seconds between two looks at the jobs,
CLOSE_LOOK = 0.01  # and at the export, which is over in a moment
PATIENCE = 5.0  # seconds that a request may be repeated: the platform is next door

PARTS = ("postgres", "valkey", "migrate", "worker", "api")
FIRST_ROWS = 5
SHOWN_COLUMNS = ("id", "jobType", "status", "priority")
SHOWN_PROBLEMS = 10

LAST_WORDS = """
What you saw: each 202 was a committed row. Whatever dies after it (API, worker,
broker, database), the job reaches exactly one end, at most one attempt's result
counts, and a cancelled job never starts.

Next, the same to stay: on http://127.0.0.1:8000, with its data in .celeriac/

  {up}
  token=$({program} token --organization acme --user you --admin)
  curl -s http://127.0.0.1:8000/v1/jobs -H "Authorization: Bearer $token" \\
    -H 'Content-Type: application/json' \\
    -d '{{"jobType": "export_report", "payload": {{"reportType": "jobs"}}}}'\
"""


def run_demo(count: int) -> int:
    """Run `count` jobs and an export of them on a platform of its own; returns the exit code.

    0 only if every job ended as it should and the file's rows equal what the API says. Whatever happens, the platform
    is stopped and its directory removed.
    """
    began = time.monotonic()
    screen, platform = Screen(), Sandbox(CONCURRENCY)
    problems: list[str] | None = None
    try:
        with screen, Supervisor(platform.hear) as supervisor, _farewell(screen):
            supervisor.obey_signals()
            try:
                problems = Demo(screen, platform, supervisor).run(count)
            except ApiError as error:
                problems = [_reason(error, supervisor)]
    except (StartError, ConfigurationError) as error:
        problems = [str(error)]
    if problems is None:
        screen.say("Interrupted. Everything is stopped and removed.")
        return INTERRUPTED
    if problems:
        _complain(screen, problems, list(platform.log))
        return NOT_EQUAL
    screen.say(good(f"Stopped, and nothing is left of it. All that took {time.monotonic() - began:.0f} s"))
    screen.say(LAST_WORDS.format(**_commands()))
    return EQUAL


class Demo:
    """One run, told in the order of things. Its steps raise StartError, ApiError or ConfigurationError."""

    def __init__(self, screen: Screen, platform: Sandbox, supervisor: Supervisor) -> None:
        self._screen = screen
        self._platform = platform
        self._supervisor = supervisor

    def run(self, count: int) -> list[str]:
        """All of it; returns what is wrong, one line each."""
        self._say(f"Celeriac {version('celeriac')}: {count} real jobs, and an export of them", "")
        self._start()
        token = self._platform.make_token(workload.ORGANIZATION, workload.USER, workload.PERMISSIONS)
        with Client(self._platform.address, token, patience=PATIENCE) as client:
            accepted = self._run_jobs(client, count)
            rows = self._export(client)
            jobs = list(client.jobs(project_id=workload.PROJECT))[::-1]  # newest first there, oldest first in the file
        problems = surprises(accepted, jobs) + differences(rows, jobs)
        if not problems:
            self._say_verdict(rows, jobs)
        return problems

    def _start(self) -> None:
        began = time.monotonic()

        def watch() -> None:
            heard = [part for part in PARTS if part in self._platform.speakers]
            words = f"Starting a platform: {', '.join(heard) or 'a new database'}"
            self._screen.show(waiting(f"{words} ({time.monotonic() - began:.0f} s)"), words)

        self._supervisor.start(self._platform.part(watch))
        self._say(
            good(f"A platform is ready after {time.monotonic() - began:.1f} s: {self._platform.address}"),
            f"  PostgreSQL, Valkey, the API, and a worker that runs {CONCURRENCY} jobs at once",
        )

    def _run_jobs(self, client: Client, count: int) -> list[Accepted]:
        began = time.monotonic()
        first = workload.submit(client, workload.first_request())
        result = self._follow(client, first.job_id).result
        with ThreadPoolExecutor(CREATORS) as creators:
            wanted = workload.requests(count - 1, result["downloadUrl"])
            others = [creators.submit(workload.submit, client, request) for request in wanted]
            try:
                stats = self._watch_jobs(client, others, began)
            finally:
                creators.shutdown(cancel_futures=True)
        seconds = time.monotonic() - began
        self._say(good(f"{count} jobs came to their end in {seconds:.1f} s, {count / seconds:.0f} a second"))
        accepted = [first, *(future.result() for future in others)]
        ends = Counter(job.ends for job in accepted)
        purpose = f"{ends[Status.FAILED]} name an export that nobody made, {ends[Status.CANCELLED]} were called back"
        self._say(counts(stats), f"  (on purpose: {purpose})")
        return accepted

    def _watch_jobs(self, client: Client, others: Sequence[Future[Accepted]], began: float) -> Stats:
        """Show the jobs until all have ended; returns their counts. `others` are those after the first one."""
        total = 1 + len(others)
        stats = client.stats(project_id=workload.PROJECT)

        def look() -> bool:
            nonlocal stats
            created = 1 + len([future.result() for future in others if future.done()])
            stats = client.stats(project_id=workload.PROJECT)
            running = client.jobs(project_id=workload.PROJECT, status=[Status.RUNNING], page_size=CONCURRENCY)
            picture = jobs_picture(created, total, stats, list(islice(running, CONCURRENCY)), time.monotonic() - began)
            self._screen.show(picture, f"  {created} of {total} created, {stats.finished} finished")
            return created == total and stats.finished == total

        self._supervisor.wait_for(look, JOBS_WITHIN, "the last job", every=LOOK)
        return stats

    def _export(self, client: Client) -> list[Row]:
        """Export all jobs of the project, show the beginning of the file, and return its rows."""
        steps = next(kind.steps for kind in client.job_types() if kind.job_type == "export_report")
        payload = {"reportType": "jobs", "format": "csv", "filters": {"projectId": workload.PROJECT}}
        created = client.create("export_report", payload, priority=9)  # outside the project: it is not in its own file

        def show(status: JobStatus) -> None:
            now = status.progress_detail
            words = f"  export_report: step {now.current} of {now.total}, {now.percentage} %, {now.message}"
            self._screen.show(export_picture(status, steps), words)

        job = self._follow(client, created.job_id, show)
        file = self._platform.directory / "jobs.csv"
        size = client.download(job.result["downloadUrl"], file, within=EXPORT_WITHIN)
        rows = read_rows(file)
        self._say(
            good(f"export_report wrote {job.result['recordCount']} rows, {size:,} bytes, in {job.duration_ms} ms"),
            step_list(job, steps),
            "",
        )
        self._say_beginning(file, rows)
        return rows

    def _follow(self, client: Client, job_id: UUID, show: Callable[[JobStatus], None] = lambda _: None) -> Job:
        """The job once it has succeeded, looked at closely until then. Raises StartError when it ends otherwise."""
        status = client.status(job_id)

        def look() -> bool:
            nonlocal status
            status = client.status(job_id)
            show(status)
            return status.job.is_finished

        self._supervisor.wait_for(look, EXPORT_WITHIN, f"job {job_id}", every=CLOSE_LOOK)
        if status.job.status is not Status.SUCCEEDED:
            raise StartError(f"job {job_id} is {status.job.status}: {status.job.error_message}")
        return status.job

    def _say_beginning(self, file: Path, rows: Sequence[Row]) -> None:
        if self._screen.moves:
            more = f"  and {len(rows) - FIRST_ROWS} more rows, with {len(rows[0]) - len(SHOWN_COLUMNS)} more columns"
            self._say(table(rows[:FIRST_ROWS], SHOWN_COLUMNS), more, "")
        else:
            with file.open(encoding="utf-8") as lines:
                self._say(*(line.rstrip() for line in islice(lines, 1 + FIRST_ROWS)), "")

    def _say_verdict(self, rows: Sequence[Row], jobs: Sequence[Job]) -> None:
        columns = len(compared_columns(rows))
        self._say(
            good(f"Equal: {len(rows)} rows of the file and {len(jobs)} jobs of the API, in {columns} columns"),
            good("Every job ended as it should; this is how long they waited (median):"),
            waits_table(waits(jobs)),
        )

    def _say(self, *lines: RenderableType) -> None:
        self._screen.clear()
        self._screen.say(*lines)


@contextmanager
def _farewell(screen: Screen) -> Iterator[None]:
    """Tell, however the block is left, that stopping takes a moment."""
    try:
        yield
    finally:
        screen.show(waiting("Stopping the platform"), "Stopping the platform")


def _reason(error: ApiError, supervisor: Supervisor) -> str:
    """What a failed request says, and that the platform has died if that is why."""
    died = any(process.poll() is not None for process in supervisor.processes.values())
    return f"The platform died. {error}" if died else str(error)


def _complain(screen: Screen, problems: Sequence[str], log: Sequence[str]) -> None:
    if log:
        screen.say("", "The last lines of the platform:", *(f"  {line}" for line in log), "")
    screen.say(*(bad(problem) for problem in problems[:SHOWN_PROBLEMS]))
    if len(problems) > SHOWN_PROBLEMS:
        screen.say(f"  and {len(problems) - SHOWN_PROBLEMS} more like that")


def _commands() -> dict[str, str]:
    """How the platform is started and its command called here: in the project's directory, or where it is installed."""
    if Path("Makefile").is_file() and Path(".venv/bin/celeriac").is_file():
        return {"up": "make up", "program": ".venv/bin/celeriac"}
    return {"up": "celeriac up", "program": "celeriac"}
