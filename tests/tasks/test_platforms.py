"""Several platforms in one process: each app works with its own settings, database and broker."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url, text

from tasks import verbs
from tasks.app import JobApp
from tasks.broker.dispatcher import Dispatcher
from tasks.broker.publisher import connect
from tasks.platform import Platform
from tests.live import eventually
from tests.servers import Servers, new_database
from tests.tasks.conftest import own_app
from tests.tracked import Tracked
from tracking import acting_as
from tracking.admission import line
from tracking.db import DBAPIError, is_away
from tracking.errors import JobNotFound
from tracking.models import JobRecord, Scope
from tracking.reads import lists
from tracking.settings import Settings, settings
from tracking.states import Hold

NUMBER = 20
IDS = [uuid4() for _ in range(NUMBER)]  # the same on both sides
BROKERS = {"acme": "14", "globex": "15"}  # databases of Valkey that no other test uses


@dataclass(frozen=True)
class Side:
    """An app with a platform of its own, and its owner."""

    name: str
    app: JobApp

    @cached_property
    def scope(self) -> Scope:
        """What the owner may see."""
        return Scope(self.name, None)

    def submit(self) -> None:
        """Send a job of each id."""
        with acting_as(self.name, "u1"):
            for job_id in IDS:
                self.app.tasks["count"].apply_async(kwargs={"of": self.name}, task_id=str(job_id))

    def cancel(self) -> None:
        for job_id in IDS[::2]:
            verbs.cancel(self.app.platform, job_id, self.scope, actor="u1")

    def jobs(self) -> list[JobRecord]:
        """All that there are, whoever owns them."""
        with self.app.platform.database.autocommit() as connection:
            return Tracked(connection).all()

    def listed(self) -> set[UUID]:
        with self.app.platform.database.autocommit() as connection:
            page = lists.page(connection, self.scope, number=1, size=2 * NUMBER)
        return {job.id for job in page.jobs}

    def messages(self) -> int:
        """How many messages its broker has."""
        with connect(self.app) as broker:
            channel: Any = broker.default_channel
            return int(channel.queue_declare("default", passive=True).message_count)


@contextmanager
def side(servers: Servers, name: str, limit: int) -> Iterator[Side]:
    """An app on a database and a broker of its own, with this limit for every organization."""
    broker = make_url(servers.valkey_url).set(database=BROKERS[name]).render_as_string(hide_password=False)
    with new_database(servers) as url, own_app(name, broker=broker) as app:

        @app.task(name="count")
        def count(of: str) -> str:
            return of

        own = {"database_url": SecretStr(url), "organization_limit": limit}
        app.platform = Platform(app, settings().model_copy(update=own))
        with connect(app) as connection:
            channel: Any = connection.default_channel
            channel.queue_purge("default")
        yield Side(name, app)
        app.platform.close(timeout=5)


@pytest.fixture
def sides(servers: Servers) -> Iterator[list[Side]]:
    """One whose organizations may have any number of jobs at once, and one where they may have three."""
    with ExitStack() as stack:
        yield [stack.enter_context(side(servers, name, limit)) for name, limit in (("acme", 0), ("globex", 3))]


def test_two_platforms_work_side_by_side(sides: list[Side]) -> None:
    """Two apps in one process send and cancel jobs of the same ids at once, and neither sees the other's."""
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(Side.submit, sides))
        list(threads.map(Side.cancel, sides))
    for each in sides:
        jobs = {job.id: job for job in each.jobs()}
        assert jobs.keys() == each.listed() == set(IDS)
        assert {(job.organization_id, *job.payload["args"]) for job in jobs.values()} == {(each.name, each.name)}
        assert {job_id for job_id, job in jobs.items() if job.status == "cancelled"} == set(IDS[::2])
        assert str(each.app.AsyncResult(str(IDS[0])).status) == "REVOKED"


def test_each_platform_sends_to_its_own_broker_under_its_own_limits(sides: list[Side]) -> None:
    """Two apps in one process send to different brokers, each as many jobs as its own limit allows."""
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(Side.submit, sides))
    assert all(each.app.platform.dispatcher.flush(10) for each in sides)
    assert [each.messages() for each in sides] == [NUMBER, 3]
    held = [[job.hold for job in each.jobs()].count(Hold.ORGANIZATION_LIMIT) for each in sides]
    assert held == [0, NUMBER - 3]


def test_many_slots_that_are_free_at_once_are_filled_by_one_look(sides: list[Side]) -> None:
    """While a look at an organization's line is still to come, further slots of it ask for no other one."""
    [_, limited] = sides
    limited.submit()
    dispatcher = limited.app.platform.dispatcher
    assert dispatcher.flush(10)
    with limited.app.platform.database.begin() as connection:
        line.lock_line(connection, limited.name)
        for _ in range(50):
            dispatcher.refill(limited.name)
        assert dispatcher.backlog <= 1  # and one that waits for the lock
        line.set_limit(connection, limited.name, 5, actor="operator")
    assert dispatcher.flush(10)
    eventually(lambda: limited.messages() == 5, what="the messages of two more jobs")


def test_a_process_that_has_nothing_to_send_ends_at_once(app: JobApp) -> None:
    """Closing twenty dispatchers that wait for work takes a fraction of a second, and none of them has given up."""
    dispatchers = [Dispatcher(app.platform) for _ in range(20)]
    began = time.monotonic()
    for each in dispatchers:
        each.close(timeout=60)
    assert time.monotonic() - began < 1


def test_a_job_of_one_platform_is_unknown_to_the_other(sides: list[Side]) -> None:
    """A job of one app can be neither cancelled nor read through another app by its id."""
    mine, other = sides
    with acting_as(mine.name, "u1"):
        job_id = mine.app.tasks["count"].delay(of="me").id
    with pytest.raises(JobNotFound):
        verbs.cancel(other.app.platform, UUID(job_id), mine.scope, actor="u1")
    assert other.app.AsyncResult(job_id).status == "PENDING"
    assert [job.status for job in mine.jobs()] == ["queued"]


def test_nothing_is_needed_before_it_is_used() -> None:
    """An app whose settings name no server takes handlers and calls them."""
    with own_app("bare") as app:
        app.platform = Platform(app, settings().model_copy(update={"database_url": SecretStr("")}))

        @app.task(name="double")
        def double(number: int) -> int:
            return 2 * number

        assert double(2) == 4
        assert app.platform.limits.concurrency == settings().organization_limit
        app.platform.close(timeout=0)


def test_a_forked_child_sends_and_writes_by_threads_of_its_own(sides: list[Side]) -> None:
    """A forked child makes a dispatcher, a recorder and connections of its own, and its parent's stay as they are."""
    platform = sides[0].app.platform
    parents = platform.dispatcher, platform.recorder
    assert parents == (platform.dispatcher, platform.recorder)
    with platform.database.autocommit() as connection:
        before = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    child = os.fork()
    if child == 0:
        own = platform.dispatcher is not parents[0] and platform.recorder is not parents[1]
        with platform.database.autocommit() as connection:
            other = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        os._exit(0 if own and other != before else 1)
    assert os.waitpid(child, 0)[1] == 0
    with platform.database.autocommit() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() == before


def test_who_is_silent_in_a_transaction_keeps_nothing_locked(database_url: str) -> None:
    """A frozen process, or one that has a dead one's connection, holds a job up for no longer than its lease lasts."""
    with own_app("silent") as app:
        platform = Platform(app, Settings(database_url=SecretStr(database_url), lease_timeout=2, heartbeat=1))
        with platform.database.autocommit() as connection:
            job = Tracked(connection).submit()
        other = platform.single()
        with platform.database.engine.connect() as silent:
            silent.execute(text("BEGIN"))
            silent.execute(text("SELECT FROM jobs FOR UPDATE"))
            began = time.monotonic()
            with other.autocommit() as connection:
                Tracked(connection).cancel(job)
            assert 1 < time.monotonic() - began < settings().statement_timeout
            with pytest.raises(DBAPIError) as raised:
                silent.execute(text("SELECT 1"))
        assert is_away(raised.value)
        other.close()
        platform.close(5)
