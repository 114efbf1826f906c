"""What a canvas may still need stays; its groups go when they are complete, or old."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.aged import DAY, aged, removed
from tests.tracked import Tracked
from tracking import groups
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED
from tracking.db import Database


@pytest.mark.parametrize("situation", ["queued", "running", "failed", "cancelled"])
def test_a_result_that_a_chord_may_still_need_stays(pool: Database, tracked: Tracked, situation: str) -> None:
    """A succeeded member of an incomplete group is not removed."""
    member = aged(tracked, "succeeded", 31 * DAY, group_id="g1")
    aged(tracked, "succeeded", 31 * DAY, group_id="g2")
    tracked.bring(tracked.submit(group_id="g1"), situation)
    assert removed(pool).total == 1
    assert tracked.get(member.id) == member


@pytest.mark.parametrize("situation", ["queued", "scheduled", "running", "backoff"])
def test_a_job_stays_while_an_active_one_depends_on_it(pool: Database, tracked: Tracked, situation: str) -> None:
    """A job is not removed while an active one depends on it."""
    needed, other = (aged(tracked, "succeeded", 31 * DAY) for _ in range(2))
    delay = DAY if situation == "scheduled" else None
    dependent = tracked.submit(depends_on=[needed.id, tracked.run().id], delay=delay)
    if situation != "scheduled":
        holds.lift_dependents(tracked.connection, UNLIMITED, 10)
        tracked.bring(dependent, situation)
    tracked.cancel(tracked.submit(depends_on=[other.id]))
    assert (removed(pool, dry_run=True).total, removed(pool).total) == (1, 1)
    assert tracked.get(needed.id) == needed
    tracked.cancel(tracked.get(dependent.id))
    assert removed(pool).total == 1


def test_a_complete_group_goes(pool: Database, tracked: Tracked) -> None:
    """The members of a complete group are removed."""
    for index in range(3):
        aged(tracked, "succeeded", 31 * DAY, group_id="g1", group_index=index)
    assert removed(pool).total == 3


def test_members_that_can_never_be_retried_go(pool: Database, tracked: Tracked) -> None:
    """Members of a failed group are removed after the failed ones."""
    for situation in ("succeeded", "failed", "failed"):
        aged(tracked, situation, 91 * DAY, group_id="g1")
    while removed(pool).total:
        pass
    assert tracked.all() == []


def _old_group(tracked: Tracked, name: str, age: timedelta) -> None:
    groups.set_size(tracked.connection, name, 2)
    statement = text("UPDATE groups SET created_at = now() - CAST(:age AS interval) WHERE id = :id")
    tracked.connection.execute(statement, {"id": name, "age": age})


def test_an_old_group_without_jobs_goes(pool: Database, tracked: Tracked) -> None:
    """A group without jobs is removed when no job could be as old."""
    _old_group(tracked, "old", 91 * DAY)
    _old_group(tracked, "young", 89 * DAY)
    _old_group(tracked, "used", 91 * DAY)
    tracked.submit(group_id="used")
    assert removed(pool, dry_run=True).groups == 1
    assert removed(pool).groups == 1
    assert groups.size(tracked.connection, "old") is None
    assert groups.size(tracked.connection, "young") == groups.size(tracked.connection, "used") == 2


def test_groups_go_in_batches_too(pool: Database, tracked: Tracked) -> None:
    """Groups are removed in batches of the same size."""
    for number in range(3):
        _old_group(tracked, f"g{number}", 91 * DAY)
    assert [(batch.groups, batch.more) for batch in (removed(pool, 2), removed(pool, 2))] == [(2, True), (1, False)]
