"""Totals: what has happened, each event once, in numbers that only grow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, text, update

from tests.tracked import Tracked, new_job
from tracking import totals
from tracking.db import Database
from tracking.models import Claim, Failure, Fence
from tracking.reads.tail import last_number
from tracking.schema import history, jobs
from tracking.totals import BOUNDS, Measure, Total

Summed = dict[tuple[str, ...], int]


def count(pool: Database, *, most: int = 1000) -> bool:
    """Count what is there; whether there is more."""
    with pool.autocommit() as connection:
        until = last_number(connection)
    with pool.begin() as connection:
        return totals.count(connection, until, most=most)


def found(pool: Database) -> list[Total]:
    with pool.autocommit() as connection:
        return list(totals.read(connection))


def summed(pool: Database, key: Callable[[Total], tuple[str, ...]] | None = None) -> Summed:
    """The numbers by measure and outcome, all buckets together."""
    numbers: Counter[tuple[str, ...]] = Counter()
    for total in found(pool):
        numbers[key(total) if key else (total.measure, total.outcome)] += total.number
    return dict(numbers)


@pytest.fixture
def begun(tracked: Tracked, pool: Database) -> Tracked:
    """The verbs; it is counted from here on."""
    tracked.submit()
    assert not count(pool)
    assert found(pool) == []
    return tracked


def test_jobs_and_attempts_are_counted_by_how_they_ended(begun: Tracked, pool: Database) -> None:
    """Each job and each attempt is counted once, by type, queue and outcome; a lost worker is told from a failure."""
    begun.run()
    begun.fail(begun.start(begun.submit()))
    begun.cancel(begun.submit())
    begun.back_off(begun.start(begun.submit()))
    lost = begun.end(begun.start(begun.submit()), "lost", failure=Failure("WorkerLostError", "signal 9"))
    begun.end(begun.start(lost), "lost")
    begun.end(begun.start(begun.submit()), "released")
    assert not count(pool)
    assert summed(pool) == {
        ("created", ""): 6,
        ("ended", "succeeded"): 1,
        ("ended", "failed"): 1,
        ("ended", "cancelled"): 1,
        ("attempts", "succeeded"): 1,
        ("attempts", "failed"): 1,
        ("attempts", "retried"): 1,
        ("attempts", "lost"): 2,
        ("attempts", "released"): 1,
        ("waited", ""): 6,
        ("ran", ""): 3,
    }
    assert {(total.job_type, total.queue) for total in found(pool)} == {("count_words", "default")}


def test_a_job_that_is_failed_for_its_losses_was_lost(begun: Tracked, pool: Database) -> None:
    """The last loss of a job that took down too many workers is a lost attempt of a failed job."""
    job = begun.start(begun.submit())
    for _ in range(2):
        job = begun.start(begun.end(job, "lost"))
    assert begun.end(job, "lost").status == "failed"
    count(pool)
    numbers = summed(pool)
    assert (numbers["attempts", "lost"], numbers["ended", "failed"]) == (3, 1)
    assert ("attempts", "failed") not in numbers


def test_refused_messages_are_counted_by_their_reason(begun: Tracked, pool: Database) -> None:
    """A message that was not run is counted, with the reason."""
    job = begun.start(begun.submit())
    from tracking import jobs as verbs  # noqa: PLC0415 - the table has the name

    verbs.claim(begun.connection, [Claim(Fence(job.id, job.dispatch), uuid4(), "worker-2", UUID(int=2))])
    count(pool)
    assert summed(pool)["refused", "running"] == 1


def test_nothing_is_counted_twice_however_small_the_steps_are(begun: Tracked, pool: Database) -> None:
    """Steps of two rows count the same as one of all, and a further one counts nothing."""
    for _ in range(5):
        begun.run()
    while count(pool, most=2):
        pass
    once = found(pool)
    assert not count(pool)
    assert found(pool) == once
    assert summed(pool)["ended", "succeeded"] == summed(pool)["created", ""] == 5


def test_a_step_that_is_rolled_back_counts_nothing(begun: Tracked, pool: Database) -> None:
    """What is counted and where that was stand in one transaction."""
    begun.run()
    until = last_number(begun.connection)

    def interrupted() -> None:
        with pool.begin() as connection:
            totals.count(connection, until, most=100)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert found(pool) == []
    count(pool)
    assert summed(pool)["created", ""] == 1


def test_what_is_not_committed_for_sure_is_left(begun: Tracked, pool: Database) -> None:
    """Rows behind the given id are not counted yet, and are told as uncounted."""
    until = last_number(begun.connection)
    begun.run()
    with pool.begin() as connection:
        assert not totals.count(connection, until, most=100)
    assert found(pool) == []
    with pool.autocommit() as connection:
        assert totals.uncounted(connection) == last_number(connection) - until


def test_waits_and_runs_are_in_buckets(begun: Tracked, pool: Database) -> None:
    """A wait and a run are in the bucket of their time, with their seconds."""
    job = begun.submit()
    of_it = history.c.job_id == job.id
    begun.connection.execute(update(history).where(of_it).values(at=func.now() - timedelta(seconds=7)))
    begun.connection.execute(
        update(jobs).where(jobs.c.id == job.id).values(created_at=func.now() - timedelta(seconds=7))
    )
    running = begun.start(job)
    began = func.now() - timedelta(seconds=2)
    begun.connection.execute(update(jobs).where(jobs.c.id == job.id).values(started_at=began))
    begun.end(running)
    count(pool)
    [waited] = [total for total in found(pool) if total.measure is Measure.WAITED]
    [ran] = [total for total in found(pool) if total.measure is Measure.RAN]
    assert (waited.up_to, ran.up_to) == (10.0, 2.5)
    assert 7 <= waited.seconds < 8
    assert 2 <= ran.seconds < 2.5
    assert {waited.up_to, ran.up_to} <= set(BOUNDS)


def test_a_wait_begins_when_a_job_could_run(begun: Tracked, pool: Database) -> None:
    """The time under a hold is no wait; that in line for a slot is one."""
    scheduled = begun.submit(delay=timedelta(hours=1))
    begun.connection.execute(
        update(history).where(history.c.job_id == scheduled.id).values(at=func.now() - timedelta(hours=1))
    )
    begun.connection.execute(
        update(jobs).where(jobs.c.id == scheduled.id).values(created_at=func.now() - timedelta(hours=1))
    )
    begun.start(begun.release(scheduled))
    count(pool)
    [waited] = [total for total in found(pool) if total.measure is Measure.WAITED]
    assert waited.seconds < 5
    in_line = begun.submit()
    old = func.now() - timedelta(seconds=20)
    begun.connection.execute(update(history).where(history.c.job_id == in_line.id).values(at=old))
    begun.connection.execute(update(jobs).where(jobs.c.id == in_line.id).values(created_at=old))
    begun.connection.execute(
        text(
            """INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt,
                                    dispatch, actor, detail)
               SELECT id, organization_id, user_id, job_type, 'due', 'queued', 'queued', 0, 1, 'admission',
                      '{"hold": "organization_limit"}' FROM jobs WHERE id = :id"""
        ),
        {"id": in_line.id},
    )
    begun.start(in_line)
    count(pool)
    assert {total.up_to for total in found(pool) if total.measure is Measure.WAITED} >= {30.0}


def test_types_beyond_a_number_are_counted_together(
    begun: Tracked, pool: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more types than are told apart, the later ones are counted as others, and nothing is lost."""
    monkeypatch.setattr(totals, "MOST_PAIRS", 3)
    for number in range(5):
        begun.submit(job_type=f"type-{number}")
        count(pool)
    begun.submit(job_type="type-0")
    begun.submit(job_type="type-9")
    begun.submit(job_type="type-10")
    count(pool)
    assert summed(pool, lambda total: (total.job_type, total.queue)) == {
        ("type-0", "default"): 2,
        ("type-1", "default"): 1,
        ("type-2", "default"): 1,
        ("(others)", "(others)"): 4,
    }


def test_a_removed_job_is_counted_without_its_queue(begun: Tracked, pool: Database) -> None:
    """A job that was removed before it was counted has no queue any more."""
    job = begun.run()
    begun.connection.execute(jobs.delete().where(jobs.c.id == job.id))
    count(pool)
    assert {total.queue for total in found(pool)} == {""}
    assert new_job().job_type in {total.job_type for total in found(pool)}
