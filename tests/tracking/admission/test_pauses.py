"""Pauses and retries: what is held, what goes on, and what is found that was missed."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock
from uuid import UUID

import pytest

from tasks.worker.upkeep import Sending
from tests.holding import GLOBEX, Limited
from tests.tracked import HOUR, Tracked, ids, wish
from tracking import jobs
from tracking.admission import line
from tracking.db import Database
from tracking.models import Refusal
from tracking.states import Status

# pauses


PAUSES: dict[str, tuple[str | None, str | None, set[tuple[str, str]]]] = {
    "a type": (None, "a", {("acme", "a"), ("globex", "a")}),
    "an organization": ("acme", None, {("acme", "a"), ("acme", "b")}),
    "a type of one organization": ("acme", "a", {("acme", "a")}),
    "everything": (None, None, {("acme", "a"), ("acme", "b"), ("globex", "a"), ("globex", "b")}),
}


@pytest.mark.parametrize(("organization", "job_type", "held"), PAUSES.values(), ids=PAUSES)
def test_what_is_paused_does_not_start(
    free: Limited, organization: str | None, job_type: str | None, held: set[tuple[str, str]]
) -> None:
    """A paused job is held at its submit or at its claim; all other jobs go on."""
    owners = {"acme": replace(GLOBEX, organization_id="acme"), "globex": GLOBEX}
    kinds = [(of, kind) for of in owners for kind in "ab"]
    sent = {each: free.submit(owner=owners[each[0]], job_type=each[1]) for each in kinds}
    assert free.pause(organization, job_type)
    assert not free.pause(organization, job_type), "it is paused"
    new = {each: free.submit(owner=owners[each[0]], job_type=each[1]) for each in kinds}
    for each in kinds:
        [answer] = jobs.claim(free.tracked.connection, [wish(sent[each].fence)])
        assert (answer is Refusal.HELD) is (each in held)
        expected = "paused" if each in held else None
        assert free.holds([sent[each], new[each]]) == [expected] * 2


def test_resume_lets_them_go(free: Limited, tracked: Tracked) -> None:
    """A resume lets all jobs go that no other pause holds."""
    free.pause("acme")
    free.pause(None, "b")
    first, second = free.submit(job_type="a"), free.submit(job_type="b")
    assert free.turn() == []
    assert free.resume("acme")
    assert not free.resume("acme"), "it is over"
    assert free.turn() == [first.id]
    assert tracked.get(second.id).hold == "paused"
    free.resume(None, "b")
    assert free.turn() == [second.id]


def test_a_resumed_line_keeps_its_order_and_its_limit(two: Limited) -> None:
    """After a resume slots go to the most urgent jobs."""
    two.pause("acme")
    made = [two.submit(priority=priority) for priority in (0, 5, 9)]
    two.resume("acme")
    assert two.turn() == [made[2].id, made[1].id]
    assert two.holds(made) == ["organization_limit", None, None]


def test_a_pause_and_its_end_before_the_claim_cost_nothing(free: Limited, tracked: Tracked) -> None:
    """A job that was held at its claim by a pause that ended meanwhile is sent again."""
    job = free.submit()
    jobs.mark_dispatched(tracked.connection, [job.fence])
    free.pause("acme")
    assert jobs.claim(tracked.connection, [wish(job.fence)]) == [Refusal.HELD]
    free.resume("acme")
    assert free.turn() == [job.id]
    assert tracked.start(tracked.get(job.id)).attempt == 1


def test_running_jobs_go_on_during_a_pause(free: Limited, tracked: Tracked) -> None:
    """A pause leaves running jobs alone."""
    running = tracked.start(free.submit())
    free.pause("acme")
    assert tracked.end(running).status is Status.SUCCEEDED


def test_paused_jobs_in_line_take_no_slot(two: Limited, tracked: Tracked) -> None:
    """A paused job in line steps aside when it is its turn, and the next one goes."""
    running = two.start(2)
    paused = two.submit_many(5, job_type="paused")
    other = two.submit()
    two.pause("acme", "paused")
    tracked.end(running[0])
    assert two.after(running[0]) == [other.id]
    assert set(two.holds(paused)) == {"paused"}


def test_a_long_line_that_is_paused_steps_aside_in_bounded_steps(two: Limited, pool: Database) -> None:
    """A long paused line steps aside in batches, so that the lock of the line is held shortly."""
    two.submit_many(2, job_type="other")
    two.submit_many(30, job_type="paused")
    two.pause("acme", "paused")
    two.set_limit(3)
    with pool.begin() as connection:
        line.admit(connection, "acme", two.limits, 10)
    assert len(two.in_line()) == 20


# what was missed


def test_what_was_never_sent_is_sent_although_others_are_due(free: Limited, tracked: Tracked, pool: Database) -> None:
    """A job with a slot that was never sent is sent although other jobs are due."""
    lost, due = free.submit(), free.submit(delay=HOUR)
    tracked.make_due(due)
    tracked.pass_a_minute(lost)
    sent: list[UUID] = []
    sending = Sending(Mock(database=pool))
    sending._publisher = Mock()
    sent += ids(free.admission.due())
    assert not sending.unsent()
    assert [*sent, *ids(sending._publisher.publish.call_args.args[0])] == [due.id, lost.id]


# retry


def test_a_retried_job_joins_the_line(two: Limited, tracked: Tracked) -> None:
    """A job that is retried by hand stands in line with its old age."""
    failed = tracked.fail(tracked.start(two.submit()))
    running = two.start(2)
    younger = two.submit()
    assert two.retry(failed).hold == "organization_limit"
    assert two.turn() == []
    tracked.end(running[0])
    assert two.after(running[0]) == [failed.id]
    assert tracked.get(younger.id).hold == "organization_limit"


def test_a_retried_job_goes_at_once_when_there_is_room(two: Limited, tracked: Tracked) -> None:
    """A job that is retried by hand is sent at once when there is room."""
    failed = tracked.fail(tracked.start(two.submit()))
    two.retry(failed)
    assert two.after(failed) == [failed.id]


def test_a_retry_is_held_by_a_pause(free: Limited, tracked: Tracked) -> None:
    """A retry by hand of a paused type is held."""
    failed = tracked.fail(tracked.start(free.submit()))
    free.pause("acme")
    assert free.retry(failed).hold == "paused"
