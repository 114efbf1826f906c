"""Ends that a worker's main process writes: failures in a row, and successes between them, in their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from tasks.app import JobApp
from tasks.attempt.outcomes import FINISHED_FIRST
from tests.ahead import HOSTNAME, OwnWorld, World, a_world
from tests.live import eventually
from tests.tracked import Tracked, wish
from tracking import jobs
from tracking.db import Database
from tracking.models import Attempt, Breaker, Failure, Outcome

BREAKER = Breaker(3, timedelta(minutes=1))
FAILURE = Failure("ValueError", "wrong", "Traceback …")


@pytest.fixture
def world(app: JobApp, database: Database) -> Iterator[World]:
    with a_world(app, database, 1) as made:
        yield made


def claimed(world: World, database: Database, count: int) -> list[Attempt]:
    """Attempts that this worker has claimed."""
    with database.autocommit() as connection:
        tracked = Tracked(connection)
        wishes = [wish(tracked.submit().fence, lease=world.lease) for _ in range(count)]
        return [attempt for attempt in jobs.claim(connection, wishes) if isinstance(attempt, Attempt)]


def ended(attempt: Attempt, *, fails: bool) -> Outcome:
    """How one of them ended."""
    if not fails:
        return Outcome(attempt.fence, "succeeded", HOSTNAME, attempt.attempt)
    return Outcome(attempt.fence, "failed", HOSTNAME, attempt.attempt, failure=FAILURE, breaker=BREAKER)


def settle(world: World, attempts: Sequence[Attempt], fails: Sequence[bool]) -> None:
    """Have the main process told of their ends."""
    for attempt, has_failed in zip(attempts, fails, strict=True):
        world.batcher.settle(attempt, ended(attempt, fails=has_failed), FINISHED_FIRST, 0)


def circuits(database: Database) -> int:
    with database.autocommit() as connection:
        return int(connection.execute(text("SELECT count(*) FROM circuits")).scalar_one())


def are_over(database: Database, attempts: Sequence[Attempt]) -> bool:
    """Whether the rows have their ends."""
    with database.autocommit() as connection:
        return all(Tracked(connection).get(attempt.job_id).status != "running" for attempt in attempts)


@pytest.mark.parametrize(
    ("fails", "opens"),
    [
        ([True, True, True], True),
        ([True, True, False, True, True], False),
        ([False, True, True, True, False], True),
        ([True, False, True, True, False, True], False),
    ],
)
def test_failures_in_a_row_are_those_between_which_nothing_has_succeeded(
    world: World, database: Database, fails: list[bool], *, opens: bool
) -> None:
    """The circuit opens by failures in a row, in the order in which the bodies ended, however fast they ended."""
    attempts = claimed(world, database, len(fails))
    settle(world, attempts, fails)
    eventually(lambda: are_over(database, attempts), what="the ends")
    assert world.platform.recorder.flush(5)
    assert circuits(database) == opens


def test_a_failure_of_an_own_process_is_judged_after_the_ends_before_it(app: JobApp, database: Database) -> None:
    """A success that the main process has not written yet is between the failures that other processes have written."""
    with a_world(app, database, 1, kind=OwnWorld) as world:
        *failed, succeeded = claimed(world, database, 4)
        with database.autocommit() as connection:
            for attempt in failed:
                own: Any = Outcome(attempt.fence, "failed", HOSTNAME, attempt.attempt, failure=FAILURE)
                jobs.settle(connection, [own])
        world.platform.breaking.is_away = True
        settle(world, [succeeded], [False])
        world.batcher.look(failed[-1].job_id, BREAKER)
        eventually(lambda: world.platform.breaking.broken, what="a try")
        world.platform.breaking.is_away = False
        eventually(lambda: are_over(database, [succeeded]) and not world.batcher._looks, what="the end")
        assert world.platform.recorder.flush(5)
    assert circuits(database) == 0


def test_a_failure_of_an_own_process_opens_the_circuit(world: World, database: Database) -> None:
    """What a process writes of a failure by itself counts as well: the main process looks when it hears of it."""
    failed = claimed(world, database, 3)
    with database.autocommit() as connection:
        for attempt in failed:
            jobs.settle(connection, [Outcome(attempt.fence, "failed", HOSTNAME, attempt.attempt, failure=FAILURE)])
    task = SimpleNamespace(circuit_failures=3, circuit_pause=60.0)
    world.ahead.failed(SimpleNamespace(task=task, fence=failed[-1].fence))
    eventually(lambda: circuits(database) == 1, what="the circuit")
    world.ahead.failed(SimpleNamespace(task=SimpleNamespace(circuit_failures=0), fence=failed[-1].fence))
    assert not world.batcher._looks
