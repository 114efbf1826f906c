"""Why a job does not run: every reason that holds now, the one that matters first."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from tests.holding import GLOBEX, MINUTE, Platform, fill, limited
from tests.properties import ON_ONE_DATABASE
from tests.tracked import ACME, HOUR, LEASE_TIMEOUT, Tracked, empty
from tracking import jobs, workers
from tracking.admission.holds import Limits
from tracking.db import Database
from tracking.errors import JobNotFound
from tracking.models import JobRecord, Owner, Scope
from tracking.reads.explain import MOST_NAMED, Explanation, explain
from tracking.reads.reasons import (
    BackOff,
    Cancelled,
    CircuitOpen,
    Dependency,
    Failed,
    InLine,
    Lifting,
    Paused,
    Running,
    Scheduled,
    Sent,
    Stopping,
    Succeeded,
    Unsent,
)
from tracking.schema import jobs as table
from tracking.schema import organizations
from tracking.states import Hold, Status

U1 = Scope("acme", "u1")
GLOBEX_SCOPE = Scope("globex", None)


@pytest.fixture
def platform(pool: Database, tracked: Tracked) -> Platform:
    """At most five jobs of an organization at once; three workers of two processes each."""
    for _ in range(3):
        tracked.register_worker()
    return limited(pool, tracked, 5)


def asked(tracked: Tracked, job: JobRecord, scope: Scope = ACME, limit: int = 5) -> Explanation:
    """The explanation of a job."""
    return explain(tracked.connection, job.id, scope, Limits(limit, LEASE_TIMEOUT))


def kinds(tracked: Tracked, job: JobRecord) -> list[str]:
    """The kinds of the reasons, in their order."""
    return [reason.kind for reason in asked(tracked, job).reasons]


def only(tracked: Tracked, job: JobRecord, scope: Scope = ACME) -> Any:
    """The one reason."""
    (reason,) = asked(tracked, job, scope).reasons
    return reason


def known(at: datetime | None) -> datetime:
    """A time that must be there."""
    assert at is not None
    return at


def mark_sent(tracked: Tracked, job: JobRecord) -> JobRecord:
    """The broker has confirmed the job's message."""
    jobs.mark_dispatched(tracked.connection, [job.fence])
    return tracked.get(job.id)


def test_a_job_outside_of_the_scope_does_not_exist(tracked: Tracked) -> None:
    """Of another user, of another organization, of nobody."""
    job = tracked.submit()
    for job_id, scope in ((job.id, Scope("acme", "u2")), (job.id, Scope("globex", None)), (uuid4(), ACME)):
        with pytest.raises(JobNotFound):
            explain(tracked.connection, job_id, scope, Limits(0))


def test_a_job_in_line_is_told_its_place_and_who_has_the_slots(platform: Platform) -> None:
    """5 of 5, the five holders, and n-th."""
    holders = platform.start(5)
    waiting = platform.submit_many(3)
    reason = only(platform.tracked, waiting[2])
    assert reason == InLine(5, 5, 3, [job.id for job in holders])


def test_a_more_urgent_job_stands_before_it_in_line(platform: Platform) -> None:
    """However late it came."""
    platform.start(5)
    early = platform.submit()
    urgent = platform.submit(priority=9)
    assert [only(platform.tracked, job).place for job in (urgent, early)] == [1, 2]


def test_a_job_that_nobody_would_run_stands_before_nobody(platform: Platform) -> None:
    """It is passed over when slots are given away, so it does not count."""
    platform.start(5)
    platform.submit_many(3, queue="nobody's", priority=9)
    assert only(platform.tracked, platform.submit()).place == 1


def test_the_next_in_line_for_a_free_slot_is_not_told_to_wait(platform: Platform) -> None:
    """The next look lets it through: "0 of 1 are taken; 1st in line" is no reason."""
    holders = platform.start(5)
    waiting = platform.submit_many(2)
    platform.tracked.end(holders[0])
    assert only(platform.tracked, waiting[0]) == Lifting(Hold.ORGANIZATION_LIMIT)
    reason = only(platform.tracked, waiting[1])
    assert (reason.taken, reason.limit, reason.place) == (4, 5, 2)


def test_those_in_line_whom_something_else_stops_stand_before_nobody(platform: Platform) -> None:
    """They step aside when it is their turn."""
    holders = platform.start(5)
    paused = platform.submit_many(3, job_type="paused", priority=9)
    job = platform.submit()
    platform.pause("acme", "paused")
    assert only(platform.tracked, job).place == 1
    platform.tracked.end(holders[0])
    assert kinds(platform.tracked, job) == ["lifting"]
    assert kinds(platform.tracked, paused[0]) == ["paused"]


def test_of_those_in_line_that_something_else_stops_too_the_first_is_next(platform: Platform) -> None:
    """When that is over for all of them, there is one slot."""
    holders = platform.start(5)
    first, second = platform.submit_many(2, job_type="paused")
    platform.pause("acme", "paused")
    platform.tracked.end(holders[0])
    assert kinds(platform.tracked, first) == ["paused"]
    assert kinds(platform.tracked, second) == ["organization_limit", "paused"]


def test_a_limit_that_was_lifted_is_no_reason(platform: Platform) -> None:
    """The whole line is about to be sent."""
    platform.start(5)
    job = platform.submit()
    platform.tracked.connection.execute(organizations.insert().values(id="acme", concurrency=0, changed_by="admin"))
    assert only(platform.tracked, job) == Lifting(Hold.ORGANIZATION_LIMIT)


def test_what_a_job_meets_after_its_hold_is_told_although_its_row_does_not_say_so_yet(platform: Platform) -> None:
    """Its time has come, and meanwhile its type was paused, or all slots were taken."""
    paused, late = platform.submit(delay=HOUR, job_type="paused"), platform.submit(delay=HOUR)
    platform.start(5)
    platform.pause("acme", "paused")
    for job in (paused, late):
        platform.tracked.make_due(job)
    assert kinds(platform.tracked, paused) == ["paused"]
    assert kinds(platform.tracked, late) == ["organization_limit"]
    platform.turn()
    assert platform.holds([paused, late]) == ["paused", "organization_limit"]


def test_holders_of_another_user_are_counted_and_not_named(platform: Platform) -> None:
    """All of them to somebody who sees the organization."""
    mine = platform.start(2)
    others = platform.start(3, owner=Owner("acme", "u2"))
    job = platform.submit()
    assert (only(platform.tracked, job, U1).taken, only(platform.tracked, job, U1).holders) == (5, [j.id for j in mine])
    assert set(only(platform.tracked, job).holders) == {holder.id for holder in (*mine, *others)}


def test_nothing_of_another_organization_counts_in_a_line(platform: Platform) -> None:
    """Neither its holders nor its line."""
    for _ in range(4):
        platform.tracked.register_worker()
    platform.start(5, owner=GLOBEX)
    platform.submit_many(3, owner=GLOBEX, priority=9)
    platform.start(5)
    reason = only(platform.tracked, platform.submit())
    assert (reason.taken, reason.place, len(reason.holders)) == (5, 1, 5)


def test_a_job_that_waits_for_busy_workers_is_told_so(pool: Database, tracked: Tracked) -> None:
    """Its organization has slots to spare; when one of the jobs before it starts, it is its turn."""
    tracked.register_worker()
    platform = limited(pool, tracked, 5)
    platform.start(2)
    sent, *waiting = platform.submit_many(3)
    reason = only(tracked, waiting[1])
    assert (reason.limit, reason.taken, reason.place, reason.is_full) == (5, 3, 2, False)
    tracked.start(sent)
    assert kinds(tracked, waiting[0]) == ["lifting"]
    assert platform.turn() == [waiting[0].id]


def test_a_job_that_lets_another_organization_go_first_is_not_told_to_be_sent(pool: Database, tracked: Tracked) -> None:
    """Two slots are free and two of its organization are in line, but so is somebody else's."""
    tracked.register_worker()
    platform = limited(pool, tracked, 2)
    fill(tracked, 1, hold="organization_limit")
    fill(tracked, 2, hold="organization_limit", organization_id="globex")
    first, second = (tracked.get(job_id) for job_id in platform.in_line("globex"))
    assert asked(tracked, first, GLOBEX_SCOPE, 2).reasons[0].kind == "lifting"
    reason = asked(tracked, second, GLOBEX_SCOPE, 2).reasons[0]
    assert reason == InLine(limit=2, taken=0, place=2, holders=[])
    platform.turn()
    assert platform.holds([first, second]) == [None, "organization_limit"]


@settings(ON_ONE_DATABASE, max_examples=15)
@example(lines=[(1, 1, 0)], concurrency=1)  # alone and without a limit: the workers may be as busy as they are
@given(
    lines=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.sampled_from((0, 3, 7, None))), max_size=4),
    concurrency=st.integers(1, 12),
)
def test_about_to_be_sent_is_said_of_those_that_the_next_look_at_the_lines_sends(
    pool: Database, lines: list[tuple[int, int, int | None]], concurrency: int
) -> None:
    """However many organizations there are, with so many sent, so many in line, and a limit of its own or 5."""
    empty(pool)
    with pool.autocommit() as connection:
        tracked = Tracked(connection)
        platform = limited(pool, tracked, 5)
        workers.beat(connection, uuid4(), name="w", pid=1, queues=["default"], concurrency=concurrency)
        for name, (sent, in_line, limit) in zip(("acme", "Globex", "été", "日本"), lines, strict=False):
            if limit is not None:
                platform.set_limit(limit, name)
            fill(tracked, sent, organization_id=name)
            fill(tracked, in_line, organization_id=name, hold="organization_limit")
        said = {job.id for job in tracked.all() if job.hold and _first_reason(platform, job) == "lifting"}
        assert said == set(platform.look_at_the_lines())


def _first_reason(platform: Platform, job: JobRecord) -> str:
    scope = Scope(job.organization_id, None)
    return explain(platform.tracked.connection, job.id, scope, platform.limits).reasons[0].kind


def test_not_more_than_twenty_holders_are_named(pool: Database, tracked: Tracked) -> None:
    """All are counted."""
    platform = limited(pool, tracked, MOST_NAMED + 1)
    platform.start(MOST_NAMED + 1)
    job = platform.submit()
    reason = asked(tracked, job, limit=MOST_NAMED + 1).reasons[1]
    assert isinstance(reason, InLine)
    assert (reason.taken, len(reason.holders)) == (MOST_NAMED + 1, MOST_NAMED)


def test_a_queue_without_a_living_worker_matters_more_than_the_line(platform: Platform) -> None:
    """A slot would not help."""
    platform.start(5)
    job = platform.submit(queue="nobody's")
    assert kinds(platform.tracked, job) == ["no_worker", "organization_limit"]


def test_dependencies_that_have_not_succeeded_are_named_with_their_status(platform: Platform) -> None:
    """Those that have are only counted."""
    done, running, queued = platform.tracked.run(), *platform.start(1), platform.submit()
    job = platform.submit(depends_on=[done.id, running.id, queued.id])
    reason = only(platform.tracked, job)
    assert isinstance(reason, Dependency)
    assert (reason.total, reason.unfinished) == (3, 2)
    assert [(each.job_id, each.status) for each in reason.jobs] == [(running.id, "running"), (queued.id, "queued")]


def test_a_dependency_of_another_user_is_counted_and_not_named(platform: Platform) -> None:
    """To somebody who sees the organization it is named."""
    other = platform.submit(owner=Owner("acme", "u2"))
    job = platform.submit(depends_on=[other.id])
    assert (only(platform.tracked, job, U1).unfinished, only(platform.tracked, job, U1).jobs) == (1, [])
    assert [each.job_id for each in only(platform.tracked, job).jobs] == [other.id]


def test_a_job_that_has_started_once_does_not_wait_for_its_dependencies_again(platform: Platform) -> None:
    """Also when one of them is gone."""
    needed = platform.tracked.run()
    job = platform.tracked.back_off(platform.tracked.start(platform.submit(depends_on=[needed.id])))
    platform.tracked.connection.execute(delete(table).where(table.c.id == needed.id))
    assert kinds(platform.tracked, job) == ["backoff"]


def test_a_scheduled_job_is_told_when_it_is_due(platform: Platform) -> None:
    """By its row."""
    job = platform.submit(delay=HOUR)
    assert only(platform.tracked, job) == Scheduled(known(job.due_at))


def test_a_job_that_backs_off_is_told_its_error_and_when_it_is_due(platform: Platform) -> None:
    """Which attempt failed, how, and the next one's time."""
    job = platform.tracked.back_off(platform.tracked.start(platform.submit()))
    assert only(platform.tracked, job) == BackOff(known(job.due_at), 1, "ConnectionError", "away")


def test_all_reasons_are_listed_and_the_hold_is_first(platform: Platform) -> None:
    """Scheduled, its type paused, its circuit open, and nobody for its queue."""
    platform.break_circuit()
    platform.pause("acme", "count_words")
    platform.pause("acme")
    job = platform.submit(delay=HOUR, queue="nobody's")
    assert kinds(platform.tracked, job) == ["schedule", "no_worker", "paused", "paused", "circuit"]


def test_a_pause_is_told_with_who_and_why(platform: Platform) -> None:
    """And since when."""
    platform.pause("acme", "count_words")
    reason = only(platform.tracked, platform.submit())
    assert isinstance(reason, Paused)
    assert (reason.job_type, reason.everywhere, reason.paused_by, reason.reason) == (
        *("count_words", False, "admin"),
        "maintenance",
    )


def test_an_operator_who_paused_everywhere_is_not_named(platform: Platform) -> None:
    """The name belongs to another organization."""
    platform.pause(job_type="count_words")
    reason = only(platform.tracked, platform.submit())
    assert (reason.everywhere, reason.paused_by) == (True, None)


@pytest.mark.parametrize(("organization", "job_type"), [("globex", None), ("globex", "count_words"), (None, "sync")])
def test_a_pause_of_others_is_not_told(platform: Platform, organization: str | None, job_type: str | None) -> None:
    """Of another organization, or another type."""
    platform.pause(organization, job_type)
    assert kinds(platform.tracked, platform.submit()) == ["dispatch"]


def test_an_open_circuit_is_told_until_when(platform: Platform) -> None:
    """Then it is half open."""
    platform.break_circuit()
    job = platform.submit()
    reason = only(platform.tracked, job)
    assert isinstance(reason, CircuitOpen)
    assert (reason.state, reason.failures) == ("open", 3)
    assert timedelta(0) < reason.open_until - job.created_at <= MINUTE
    platform.let_circuits_rest()
    assert only(platform.tracked, job).state == "half_open"


def test_the_job_that_tries_is_not_held_by_the_circuit(platform: Platform) -> None:
    """It is about to be sent; the others wait for it."""
    platform.break_circuit()
    first, second = platform.submit_many(2)
    platform.let_circuits_rest()
    assert platform.probe() == [first.id]
    assert (kinds(platform.tracked, first), kinds(platform.tracked, second)) == (["lifting"], ["circuit"])


def test_a_hold_that_is_over_is_said_to_be_over(platform: Platform) -> None:
    """Between the end of a pause and the turn of upkeep."""
    platform.pause("acme")
    job = platform.submit()
    platform.resume("acme")
    assert kinds(platform.tracked, job) == ["lifting"]


def test_a_job_that_the_broker_has_not_confirmed_is_on_its_way(platform: Platform) -> None:
    """Since it was accepted."""
    job = platform.submit()
    assert only(platform.tracked, job) == Unsent("default", job.updated_at)


def test_a_sent_job_is_told_its_place_in_the_queue(platform: Platform) -> None:
    """By priority, then in the order of sending; of its own organization, and no other queue."""
    tracked = platform.tracked
    first, second = (mark_sent(tracked, tracked.submit()) for _ in range(2))
    mark_sent(tracked, tracked.submit(queue="maintenance"))
    urgent = mark_sent(tracked, tracked.submit(priority=5))
    tracked.submit(priority=9)  # not sent yet
    assert [only(tracked, job).place for job in (urgent, first, second)] == [1, 2, 3]
    assert only(tracked, first) == Sent("default", 2, 3, known(first.dispatched_at))


def test_nothing_of_another_organization_counts_in_a_queue(platform: Platform) -> None:
    """However much it has sent, and however urgent that is."""
    tracked = platform.tracked
    for priority in range(10):
        mark_sent(tracked, tracked.submit(owner=GLOBEX, priority=priority))
    assert only(tracked, mark_sent(tracked, tracked.submit())).place == 1


def test_a_sent_job_whose_queue_nobody_consumes_is_told_so(tracked: Tracked) -> None:
    """Also when a worker was there and has died."""
    job = mark_sent(tracked, tracked.submit())
    tracked.register_worker(seen=HOUR)
    assert kinds(tracked, job) == ["no_worker"]


def test_a_sent_job_of_a_paused_type_is_told_of_the_pause_first(platform: Platform) -> None:
    """The worker will not start it."""
    job = mark_sent(platform.tracked, platform.submit())
    platform.pause(job_type="count_words")
    assert kinds(platform.tracked, job) == ["paused", "queue"]


def test_a_running_job_is_told_its_worker_and_whether_that_lives(tracked: Tracked) -> None:
    """By the worker's lease."""
    lease = tracked.register_worker()
    job = tracked.start(tracked.submit(), lease=lease)
    assert only(tracked, job) == Running("worker-1", 1, known(job.started_at), is_alive=True)
    tracked.age_heartbeat(lease, HOUR)
    assert only(tracked, job).is_alive is False
    workers.leave(tracked.connection, lease)
    assert only(tracked, job).is_alive is False


def test_a_cancelled_job_whose_body_still_stops_is_told_both(tracked: Tracked) -> None:
    """First that it stops, then who cancelled it."""
    job = tracked.cancel(tracked.start(tracked.submit(), lease=tracked.register_worker()))
    stopping, cancelled = asked(tracked, job).reasons
    assert stopping == Stopping("worker-1", known(job.cancel_requested_at), None, is_alive=True)
    assert isinstance(cancelled, Cancelled)


def test_a_cancelled_job_is_told_by_whom_and_why(tracked: Tracked) -> None:
    """Also after its body has stopped."""
    job = tracked.start(tracked.submit())
    jobs.cancel(tracked.connection, job.id, ACME, actor="u7", reason="not needed")
    jobs.stopped(tracked.connection, job.fence, actor="worker-1", how="returned")
    reason = only(tracked, job)
    assert (reason.by, reason.reason) == ("u7", "not needed")


def test_a_job_that_ended_with_its_dependency_is_told_so(platform: Platform) -> None:
    """By the platform, and which one it was."""
    first = platform.submit()
    second = platform.submit(depends_on=[first.id])
    platform.tracked.cancel(first)
    platform.turn()
    reason = only(platform.tracked, second)
    assert (reason.by, reason.reason) == ("admission", f"its dependency {first.id} is cancelled")


def test_a_failed_job_is_told_what_failed_after_how_many_attempts(tracked: Tracked) -> None:
    """And who said so."""
    job = tracked.start(tracked.release(tracked.back_off(tracked.start(tracked.submit()))))
    tracked.fail(job)
    reason = only(tracked, job)
    assert isinstance(reason, Failed)
    assert (reason.attempts, reason.error_type, reason.error_message, reason.by) == (
        *(2, "ValueError"),
        *("wrong", "worker-1"),
    )


def test_a_job_that_no_worker_could_run_failed_before_its_first_attempt(tracked: Tracked) -> None:
    """With that error."""
    job = tracked.submit()
    jobs.fail_waiting(tracked.connection, job.fence, actor="worker-1", error_type="NotRegistered", message="sync")
    reason = only(tracked, job)
    assert (reason.attempts, reason.error_type) == (0, "NotRegistered")


def test_a_succeeded_job_is_told_after_how_many_attempts(tracked: Tracked) -> None:
    """And where."""
    job = tracked.run()
    assert only(tracked, job) == Succeeded(1, "worker-1", tracked.history(job)[-1].at)


@pytest.mark.parametrize("situation", ["queued", "scheduled", "running", "retrying", "backoff", "succeeded", "failed"])
def test_there_is_always_a_reason(tracked: Tracked, situation: str) -> None:
    """In every situation."""
    job = tracked.put_into(situation)
    explanation = asked(tracked, job)
    assert explanation.job == job
    assert explanation.reasons[0].sentence.endswith(".")
    assert (job.status in (Status.QUEUED, Status.RETRYING)) == ("no_worker" in kinds(tracked, job))
