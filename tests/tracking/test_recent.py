"""What is recent: the active jobs, and those that have just finished."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, event

from tests.properties import ON_ONE_DATABASE
from tests.tracked import ACME, SITUATIONS, Tracked, empty, ids
from tracking import jobs
from tracking.db import Database
from tracking.models import JobRecord, Outcome
from tracking.reads import lists
from tracking.schema import jobs as table
from tracking.states import Status

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_recent_jobs_are_the_active_ones_and_those_of_the_last_hour(tracked: Tracked) -> None:
    """Recent jobs are all active ones and those that finished in the last hour."""
    waiting = tracked.created_at(tracked.submit(), NOON - timedelta(days=30))
    young, _old = tracked.finished_ago(tracked.run(), 59 * MINUTE), tracked.finished_ago(tracked.run(), 61 * MINUTE)
    assert ids(lists.recent(tracked.connection, ACME, limit=10)) == [waiting.id, young.id]


def _recent_order(job: JobRecord) -> tuple[Any, ...]:
    if job.completed_at is None:
        return (0, -job.priority, job.created_at.timestamp(), str(job.id))
    return (1, -job.priority, -job.completed_at.timestamp(), str(job.id))


@given(
    wanted=st.lists(st.tuples(st.sampled_from(SITUATIONS), st.integers(0, 2)), min_size=1, max_size=10),
    limit=st.integers(1, 12),
)
@ON_ONE_DATABASE
def test_recent_jobs_are_in_the_order_of_the_contract(
    pool: Database, tracked: Tracked, wanted: list[tuple[str, int]], limit: int
) -> None:
    """Recent jobs come in the order of the contract, up to the limit."""
    empty(pool)
    for situation, priority in wanted:
        job = tracked.put_into(situation)
        tracked.connection.execute(table.update().where(table.c.id == job.id).values(priority=priority))
    expected = sorted(tracked.all(), key=_recent_order)[:limit]
    assert lists.recent(tracked.connection, ACME, limit=limit) == expected


@pytest.mark.parametrize("status", Status)
def test_recent_jobs_can_be_narrowed_to_a_status(tracked: Tracked, status: Status) -> None:
    """Recent jobs can be narrowed to an active or a finished status."""
    made = [tracked.put_into(situation) for situation in SITUATIONS]
    found = lists.recent(tracked.connection, ACME, limit=100, status=status)
    assert set(ids(found)) == {job.id for job in made if job.status is status}


def test_recent_jobs_can_be_narrowed_to_a_type_and_a_status(tracked: Tracked) -> None:
    """Recent jobs can be narrowed to a type and a status at once."""
    wanted = tracked.submit(job_type="sync")
    tracked.start(tracked.submit(job_type="sync"))
    tracked.submit()
    found = lists.recent(tracked.connection, ACME, limit=9, job_type="sync", status=Status.QUEUED)
    assert ids(found) == [wanted.id]


def test_a_job_that_ends_while_recent_reads_is_listed_once(pool: Database, tracked: Tracked) -> None:
    """A job that ends between the two reads of recent jobs is listed once."""
    running = tracked.start(tracked.submit())

    def finish(connection: Connection, *_: Any) -> None:
        if connection is tracked.connection:
            with pool.autocommit() as another:
                jobs.settle(another, [Outcome(running.fence, "succeeded", "worker-1")])

    event.listen(pool.engine, "after_cursor_execute", finish)
    try:
        assert ids(lists.recent(tracked.connection, ACME, limit=10)) == [running.id]
    finally:
        event.remove(pool.engine, "after_cursor_execute", finish)
    assert tracked.get(running.id).status is Status.SUCCEEDED
