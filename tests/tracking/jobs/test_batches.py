"""Many jobs at once: what one of them cannot have, and what the others have all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from psycopg.pq import PipelineStatus
from sqlalchemy import text

from tests.tracked import Tracked, outcome, wish
from tracking import jobs
from tracking.db import Database, DBAPIError, run
from tracking.models import Attempt, JobRecord, Refusal, Settled
from tracking.states import OutcomeKind, Status

ENDS: tuple[OutcomeKind, ...] = ("succeeded", "failed")
LOCK = text("SELECT id FROM jobs WHERE id = :id FOR UPDATE")


@contextmanager
def hooked(act: Callable[[], object]) -> Iterator[None]:
    """Do something when the first statement of a verb has been answered."""
    calls = [act]

    def hooked_run(*arguments: Any) -> Any:
        answers = run(*arguments)
        if calls:
            calls.pop()()
        return answers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tracking.batches.run", hooked_run)
        yield


@contextmanager
def locked(pool: Database, job: JobRecord) -> Iterator[None]:
    """Another session is changing the job."""
    with pool.begin() as other:
        other.execute(LOCK, {"id": job.id})
        yield


def test_a_claim_of_a_job_that_is_locked_is_to_be_asked_again(pool: Database, tracked: Tracked) -> None:
    """A claim of a locked job is LOCKED and writes nothing; the others of its batch are granted."""
    busy, free = tracked.submit(), tracked.submit()
    wishes = [wish(busy.fence), wish(free.fence)]
    with locked(pool, busy):
        answers = jobs.claim(tracked.connection, wishes, waits=False)
    assert answers[0] is Refusal.LOCKED
    assert isinstance(answers[1], Attempt)
    assert tracked.events(busy) == ["created"]
    assert isinstance(jobs.claim(tracked.connection, wishes[:1], waits=False)[0], Attempt)
    assert tracked.events(busy) == ["created", "started"]


def test_an_outcome_of_a_job_that_is_locked_is_to_be_told_again(pool: Database, tracked: Tracked) -> None:
    """The outcome of a locked job is LOCKED and writes nothing; the others of its batch are accepted."""
    running = [tracked.start(tracked.submit()) for _ in range(4)]
    outcomes = [outcome(job, kind) for job, kind in zip(running, ENDS * 2, strict=True)]
    with locked(pool, running[0]), locked(pool, running[1]):
        answers = jobs.settle(tracked.connection, outcomes, waits=False)
    assert answers[:2] == [Refusal.LOCKED] * 2
    assert all(isinstance(answer, Settled) for answer in answers[2:])
    assert [tracked.get(job.id) for job in running[:2]] == running[:2]
    assert all(jobs.settle(tracked.connection, outcomes[:2], waits=False))


def test_a_refusal_that_cannot_be_written_yet_is_to_be_asked_again(pool: Database, tracked: Tracked) -> None:
    """A refused claim whose job is locked before that is written is LOCKED: nobody waits for the history."""
    done, other = tracked.run(), tracked.submit()
    with pool.begin() as locking, hooked(lambda: locking.execute(LOCK, {"id": done.id})):
        answers = jobs.claim(tracked.connection, [wish(done.fence), wish(other.fence)], waits=False)
    assert answers[0] is Refusal.LOCKED
    assert isinstance(answers[1], Attempt)
    assert tracked.events(done) == ["created", "started", "completed"]
    assert jobs.claim(tracked.connection, [wish(done.fence)], waits=False) == [Refusal.FINISHED]


def test_who_waits_gets_the_job_when_its_lock_is_gone(pool: Database, tracked: Tracked) -> None:
    """A claim waits for a locked job unless it is told not to."""
    job = tracked.submit()
    answers: list[Attempt | Refusal] = []

    def claim() -> None:
        with pool.autocommit() as connection:
            answers.extend(jobs.claim(connection, [wish(job.fence)]))

    waiting = threading.Thread(target=claim)
    with locked(pool, job):
        waiting.start()
        waiting.join(0.3)
        assert answers == []
    waiting.join(5)
    assert [type(answer) for answer in answers] == [Attempt]


def test_a_lock_of_no_job_is_no_lock(tracked: Tracked) -> None:
    """The claim of a job that does not exist is UNKNOWN and its outcome not expected, with and without waiting."""
    job = tracked.start(tracked.submit())
    tracked.connection.execute(text("DELETE FROM jobs"))
    tracked.connection.execute(text("DELETE FROM history"))
    for waits in (True, False):
        assert jobs.claim(tracked.connection, [wish(job.fence)], waits=waits) == [Refusal.UNKNOWN]
    for kind in ENDS:
        assert jobs.settle(tracked.connection, [outcome(job, kind)]) == [None]
        assert jobs.settle(tracked.connection, [outcome(job, kind)], waits=False) == [None]


@pytest.mark.parametrize("unwritable", ENDS)
def test_a_batch_with_an_outcome_that_cannot_be_written_changes_nothing(
    tracked: Tracked, unwritable: OutcomeKind
) -> None:
    """An outcome that the database refuses leaves its whole batch unwritten, which succeeds without it."""
    first, second, third = (tracked.start(tracked.submit()) for _ in range(3))
    outcomes = [
        outcome(first, "succeeded", result=1),
        outcome(second, unwritable, result="\x00"),
        outcome(third, "failed"),
    ]
    with pytest.raises(DBAPIError):
        jobs.settle(tracked.connection, outcomes)
    assert tracked.all() == [first, second, third]
    assert [settled and settled.status for settled in jobs.settle(tracked.connection, [outcomes[0], outcomes[2]])] == [
        Status.SUCCEEDED,
        Status.FAILED,
    ]


def test_a_result_arrives_in_a_batch_as_it_was_returned(tracked: Tracked) -> None:
    """Results are kept unchanged with every character that has a meaning in PostgreSQL's arrays."""
    results = [None, "", "NULL", '"', "\\", "{}", "a,b", {"a": ["\\\"{},'\n"]}, 0, False, "ä€\N{GRINNING FACE}"]
    running = [tracked.start(tracked.submit()) for _ in results]
    ended = [outcome(job, "succeeded", result=result) for job, result in zip(running, results, strict=True)]
    assert all(jobs.settle(tracked.connection, ended))
    assert [tracked.get(job.id).result for job in running] == results


def test_a_connection_that_was_left_in_midst_of_a_pipeline_is_not_used_again(pool: Database) -> None:
    """A connection that an exception left in a pipeline does not come back from the pool."""
    with suppress(KeyError), pool.autocommit() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.pgconn.enter_pipeline_mode()
        raise KeyError
    with pool.autocommit() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        assert driver.info.pipeline_status == PipelineStatus.OFF
