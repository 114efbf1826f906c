"""Changing a job that waits: what it is to do, how urgent it is and when it is due, and never one that runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.tracked import ACME, HOUR, OTHERS, SITUATIONS, Tracked, check_rows, new_job, wish
from tracking import jobs
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED, Limits
from tracking.errors import IllegalMove, JobChanged, JobNotFound
from tracking.models import Attempt, Changes, JobRecord, Refusal
from tracking.states import Hold

WAITING = ("queued", "scheduled", "retrying", "backoff")


def edit(tracked: Tracked, job: JobRecord, limits: Limits = UNLIMITED, **changes: Any) -> JobRecord:
    """The job after u1 has changed it."""
    when = {name: changes.pop(name) for name in ("scheduled_at", "unchanged_since") if name in changes}
    return jobs.edit(tracked.connection, job.id, ACME, Changes(**changes), actor="u1", limits=limits, **when)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_only_a_waiting_job_can_be_changed(tracked: Tracked, situation: str) -> None:
    """A waiting job takes another payload and priority; any other one is an illegal move, and stays as it is."""
    job = tracked.put_into(situation)
    if situation in WAITING:
        changed = edit(tracked, job, payload={"n": 2}, priority=7)
        assert (changed.payload, changed.priority, changed.status) == ({"n": 2}, 7, job.status)
        assert tracked.events(job)[-1] == "edited"
        assert tracked.last_detail(job) == {"payload": True, "priority": 7} | ({"hold": job.hold} if job.hold else {})
    else:
        with pytest.raises(IllegalMove, match="only a waiting one"):
            edit(tracked, job, payload={"n": 2}, priority=7)
        assert tracked.get(job.id) == job
    check_rows(tracked)


def test_another_payload_is_what_runs(tracked: Tracked) -> None:
    """A job that was sent runs with its new payload, by the message that it has already."""
    job = tracked.submit(payload={"n": 1})
    edit(tracked, job, payload={"n": 2}, circuit_key="b", delivery={"passing": "named"})
    (granted,) = jobs.claim(tracked.connection, [wish(job.fence)])
    assert isinstance(granted, Attempt)
    assert (granted.payload, granted.delivery["passing"]) == ({"n": 2}, "named")
    assert tracked.get(job.id).circuit_key == "b"


def test_another_priority_is_another_message(tracked: Tracked) -> None:
    """A job that was sent is sent anew with its new priority, and its older message starts nothing."""
    job = tracked.submit()
    jobs.mark_dispatched(tracked.connection, [job.fence])
    changed = edit(tracked, job, priority=9)
    assert (changed.dispatch, changed.dispatched_at, changed.hold) == (job.dispatch + 1, None, None)
    assert jobs.claim(tracked.connection, [wish(job.fence)]) == [Refusal.STALE]
    assert isinstance(jobs.claim(tracked.connection, [wish(changed.fence)])[0], Attempt)
    check_rows(tracked)


def test_under_a_limit_it_gives_back_its_place(tracked: Tracked) -> None:
    """A job that was sent and is made more urgent stands in line again, where its priority counts."""
    tracked.register_worker()
    first, second = (jobs.submit(tracked.connection, new_job(), Limits(1)).job for _ in range(2))
    assert (first.hold, second.hold) == (None, Hold.ORGANIZATION_LIMIT)
    assert edit(tracked, second, Limits(1), priority=5).hold is Hold.ORGANIZATION_LIMIT
    assert edit(tracked, first, Limits(1), priority=1).hold is Hold.ORGANIZATION_LIMIT


def test_another_time_is_waited_for(tracked: Tracked) -> None:
    """A job with a later time is held until then; with one that has come it is let through."""
    job = tracked.submit()
    later = datetime.now(UTC) + HOUR
    held = edit(tracked, job, scheduled_at=later)
    assert (held.hold, held.due_at, held.scheduled_at) == (Hold.SCHEDULE, later, later)
    assert jobs.claim(tracked.connection, [wish(held.fence)]) == [Refusal.HELD]
    assert holds.lift_due(tracked.connection, UNLIMITED, 10) == []
    freed = edit(tracked, held, scheduled_at=datetime.now(UTC) - timedelta(seconds=1))
    assert freed.hold is None
    assert isinstance(jobs.claim(tracked.connection, [wish(freed.fence)])[0], Attempt)
    check_rows(tracked)


def test_what_it_depends_on_is_not_forgotten(tracked: Tracked) -> None:
    """A job that waits for another one still does after any change."""
    job = tracked.submit(depends_on=[tracked.submit().id])
    assert edit(tracked, job, priority=9, payload={"n": 2}).hold is Hold.DEPENDENCY


def test_what_is_called_or_done_by_others_is_not_changed(tracked: Tracked) -> None:
    """A job that waits for its call, and one whose work is done elsewhere, cannot be changed."""
    for values, reason in (
        ("follows = id, hold = 'dependency'", "called"),
        ("external = true, hold = 'external'", "elsewhere"),
    ):
        job = tracked.submit()
        tracked.connection.execute(text(f"UPDATE jobs SET {values} WHERE id = :id"), {"id": job.id})  # noqa: S608 - of our own words
        with pytest.raises(IllegalMove, match=reason):
            edit(tracked, job, priority=9)


@pytest.mark.parametrize("scope", OTHERS)
def test_nobody_changes_what_they_do_not_see(tracked: Tracked, scope: Any) -> None:
    """A change of a job outside of the scope finds no job."""
    job = tracked.submit()
    with pytest.raises(JobNotFound):
        jobs.edit(tracked.connection, job.id, scope, Changes(priority=9), actor="x", limits=UNLIMITED)
    assert tracked.get(job.id) == job


def test_a_change_may_hang_on_the_state_that_was_read(tracked: Tracked) -> None:
    """A change that names an earlier state is refused, one that names the last is made."""
    job = tracked.submit()
    later = edit(tracked, job, priority=1)
    with pytest.raises(JobChanged):
        edit(tracked, job, priority=2, unchanged_since=job.updated_at)
    assert edit(tracked, job, priority=3, unchanged_since=later.updated_at).priority == 3
