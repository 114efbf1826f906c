"""What waits, is due, is sent, or has lost its worker; groups and owners."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from tests.tracked import HOUR, LEASE_TIMEOUT, Tracked, reap, wish
from tracking import acting_as, groups, jobs, workers
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED
from tracking.models import (
    Fence,
    Owner,
    Progress,
    Refusal,
)
from tracking.ownership import current_owner
from tracking.schema import jobs as table
from tracking.states import Hold, Status

NO_TIME = timedelta(0)


# waiting, due, dispatched


def test_a_job_that_nobody_can_run_fails_with_the_reason(tracked: Tracked) -> None:
    """A waiting job that no worker can run fails with the reason and without an attempt."""
    job = tracked.submit()
    jobs.fail_waiting(tracked.connection, job.fence, actor="worker-1", error_type="NotRegistered", message="no handler")
    failed = tracked.get(job.id)
    assert (failed.status, failed.attempt, failed.error_message) == (Status.FAILED, 0, "no handler")


def test_a_scheduled_job_that_is_due_is_still_in_its_first_dispatch(tracked: Tracked) -> None:
    """A scheduled job that is due keeps its first dispatch number."""
    job = tracked.submit(delay=HOUR)
    released = tracked.release(job)
    assert (released.hold, released.status, released.dispatch) == (None, Status.QUEUED, 1)
    assert tracked.last_detail(job) == {"hold": "schedule"}


def test_a_retry_that_is_due_is_a_new_dispatch(tracked: Tracked) -> None:
    """A retry that is due has a new dispatch number."""
    backoff = tracked.put_into("backoff")
    released = tracked.release(backoff)
    assert (released.hold, released.status, released.dispatched_at) == (None, Status.RETRYING, None)
    assert released.dispatch == backoff.dispatch + 1


def test_a_job_is_not_released_before_it_is_due(tracked: Tracked) -> None:
    """A job is released once, and not before it is due."""
    job = tracked.submit(delay=HOUR)
    assert holds.lift_due(tracked.connection, UNLIMITED, 10) == []
    tracked.make_due(job)
    assert [released.id for released in holds.lift_due(tracked.connection, UNLIMITED, 10)] == [job.id]
    assert holds.lift_due(tracked.connection, UNLIMITED, 10) == []


def test_what_has_been_due_the_longest_is_released_first(tracked: Tracked) -> None:
    """Due jobs are released oldest first, up to the limit."""
    late, early, middle = (tracked.submit(delay=timedelta(hours=hours)) for hours in (3, 1, 2))
    for job in (late, early, middle):
        assert job.due_at is not None
        statement = table.update().where(table.c.id == job.id)
        tracked.connection.execute(statement.values(due_at=job.due_at - timedelta(days=1)))
    assert {job.id for job in holds.lift_due(tracked.connection, UNLIMITED, 2)} == {early.id, middle.id}
    assert [job.id for job in holds.lift_due(tracked.connection, UNLIMITED, 2)] == [late.id]


@pytest.mark.parametrize("hold", [hold for hold in Hold if hold not in (Hold.SCHEDULE, Hold.BACKOFF)])
def test_time_alone_does_not_lift_the_other_holds(tracked: Tracked, hold: Hold) -> None:
    """Time lifts no hold but schedule and backoff."""
    job = tracked.submit()
    values = {"hold": hold, "external": hold is Hold.EXTERNAL}
    tracked.connection.execute(table.update().where(table.c.id == job.id).values(values))
    tracked.make_due(job)
    assert holds.lift_due(tracked.connection, UNLIMITED, 10) == []
    assert jobs.claim(tracked.connection, [wish(job.fence)]) == [Refusal.HELD]


def test_a_job_is_undispatched_until_the_broker_has_confirmed_it(tracked: Tracked) -> None:
    """A job that is not held is undispatched until the broker has confirmed it."""
    job, _held = tracked.submit(), tracked.submit(delay=HOUR)
    assert jobs.undispatched(tracked.connection, NO_TIME, 10) == [job]
    jobs.mark_dispatched(tracked.connection, [job.fence, Fence(uuid4(), 1), Fence(job.id, 2)])
    assert jobs.undispatched(tracked.connection, NO_TIME, 10) == []


def test_a_young_undispatched_job_is_left_to_its_submitter(tracked: Tracked) -> None:
    """A young undispatched job is left to its submitter; older ones come oldest first."""
    first, second = tracked.submit(), tracked.submit()
    assert jobs.undispatched(tracked.connection, HOUR, 10) == []
    assert jobs.undispatched(tracked.connection, NO_TIME, 1) == [first]
    assert jobs.undispatched(tracked.connection, NO_TIME, 10) == [first, second]


def test_the_confirmation_of_an_older_dispatch_does_not_count(tracked: Tracked) -> None:
    """The confirmation of an older dispatch does not mark the current one."""
    job = tracked.end(tracked.start(tracked.submit()), "released")
    jobs.mark_dispatched(tracked.connection, [Fence(job.id, 1)])
    assert jobs.undispatched(tracked.connection, NO_TIME, 10) == [job]


def test_a_job_can_be_dispatched_again(tracked: Tracked) -> None:
    """A waiting job can be marked to be sent again."""
    job = tracked.submit()
    jobs.mark_dispatched(tracked.connection, [job.fence])
    assert jobs.redispatch(tracked.connection, job.fence)
    assert [found.id for found in jobs.undispatched(tracked.connection, NO_TIME, 10)] == [job.id]


# workers


def test_the_jobs_of_a_dead_worker_run_again(tracked: Tracked) -> None:
    """The jobs of a dead worker are released, and those of a living one are not."""
    dead, alive = tracked.register_worker(seen=LEASE_TIMEOUT), tracked.register_worker()
    lost, running = (tracked.start(tracked.submit(), lease=lease) for lease in (dead, alive))
    [settled] = reap(tracked.connection, LEASE_TIMEOUT, 10)
    assert (settled.job_id, settled.status) == (lost.id, Status.QUEUED)
    assert (tracked.get(lost.id).losses, tracked.history(lost)[-1].actor) == (1, "upkeep")
    assert tracked.get(running.id) == running


def test_a_worker_that_has_left_is_dead_at_once(tracked: Tracked) -> None:
    """The jobs of a worker that has left are released without waiting for its lease."""
    lease = tracked.register_worker()
    running = tracked.start(tracked.submit(), lease=lease)
    workers.leave(tracked.connection, lease)
    assert [settled.job_id for settled in reap(tracked.connection, LEASE_TIMEOUT, 10)] == [running.id]


def test_a_heartbeat_brings_a_worker_back(tracked: Tracked) -> None:
    """A heartbeat before the reaper's look keeps the jobs of a late worker."""
    lease = tracked.register_worker(seen=HOUR)
    tracked.start(tracked.submit(), lease=lease)
    workers.beat(tracked.connection, lease, name="worker-1", pid=1, queues=["default"], concurrency=2)
    assert reap(tracked.connection, LEASE_TIMEOUT, 10) == []


def test_the_outcome_of_a_worker_that_was_thought_dead_is_refused(tracked: Tracked) -> None:
    """The outcome of a worker that was taken for dead is refused."""
    running = tracked.start(tracked.submit(), lease=tracked.register_worker(seen=HOUR))
    reap(tracked.connection, LEASE_TIMEOUT, 10)
    assert tracked.settle(running, "succeeded") == []
    assert not jobs.report(tracked.connection, Progress(running.fence, 1, percent=50))


def test_a_job_that_kills_its_workers_is_not_reaped_for_ever(tracked: Tracked) -> None:
    """A job whose third worker died fails."""
    job = tracked.submit()
    for _ in range(3):
        tracked.start(job, lease=tracked.register_worker(seen=HOUR))
        [settled] = reap(tracked.connection, LEASE_TIMEOUT, 10)
        job = tracked.get(job.id)
    assert (settled.status, job.error_message) == (Status.FAILED, "the job took down 3 workers")


def test_the_reaper_takes_no_more_than_its_limit(tracked: Tracked) -> None:
    """The reaper takes at most its limit, and the rest at its next call."""
    for _ in range(3):
        tracked.start(tracked.submit(), lease=uuid4())
    assert [len(reap(tracked.connection, LEASE_TIMEOUT, 2)) for _ in range(3)] == [2, 1, 0]


def test_the_living_workers_are_those_with_a_recent_heartbeat(tracked: Tracked) -> None:
    """A worker lives while its heartbeat is recent, and is forgotten later."""
    lease, silent = tracked.register_worker(), tracked.register_worker(seen=timedelta(days=2))
    [worker] = workers.live(tracked.connection, LEASE_TIMEOUT)
    assert (worker.lease, worker.name, worker.queues, worker.concurrency) == (lease, "worker-1", ("default",), 2)
    for patience, are_any in ((LEASE_TIMEOUT, True), (timedelta(0), False)):
        assert workers.is_any_live(tracked.connection, patience) == are_any
        assert workers.served_queues(tracked.connection, patience) == frozenset({"default"} if are_any else ())
        assert list(workers.live_names(tracked.connection, patience, most=1)) == (["worker-1"] if are_any else [])
    workers.forget_dead(tracked.connection, timedelta(days=1))
    assert {worker.lease for worker in workers.live(tracked.connection, timedelta(days=9))} == {lease} - {silent}


# canvas groups, owners


def test_the_size_of_a_group_is_unknown_until_it_is_set(tracked: Tracked) -> None:
    """The size of a group is None until it is set, and the last value counts."""
    assert groups.size(tracked.connection, "g1") is None
    groups.set_size(tracked.connection, "g1", 3)
    groups.set_size(tracked.connection, "g1", 4)
    assert groups.size(tracked.connection, "g1") == 4
    assert groups.size(tracked.connection, "g2") is None


def test_the_results_of_a_group_come_in_its_order_when_all_have_succeeded(tracked: Tracked) -> None:
    """A group's results come in its order once all have succeeded."""
    groups.set_size(tracked.connection, "g1", 2)
    groups.grow(tracked.connection, "g1")
    members = [tracked.start(tracked.submit(group_id="g1", group_index=index)) for index in range(3)]
    tracked.end(tracked.start(tracked.submit(group_id="g2", group_index=0)), "succeeded", result="other")
    for member in reversed(members):
        assert groups.results(tracked.connection, "g1") is None
        tracked.end(member, "succeeded", result=member.group_index)
    assert groups.results(tracked.connection, "g1") == [0, 1, 2]


def test_the_results_of_a_saved_group_have_its_shape(tracked: Tracked) -> None:
    """The results of a saved group are nested like the group."""
    members = [tracked.start(tracked.submit(group_id="g1", group_index=0)) for _ in range(3)]
    first, second, third = [[[str(member.id), None], None] for member in members]
    groups.save(tracked.connection, "g1", [["g1", None], [third, [["g2", None], [first, second]]]])
    groups.set_size(tracked.connection, "g1", 3)
    for number, member in enumerate(members):
        tracked.end(member, "succeeded", result=number)
    assert groups.results(tracked.connection, "g1") == [2, [0, 1]]
    groups.forget(tracked.connection, "g1")
    assert groups.restore(tracked.connection, "g1") is None


def test_code_acts_in_the_name_of_the_innermost_block(tracked: Tracked) -> None:
    """The owner of code is the innermost acting_as block's, also after an error."""
    with acting_as("acme", "u1") as outer:
        assert current_owner() == outer == Owner("acme", "u1")
        with acting_as("globex", "u2") as inner:
            assert current_owner() == inner == Owner("globex", "u2")
        with pytest.raises(ValueError, match="broken"), acting_as("globex", "u3"):
            raise ValueError("broken")
        assert current_owner() == outer
    assert current_owner() is None
