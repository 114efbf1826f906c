"""A removal waits for nobody, reads no whole table, and takes nothing that others want at the moment."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from tests.aged import DAY, POLICY, aged, removed
from tests.live import eventually
from tests.tracked import ACME, Tracked, wish
from tests.weeks import vacuum
from tracking import jobs
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.errors import JobNotFound, TrackingError
from tracking.models import Attempt, JobRecord, Refusal
from tracking.reads import lists
from tracking.retention import Policy, prune, remove
from tracking.states import Status
from tracking.values import LATEST

PATIENCE = 20.0
HANDICAP = 0.01  # seconds at most


def test_a_job_that_is_being_retried_is_passed_over(pool: Database, tracked: Tracked) -> None:
    """Retention passes over a job that is being retried."""
    job, other = (aged(tracked, "failed", 91 * DAY) for _ in range(2))
    with pool.begin() as connection:
        jobs.retry(connection, job.id, ACME, actor="u1", limits=UNLIMITED)
        assert removed(pool).total == 1
    assert [left.id for left in tracked.all()] == [job.id] != [other.id]
    assert tracked.get(job.id).status is Status.QUEUED
    assert removed(pool).total == 0


def test_a_retry_that_comes_too_late_finds_nothing(pool: Database, tracked: Tracked) -> None:
    """A retry that waits for a removal is answered as for an unknown job."""
    job = aged(tracked, "failed", 91 * DAY)

    def retry() -> None:
        with pool.autocommit() as connection:
            jobs.retry(connection, job.id, ACME, actor="u1", limits=UNLIMITED)

    with ThreadPoolExecutor(1) as threads:
        with pool.begin() as connection:
            assert prune(connection, POLICY, limit=None).total == 1
            answer = threads.submit(retry)
            eventually(tracked.waits_for_lock, what="the retry")
        with pytest.raises(JobNotFound):
            answer.result(PATIENCE)
    assert tracked.events(job) == []


def test_a_refusal_that_is_being_written_keeps_its_job(pool: Database, tracked: Tracked) -> None:
    """A job to which a history row is being written is not removed."""
    job = aged(tracked, "succeeded", 31 * DAY)
    with pool.begin() as connection:
        assert jobs.claim(connection, [wish(job.fence)]) == [Refusal.FINISHED]
        assert removed(pool).total == 0
    assert tracked.events(job)[-1] == "duplicate_refused"
    assert removed(pool).total == 1


def test_a_refusal_that_was_just_written_goes_with_its_job(pool: Database, tracked: Tracked) -> None:
    """A history row that was written during a removal goes with its job, if that is kept for less than a week."""
    job = aged(tracked, "succeeded", 31 * DAY)
    policy = Policy(POLICY.by_status, {job.job_type: DAY})

    def refuse(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "SKIP LOCKED" in statement and tracked.events(job)[-1] == "completed":
            jobs.claim(tracked.connection, [wish(job.fence)])

    with _listening(pool, "before_cursor_execute", refuse):
        assert removed(pool, policy=policy).history == 4


def test_a_job_that_was_retried_meanwhile_is_not_deleted(pool: Database, tracked: Tracked) -> None:
    """A job that was retried after the search is not deleted."""
    job = aged(tracked, "failed", 91 * DAY)
    tracked.retry(job)
    assert remove(tracked.connection, [job.id], Status.FAILED, until=LATEST) == (0, 0)
    assert tracked.get(job.id).status is Status.QUEUED


def test_two_may_remove_at_once(pool: Database, tracked: Tracked) -> None:
    """Four simultaneous removals remove each job once and wait for nobody."""
    for _ in range(60):
        aged(tracked, "succeeded", 31 * DAY)
    line = Barrier(4, timeout=PATIENCE)

    def work(_: int) -> int:
        line.wait()
        return sum(removed(pool, 7).total for _ in range(10))

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(work, range(4), timeout=PATIENCE)) == 60
    assert tracked.all() == []


def test_a_race_of_removal_and_retry_has_one_winner(pool: Database, tracked: Tracked) -> None:
    """A race of removal and retry leaves a running job or none."""
    chance = Random(7)
    answers = []

    def retry(job: JobRecord, handicap: float, line: Barrier) -> bool:
        with pool.autocommit() as connection:
            line.wait()
            time.sleep(handicap)
            try:
                again = jobs.retry(connection, job.id, ACME, actor="u1", limits=UNLIMITED).job
            except TrackingError:
                return False
            return isinstance(jobs.claim(connection, [wish(again.fence)])[0], Attempt)

    def remove(handicap: float, line: Barrier) -> bool:
        line.wait()
        time.sleep(handicap)
        return removed(pool, 10).total == 1

    with ThreadPoolExecutor(2) as threads:
        for _ in range(40):
            job, line = aged(tracked, "failed", 91 * DAY), Barrier(2, timeout=PATIENCE)
            runs = (
                threads.submit(retry, job, chance.uniform(0, HANDICAP), line),
                threads.submit(remove, chance.uniform(0, HANDICAP), line),
            )
            retried, gone = (run.result(PATIENCE) for run in runs)
            assert retried is not gone
            assert (lists.find(tracked.connection, job.id) is None) is gone
            assert bool(tracked.events(job)) is retried
            answers.append(gone)
    assert len(set(answers)) == 2, "the race always had the same winner"


FILL = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, queue, max_retries, progress,
                      started_at, completed_at, created_at)
    SELECT gen_random_uuid(), 'org-' || n % 40, 'u1', 'type-' || n % 5, status, 'default', 3,
           CASE status WHEN 'succeeded' THEN 100 ELSE 0 END, at, CASE WHEN status <> 'queued' THEN at END, at
    FROM generate_series(0, 19999) AS n,
         LATERAL (SELECT now() - n * interval '5 minutes' AS at,
                         (ARRAY['queued', 'succeeded', 'failed', 'cancelled'])[1 + n / 5 % 4] AS status) AS varied"""
FILL_HISTORY = """
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, to_status, attempt, dispatch, actor, at)
    SELECT id, organization_id, user_id, job_type, 'created', 'queued', 0, 1, 'u1', created_at FROM jobs"""


def test_removal_scans_no_table(roomy: Database) -> None:
    """No statement of retention scans a table of twenty thousand jobs."""
    executed: list[tuple[str, Any]] = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        executed.append((statement, parameters))

    with roomy.autocommit() as connection:
        for statement in (FILL, FILL_HISTORY):
            connection.execute(text(statement))
        vacuum(connection, "jobs", "history")
    with _listening(roomy, "before_cursor_execute", record):
        assert removed(roomy, 200).total == 200
    with roomy.autocommit() as connection:
        plans = ["\n".join(_plan(connection, *given)) for given in executed if "LOCK TABLE" not in given[0]]
    assert len(plans) >= 4
    assert [plan for plan in plans if "Seq Scan on jobs" in plan or "Seq Scan on history" in plan] == []
    assert sum("using jobs_retained" in plan for plan in plans) >= 2
    assert all("Sort" not in plan for plan in plans if "LockRows" in plan)


def _plan(connection: Connection, statement: str, parameters: Any) -> list[str]:
    return list(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())


@contextmanager
def _listening(pool: Database, name: str, listener: Any) -> Iterator[None]:
    event.listen(pool.engine, name, listener)
    try:
        yield
    finally:
        event.remove(pool.engine, name, listener)
