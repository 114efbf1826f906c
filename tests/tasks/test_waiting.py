"""Who waits for jobs in a process shares the looks of one thread, which ends when nobody waits."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event

from tasks.waiting import LATEST, Waiting
from tests.live import eventually
from tests.tracked import Tracked
from tracking.db import Database
from tracking.settings import settings

NAME = "waiting for jobs"


@pytest.fixture
def waiting(pool: Database, tracked: Tracked) -> Waiting:
    """Who waits on the database of these tests."""
    platform: Any = SimpleNamespace(database=pool)
    return Waiting(platform)


def looking() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == NAME]


def test_all_who_wait_are_woken_by_one_thread(waiting: Waiting, pool: Database, tracked: Tracked) -> None:
    """Fifty who wait cost one statement a look; each is woken at the end of their own job, and the thread then ends."""
    jobs = [tracked.start(tracked.submit()) for _ in range(10)]
    looks = 0

    def count(*_: Any) -> None:
        nonlocal looks
        looks += 1

    event.listen(pool.engine, "before_cursor_execute", count)
    try:
        with ThreadPoolExecutor(50) as threads:
            waits = [threads.submit(waiting.wait, jobs[number % 10].id, 20) for number in range(50)]
            eventually(lambda: sum(map(len, waiting._waiters.values())) == 50, within=10, what="all of them")
            assert len(looking()) == 1
            looks, began = 0, time.monotonic()
            time.sleep(1)  # nothing happens: that is what is measured
            assert looks <= (time.monotonic() - began) / LATEST + 6  # the first ones come sooner
            for job in jobs:
                tracked.end(job, "succeeded")
            assert all(wait.result() for wait in waits)
    finally:
        event.remove(pool.engine, "before_cursor_execute", count)
    assert waiting._waiters == {}
    eventually(lambda: not looking(), within=5, what="the end of the thread")


def test_a_wait_has_a_deadline(waiting: Waiting, tracked: Tracked) -> None:
    """A wait for a job that goes on, or that there is not, ends when its time is over."""
    for job_id in (tracked.submit().id, uuid4()):
        began = time.monotonic()
        assert not waiting.wait(job_id, 0.3)
        assert 0.3 <= time.monotonic() - began < 3


def test_a_job_that_has_ended_already_is_told_at_once(waiting: Waiting, tracked: Tracked) -> None:
    """A wait for a job that has ended returns at the first look."""
    assert waiting.wait(tracked.put_into("failed").id, 20)


def test_a_database_that_is_away_is_waited_for(waiting: Waiting, pool: Database, tracked: Tracked) -> None:
    """A look that fails is tried again, and whoever waits is woken when the database is back."""
    job = tracked.put_into("succeeded")
    gone = Database(pool.engine.url.set(host="127.0.0.1", port=1).render_as_string(hide_password=False), settings())
    waiting._platform = SimpleNamespace(database=gone)  # type: ignore[assignment]  # all that it asks for
    with ThreadPoolExecutor(1) as thread:
        wait = thread.submit(waiting.wait, job.id, 20)
        assert not wait.done()
        waiting._platform = SimpleNamespace(database=pool)  # type: ignore[assignment]  # as above
        assert wait.result()
    gone.close()
