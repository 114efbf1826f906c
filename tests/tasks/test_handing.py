"""What the process of a body hands to the main process at its end, and what it keeps to write by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from celery import signals
from celery.app.task import Context
from celery.exceptions import Retry

from tasks import Job, app
from tasks.attempt import outcomes
from tasks.attempt.handing import BYTES, ended, handed
from tasks.attempt.outcomes import FINISHED_FIRST, End
from tasks.current import Running
from tasks.progress import Reporter
from tests.tracked import new_job
from tracking.models import Attempt, Breaker, Fence, Owner, Progress

ATTEMPT = Attempt(Fence(uuid4(), 2), 3, Owner("acme", "u1"), None, "test_handing.plain", 1, 3, None, None)
NEWS = Progress(ATTEMPT.fence, ATTEMPT.attempt, 40)
SOON: Any = 5  # seconds
ERRORS: list[Exception] = [ValueError("x"), Retry(when=SOON)]


@app.task(name="test_handing.plain")
def plain() -> None:
    """Nothing."""


@app.task(name="test_handing.strict", acks_on_failure=False)
def strict() -> None:
    """Nothing; the broker is to set the message of a failure aside."""


class Hooked(Job):
    """A handler that is told of its ends."""

    abstract = True

    def on_failure(self, *args: Any) -> None:
        """Nothing."""

    def on_retry(self, *args: Any) -> None:
        """Nothing."""


@app.task(name="test_handing.hooked", base=Hooked)
def hooked() -> None:
    """Nothing."""


def running(**known: Any) -> Running:
    """An attempt that its main process would take the end of."""
    return Running(ATTEMPT, Reporter(ATTEMPT, lambda _: True), since=0.0, is_batched=True, **known)


def failed(now: Running, error: Exception, handler: str = "plain") -> End:
    """How it ends with an error."""
    request = Context({"hostname": "worker-1", "children": []})
    return outcomes.of_error(request, now, error, task(handler)).with_news(NEWS)


def task(name: str) -> Any:
    """A handler of this module."""
    return app.tasks[f"test_handing.{name}"]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("is_granted", [True, False])
def test_a_failure_arrives_as_it_was(error: Exception, *, is_granted: bool) -> None:
    """What arrives of a failure is its outcome and how its body ended, and of which attempt, whoever has claimed it."""
    now = running(is_granted=is_granted)
    end = failed(now, error)
    told = handed(now, end, task("plain"))
    assert told is not None
    attempt, outcome, how = ended(ATTEMPT if is_granted else None, told, "worker-1")  # type: ignore[arg-type]
    assert (replace(attempt, payload={}, delivery={}), outcome, how) == (ATTEMPT, end.outcome, "interrupted")
    assert outcome.breaker == Breaker(5, timedelta(minutes=1))
    assert outcome.last_news == NEWS


def test_a_success_arrives_as_it_was() -> None:
    """What arrives of a success is its result, and that its body was over before anything else."""
    now = running(is_granted=True)
    request = Context({"hostname": "worker-1", "children": []})
    end = outcomes.of_result(request, now, {"a": 1}, is_kept=True)
    told = handed(now, end, task("plain"))
    assert told is not None
    assert ended(ATTEMPT, told, "worker-1") == (ATTEMPT, end.outcome, FINISHED_FIRST)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("handler", ["hooked", "strict"])
def test_a_failure_is_written_by_its_own_process_where_somebody_hears_of_it(error: Exception, handler: str) -> None:
    """A handler with a hook for it, or whose failed messages the broker keeps, hears of a failure after its commit."""
    now = running()
    assert handed(now, failed(now, error, handler), task(handler)) is None


@pytest.fixture
def listening() -> Iterator[None]:
    """Somebody listens to Celery's signals of failures and retries."""
    sent: list[Any] = [signals.task_failure, signals.task_retry]
    for signal in sent:
        signal.connect(listen, weak=False)
    yield
    for signal in sent:
        signal.disconnect(listen)


def listen(**_: Any) -> None:
    """A listener of somebody else."""


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_failure_is_written_by_its_own_process_where_somebody_listens(error: Exception) -> None:
    """Whoever listens to Celery's signals hears of a failure after its commit; the platform's own ears do not count."""
    now = running()
    assert handed(now, failed(now, error), task("plain")) is None


def test_a_large_failure_is_written_by_its_own_process() -> None:
    """What does not fit well through the pool's pipe goes to the database from where it is."""
    now = running()
    end = failed(now, ValueError("x"))
    assert handed(now, replace(end, outcome=replace(end.outcome, result="x" * BYTES)), task("plain")) is None


def test_a_failure_with_a_successor_is_written_by_its_own_process() -> None:
    """What follows from a failure is written in its transaction."""
    now = running()
    assert handed(now, replace(failed(now, ValueError("x")), uncalled=new_job()), task("plain")) is None
