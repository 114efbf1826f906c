"""`make demo`: exit 0 only when file and API agree, whatever the caller's environment, and nothing is ever left."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import pytest
from click.testing import CliRunner

from celeriac.client.answers import Job
from celeriac.commands.cli import command
from celeriac.demo import workload
from celeriac.demo.comparison import differences, read_rows, surprises, waits
from celeriac.demo.sandbox import clean
from celeriac.demo.workload import Accepted
from celeriac.embedded import postgres
from celeriac.embedded.processes import wait_until
from tracking.states import Status

ROOT = Path(__file__).parents[2]
WITHIN = 240  # seconds that a run may take on a busy machine

JOBS = 12
DEMO = (sys.executable, "-m", "celeriac.demo", "--jobs", str(JOBS))
LONG_DEMO = (*DEMO[:-1], "5000")
NOTHING: Mapping[str, str] = {}

# What must not reach the demo's platform: each of these alone would break it.
FOREIGN = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/elsewhere",
    "BROKER_URL": "amqp://127.0.0.1:9//",
    "CELERIAC_IMPORTS": "no.such.module",
    "CELERIAC_JWT_SECRET": "short",
    "CELERIAC_HEARTBEAT": "often",
    "CELERY_BROKER_URL": "amqp://127.0.0.1:9//",
    "PGOPTIONS": "-c search_path=elsewhere",
    "PGUSER": "elsewhere",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
}


class Run:
    """A demo as a process of its own, with its temporary files in `tmp` of a directory of its own."""

    def __init__(
        self,
        directory: Path,
        command: tuple[str, ...] = DEMO,
        *,
        prefix: tuple[str, ...] = (),
        environment: Mapping[str, str] = NOTHING,
    ) -> None:
        self.directory = directory
        self.printed = ""
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        os.chown(self.temporary, directory.stat().st_uid, directory.stat().st_gid)
        self.process = subprocess.Popen(
            (*prefix, *command),
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str) -> None:
        """Wait until it has printed that."""
        assert wait_until(lambda: text in self.printed or not self._reader.is_alive(), WITHIN), self.printed
        assert text in self.printed, self.printed

    def end(self) -> int:
        """Wait for its end; returns the exit code."""
        code = self.process.wait(WITHIN)
        self._reader.join(10)
        return code

    def family(self) -> list[psutil.Process]:
        """It and all that it started."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def leftovers(self) -> list[Path]:
        """What is left in the temporary directory, and of the database outside."""
        homes = [owner.parent for owner in postgres.SHARED.glob("*/owner") if str(self.directory) in owner.read_text()]
        return [*self.temporary.iterdir(), *homes]

    def _read(self) -> None:
        with self.process.stdout as output:  # type: ignore[union-attr]
            for line in output:
                self.printed += line


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def patched(code: str) -> tuple[str, ...]:
    """The demo with something of it replaced."""
    return (
        sys.executable,
        "-c",
        f"import sys\nfrom celeriac.demo import sandbox, story\n{code}\nsys.exit(story.run_demo({JOBS}))",
    )


# --- whole runs ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of an ordinary user that nothing disturbs, in an environment that means other servers."""
    directory = tmp_path_factory.mktemp("ordinary")
    if prefix := _as_nobody():
        os.chown(directory, 65534, 65534)
    run = Run(directory, prefix=prefix, environment={**FOREIGN, "HOME": "/nonexistent"})
    run.end()
    return run


def _as_nobody() -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        return ()
    # The interpreter may lie under root's home: this user may read everything, and own nothing but its directory.
    readable = [f"--{kind}-caps=+dac_read_search" for kind in ("inh", "ambient")]
    return (setpriv, "--reuid=nobody", "--regid=nogroup", "--clear-groups", *readable)


def test_demo_succeeds_whatever_the_environment(finished: Run) -> None:
    """The demo ignores servers, settings and proxies of the caller's environment."""
    assert finished.end() == 0, finished.printed
    assert f"Equal: {JOBS} rows of the file and {JOBS} jobs of the API" in finished.printed


def test_demo_prints_the_first_lines_of_the_csv(finished: Run) -> None:
    """The demo prints the column names of its csv and five jobs, the first one the export of the others."""
    lines = finished.printed.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("id,jobType,status,"))
    assert [line.count(",") for line in lines[start : start + 6]] == [17] * 6
    assert re.match(r"[0-9a-f-]{36},export_report,succeeded,,9,", lines[start + 1])


def test_demo_without_a_terminal_draws_nothing(finished: Run) -> None:
    """Without a terminal the demo prints plain lines without escape codes."""
    assert "\x1b" not in finished.printed


def test_demo_leaves_nothing(finished: Run) -> None:
    """The demo leaves no directory, no database, and nothing in the caller's directory."""
    assert (finished.leftovers(), list(finished.directory.iterdir())) == ([], [finished.temporary])


FORGE = """
read = story.read_rows
def forged(path):
    rows = read(path)
    rows[7]["priority"] = "10"
    return rows
story.read_rows = forged"""


def test_demo_on_a_terminal_draws_and_a_file_that_differs_in_one_cell_is_a_failure(tmp_path: Path) -> None:
    """On a terminal the demo draws; a wrong cell is exit 1 with job, column and values."""
    (tmp_path / "tmp").mkdir()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        patched(FORGE),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp"), "TERM": "xterm", "COLUMNS": "100"},
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    drawn = read_terminal(ours)
    assert process.wait(10) == 1, drawn
    assert re.search(rf"finished  .*\N{{BOX DRAWINGS HEAVY HORIZONTAL}}.*  \d+ of {JOBS}", drawn)
    assert "\x1b[1A" in drawn  # up one line, to draw it again
    assert re.search(r"\N{BALLOT X} \x1b\[0mjob [0-9a-f-]{36}: priority is '10' in the file, '\d' in the API", drawn)


def read_terminal(descriptor: int) -> str:
    """All that is written to a terminal until its last writer has gone."""
    drawn = b""
    deadline = time.monotonic() + WITHIN
    with suppress(OSError):  # Linux: EIO, when nobody holds the other end
        while select.select([descriptor], [], [], max(0, deadline - time.monotonic()))[0]:
            if not (piece := os.read(descriptor, 65536)):
                break
            drawn += piece
    os.close(descriptor)
    return drawn.decode(errors="replace")


def test_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    """A demo that is interrupted while jobs run exits 130 with one line, and leaves nothing."""
    run = Run(tmp_path, LONG_DEMO)
    run.wait_for(" finished")
    family = run.family()
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 130
    assert run.printed.endswith("Interrupted. Everything is stopped and removed.\n")
    assert "Traceback" not in run.printed
    assert (alive(family), run.leftovers()) == ([], [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_demo_interrupted_while_it_starts_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """A demo that is ended while it starts leaves nothing."""
    run = Run(tmp_path)
    run.wait_for("Starting a platform")
    family = run.family()
    run.process.send_signal(number)
    assert run.end() == 130
    assert (alive(family), run.leftovers()) == ([], [])


def test_killed_demo_takes_its_processes_along(tmp_path: Path) -> None:
    """After kill -9 of the demo none of its processes runs on."""
    run = Run(tmp_path)
    run.wait_for("A platform is ready")
    family = run.family()
    run.process.kill()
    run.end()
    try:
        assert wait_until(lambda: not alive(family), 60), alive(family)
    finally:
        for directory in run.temporary.iterdir():
            postgres.discard(directory / "data")


def test_demo_whose_platform_dies_says_so(tmp_path: Path) -> None:
    """A demo whose platform dies exits 1 with the reason and its last lines."""
    run = Run(tmp_path, LONG_DEMO)
    run.wait_for(" created")
    family = run.family()
    platform = next(process for process in family[1:] if "up" in process.cmdline())
    platform.kill()
    assert run.end() == 1
    assert "The last lines of the platform:" in run.printed
    last = run.printed.splitlines()[-1]
    assert re.match(
        r"\N{BALLOT X} (platform ended \(signal SIGKILL\)|The platform died\. The API gave no answer)", last
    )
    assert wait_until(lambda: not alive(family), 30)
    assert run.leftovers() == []


def test_platform_that_does_not_start_is_told(tmp_path: Path) -> None:
    """A demo whose platform does not start exits 1 with its words."""
    run = Run(tmp_path, patched("sandbox.clean = lambda given: {**given, 'CELERIAC_HEARTBEAT': 'often'}"))
    assert (run.end(), run.leftovers()) == (1, [])
    assert "platform ended (exit status 2): celeriac: CELERIAC_HEARTBEAT: " in run.printed.splitlines()[-1]


# --- its parts ---


def test_demo_is_a_command() -> None:
    """`celeriac demo` runs celeriac.demo, and refuses fewer than ten jobs."""
    assert CliRunner().invoke(command, ["demo", "--help"]).exit_code == 0
    refused = CliRunner().invoke(command, ["demo", "--jobs", "9"])
    assert (refused.exit_code, "9 is not in the range" in refused.output) == (2, True)


def test_clean_environment() -> None:
    """The demo's environment keeps variables that are no setting of its programs."""
    assert clean({**FOREIGN, "PATH": "/bin", "LANG": "C"}).keys() == {"PATH", "LANG", "HTTP_PROXY", "ALL_PROXY"}


def test_requests_are_mixed() -> None:
    """The demo mixes types and priorities, and a few of three hundred jobs fail or are cancelled on purpose."""
    asked = list(workload.requests(299, "/v1/exports/x.csv"))
    assert len(asked) == 299
    assert {request.priority for request in asked} == set(range(10))
    assert Counter(request.job_type for request in asked).keys() == {
        "notification",
        "export_report",
        "data_processing",
        "cleanup",
    }
    assert Counter(request.ends for request in asked) == {"succeeded": 291, "failed": 3, "cancelled": 5}


def job(**fields: object) -> Job:
    moment = datetime(2026, 1, 31, 12, 0, 0, 123999, UTC)
    values = {
        "id": uuid4(), "dispatch": 1, "organization_id": "acme", "project_id": None, "user_id": "u",
        "job_type": "cleanup", "status": Status.SUCCEEDED, "hold": None, "priority": 3, "attempt": 1, "retry_count": 0,
        "max_retries": 3, "payload": {}, "metadata": {}, "result": None, "error_message": None, "message": None,
        "progress": 100, "total_steps": 0, "current_step": 0, "worker": "w", "depends_on": (), "scheduled_at": None,
        "next_retry_at": None, "cancel_requested_at": None, "started_at": moment, "completed_at": moment,
        "duration_ms": 0, "created_at": moment, "updated_at": moment,
    }  # fmt: skip
    return Job.model_construct(**{**values, **fields})  # type: ignore[arg-type]


def row(of: Job, **cells: str) -> dict[str, str]:
    """Its row in the file."""
    moment = "2026-01-31T12:00:00.123Z"
    own = {"id": str(of.id), "status": str(of.status), "priority": str(of.priority), "hold": "", "createdAt": moment}
    return {**own, **cells}


def test_rows_that_say_the_same_have_no_differences() -> None:
    """Equal ids, words, numbers, nulls and times in file and API are no difference."""
    first, second = job(), job(priority=9)
    assert differences([row(first), row(second)], [first, second]) == []


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("id", str(UUID(int=7))),
        ("status", "failed"),
        ("priority", "4"),
        ("hold", "None"),
        ("createdAt", "2026-01-31T12:00:00.124Z"),
        ("unknown", "x"),
    ],
)
def test_other_cell_is_a_difference(column: str, cell: str) -> None:
    """A differing cell is reported with the job, the column and both values."""
    only = job()
    found = differences([row(only, **{column: cell})], [only])
    assert len(found) == 1
    assert found[0].startswith(f"job {only.id}: {column} is {cell!r} in the file, ")


def test_other_number_or_order_of_rows_is_a_difference() -> None:
    """A missing, surplus or moved row of the demo's file is a difference."""
    first, second = job(), job()
    assert differences([row(first)], [first, second]) == ["the file has 1 rows, the API 2 jobs"]
    assert differences([row(first), row(second)], [first]) == ["the file has 2 rows, the API 1 jobs"]
    assert differences([], [first]) == ["the file has 0 rows, the API 1 jobs"]
    assert differences([row(second), row(first)], [first, second])


def test_lost_unasked_and_unexpected_jobs_are_told() -> None:
    """The demo reports lost jobs, unknown jobs and unexpected ends."""
    good, failed, unasked = job(), job(status=Status.FAILED, error_message="broken"), job()
    lost = uuid4()
    accepted = [Accepted(name, Status.SUCCEEDED) for name in (good.id, failed.id, lost)]
    assert surprises(accepted, [good, failed, unasked]) == [
        f"job {lost} was accepted, and the API does not list it",
        f"job {unasked.id} is listed, and nobody asked for it",
        f"job {failed.id} (cleanup) is failed instead of succeeded: broken",
    ]
    assert surprises(accepted[:1], [good]) == []


def test_waits_are_medians_by_priority() -> None:
    """The demo's waits are medians in seconds by priority, of jobs that have started."""
    began = job().created_at
    jobs = [job(priority=1, started_at=began + timedelta(seconds=wait)) for wait in (1, 2, 9)]
    assert waits([*jobs, job(priority=9), job(priority=0, started_at=None)]) == [(9, 0.0), (1, 2.0)]


def test_ragged_file_is_a_difference(tmp_path: Path) -> None:
    """A row with missing cells in the demo's file is a difference."""
    only = job(hold=None)
    path = tmp_path / "jobs.csv"
    path.write_text(f"id,status,hold\r\n{only.id},succeeded\r\n")
    assert differences(read_rows(path), [only]) == [f"job {only.id}: hold is None in the file, '' in the API"]
