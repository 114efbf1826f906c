"""Rows that run by what they say, and have no body: counted lost, unless their worker is about to write their end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from celery.concurrency.base import BasePool

from tasks.app import JobApp
from tasks.worker import reconciling
from tasks.worker.reconciling import Reconciling
from tests.ahead import World, a_world, events, queued, status
from tests.live import eventually
from tests.tracked import Tracked, wish
from tracking import jobs
from tracking.db import Database
from tracking.models import Attempt, JobRecord
from tracking.states import Event


class Watched(World):
    """A worker whose recorder waits for the database until `is_back`; `look` is the one of its reconciling."""

    is_back: threading.Event
    look: Reconciling

    def losses(self, database: Database, record: JobRecord) -> int:
        with database.autocommit() as connection:
            return int(Tracked(connection).get(record.id).losses)


@pytest.fixture
def world(app: JobApp, database: Database) -> Iterator[Watched]:
    """A worker with one slot."""
    with a_world(app, database, 1, kind=Watched) as made:
        made.worker.pool._state = BasePool.RUN
        made.is_back, made.look = threading.Event(), Reconciling(made.worker, made.lease)
        made.platform.recorder.record(made.is_back.wait)
        yield made
        made.is_back.set()


def claimed(world: Watched, database: Database) -> tuple[JobRecord, Attempt]:
    """A job that runs in its row only."""
    [record] = queued(database, 1)
    with database.autocommit() as connection:
        [attempt] = jobs.claim(connection, [wish(record.fence, lease=world.lease)])
    assert isinstance(attempt, Attempt)
    return record, attempt


def test_what_is_about_to_be_handed_back_is_not_lost(world: Watched, database: Database) -> None:
    """A job whose release waits for the database counts no loss, however often its worker looks meanwhile."""
    record, attempt = claimed(world, database)
    world.batcher.release([attempt])
    for _ in range(3):
        world.look.turn()
    assert (status(database, record)[0], world.losses(database, record)) == ("running", 0)
    world.is_back.set()
    eventually(lambda: status(database, record)[0] == "queued", what="the release")
    world.look.turn()
    assert world.losses(database, record) == 0
    assert events(database, record) == [Event.CREATED, Event.STARTED, Event.RELEASED]


def test_what_nobody_writes_is_lost_at_the_second_look(world: Watched, database: Database) -> None:
    """A recorder that has written all it had at the first look has nothing to say of the row."""
    world.is_back.set()
    world.platform.recorder.flush(5)
    record, _ = claimed(world, database)
    world.look.turn()
    assert world.losses(database, record) == 0
    world.look.turn()
    assert (status(database, record)[0], world.losses(database, record)) == ("queued", 1)


def test_a_recorder_that_cannot_go_on_does_not_keep_a_row_for_ever(
    world: Watched, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After twenty seconds a row without a body is settled, whatever the recorder waits for."""
    record, _ = claimed(world, database)
    world.look.turn()
    world.look.turn()
    assert world.losses(database, record) == 0
    monkeypatch.setattr(reconciling, "PATIENCE", 0.0)
    world.look.turn()
    assert (status(database, record)[0], world.losses(database, record)) == ("queued", 1)
