"""Groups: their members are accepted together, in one transaction."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import chain, chord, group
from pydantic import SecretStr
from sqlalchemy import text

from tasks.app import JobApp
from tasks.platform import Platform
from tasks.submission import SLOW
from tests.live import eventually
from tests.tracked import Tracked
from tracking import acting_as
from tracking.admission import pauses
from tracking.errors import IdempotencyConflict, InvalidValue
from tracking.settings import settings
from tracking.states import Hold

LIMIT = 2


@pytest.fixture
def count(app: JobApp, database_url: str) -> Iterator[Any]:
    """A task that no worker runs, whose jobs are those of an organization with two slots."""

    @app.task(name="count")
    def count(number: int) -> int:
        return number

    own = {"database_url": SecretStr(database_url), "organization_limit": LIMIT}
    app.platform = Platform(app, settings().model_copy(update=own))
    with acting_as("acme", "u1"):
        yield count
    app.platform.close(timeout=5)


def transactions(tracked: Tracked) -> int:
    """How many transactions the rows were written in, if each was written once."""
    return int(tracked.connection.execute(text("SELECT count(DISTINCT xmin::text) FROM jobs")).scalar_one())


def held(tracked: Tracked) -> list[Hold | None]:
    """What the jobs wait for."""
    return [job.hold for job in tracked.all()]


def pause(tracked: Tracked) -> None:
    """Let nothing be sent: each row is written once."""
    pauses.pause(tracked.connection, organization_id="acme", job_type=None, actor="admin", reason=None)


def test_the_members_of_a_group_are_accepted_in_one_transaction(count: Any, tracked: Tracked) -> None:
    """A group of many is accepted in one transaction, and its members have the order of the group."""
    pause(tracked)
    sent: Any = group(count.s(number) for number in range(20)).apply_async()
    assert [str(job.id) for job in tracked.all()] == [each.id for each in sent.results]
    assert [job.payload["args"] for job in tracked.all()] == [[number] for number in range(20)]
    assert transactions(tracked) == 1


def test_the_members_that_a_slow_generator_makes_are_accepted_as_they_come(count: Any, tracked: Tracked) -> None:
    """While a generator takes its time over the last of a header the first is accepted: Celery sends it by then."""
    at_work: list[int] = []

    def slowly() -> Iterator[Any]:
        for number in range(4):
            time.sleep(SLOW + 0.1)
            at_work.append(sum(job.payload["args"] == [0] for job in tracked.all()))
            yield count.s(number)

    chord(slowly(), count.si(9)).apply_async()
    assert at_work[-1] == 1
    assert len(tracked.all()) == 5


def test_chunks_are_accepted_in_one_transaction(count: Any, tracked: Tracked) -> None:
    """The chunks of a long list of calls are a group."""
    pause(tracked)
    count.chunks([(number,) for number in range(20)], 5).apply_async()
    assert len(tracked.all()) == 4
    assert transactions(tracked) == 1


def test_the_header_of_a_chord_is_accepted_with_its_body(count: Any, tracked: Tracked) -> None:
    """The members of a header, and the row of the body that waits for them, are one transaction."""
    pause(tracked)
    chord((count.s(number) for number in range(5)), count.si(9)).apply_async()
    assert sorted(map(str, held(tracked))) == ["dependency"] + ["paused"] * 5
    assert transactions(tracked) == 1


def test_of_a_group_with_a_member_that_is_refused_nothing_is_accepted(count: Any, tracked: Tracked) -> None:
    """A group is accepted as a whole or not at all."""
    with pytest.raises(InvalidValue):
        group([count.s(1), count.s(2), count.s(3).set(priority=10)]).apply_async()
    taken = count.apply_async((1,), task_id=str(uuid4()))
    with pytest.raises(IdempotencyConflict):
        group([count.s(4), count.s(5).set(task_id=taken.id)]).apply_async(task_id=str(uuid4()))
    assert [str(job.id) for job in tracked.all()] == [taken.id]


def test_the_jobs_of_a_group_get_the_slots_that_there_are(count: Any, tracked: Tracked) -> None:
    """As many members of a group are sent at once as its organization has slots; the others wait in its line."""
    group(count.s(number) for number in range(5)).apply_async()
    eventually(lambda: held(tracked).count(None) == LIMIT)
    assert held(tracked).count(Hold.ORGANIZATION_LIMIT) == 5 - LIMIT


def test_a_job_that_is_sent_with_a_producer_of_the_caller_is_accepted_at_once(count: Any, tracked: Tracked) -> None:
    """Within a block that has a producer of the app, what is sent is accepted before the block ends, a group too."""
    pause(tracked)
    with count.app.producer_or_acquire() as producer:
        count.apply_async((1,), producer=producer)
        assert len(tracked.all()) == 1
        group(count.s(number) for number in range(3)).apply_async(producer=producer)
        assert len(tracked.all()) == 4


def test_what_a_group_has_of_chains_and_groups_is_accepted_in_its_order(count: Any, tracked: Tracked) -> None:
    """Members that are chains or groups come after those before them and before those after them."""
    pause(tracked)
    inner = group(count.s(3), count.s(4))
    group(count.s(0), count.s(1), chain(count.s(2), count.si(9)), inner, count.s(5)).apply_async()
    sent = [job.payload["args"][0] for job in tracked.all() if job.hold is Hold.PAUSED]
    assert sent == [0, 1, 2, 3, 4, 5]
