"""A job that waits for nothing is found, and one that waits with a reason is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from tests.holding import Limited, limited
from tests.tracked import HOUR, Tracked
from tests.verifying import a_worker_runs_them, an_hour_passes, broken
from tracking.db import Database
from tracking.models import JobRecord

NO_ROOM = """
    CREATE OR REPLACE FUNCTION room_in(of_organization text, of_queue text, platform_limit int, silence interval)
    RETURNS int LANGUAGE sql STABLE AS 'SELECT 0'"""


def in_line(two: Limited) -> JobRecord:
    """A job that a slot is free for."""
    running, _ = two.start(2)
    job = two.submit()
    two.tracked.end(running)
    return job


def after_a_dependency(two: Limited) -> JobRecord:
    """A job whose dependency has succeeded."""
    dependency = two.tracked.start(two.submit())
    job = two.submit(depends_on=[dependency.id])
    two.tracked.end(dependency)
    return job


def after_a_failure(two: Limited) -> JobRecord:
    """A job whose dependency has failed."""
    dependency = two.tracked.start(two.submit())
    job = two.submit(depends_on=[dependency.id])
    two.tracked.fail(dependency)
    return job


def after_a_pause(two: Limited) -> JobRecord:
    """A job whose type is not paused any more."""
    two.pause(job_type="count_words")
    job = two.submit()
    two.resume(job_type="count_words")
    return job


def after_a_circuit(two: Limited) -> JobRecord:
    """A job whose type's circuit is closed."""
    two.break_circuit()
    job = two.submit()
    two.tracked.connection.execute(text("DELETE FROM circuits"))
    return job


STALE = (in_line, after_a_dependency, after_a_failure, after_a_pause, after_a_circuit)


@pytest.mark.parametrize("wait", STALE)
def test_a_job_that_waits_for_nothing_is_caught(
    pool: Database, tracked: Tracked, wait: Callable[[Limited], JobRecord]
) -> None:
    """Verify finds a job that has waited for nothing for a minute while a worker lived."""
    two = limited(pool, tracked, 2)
    job = wait(two)
    assert broken(pool, two.limits) == {}, "it may have been a moment ago"
    an_hour_passes(tracked)
    assert broken(pool, two.limits) == {}, "nobody is there to let it through"
    a_worker_runs_them(tracked)
    assert broken(pool, two.limits) == {"held": 1}
    two.turn()
    assert tracked.get(job.id).hold is None
    assert broken(pool, two.limits) == {}


def test_a_job_that_waits_with_a_reason_is_not_caught(pool: Database, tracked: Tracked) -> None:
    """Verify accepts a job that waits with a reason, however long."""
    two = limited(pool, tracked, 2)
    two.break_circuit("broken")
    two.pause(job_type="paused")
    running = two.start(2)
    for changes in ({"job_type": "broken"}, {"job_type": "paused"}, {}, {"delay": HOUR * 2}):
        two.submit(**changes)
    two.submit(depends_on=[running[0].id])
    an_hour_passes(tracked)
    a_worker_runs_them(tracked)
    assert broken(pool, two.limits) == {}
    assert len([hold for hold in two.holds() if hold is not None]) == 5


def test_a_mistake_in_the_rule_is_caught(database: Database) -> None:
    """Verify finds a free slot although the rule of admission finds none."""
    with database.autocommit() as connection:
        tracked = Tracked(connection)
        two = limited(database, tracked, 2)
        waiting = in_line(two)
        an_hour_passes(tracked)
        a_worker_runs_them(tracked)
        connection.execute(text(NO_ROOM))
        two.turn()
        assert tracked.get(waiting.id).hold == "organization_limit"
    assert broken(database, two.limits) == {"held": 1}
