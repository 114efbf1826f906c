"""Leading workers that are killed: each due time makes its job once, and a receiver is told of each event once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
from sqlalchemy import text

from tests.live import LivePlatform, empty_queues, eventually
from tests.receiving import Receiver, receiving
from tests.scheduled import TWICE, Scheduled
from tests.servers import Servers
from tracking import webhooks
from tracking.crashpoints import DUE, FIRED, TOLD, VARIABLE
from tracking.origins import By
from tracking.schedules.values import CatchUp, Schedule
from tracking.webhooks import Wanted

SCHEDULES, MISSED = 50, 10
ALL = "default,maintenance,webhooks"
RESUME = "UPDATE schedules SET paused = false, paused_by = NULL, paused_at = NULL"
MADE = "SELECT count(*) FROM schedule_outcomes WHERE became = 'job'"
EACH = "SELECT event, detail ->> 'dueAt', subject_id FROM events WHERE project_id = 'told' ORDER BY id"


@pytest.fixture
def shared(servers: Servers, database_url: str, tmp_path: Path) -> Iterator[LivePlatform]:
    """A platform whose workers are soon known to be dead."""
    empty_queues(servers.valkey_url)
    quick = {"CELERIAC_LEASE_TIMEOUT": "3", "CELERIAC_HEARTBEAT": "0.5", "CELERIAC_WEBHOOKS_PRIVATE": "true"}
    with LivePlatform(database_url, servers.valkey_url, tmp_path, CELERIAC_ORGANIZATION_LIMIT="0", **quick) as platform:
        yield platform


def missed(scheduled: Scheduled) -> list[Schedule]:
    """Schedules that will have missed ten due times each when they are resumed; the first two are of a project."""
    found = [
        scheduled.create(
            f"s{number}",
            catch_up=CatchUp.ALL,
            every_seconds=3600,
            paused=True,
            project_id="told" if number < 2 else None,
        )
        for number in range(SCHEDULES)
    ]
    for schedule in found:
        scheduled.let_pass(schedule, timedelta(hours=MISSED, minutes=30))
    return found


def listen(platform: LivePlatform, receiver: Receiver, organization: str, **wanted: Any) -> UUID:
    """A webhook of this receiver's."""
    url = f"http://127.0.0.1:{receiver.port}/hook"
    with platform.database.begin() as connection:
        return webhooks.create(connection, uuid4(), organization, Wanted(url, **wanted), By("u1", None)).id


def number(scheduled: Scheduled, sql: str) -> int:
    """The number that a statement counts."""
    [(counted,)] = scheduled.run(sql)
    return int(counted)


@contextmanager
def doomed(platform: LivePlatform, chance: float, *points: str) -> Iterator[None]:
    """Two workers, each of which dies by kill -9 at one of these points, by this chance each time that it passes."""
    plan = ",".join(f"{point}:{chance}" for point in points)
    dying: dict[str, Any] = {VARIABLE: plan}
    workers = [platform.start_worker(queues=ALL, **dying) for _ in range(2)]
    yield
    eventually(lambda: all(worker.poll() is not None for worker in workers), what="the death of both leaders")
    assert [worker.poll() for worker in workers] == [-9, -9]


def test_two_leaders_that_are_killed_make_each_due_time_once(shared: LivePlatform) -> None:
    """Two workers lead one after the other over 500 due times, and each is killed at it; each makes its job once."""
    scheduled = Scheduled(shared.database)
    schedules = missed(scheduled)
    with doomed(shared, 0.2, DUE, FIRED):
        scheduled.run(RESUME)
    assert number(scheduled, MADE) < SCHEDULES * MISSED, "they were killed before they were through"
    for _ in range(2):
        shared.start_worker(queues=ALL)
    eventually(lambda: number(scheduled, MADE) == SCHEDULES * MISSED, what="all due times")
    ended = "SELECT count(*) FROM jobs WHERE status = 'succeeded'"
    eventually(lambda: number(scheduled, ended) == SCHEDULES * MISSED, within=120, what="all jobs")
    assert number(scheduled, "SELECT count(*) FROM jobs") == SCHEDULES * MISSED
    assert scheduled.run(TWICE) == []
    assert {len(scheduled.made_at(schedule)) for schedule in schedules} == {MISSED}


def test_leaders_that_are_killed_tell_a_receiver_of_each_event_once(shared: LivePlatform) -> None:
    """Of each due time a receiver gets one message, by its id, though two leaders are killed before they note it."""
    scheduled = Scheduled(shared.database)
    missed(scheduled)
    with receiving() as receiver:
        listen(shared, receiver, "acme", events=("schedule.fired",), project_id="told")
        with doomed(shared, 1, TOLD):
            scheduled.run(RESUME)
        shared.start_worker(queues=ALL)
        eventually(lambda: len(scheduled.run(EACH)) == 2 * MISSED, what="the events")
        expected = {(str(row.subject_id), row[1]) for row in scheduled.run(EACH)}
        eventually(lambda: told(receiver).keys() == expected, within=120, what=f"the messages {expected}")
        nothing = "SELECT count(*) FROM jobs WHERE status NOT IN ('succeeded', 'failed', 'cancelled')"
        eventually(lambda: number(scheduled, nothing) == 0, within=120, what="an end of everything")
        messages = told(receiver)
        assert {len(ids) for ids in messages.values()} == {1}
        assert len({each for ids in messages.values() for each in ids}) == 2 * MISSED


def test_a_delivery_whose_worker_is_killed_arrives(shared: LivePlatform) -> None:
    """A worker that is killed while a receiver lets it wait has its message delivered by the next one, by its id."""
    with receiving() as receiver:
        receiver.patience = 30.0
        listen(shared, receiver, "default", events=("job.completed",))
        first = shared.start_worker(queues=ALL)
        jobs = [shared.submit("add", number, 1) for number in range(3)]
        eventually(lambda: receiver.requests, what="a first request")
        for process in (psutil.Process(first.pid), *psutil.Process(first.pid).children(recursive=True)):
            process.kill()
        first.wait(20)
        begun = {headers["webhook-id"] for _, headers, _ in receiver.requests}
        receiver.patience = 0.0
        shared.start_worker(queues=ALL)
        sql = text("SELECT count(*) FROM jobs WHERE job_type = 'webhook_delivery' AND status = 'succeeded'")

        def delivered() -> bool:
            with shared.database.autocommit() as connection:
                return bool(connection.execute(sql).scalar_one() == len(jobs))

        eventually(delivered, what="three deliveries")
    messages = defaultdict(set)
    for _, headers, body in receiver.requests:
        messages[body["data"]["jobId"]].add(headers["webhook-id"])
    assert messages.keys() == {str(job) for job in jobs}
    assert {len(ids) for ids in messages.values()} == {1}
    again = [headers["webhook-id"] for _, headers, _ in receiver.requests]
    assert all(again.count(each) > 1 for each in begun), "what the killed worker had begun came once more"


def told(receiver: Receiver) -> dict[tuple[str, str], set[str]]:
    """The ids of the messages that came, by the schedule and the due time that they tell of."""
    messages: dict[tuple[str, str], set[str]] = defaultdict(set)
    for _, headers, body in list(receiver.requests):
        messages[body["data"]["scheduleId"], body["data"]["dueAt"]].add(headers["webhook-id"])
    return messages
