"""CELERIAC_ERROR_HOOK: who hears of failed attempts, what they hear, and that nothing which they do harms a job."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tasks.app import JobApp
from tasks.error_hook import BACKLOG, AttemptLost, ErrorHook, FailedAttempt, FailedJob, found
from tasks.worker.losses import lose
from tests.attempting import app_on, attempt, row, submitted
from tracking import jobs
from tracking.db import Database
from tracking.errors import ConfigurationError
from tracking.models import Claim, Failure, Outcome
from tracking.states import Status

NAME = f"{__name__}:hear"
SECRET = "canary-77ab"
PAGE = Path(__file__).parents[2] / "docs" / "tracing.md"

heard: list[tuple[FailedJob, FailedAttempt, BaseException]] = []


does: list[Callable[[BaseException], object]] = []  # besides


def hear(job: FailedJob, attempt: FailedAttempt, error: BaseException) -> None:
    """The hook of these tests."""
    for each in does:
        each(error)
    heard.append((job, attempt, error))


@pytest.fixture
def app(database: Database) -> Iterator[JobApp]:
    """An app with a hook, and a handler that fails twice."""
    heard.clear()
    does.clear()
    with app_on(database, error_hook=NAME) as app:

        @app.task(name="fail", autoretry_for=(KeyError,), max_retries=1)
        def fail(whom: str) -> None:
            raise KeyError(whom)

        @app.task(name="fit")
        def fit() -> int:
            return 1

        yield app


def told(app: JobApp) -> list[tuple[FailedJob, FailedAttempt, BaseException]]:
    """What the hook has heard by now."""
    app.platform.error_hook.flush(5)
    return heard


def test_the_hook_hears_each_attempt_that_failed(app: JobApp) -> None:
    """The hook is called with the job, the attempt and the exception itself, of a retry as of a failure."""
    job = submitted(app, "fail", whom=SECRET)
    attempt(app, job)
    app.platform.database.engine.connect().exec_driver_sql("UPDATE jobs SET hold = NULL, due_at = NULL")
    assert attempt(app, job).status is Status.FAILED
    (first, second) = told(app)
    assert first[0] == second[0] == FailedJob(job.id, "fail", "acme", "u1", None, job.id)
    assert [astuple(each[1]) for each in (first, second)] == [
        (1, "here", "KeyError", True, None),
        (2, "here", "KeyError", False, None),
    ]
    assert [type(each[2]) for each in (first, second)] == [KeyError, KeyError]
    assert first[2].__traceback__ is not None


def test_the_hook_hears_of_no_success(app: JobApp) -> None:
    """An attempt that succeeded is nothing for the hook."""
    assert attempt(app, submitted(app, "fit")).status is Status.SUCCEEDED
    assert told(app) == []


def test_the_hook_hears_of_an_attempt_whose_process_died(app: JobApp) -> None:
    """An attempt that is lost with its process is told as AttemptLost, with the type that its row has."""
    job = submitted(app, "fit")
    with app.platform.database.autocommit() as connection:
        jobs.claim(connection, [Claim(job.fence, job.id, "there", None, "fit")])
    lose(app.platform, Outcome(job.fence, "lost", "worker", failure=Failure("WorkerLostError", "killed")))
    [(of, failed, error)] = told(app)
    assert (of.id, failed.number, failed.error_type, failed.will_retry) == (job.id, 1, "WorkerLostError", True)
    assert isinstance(error, AttemptLost)


@pytest.mark.parametrize("error", [RuntimeError(SECRET), SystemExit(3)])
def test_a_hook_that_fails_harms_no_job(app: JobApp, error: BaseException) -> None:
    """What a hook raises changes no outcome, keeps no later call away, and is logged without its text."""
    job = submitted(app, "fail", whom="you")
    does.append(lambda _: _raise(error))
    with capture_logs() as logged:
        assert attempt(app, job).status is Status.RETRYING
        app.platform.error_hook.flush(5)
    [line] = [line for line in logged if line["event"] == "error_hook.failed"]
    assert line["error"] == type(error).__name__
    assert SECRET not in str(logged)
    does.clear()
    app.platform.error_hook.tell(
        FailedJob.of(job), FailedAttempt(1, "here", "E", will_retry=False, trace_id=None), error
    )
    assert len(told(app)) == 1


def test_a_hook_that_hangs_keeps_no_job(app: JobApp) -> None:
    """A hook that does not come back holds up nobody: what it cannot take is dropped, with a line in the log."""
    release = threading.Event()
    hook = ErrorHook(NAME)
    job = submitted(app, "fit")
    call: Any = (FailedJob.of(job), FailedAttempt(1, "here", "E", will_retry=False, trace_id=None), ValueError())
    does.append(lambda _: release.wait(10))
    with capture_logs() as logged:
        for _ in range(BACKLOG + 2):
            hook.tell(*call)
        assert attempt(app, row(app, job.id)).status is Status.SUCCEEDED
        release.set()
        hook.flush(5)
    assert "error_hook.behind" in [line["event"] for line in logged]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no.such.module:f", "there is no 'no.such.module:f'"),
        ("tests.tasks.test_error_hook:absent", "there is no"),
        ("tests.tasks.test_error_hook", "as package.module:function"),
        ("tests.tasks.test_error_hook:SECRET", "cannot be called"),
    ],
)
def test_a_hook_that_is_none_stops_the_start(name: str, reason: str) -> None:
    """A name that is no function is one line that says so."""
    with pytest.raises(ConfigurationError, match=rf"^CELERIAC_ERROR_HOOK: .*{reason}[^\n]*$"):
        found(name)


def test_the_example_of_the_page_runs(app: JobApp, capsys: pytest.CaptureFixture[str]) -> None:
    """The function on the page about traces is a hook."""
    [example] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    page: dict[str, Any] = {}
    exec(example, page)  # noqa: S102 - ours
    job = submitted(app, "fail", whom="you")
    page["report"](FailedJob.of(job), FailedAttempt(2, "here", "KeyError", will_retry=False, trace_id=None), KeyError())
    assert capsys.readouterr().out == f"ALERT fail {job.id} 2 KeyError\n"


def test_what_the_hook_hears_of_a_job_is_not_its_payload() -> None:
    """A job as the hook has it holds no payload, result or message."""
    assert {*FailedJob.__slots__} == {"id", "type", "organization", "user", "project", "root_id"}


def _raise(error: BaseException) -> None:
    raise error
