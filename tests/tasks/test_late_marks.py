"""Marks that the broker has a job's message come a second later, and only where a job still waits by then."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.broker import marks
from tasks.broker.marks import LateMarks
from tests.tracked import Tracked, wish
from tracking import jobs
from tracking.db import Database, DBAPIError


@pytest.fixture
def late(database: Database) -> LateMarks:
    """The marks of one dispatcher."""
    platform: Any = SimpleNamespace(database=database)
    return LateMarks(platform)


def test_a_job_that_waits_is_marked_when_its_second_is_over(late: LateMarks, tracked: Tracked) -> None:
    """A confirmed message leaves its row as it is at first; a second later the row says that it was sent."""
    job = tracked.submit()
    late.note([job], [job.fence])
    late.write()
    assert tracked.get(job.id).dispatched_at is None
    late._waiting[0] = (0.0, job.fence)  # the second is over
    late.write()
    assert tracked.get(job.id).dispatched_at is not None


def test_a_job_that_has_begun_keeps_the_mark_of_its_claim(late: LateMarks, tracked: Tracked) -> None:
    """The claim says itself that the message has arrived; no mark changes that."""
    job = tracked.submit()
    late.note([job], [job.fence])
    jobs.claim(tracked.connection, [wish(job.fence)])
    claimed = tracked.get(job.id)
    late.write(all_of_them=True)
    assert tracked.get(job.id) == claimed
    assert claimed.dispatched_at is not None


def test_what_upkeep_would_send_again_before_is_marked_at_once(late: LateMarks, tracked: Tracked) -> None:
    """A job that was accepted a while ago, or was begun before, has its mark with the broker's confirmation."""
    old, again = tracked.submit(), tracked.submit()
    aged = old._replace(updated_at=old.updated_at - timedelta(seconds=2))
    late.note([aged, again._replace(started_at=again.created_at)], [old.fence, again.fence])
    assert all(tracked.get(job.id).dispatched_at for job in (old, again))


def test_what_cannot_be_marked_now_is_marked_the_next_time(
    late: LateMarks, tracked: Tracked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage of the database costs no mark."""
    job = tracked.submit()
    late.note([job], [job.fence])

    def refuse(*_: Any) -> None:
        raise DBAPIError("", None, Exception())

    with monkeypatch.context() as away:
        away.setattr(jobs, "mark_dispatched", refuse)
        with pytest.raises(DBAPIError):
            late.write(all_of_them=True)
    late.write(all_of_them=True)
    assert tracked.get(job.id).dispatched_at is not None


def test_more_than_may_wait_are_marked_before(
    late: LateMarks, tracked: Tracked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of marks is bounded: the oldest of too many are written at once."""
    monkeypatch.setattr(marks, "MOST", 1)
    first, second = tracked.submit(), tracked.submit()
    late.note([first], [first.fence])
    late.note([second], [second.fence])
    assert tracked.get(first.id).dispatched_at is not None
    assert len(late._waiting) <= 1
