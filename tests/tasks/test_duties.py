"""The leader's duties: one that fails, hangs or meets a row that cannot be read holds up no other."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from unittest.mock import Mock
from uuid import uuid4

import pytest
from psycopg import errors
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from tasks import app
from tasks.failures import MOST_KEYS, Failures
from tasks.leader import duties
from tasks.leader.duties import Duties, Duty
from tasks.leader.workflows import Concluding
from tasks.worker import upkeep
from tasks.worker.upkeep import Leader
from tests.handling import workplace
from tests.live import eventually
from tests.tracked import Tracked
from tracking.admission import holds
from tracking.db import Database
from tracking.settings import Settings

HANGING = threading.Event()
WORKER = Mock(app=app)
NAMES = [duty.name for duty in Leader(WORKER, threading.Event()).duties()]
FAULTS: dict[str, Callable[[], bool | None]] = {
    "is too slow": lambda: _raise(DBAPIError("SELECT secret", {}, errors.QueryCanceled())),
    "meets a row that cannot be read": lambda: _raise(DBAPIError("SELECT secret", {}, errors.DataException())),
    "has a bug": lambda: _raise(KeyError("secret")),
    "hangs": lambda: HANGING.wait(60) and False,
}


def _raise(error: Exception) -> None:
    raise error


@pytest.fixture
def done() -> Iterator[Counter[str]]:
    """How often each duty has come to its end."""
    HANGING.clear()
    yield Counter()
    HANGING.set()


def _all_but(broken: str, fault: Callable[[], bool | None], done: Counter[str]) -> Duties:
    """All duties of the leader by name and interval, one of them broken."""

    def fulfil(name: str) -> Callable[[], bool | None]:
        return fault if name == broken else lambda: done.update([name])

    leader = Leader(WORKER, threading.Event())
    return Duties([Duty(duty.name, min(duty.interval, 0.05), fulfil(duty.name)) for duty in leader.duties()], "w")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("broken", NAMES)
def test_a_broken_duty_holds_up_no_other(done: Counter[str], broken: str, fault: str) -> None:
    """A duty that fails holds up no other duty."""
    with capture_logs() as logs:
        running = _all_but(broken, FAULTS[fault], done)
        deadline = time.monotonic() + 10
        while min((done[name] for name in NAMES if name != broken), default=0) < 3:
            assert time.monotonic() < deadline, done
            running.turn()
            time.sleep(0.01)
        HANGING.set()
        running.close(5)
    assert broken not in done
    told = [each for each in logs if each["event"] == "duty.failed"]
    assert all(each["duty"] == broken and each["worker"] == "w" for each in told)
    assert len(told) >= (fault != "hangs")
    assert "secret" not in str(logs)


def test_a_failure_that_goes_on_is_told_ever_more_rarely_and_so_is_its_end() -> None:
    """A lasting failure is logged at its 1st, 2nd, 4th, 8th time, and its end once."""
    failures = Failures()
    with capture_logs() as logs:
        for _ in range(100):
            failures.note("duty.failed", ValueError("secret"), duty="a")
        failures.note("duty.failed", ValueError("secret"), duty="b")
        failures.clear("duty.failed", duty="a")
        failures.clear("duty.failed", duty="a")
    assert [each.get("failures") for each in logs] == [1, 2, 4, 8, 16, 32, 64, 1, 100]
    assert logs[-1]["event"] == "failure.over"


def test_what_is_known_of_failures_is_bounded() -> None:
    """The number of failures that are remembered is bounded."""
    failures = Failures()
    with capture_logs():
        for number in range(2 * MOST_KEYS):
            failures.note("x", ValueError(), task_id=str(number))
    assert len(failures._counts) == MOST_KEYS


def test_a_duty_that_is_late_is_told(monkeypatch: pytest.MonkeyPatch, done: Counter[str]) -> None:
    """A late duty is logged once with its name and is not begun a second time."""
    monkeypatch.setattr(duties, "LATE", 0.1)
    running = Duties([Duty("slow", 0.0, FAULTS["hangs"])], "w")
    with capture_logs() as logs:
        while not logs:
            running.turn()
            time.sleep(0.01)
    HANGING.set()
    running.close(5)
    assert (logs[0]["event"], logs[0]["duty"]) == ("duty.late", "slow")
    assert not done


def test_a_duty_with_more_to_do_goes_on_at_once_until_it_is_stopped() -> None:
    """A duty with more to do goes on at once, and one without waits for its interval."""
    times: list[float] = []

    def work() -> bool:
        times.append(time.monotonic())
        return len(times) < 100

    running = Duties([Duty("busy", 3600.0, work)], "w")
    running.turn()
    eventually(lambda: len(times) == 100, within=5, what="its end")
    running.turn()
    running.close(5)
    assert len(times) == 100


def _gaps(seconds: float, *duties_: Duty, most: float) -> dict[str, float]:
    """The middle one of the times between two calls of each, of a leader that looks for so long."""
    called: dict[str, list[float]] = {duty.name: [] for duty in duties_}

    def noted(duty: Duty) -> Callable[[], bool | None]:
        return lambda: called[duty.name].append(time.monotonic()) or duty.work()  # type: ignore[func-returns-value]

    running = Duties([replace(duty, work=noted(duty)) for duty in duties_], "w")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        running.turn()
        time.sleep(running.rest(most))
    running.close(5)
    return {name: median(after - before for before, after in pairwise(at)) for name, at in called.items()}


def test_a_duty_is_called_an_interval_after_its_end() -> None:
    """A duty is begun about its interval after its last end, whatever that took; it was twice as late."""
    gaps = _gaps(3, Duty("short", 0.2, lambda: time.sleep(0.01)), Duty("long", 0.1, lambda: time.sleep(0.15)), most=0.2)
    assert 0.2 < gaps["short"] < 0.3
    assert 0.25 < gaps["long"] < 0.35


def test_a_duty_that_knows_when_there_is_more_is_called_then() -> None:
    """A duty that says when there may be something to do is called then, and no sooner than its work took."""
    gaps = _gaps(
        2,
        Duty("soon", 5.0, lambda: None, sooner=lambda: 0.1),
        Duty("too soon", 5.0, lambda: time.sleep(0.1), sooner=lambda: 0.0),
        Duty("later", 0.3, lambda: None, sooner=lambda: 3600.0),
        Duty("unknown", 0.3, lambda: None, sooner=lambda: None),
        most=0.5,
    )
    assert 0.1 < gaps["soon"] < 0.2
    assert 0.2 < gaps["too soon"] < 0.3
    assert 0.3 < gaps["later"] < 0.4
    assert 0.3 < gaps["unknown"] < 0.4


def test_so_many_duties_at_once_leave_connections_to_the_rest_of_the_worker() -> None:
    """Duties leave connections of the pool to the rest of the worker."""
    gate, began = threading.Event(), Counter[int]()

    def work(number: int) -> None:
        began.update([number])
        gate.wait(10)

    slow = [Duty(str(number), 3600.0, partial(work, number)) for number in range(20)]
    running = Duties(slow, "w")
    running.turn()
    eventually(lambda: len(began) == duties.AT_ONCE, what="the first ones")
    assert Settings.model_fields["pool_size"].default - duties.AT_ONCE >= 4
    gate.set()
    eventually(lambda: len(began) == 20, what="the others")
    running.close(5)


def test_a_row_that_cannot_be_released_costs_no_other_its_release(
    pool: Database, tracked: Tracked, tmp_path: Path
) -> None:
    """A row whose release is refused is logged by its id, and the others are released."""
    refused, released = (tracked.start(tracked.submit(), lease=uuid4()) for _ in range(2))
    url = pool.engine.url.render_as_string(hide_password=False)
    sql = f"ALTER TABLE jobs ADD CONSTRAINT refuse CHECK (id <> '{refused.id}' OR status <> 'queued')"
    tracked.connection.execute(text(sql))
    try:
        with workplace(url, tmp_path), capture_logs() as logs:
            upkeep._reap(app.platform)
    finally:
        tracked.connection.execute(text("ALTER TABLE jobs DROP CONSTRAINT refuse"))
    assert tracked.get(released.id).status == "queued"
    assert tracked.get(refused.id).status == "running"
    [told] = [each for each in logs if each["event"] == "worker.lost_refused"]
    assert told["job_id"] == str(refused.id)


def test_a_lost_job_fails_together_with_the_call_of_its_errbacks(
    pool: Database, tracked: Tracked, tmp_path: Path
) -> None:
    """A job that fails by losses does so in one transaction with its errbacks."""
    delivery = {"link_error": [{"task": "noop", "args": [], "kwargs": {}, "options": {}, "immutable": True}]}
    lost = tracked.start(tracked.submit(job_type="add", delivery=delivery), lease=uuid4())
    url = pool.engine.url.render_as_string(hide_password=False)
    tracked.connection.execute(text("ALTER TABLE jobs ADD CONSTRAINT refuse CHECK (job_type <> 'noop')"))
    with workplace(url, tmp_path, CELERIAC_MAX_LOSSES="1"):
        try:
            upkeep._reap(app.platform)
        finally:
            tracked.connection.execute(text("ALTER TABLE jobs DROP CONSTRAINT refuse"))
    assert [(job.id, job.status) for job in tracked.all()] == [(lost.id, "running")]


def test_the_leader_comes_to_each_payload_that_is_to_be_filled_in(
    pool: Database, tracked: Tracked, tmp_path: Path
) -> None:
    """A walk over all that wait for others, a window at a time, fills in the payload of the last of them."""
    ended = tracked.end(tracked.start(tracked.submit()))
    waiting = """
        INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, queue, max_retries, root_id, unresolved,
                          depends_on)
        SELECT CAST('ffffffff-0000-4000-8000-' || lpad(to_hex(number), 12, '0') AS uuid), 'acme', 'u1', 'unknown',
               'queued', 'dependency', 'default', 3, gen_random_uuid(), true,
               ARRAY[CASE WHEN number = :last THEN CAST(:ended AS uuid) ELSE gen_random_uuid() END]
        FROM generate_series(1, :last) AS number"""
    last = 2 * holds.WINDOW
    tracked.connection.execute(text(waiting), {"last": last, "ended": ended.id})
    with workplace(pool.engine.url.render_as_string(hide_password=False), tmp_path):
        concluding = Concluding(app.platform)
        looks = [concluding.turn() for _ in range(2)]
    filled = "SELECT right(CAST(id AS text), 12) FROM jobs WHERE hold = 'dependency' AND NOT unresolved"
    assert tracked.connection.execute(text(filled)).scalars().all() == [f"{last:012x}"]
    assert looks == [False, False]
