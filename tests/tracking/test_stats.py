"""The statistics: they equal a count of the rows, for whoever asks."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from tests.properties import ON_ONE_DATABASE
from tests.tracked import ACME, HOUR, OTHERS, SITUATIONS, Tracked, empty
from tracking.db import Database
from tracking.models import Owner, Scope
from tracking.reads import lists
from tracking.schema import jobs as table
from tracking.states import ACTIVE, FINISHED

MINUTE = timedelta(minutes=1)


@given(
    wanted=st.lists(
        st.tuples(st.sampled_from(SITUATIONS), st.sampled_from(["p1", "p2"]), st.sampled_from([0, 59, 61])), max_size=10
    ),
    project=st.sampled_from([None, "p1"]),
    window=st.sampled_from([MINUTE, HOUR, 2 * HOUR]),
)
@ON_ONE_DATABASE
def test_stats_equal_a_count_of_the_rows(
    pool: Database, tracked: Tracked, wanted: list[tuple[str, str, int]], project: str | None, window: timedelta
) -> None:
    """Stats equal a count of the rows, for an organization and for a project."""
    empty(pool)
    for situation, of_project, age in wanted:
        job = tracked.put_into(situation)
        tracked.connection.execute(table.update().where(table.c.id == job.id).values(project_id=of_project))
        if job.status in FINISHED:
            tracked.finished_ago(job, age * MINUTE)
    tracked.submit(owner=Owner("globex", "u1"), project_id=project)  # the last, as organizations take turns
    now = tracked.connection.execute(select(func.now())).scalar_one()
    counted = Counter(
        str(job.status)
        for job in tracked.all()
        if job.organization_id == "acme"
        and project in (None, job.project_id)
        and (job.completed_at is None or job.completed_at > now - window)
    )
    stats = lists.stats(tracked.connection, ACME, window=window, project_id=project)
    assert counted == Counter(
        queued=stats.total_active - stats.running - stats.retrying,
        running=stats.running,
        retrying=stats.retrying,
        succeeded=stats.completed,
        failed=stats.failed,
        cancelled=stats.cancelled,
    )
    assert stats.total_active == sum(counted[status] for status in ACTIVE)


def test_stats_equal_a_group_by_of_the_database(tracked: Tracked) -> None:
    """Stats equal a GROUP BY that PostgreSQL computes."""
    for number, situation in enumerate(SITUATIONS):
        for _ in range(number + 1):
            tracked.put_into(situation)
    rows = tracked.connection.execute(text("SELECT status, count(*) AS number FROM jobs GROUP BY status"))
    grouped = {row.status: row.number for row in rows}
    stats = lists.stats(tracked.connection, ACME)
    queued = stats.pending + stats.scheduled
    assert (queued, stats.running, stats.retrying) == tuple(grouped[status] for status in ACTIVE)
    assert stats.total == sum(grouped.values())
    assert (stats.completed, stats.failed, stats.cancelled) == tuple(grouped[status] for status in FINISHED)


def test_stats_count_what_is_held(tracked: Tracked) -> None:
    """Stats count scheduled and backing-off jobs as held."""
    for situation in SITUATIONS:
        tracked.put_into(situation)
    assert lists.stats(tracked.connection, ACME).held == 2


def test_stats_of_nothing_are_zero(tracked: Tracked) -> None:
    """Stats without jobs are zero, without an age or a duration."""
    stats = lists.stats(tracked.connection, ACME)
    assert (stats.total_active, stats.completed, stats.failed, stats.cancelled, stats.held) == (0, 0, 0, 0, 0)
    assert (stats.oldest_pending_age, stats.average_duration) == (None, None)


def test_stats_tell_how_long_the_oldest_waits(tracked: Tracked) -> None:
    """Stats tell how long the oldest job waits, by the database's clock."""
    tracked.submit()
    tracked.created_at(tracked.submit(), datetime.now(UTC) - 5 * HOUR)
    tracked.created_at(tracked.start(tracked.submit()), datetime.now(UTC) - 9 * HOUR)
    age = lists.stats(tracked.connection, ACME).oldest_pending_age
    assert age is not None
    assert abs(age - 5 * HOUR) < MINUTE


@pytest.mark.parametrize(
    ("hold", "due", "counted"),
    [
        (None, None, "pending"),
        ("organization_limit", None, "pending"),
        ("schedule", -MINUTE, "pending"),
        ("schedule", 365 * 24 * HOUR, "scheduled"),
        ("dependency", HOUR, "scheduled"),
        ("paused", HOUR, "scheduled"),
        ("dependency", None, None),
        ("paused", None, None),
        ("circuit", None, None),
    ],
)
def test_stats_tell_what_could_run_now_from_what_is_due_later_and_what_is_held_up(
    tracked: Tracked, hold: str | None, due: timedelta | None, counted: str | None
) -> None:
    """Stats tell pending, scheduled and held jobs apart, all of them active."""
    job = tracked.submit()
    values = {"hold": hold, "due_at": None if due is None else datetime.now(UTC) + due, "dispatched_at": None}
    tracked.connection.execute(table.update().where(table.c.id == job.id).values(values))
    stats = lists.stats(tracked.connection, ACME)
    assert (stats.pending, stats.scheduled) == (int(counted == "pending"), int(counted == "scheduled"))
    assert (stats.oldest_pending_age is not None) is (counted == "pending")
    assert (stats.total_active, stats.total) == (1, 1)


def test_a_job_waits_since_it_was_due(tracked: Tracked) -> None:
    """The age of a waiting job counts from when it was due, not from its creation."""
    job = tracked.submit()
    tracked.created_at(job, datetime.now(UTC) - 30 * 24 * HOUR)
    due = datetime.now(UTC) - MINUTE
    tracked.connection.execute(table.update().where(table.c.id == job.id).values(scheduled_at=due))
    age = lists.stats(tracked.connection, ACME).oldest_pending_age
    assert age is not None
    assert age < HOUR


def test_stats_average_the_durations_of_successes(tracked: Tracked) -> None:
    """The average duration in stats is that of successes."""
    for kind, minutes in (("succeeded", 10), ("succeeded", 20), ("failed", 0)):
        job = tracked.run(kind)  # type: ignore[arg-type]
        began = table.c.completed_at - minutes * MINUTE
        values = {"created_at": began, "started_at": began}
        tracked.connection.execute(table.update().where(table.c.id == job.id).values(values))
    assert lists.stats(tracked.connection, ACME).average_duration == 15 * MINUTE


@pytest.mark.parametrize("scope", OTHERS)
def test_stats_count_the_scope_only(tracked: Tracked, scope: Scope) -> None:
    """Stats count the jobs of their scope only."""
    tracked.run()
    tracked.submit()
    stats = lists.stats(tracked.connection, scope)
    assert (stats.total_active, stats.completed, stats.oldest_pending_age) == (0, 0, None)
