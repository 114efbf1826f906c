"""Workers and queues, by the API and on the page of the operators; and the words of a job's page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from api.dashboard.job import _said
from tests.api.calling import EVERYTHING, Api, Caller
from tests.api.dashboard.conftest import SignIn
from tracking import workers
from tracking.reads import fleet
from tracking.reads.answers import HistoryEntry
from tracking.states import Event, Status

LEASE_TIMEOUT = timedelta(seconds=20)


@pytest.fixture
def queue(api: Api) -> Iterator[str]:
    """A queue of this test alone, which a worker with three slots consumes."""
    name, lease = f"queue-{uuid4().hex[:8]}", uuid4()
    with api.database.autocommit() as connection:
        workers.beat(connection, lease, name=f"w-{name}", pid=42, queues=[name], concurrency=3)
        yield name
        workers.leave(connection, lease)


def test_an_operator_sees_all_workers_and_queues(api: Api, caller: Caller, queue: str) -> None:
    """An operator sees each worker with its slots, and each queue with the jobs of all organizations."""
    caller.job("running", queue=queue)
    api.caller().job(queue=queue)
    caller.job(queue=queue, delay=timedelta(hours=1))
    [worker] = [each for each in caller.get("/v1/workers").json()["workers"] if each["name"] == f"w-{queue}"]
    assert {name: worker[name] for name in ("pid", "queues", "concurrency", "running", "isAlive")} == {
        "pid": 42,
        "queues": [queue],
        "concurrency": 3,
        "running": 0,  # what runs in this test has another lease
        "isAlive": True,
    }
    [found] = [each for each in caller.get("/v1/queues").json()["queues"] if each["name"] == queue]
    assert {name: found[name] for name in ("workers", "slots", "running", "waiting", "held")} == {
        "workers": 1,
        "slots": 3,
        "running": 1,
        "waiting": 1,
        "held": 1,
    }


def test_a_silent_worker_serves_no_queue(api: Api, caller: Caller, queue: str) -> None:
    """A worker that has been silent is shown as such, and its queue as one that nobody consumes."""
    caller.job(queue=queue)
    with api.database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE workers SET seen_at = now() - interval '1 minute' WHERE name = %s", (f"w-{queue}",)
        )
        [state] = [each for each in fleet.all_queues(connection, LEASE_TIMEOUT) if each.name == queue]
        [worker] = [each for each in fleet.all_workers(connection, LEASE_TIMEOUT) if each.name == f"w-{queue}"]
    assert (state.workers, state.is_unserved, worker.is_alive) == (0, True, False)
    assert worker.silent_for > timedelta(seconds=59)


def test_the_page_says_who_died_and_what_was_lost(api: Api, caller: Caller, queue: str, reading: SignIn) -> None:
    """A worker that is silent is said first, with when it was seen; a queue counts attempts that were lost there."""
    job = caller.job(queue=queue)
    with api.database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE jobs SET losses = 2 WHERE id = %s", (job.id,))
        connection.exec_driver_sql(
            "UPDATE workers SET seen_at = now() - interval '3 minutes' WHERE name = %s", (f"w-{queue}",)
        )
    page = reading(caller).get("/workers").text
    assert f"<b>w-{queue}</b><span>Silent for 3 min: what it ran is given to others.</span>" in page
    assert re.search(rf'id="queue-{queue}".*?data-name="lost">2<', page)
    linked = re.search(rf'id="queue-{queue}".*?href="([^"]+)"', page)
    assert linked
    assert f'id="job-{job.id}"' in reading(caller).get(linked[1]).text


def test_the_page_is_for_operators(caller: Caller, queue: str, reading: SignIn) -> None:
    """Operators have a page of workers and queues, which says what nobody consumes; others have no link to it."""
    caller.job(queue=f"{queue}-unserved")
    page = reading(caller).get("/workers").text
    assert f"w-{queue}" in page
    assert "1 job waits in the queue, and no living worker consumes it." in page
    ordinary = reading(caller.but(permissions=tuple(set(EVERYTHING) - {"jobs.manage_platform"})))
    assert 'href="/workers"' not in ordinary.get("/").text
    assert ordinary.get("/workers").status_code == 403


@pytest.mark.parametrize("event", Event)
def test_every_event_of_a_history_has_its_words(event: Event) -> None:
    """Whatever a job's history tells, the page of the job has words for it, also when no detail is kept."""
    at = datetime.now(UTC)
    entry = HistoryEntry(1, uuid4(), event, Status.QUEUED, Status.QUEUED, 1, 1, "u1", {}, at)
    assert isinstance(_said(entry), str)
