"""Accepting a job: once for an id or a key, as it came, and with its first hold."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from tests.properties import JSON, ON_ONE_DATABASE, TEXTS
from tests.tracked import HOUR, Tracked, new_job
from tracking import jobs
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.errors import IdempotencyConflict
from tracking.models import (
    Owner,
)
from tracking.reads import lists
from tracking.states import Event, Hold, Status


def test_a_submitted_job_is_queued_with_one_history_row(tracked: Tracked) -> None:
    """A submitted job is queued with one history row, and is the root of its canvas."""
    job = tracked.submit()
    assert (job.status, job.hold, job.attempt, job.dispatch, job.root_id) == (Status.QUEUED, None, 0, 1, job.id)
    assert [(entry.event, entry.from_status, entry.actor) for entry in tracked.history(job)] == [
        (Event.CREATED, None, "u1")
    ]


def test_the_same_id_is_the_same_job(tracked: Tracked) -> None:
    """A repeated submit with the same id writes nothing."""
    new = new_job()
    first = jobs.submit(tracked.connection, new, UNLIMITED)
    second = jobs.submit(tracked.connection, new, UNLIMITED)
    assert (first.created, second.created, second.job) == (True, False, first.job)
    assert tracked.events(first.job) == ["created"]


def test_the_id_of_another_organizations_job_is_refused(tracked: Tracked) -> None:
    """The id of another organization's job is refused without showing that job."""
    job = tracked.submit()
    with pytest.raises(IdempotencyConflict):
        jobs.submit(tracked.connection, new_job(id=job.id, owner=Owner("globex", "u1")), UNLIMITED)
    assert tracked.get(job.id) == job


def test_the_same_key_and_request_is_the_same_job(tracked: Tracked) -> None:
    """A submit with a used key and the same request returns that job, whatever its own id."""
    first = tracked.submit(idempotency_key="k", request_hash="h")
    second = jobs.submit(tracked.connection, new_job(idempotency_key="k", request_hash="h"), UNLIMITED)
    assert (second.created, second.job) == (False, first)
    assert len(tracked.all()) == 1


def test_the_same_key_with_another_request_is_a_conflict(tracked: Tracked) -> None:
    """A used key with another request is a conflict, and nothing is written."""
    first = tracked.submit(idempotency_key="k", request_hash="h")
    with pytest.raises(IdempotencyConflict, match="used for another request"):
        tracked.submit(idempotency_key="k", request_hash="other")
    assert tracked.all() == [first]
    assert tracked.events(first) == ["created"]


@pytest.mark.parametrize("owner", [Owner("acme", "u2"), Owner("globex", "u1")])
def test_the_same_key_of_somebody_else_is_another_job(tracked: Tracked, owner: Owner) -> None:
    """The same key of another user or organization makes another job."""
    first = tracked.submit(idempotency_key="k", request_hash="h")
    second = jobs.submit(tracked.connection, new_job(owner=owner, idempotency_key="k", request_hash="other"), UNLIMITED)
    assert second.created
    assert second.job.id != first.id


def test_a_key_stays_that_jobs_when_it_is_finished(tracked: Tracked) -> None:
    """The key of a finished job still returns that job."""
    done = tracked.run(idempotency_key="k", request_hash="h")
    again = jobs.submit(tracked.connection, new_job(idempotency_key="k", request_hash="h"), UNLIMITED)
    assert (again.created, again.job) == (False, done)


def test_jobs_without_a_key_are_never_the_same(tracked: Tracked) -> None:
    """Equal submits without a key make different jobs."""
    assert tracked.submit().id != tracked.submit().id


@ON_ONE_DATABASE
@given(payload=st.dictionaries(TEXTS, JSON, max_size=4))
def test_a_payload_comes_back_as_it_went_in(tracked: Tracked, payload: dict[str, Any]) -> None:
    """Any JSON within the limits comes back as a payload."""
    assert tracked.submit(payload=payload, metadata=payload, delivery=payload).payload == payload


def test_a_job_scheduled_for_later_is_held_until_then(tracked: Tracked) -> None:
    """A job scheduled for later is held, and keeps the time that was asked for."""
    later = datetime.now(UTC) + HOUR
    job = tracked.submit(scheduled_at=later)
    assert (job.hold, job.due_at, job.scheduled_at) == (Hold.SCHEDULE, later, later)


def test_a_delay_counts_from_the_databases_clock(tracked: Tracked) -> None:
    """A delay counts from the database's clock."""
    job = tracked.submit(delay=HOUR)
    assert job.hold is Hold.SCHEDULE
    assert job.due_at is not None
    assert abs(job.due_at - job.created_at - HOUR) < timedelta(seconds=5)


def test_a_job_scheduled_for_the_past_is_not_held(tracked: Tracked) -> None:
    """A job scheduled for the past can be sent at once."""
    job = tracked.submit(scheduled_at=datetime.now(UTC) - HOUR)
    assert job.hold is None
    assert tracked.start(job).status is Status.RUNNING


@pytest.mark.parametrize("priority", [-1, 10])
def test_the_database_refuses_a_priority_outside_of_0_to_9(tracked: Tracked, priority: int) -> None:
    """The database refuses a priority outside of 0 to 9, and writes no history row."""
    with pytest.raises(IntegrityError, match="jobs_priority_range"):
        tracked.submit(priority=priority)
    assert tracked.all() == []


def test_a_submit_that_is_rolled_back_leaves_nothing(pool: Database, tracked: Tracked) -> None:
    """A submit that is rolled back leaves neither row nor history."""
    new = new_job()
    with suppress(KeyError), pool.begin() as connection:
        jobs.submit(connection, new, UNLIMITED)
        raise KeyError
    assert tracked.all() == []
    assert lists.timeline(tracked.connection, new.id) == []
