"""Which waiting job goes next: the one rule, the slots and the line, dependencies, circuits and pauses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import Mock, patch
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from tasks.broker import admitting
from tasks.worker import upkeep
from tasks.worker.upkeep import Sending
from tests.holding import GLOBEX, Platform, fill, limited
from tests.tracked import HOUR, Tracked, check_rows, new_job, outcome, reap, wish
from tracking import jobs, workers
from tracking.admission import circuits, holds
from tracking.admission.functions import FUNCTIONS
from tracking.admission.holds import UNLIMITED
from tracking.db import Database
from tracking.errors import InvalidValue, UnknownDependency
from tracking.models import Changes, JobRecord, Owner, Refusal, Scope
from tracking.states import Status

INITECH = Owner("initech", "u1")


@pytest.fixture
def two(pool: Database, tracked: Tracked) -> Iterator[Platform]:
    """Two jobs of an organization may execute at once. Afterwards the rows must tell no lie."""
    yield limited(pool, tracked, 2)
    check_rows(tracked)


@pytest.fixture
def free(pool: Database, tracked: Tracked) -> Iterator[Platform]:
    """Any number of jobs may execute at once."""
    yield limited(pool, tracked, 0)
    check_rows(tracked)


def ids(jobs_: list[JobRecord]) -> list[Any]:
    """Their ids."""
    return [job.id for job in jobs_]


def age(tracked: Tracked, job: JobRecord) -> None:
    """Let a minute pass since the job's last change."""
    tracked.connection.execute(
        text("UPDATE jobs SET updated_at = updated_at - interval '1 minute' WHERE id = :id"), {"id": job.id}
    )


# the rule


def test_a_job_waits_for_one_thing_after_another(two: Platform, tracked: Tracked) -> None:
    """Its dependencies, its time, a pause, a circuit, a slot; history says when each was over."""
    two.break_circuit("fragile")
    two.pause("acme", "fragile")
    wanted = tracked.start(two.submit())
    job = two.submit(job_type="fragile", depends_on=[wanted.id], delay=HOUR)
    assert job.hold == "dependency"
    tracked.end(wanted)
    two.start(2)
    two.turn()
    assert tracked.get(job.id).hold == "schedule"
    tracked.make_due(job)
    two.turn()
    assert tracked.get(job.id).hold == "paused"
    two.resume("acme", "fragile")
    two.turn()
    assert tracked.get(job.id).hold == "circuit"
    two.let_circuits_rest()
    tracked.end(tracked.get(two.in_flight()[0]))
    assert two.probe() == [job.id]
    two.start(1)
    two.turn()
    assert tracked.get(job.id).hold == "organization_limit"
    tracked.end(tracked.get(two.in_flight()[0]))
    assert two.turn() == [job.id]
    assert tracked.get(job.id).hold is None
    waited = [(str(entry.event), entry.detail["hold"]) for entry in tracked.history(job)]
    assert waited == [
        ("created", "dependency"),
        ("due", "dependency"),
        ("held", "paused"),
        ("held", "circuit"),
        ("due", "circuit"),
        ("due", "organization_limit"),
    ]


def test_a_retry_waits_for_its_backoff_and_then_in_line(two: Platform, tracked: Tracked) -> None:
    """It has given its slot away meanwhile; it comes back as a new dispatch."""
    job, other = two.start(2)
    waiting = tracked.back_off(job)
    next_one = tracked.start(two.submit())
    tracked.make_due(waiting)
    assert two.turn() == []
    assert tracked.get(job.id).hold == "organization_limit"
    assert tracked.get(job.id).dispatch == job.dispatch + 1
    tracked.end(other)
    assert two.turn() == [job.id]
    assert two.in_flight() == [job.id, next_one.id]


def test_a_job_that_is_due_at_once_does_not_wait(two: Platform) -> None:
    """A time in the past is no hold."""
    assert two.submit(delay=timedelta(seconds=-5)).hold is None


def test_a_scheduled_job_takes_no_slot_before_it_is_due(two: Platform, tracked: Tracked) -> None:
    """Then it stands in line like any other."""
    scheduled = two.submit(delay=HOUR)
    running = two.start(2)
    assert two.submit().hold == "organization_limit"
    tracked.make_due(scheduled)
    assert two.turn() == []
    tracked.end(running[0])
    assert two.turn() == [scheduled.id], "it is the older one"


# slots


def test_the_first_jobs_go_at_once_and_the_others_stand_in_line(two: Platform) -> None:
    """Each with that hold, so that everybody can see why."""
    made = two.submit_many(5)
    assert two.holds(made) == [None, None, *["organization_limit"] * 3]
    assert two.in_flight() == ids(made[:2])


@contextmanager
def watching(two: Platform, pool: Database) -> Iterator[list[int]]:
    """How many jobs are in flight, again and again."""
    seen: list[int] = []
    done = threading.Event()

    def watch() -> None:
        with pool.autocommit() as connection:
            while not done.is_set():
                seen.append(len(replace(two, tracked=Tracked(connection)).in_flight()))

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    done.set()
    thread.join(10)


def test_a_hundred_submits_at_once_take_five_slots(pool: Database, tracked: Tracked) -> None:
    """At no instant more; the others are in line."""
    five = limited(pool, tracked, 5)
    large = Database(pool.engine.url.render_as_string(hide_password=False), pool_size=20)
    with watching(five, pool) as seen, ThreadPoolExecutor(20) as threads:
        list(threads.map(lambda _: replace(five, pool=large).submit(), range(100)))
    large.close()
    assert (len(five.in_flight()), len(five.in_line())) == (5, 95)
    assert max(seen) <= 5


ENDINGS: dict[str, Callable[[Tracked, JobRecord], object]] = {
    "success": Tracked.end,
    "failure": Tracked.fail,
    "back-off": Tracked.back_off,
    "ended from outside": lambda tracked, job: tracked.end(job, "cancelled"),
    "poison": lambda tracked, job: jobs.settle(tracked.connection, [outcome(job, "lost")], max_losses=1),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_the_end_of_an_attempt_frees_its_slot(
    two: Platform, tracked: Tracked, end: Callable[[Tracked, JobRecord], object]
) -> None:
    """For the next one in line, at once."""
    running, _ = two.start(2)
    waiting = two.submit_many(2)
    assert two.admit() == []
    end(tracked, running)
    assert two.after(running) == [waiting[0].id]
    assert two.holds(waiting) == [None, "organization_limit"]


@pytest.mark.parametrize("kind", ["released", "lost"])
def test_an_attempt_that_will_be_repeated_keeps_its_slot(two: Platform, tracked: Tracked, kind: Any) -> None:
    """It was first."""
    running, _ = two.start(2)
    two.submit()
    tracked.end(running, kind)
    assert two.after(running) == []
    assert len(two.in_flight()) == 2


def test_the_cancel_of_a_job_that_was_sent_frees_its_slot(two: Platform, tracked: Tracked) -> None:
    """It will never start."""
    sent, _ = two.submit_many(2)
    waiting = two.submit()
    tracked.cancel(sent)
    assert two.after(sent) == [waiting.id]


def test_the_cancel_of_a_job_in_line_frees_nothing(two: Platform, tracked: Tracked) -> None:
    """It had no slot; those behind it move up."""
    running, _ = two.start(2)
    first, second = two.submit_many(2)
    tracked.cancel(first)
    assert two.after(first) == []
    tracked.end(running)
    assert two.after(running) == [second.id]


def test_the_cancel_of_a_running_job_frees_its_slot_when_its_body_is_over(two: Platform, tracked: Tracked) -> None:
    """Until then it uses what the slot stands for."""
    running, _ = two.start(2)
    waiting = two.submit()
    tracked.cancel(running)
    assert two.after(running) == []
    jobs.stopped(tracked.connection, running.fence, actor="worker-1", how="at a step")
    assert two.after(running) == [waiting.id]


def test_a_worker_that_is_lost_takes_no_slot_with_it(two: Platform, tracked: Tracked) -> None:
    """Its jobs keep theirs and run again; what was cancelled on it gives its own back."""
    dead = tracked.register_worker(seen=HOUR)
    again, cancelled = (tracked.start(job, lease=dead) for job in two.submit_many(2))
    waiting = two.submit()
    tracked.cancel(cancelled)
    reap(tracked.connection, timedelta(seconds=20), 100)
    assert two.turn() == [waiting.id]
    assert two.in_flight() == [again.id, waiting.id]


def test_a_job_that_no_worker_can_run_frees_its_slot(two: Platform, tracked: Tracked) -> None:
    """Its handler is not known."""
    sent, _ = two.submit_many(2)
    waiting = two.submit()
    jobs.fail_waiting(tracked.connection, sent.fence, actor="worker-1", error_type="NotRegistered", message="?")
    assert two.turn() == [waiting.id]


def test_the_line_goes_by_priority_then_by_age(two: Platform, tracked: Tracked) -> None:
    """The more urgent first, and of two that are equally urgent the older one."""
    running = two.start(2)
    waiting = [two.submit(priority=priority) for priority in (3, 9, 0, 3, 9)]
    for job in running:
        tracked.end(job)
    assert two.admit() == [waiting[1].id, waiting[4].id]
    for sent in (waiting[1], waiting[4]):
        tracked.end(tracked.start(sent))
    assert two.admit() == [waiting[0].id, waiting[3].id]


def test_a_new_job_does_not_overtake_the_line(two: Platform, tracked: Tracked) -> None:
    """Although there is a slot, just now."""
    running = two.start(2)
    first = two.submit()
    tracked.end(running[0])
    assert two.submit().hold == "organization_limit"
    assert two.admit() == [first.id]


def test_each_organization_has_slots_of_its_own(two: Platform) -> None:
    """Nobody waits for another's jobs."""
    two.submit_many(5)
    assert two.holds(two.submit_many(3, owner=GLOBEX)) == [None, None, "organization_limit"]


def test_without_a_limit_nobody_stands_in_line(free: Platform) -> None:
    """0 stands for any number."""
    assert free.holds(free.submit_many(20)) == [None] * 20


def test_a_look_asks_once_for_each_organization_whether_others_stand_in_line(free: Platform, tracked: Tracked) -> None:
    """Not for each of its jobs: what the lines have lost lately is read again each time."""
    for organization in ("acme", "globex"):
        fill(tracked, 20, organization_id=organization, hold="schedule", delay=-HOUR)
    fill(tracked, 1, organization_id="initech", hold="organization_limit")
    asked = {**free.limits.parameters, "batch": 100}
    [(plan,)] = tracked.connection.execute(text(f"EXPLAIN (ANALYZE, VERBOSE, FORMAT JSON) {holds.LIFT_DUE}"), asked)
    assert list(_rows_that_ask("is_contended(", plan[0]["Plan"])) == [2]
    assert free.holds() == ["organization_limit"] * 41


def _rows_that_ask(call: str, plan: dict[str, Any]) -> Iterator[float]:
    """How many rows each node of an executed plan has made that has this call in its output."""
    if any(call in column for column in plan.get("Output", ())):
        yield plan["Actual Rows"] * plan["Actual Loops"]
    for node in plan.get("Plans", ()):
        yield from _rows_that_ask(call, node)


def test_an_organization_may_have_a_limit_of_its_own(two: Platform) -> None:
    """Higher or lower than the others', or none."""
    for limit, organization in ((1, "acme"), (3, "globex"), (0, "initech")):
        two.set_limit(limit, organization)
        made = two.submit_many(4, owner=replace(GLOBEX, organization_id=organization))
        assert two.holds(made).count(None) == (limit or 4)


def test_a_lower_limit_sends_the_least_urgent_back_into_the_line(two: Platform, tracked: Tracked) -> None:
    """Of equally urgent ones the newest first; what runs goes on."""
    two.set_limit(5)
    running = tracked.start(two.submit())
    sent = [two.submit(priority=priority) for priority in (0, 9, 0, 5)]
    assert set(two.set_limit(3)) == {sent[0].id, sent[2].id}
    assert two.in_flight() == [running.id, sent[1].id, sent[3].id]
    assert jobs.claim(tracked.connection, [wish(sent[0].fence)]) == [Refusal.HELD]
    assert two.admit() == []
    tracked.end(running)
    assert two.admit() == [sent[0].id]
    tracked.start(sent[0])


def test_a_limit_below_what_runs_waits_for_the_end_of_what_runs(two: Platform, tracked: Tracked) -> None:
    """Nothing is interrupted, and nothing else starts."""
    running = two.start(2)
    two.set_limit(1)
    waiting = two.submit()
    tracked.end(running[0])
    assert two.after(running[0]) == []
    tracked.end(running[1])
    assert two.after(running[1]) == [waiting.id]


def test_a_higher_limit_lets_more_go(two: Platform) -> None:
    """As many as it is higher."""
    made = two.submit_many(6)
    two.set_limit(5)
    assert two.turn() == ids(made[2:5])
    two.set_limit(0)
    assert two.turn() == ids(made[5:])


def test_a_limit_for_those_who_had_none(free: Platform) -> None:
    """What was sent too many goes into the line, newest first."""
    made = free.submit_many(4)
    free.set_limit(1)
    assert free.holds(made) == [None, *["organization_limit"] * 3]


def test_the_platforms_limit_may_be_given_back(two: Platform, pool: Database) -> None:
    """An organization's own limit is not for ever."""
    two.set_limit(5)
    made = two.submit_many(5)
    with pool.begin() as connection:
        holds.reset_limit(connection, "acme", two.limits)
    assert two.in_flight() == ids(made[:2])


def test_a_lower_limit_of_the_platform_sends_back_what_is_too_much(free: Platform, pool: Database) -> None:
    """As after a restart with another setting, or jobs that were released while the limit was lowered."""
    made = free.submit_many(6)
    two = limited(pool, free.tracked, 2)
    two.turn()
    assert two.in_flight() == ids(made[:2])


# the workers' slots


def test_no_more_is_sent_than_the_workers_can_run(pool: Database, tracked: Tracked) -> None:
    """So that the only job of another organization is the next to start."""
    hundred = limited(pool, tracked, 100)
    tracked.register_worker()
    assert hundred.holds(hundred.submit_many(4)) == [None, None, "organization_limit", "organization_limit"]
    assert hundred.submit(owner=GLOBEX).hold is None
    assert hundred.turn() == []


def test_another_worker_lets_more_go(pool: Database, tracked: Tracked) -> None:
    """And one that has died does not count."""
    hundred = limited(pool, tracked, 100)
    tracked.register_worker()
    made = hundred.submit_many(5)
    lease = tracked.register_worker()
    assert hundred.turn() == ids(made[2:4])
    tracked.age_heartbeat(lease, HOUR)
    tracked.end(tracked.start(made[0]))
    assert hundred.turn() == []


def test_without_a_worker_the_limit_alone_counts(two: Platform, tracked: Tracked) -> None:
    """They may start at any moment."""
    tracked.register_worker(seen=HOUR)
    assert two.holds(two.submit_many(3)) == [None, None, "organization_limit"]


# the workers' queues


def serve(tracked: Tracked, *queues: str) -> UUID:
    """The lease of a worker that consumes these queues."""
    lease = uuid4()
    workers.beat(tracked.connection, lease, name=queues[0], pid=1, queues=queues, concurrency=2)
    return lease


def test_a_job_that_no_living_worker_would_run_takes_no_slot(two: Platform, tracked: Tracked) -> None:
    """It waits in line until one comes; those behind it go."""
    serve(tracked, "default")
    unserved = two.submit_many(2, queue="reports")
    served = two.submit_many(3)
    assert two.holds(unserved) == ["organization_limit"] * 2
    assert two.holds(served) == [None, None, "organization_limit"]
    assert two.turn() == []
    serve(tracked, "reports")
    tracked.end(tracked.start(served[0]))
    assert two.turn() == [unserved[0].id]


def test_what_was_sent_to_a_queue_whose_last_worker_died_gives_its_slot_back(two: Platform, tracked: Tracked) -> None:
    """To those that somebody can run."""
    lease = serve(tracked, "reports")
    serve(tracked, "default")
    stuck, running = two.submit_many(2, queue="reports")
    tracked.start(running)
    waiting = two.submit()
    tracked.age_heartbeat(lease, HOUR)
    assert two.turn() == [waiting.id]
    assert tracked.get(stuck.id).hold == "organization_limit"
    assert tracked.history(stuck)[-1].detail["reason"] == "no living worker consumes the queue reports"
    serve(tracked, "reports")
    tracked.end(tracked.get(running.id))
    assert two.turn() == [stuck.id]


# dependencies


def test_a_job_runs_when_all_that_it_depends_on_have_succeeded(free: Platform, tracked: Tracked) -> None:
    """Not before the last of them."""
    first, second = free.start(2)
    job = free.submit(depends_on=[first.id, second.id])
    assert job.hold == "dependency"
    assert jobs.claim(tracked.connection, [wish(job.fence)]) == [Refusal.HELD]
    tracked.end(first)
    assert free.after(first) == []
    tracked.end(second)
    assert free.after(second) == [job.id]
    assert tracked.start(job).status is Status.RUNNING


def test_what_was_missed_at_the_moment_itself_is_found_by_the_leader(free: Platform, tracked: Tracked) -> None:
    """As when the process that settled died."""
    done, failed = free.start(2)
    goes, ends = free.submit(depends_on=[done.id]), free.submit(depends_on=[failed.id])
    tracked.end(done)
    tracked.fail(failed)
    assert free.turn() == [goes.id]
    assert tracked.get(ends.id).status is Status.CANCELLED


def test_a_dependency_that_has_succeeded_already_is_no_hold(free: Platform, tracked: Tracked) -> None:
    """Nothing to wait for."""
    assert free.submit(depends_on=[tracked.run().id]).hold is None


def test_a_dependency_that_ends_between_the_submit_and_the_look_is_seen(free: Platform, tracked: Tracked) -> None:
    """Whoever accepts a job with dependencies looks at them once more after its commit."""
    dependency = tracked.start(free.submit())
    job = free.submit(depends_on=[dependency.id])
    tracked.end(dependency)
    assert free.after(job) == []
    assert free.after(dependency) == [job.id]


def test_an_attempt_that_will_be_repeated_ends_nobodys_wait(free: Platform, tracked: Tracked) -> None:
    """Neither way."""
    dependency = tracked.start(free.submit())
    job = free.submit(depends_on=[dependency.id])
    tracked.back_off(dependency)
    free.turn()
    assert tracked.get(job.id).hold == "dependency"


BREAKS: dict[str, Callable[[Tracked, JobRecord], object]] = {"failed": Tracked.fail, "cancelled": Tracked.cancel}


@pytest.mark.parametrize("how", BREAKS)
def test_what_depends_on_a_job_that_did_not_succeed_is_cancelled(free: Platform, tracked: Tracked, how: str) -> None:
    """And what depends on that in turn; each says because of which job."""
    dependency = tracked.start(free.submit())
    child = free.submit(depends_on=[dependency.id])
    grandchild = free.submit(depends_on=[child.id], delay=HOUR)
    stranger = free.submit(depends_on=[free.submit().id])
    BREAKS[how](tracked, dependency)
    free.after(dependency)
    child, grandchild = tracked.get(child.id), tracked.get(grandchild.id)
    assert (child.status, child.error_message) == ("cancelled", f"its dependency {dependency.id} is {how}")
    assert (grandchild.status, grandchild.error_message) == ("cancelled", f"its dependency {child.id} is cancelled")
    assert tracked.history(child)[-1].detail["reason"] == child.error_message
    assert tracked.get(stranger.id).hold == "dependency"


def test_what_depends_on_a_job_that_is_gone_is_cancelled(free: Platform, tracked: Tracked) -> None:
    """It could wait for ever."""
    dependency = free.submit()
    job = free.submit(depends_on=[dependency.id])
    tracked.connection.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": dependency.id})
    tracked.connection.execute(text("DELETE FROM history WHERE job_id = :id"), {"id": dependency.id})
    free.turn()
    assert tracked.get(job.id).error_message == f"its dependency {dependency.id} is gone"


def test_a_long_chain_is_cancelled_in_one_turn(free: Platform, tracked: Tracked) -> None:
    """However deep."""
    chain = [free.submit()]
    for _ in range(20):
        chain.append(free.submit(depends_on=[chain[-1].id]))
    tracked.cancel(chain[0])
    free.after(chain[0])
    assert {tracked.get(job.id).status for job in chain} == {Status.CANCELLED}


def test_nobody_depends_on_itself(free: Platform) -> None:
    """Or on what is not there."""
    own = uuid4()
    with pytest.raises(InvalidValue, match="itself"):
        free.submit(id=own, depends_on=[own])
    with pytest.raises(UnknownDependency):
        free.submit(depends_on=[uuid4()])
    assert free.tracked.all() == []


def test_nobody_depends_on_what_it_may_not_see(free: Platform, pool: Database) -> None:
    """Another organization's job, or for a user another user's, is as good as none."""
    foreign = free.submit(owner=GLOBEX)
    with pytest.raises(UnknownDependency):
        free.submit(depends_on=[foreign.id])
    mine = free.submit()
    with pool.begin() as connection, pytest.raises(UnknownDependency):
        jobs.submit(connection, new_job(depends_on=[mine.id]), UNLIMITED, scope=Scope("acme", "u2"))


def test_a_retry_does_not_ask_again_for_dependencies_that_were_fulfilled(free: Platform, tracked: Tracked) -> None:
    """They may have been removed meanwhile: the job has run, so they had succeeded."""
    dependency = tracked.run()
    job = tracked.fail(tracked.start(free.submit(depends_on=[dependency.id])))
    tracked.connection.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": dependency.id})
    assert free.retry(job).hold is None


def test_a_retry_of_what_its_dependency_ended_waits_for_it_again(free: Platform, tracked: Tracked) -> None:
    """First the one, then the other."""
    dependency = tracked.start(free.submit())
    job = free.submit(depends_on=[dependency.id])
    tracked.fail(dependency)
    free.after(dependency)
    free.retry(dependency)
    assert free.retry(job).hold == "dependency"
    free.turn()
    tracked.end(tracked.start(tracked.get(dependency.id)))
    assert free.after(dependency) == [job.id]


# circuits


def test_the_circuit_of_a_type_opens_after_so_many_failures_in_a_row(free: Platform, tracked: Tracked) -> None:
    """Of the jobs of one organization, whoever's; attempts that are repeated count as well."""
    tracked.fail(tracked.start(free.submit()))
    backing_off = tracked.back_off(tracked.start(free.submit(owner=Owner("acme", "u2"))))
    assert not free.trip(backing_off)
    assert free.submit().hold is None
    failed = tracked.fail(tracked.start(free.submit()))
    assert free.trip(failed)
    assert not free.trip(failed), "it is open"
    assert free.submit().hold == "circuit"
    assert free.submit(job_type="another").hold is None


def test_the_failures_of_an_organization_are_no_matter_of_another(free: Platform, tracked: Tracked) -> None:
    """They do not count together, and an open circuit holds nobody else's jobs."""
    for owner in (GLOBEX, GLOBEX, Owner("acme", "u1")):
        failed = tracked.fail(tracked.start(free.submit(owner=owner)))
        assert not free.trip(failed)
    sent = free.submit(owner=GLOBEX)
    free.break_circuit()
    assert free.submit().hold == "circuit"
    assert free.submit(owner=GLOBEX).hold is None
    tracked.start(sent)


def test_a_circuit_opens_for_all_while_those_of_several_organizations_are_open(free: Platform) -> None:
    """It closes with the last but one of them."""
    free.break_circuit()
    free.break_circuit(owner=GLOBEX)
    third = free.submit(owner=INITECH)
    assert third.hold == "circuit"
    assert free.turn() == []
    free.tracked.connection.execute(text("DELETE FROM circuits WHERE organization_id = 'acme'"))
    assert free.turn() == [third.id]
    assert free.submit(owner=GLOBEX).hold == "circuit"


def test_each_key_that_a_handler_names_has_a_circuit_of_its_own(free: Platform, tracked: Tracked) -> None:
    """Five dead receivers do not stop the messages to a sixth; and jobs of one key do not count in another's."""
    for number in range(5):
        free.break_circuit(circuit_key=f"dead-{number}")
        failed = tracked.fail(tracked.start(free.submit(circuit_key="weak", max_retries=0)))
        assert free.submit(circuit_key=f"dead-{number}").hold == "circuit"
        tracked.end(tracked.start(free.submit(circuit_key="weak")))
    assert not free.trip(failed)
    assert [free.submit(circuit_key=key).hold for key in ("alive", "weak", "")] == [None] * 3


def test_what_a_retry_changes_counts_in_the_circuit_of_its_own_attempt(free: Platform, tracked: Tracked) -> None:
    """The failure in that of the old address, the success in that of the new one."""
    for _ in range(3):
        job = tracked.start(free.submit(circuit_key="old"))
        tracked.end(job, "retry", delay=HOUR, changes=Changes(circuit_key="new"))
    job = tracked.get(job.id)
    assert job.circuit_key == "new"
    assert not free.trip(job)
    assert free.trip(tracked.fail(tracked.start(free.submit(circuit_key="old"))))


def test_a_failure_by_the_fault_of_its_payload_does_not_count(free: Platform, tracked: Tracked) -> None:
    """Nor does it begin the count anew: it says nothing."""
    for _ in range(2):
        for _ in range(5):
            blamed = free.blame_payload(tracked.start(free.submit()))
            assert not free.trip(blamed)
        tracked.fail(tracked.start(free.submit()))
    blamed = free.blame_payload(tracked.start(free.submit()))
    assert not free.trip(blamed)
    assert free.trip(tracked.fail(tracked.start(free.submit())))


def test_a_success_in_between_begins_the_count_anew(free: Platform, tracked: Tracked) -> None:
    """In a row means in a row."""
    for end in (tracked.fail, tracked.fail, tracked.end, tracked.fail, tracked.fail):
        assert not free.trip(end(tracked.start(free.submit())))
    assert free.trip(tracked.fail(tracked.start(free.submit())))


def test_cancelled_released_and_lost_attempts_are_no_failures(free: Platform, tracked: Tracked) -> None:
    """They say nothing of the type, not even the last one of a job that took down too many workers."""
    for _ in range(3):
        tracked.cancel(tracked.start(free.submit()))
        tracked.end(tracked.start(free.submit()), "released")
        poison = tracked.start(free.submit())
        jobs.settle(tracked.connection, [outcome(poison, "lost")], max_losses=1)
    assert tracked.get(poison.id).status is Status.FAILED
    assert not free.trip(poison)


def test_jobs_behind_an_open_circuit_are_held_and_not_burned(free: Platform, tracked: Tracked) -> None:
    """Also those that were sent before: they are refused at the claim, without an attempt."""
    sent = free.submit()
    free.break_circuit()
    assert jobs.claim(tracked.connection, [wish(sent.fence)]) == [Refusal.HELD]
    held = tracked.get(sent.id)
    assert (held.hold, held.attempt, held.retry_count) == ("circuit", 0, 0)
    assert tracked.events(sent) == ["created", "held"]


def test_one_job_tries_after_the_pause(free: Platform, tracked: Tracked) -> None:
    """The most urgent one, alone."""
    free.break_circuit()
    waiting = free.submit_many(2)
    urgent = free.submit(priority=9)
    assert free.turn() == []
    free.let_circuits_rest()
    assert free.turn() == [urgent.id]
    assert free.turn() == []
    assert free.holds(waiting) == ["circuit"] * 2
    assert jobs.claim(tracked.connection, [wish(waiting[0].fence)]) == [Refusal.HELD]
    assert tracked.start(urgent).status is Status.RUNNING


def probing(free: Platform) -> tuple[JobRecord, list[JobRecord]]:
    """A probe that was sent, and two jobs that wait for its end."""
    free.break_circuit()
    probe, *waiting = free.submit_many(3)
    free.let_circuits_rest()
    assert free.turn() == [probe.id]
    return probe, waiting


def test_its_success_closes_the_circuit_and_lets_all_through(free: Platform, tracked: Tracked) -> None:
    """At once."""
    probe, waiting = probing(free)
    tracked.end(tracked.start(probe))
    assert set(free.after(probe)) == {job.id for job in waiting}
    assert circuits.opened(tracked.connection, "acme") == []
    assert free.submit().hold is None


@pytest.mark.parametrize("fail", [Tracked.fail, Tracked.back_off])
def test_its_failure_opens_the_circuit_again(
    free: Platform, tracked: Tracked, fail: Callable[[Tracked, JobRecord], JobRecord]
) -> None:
    """For another pause; then the next one tries."""
    probe, waiting = probing(free)
    fail(tracked, tracked.start(probe))
    assert free.after(probe) == []
    [circuit] = circuits.opened(tracked.connection, "acme")
    assert (circuit.probe_id, circuit.probe_at > circuit.opened_at) == (None, True)
    assert free.turn() == []
    free.let_circuits_rest()
    assert free.turn() == [waiting[0].id]


def test_a_probe_that_failed_by_the_fault_of_its_payload_has_not_tried(free: Platform, tracked: Tracked) -> None:
    """Another one does, without another pause; it neither closes the circuit nor keeps it open."""
    probe, waiting = probing(free)
    free.blame_payload(tracked.start(probe))
    assert free.after(probe) == []
    assert free.turn() == [waiting[0].id]
    tracked.end(tracked.start(waiting[0]))
    assert free.after(waiting[0]) == [waiting[1].id]


def broken_for_all(free: Platform) -> None:
    """Let the circuit be open for all organizations, long enough for a probe."""
    free.break_circuit()
    free.break_circuit(owner=GLOBEX)
    free.let_circuits_rest()


def test_the_organizations_take_turns_to_try(free: Platform, tracked: Tracked) -> None:
    """However urgent the jobs of one of them are: at priority 9 it is not always the one whose job decides."""
    broken_for_all(free)
    for owner in (Owner("acme", "u1"), GLOBEX, INITECH):
        for _ in range(3):
            free.submit(owner=owner, priority=9 if owner is GLOBEX else 0)
    tried: list[str] = []
    for _ in range(6):
        [probe] = free.turn()
        tried.append(tracked.get(probe).organization_id)
        tracked.fail(tracked.start(tracked.get(probe)))
        assert free.turn() == []
        free.let_circuits_rest()
    assert tried == ["acme", "globex", "initech"] * 2


def test_one_success_of_anybody_closes_the_circuit_for_all(free: Platform, tracked: Tracked) -> None:
    """Those of the organizations themselves stay open until their own jobs succeed."""
    broken_for_all(free)
    own, third, other = free.submit(), *free.submit_many(2, owner=INITECH)
    [probe] = free.turn()
    assert probe == own.id
    tracked.fail(tracked.start(own))
    free.turn()
    free.let_circuits_rest()
    assert free.turn() == [third.id]
    tracked.end(tracked.start(third))
    waiting = free.submit()
    assert free.after(third) == [other.id]
    assert free.holds([waiting]) == ["circuit"]
    assert free.turn() == [waiting.id], "its own circuit has rested, and is half open"


def test_a_job_that_tries_for_all_tries_for_its_organization_too(free: Platform, tracked: Tracked) -> None:
    """Its success closes both."""
    broken_for_all(free)
    probe, waiting = free.submit_many(2)
    assert free.turn() == [probe.id]
    tracked.end(tracked.start(probe))
    assert free.after(probe) == [waiting.id]
    assert [circuit.organization_id for circuit in circuits.opened(tracked.connection, "globex")] == ["globex"]
    assert free.submit(owner=INITECH).hold is None


def test_a_probe_that_is_held_by_a_circuit_for_all_leaves_it_to_another(free: Platform, tracked: Tracked) -> None:
    """It had been sent when that opened."""
    free.break_circuit()
    sent = free.submit()
    free.let_circuits_rest()
    assert free.turn() == [sent.id]
    free.break_circuit(owner=GLOBEX)
    assert jobs.claim(tracked.connection, [wish(sent.fence)]) == [Refusal.HELD]
    free.let_circuits_rest()
    assert free.turn() + free.turn() == [sent.id]
    assert tracked.start(tracked.get(sent.id)).status is Status.RUNNING


def test_a_circuit_with_nobody_left_to_try_is_forgotten(free: Platform, tracked: Tracked) -> None:
    """After a day: keys come from payloads, and there may be any number of them."""
    for key in ("gone", "kept"):
        free.break_circuit(circuit_key=key)
    held = free.submit(circuit_key="kept", delay=HOUR * 48)
    tracked.connection.execute(text("UPDATE circuits SET probe_at = probe_at - interval '25 hours'"))
    tracked.connection.execute(text("UPDATE jobs SET hold = 'circuit' WHERE id = :id"), {"id": held.id})
    free.pause("acme")
    free.turn()
    assert [circuit.key for circuit in circuits.opened(tracked.connection, "acme")] == ["kept"]


def test_the_jobs_of_an_organization_take_turns_to_try(free: Platform, tracked: Tracked) -> None:
    """The most urgent one fails at each attempt, by its own fault or not: the others are asked before it is again."""
    free.break_circuit()
    poison, *others = [free.submit(priority=priority) for priority in (9, 5, 0)]
    tried = []
    for _ in range(4):
        free.let_circuits_rest()
        [probe] = free.turn()
        tried.append(probe)
        failed = tracked.back_off(tracked.start(tracked.get(probe)))
        free.turn()  # sees that
        tracked.make_due(failed)
        free.turn()  # and holds the job back, as its time has come
    assert tried == [poison.id, *(job.id for job in others), poison.id]


def test_a_probe_that_was_cancelled_has_not_tried(free: Platform, tracked: Tracked) -> None:
    """Another one does, without another pause."""
    probe, waiting = probing(free)
    tracked.cancel(probe)
    free.after(probe)
    assert free.turn() == [waiting[0].id]


def test_a_probe_whose_worker_was_lost_tries_again(free: Platform, tracked: Tracked) -> None:
    """It is still the one."""
    probe, waiting = probing(free)
    tracked.end(tracked.start(probe), "lost")
    assert free.turn() == []
    tracked.end(tracked.start(tracked.get(probe.id)))
    assert set(free.after(probe)) == {job.id for job in waiting}


def test_a_probe_that_is_paused_leaves_it_to_another(free: Platform, tracked: Tracked) -> None:
    """The jobs of other organizations do not wait for the end of that pause."""
    broken_for_all(free)
    probe = free.submit()
    other = free.submit(owner=GLOBEX)
    free.let_circuits_rest()
    assert free.probe() == [probe.id]
    free.pause("acme")
    assert free.turn() == []
    assert free.turn() == [other.id]
    assert tracked.get(probe.id).hold == "paused"


def test_a_probe_is_not_one_that_is_paused(free: Platform) -> None:
    """The next one tries."""
    broken_for_all(free)
    free.submit()
    other = free.submit(owner=GLOBEX)
    free.pause("acme")
    free.let_circuits_rest()
    assert free.turn() == [other.id]


def test_a_probe_that_has_to_stand_in_line_after_all_leaves_it_to_another(two: Platform, tracked: Tracked) -> None:
    """After a few seconds."""
    broken_for_all(two)
    probe = two.submit()
    assert two.probe() == [probe.id]
    two.start(2, job_type="long")
    other = two.submit(owner=GLOBEX)
    assert two.turn() + two.turn() == []
    assert tracked.get(probe.id).hold == "organization_limit"
    age(tracked, probe)
    assert two.turn() == [other.id]


def test_a_probe_is_not_one_that_has_to_stand_in_line(two: Platform, tracked: Tracked) -> None:
    """While another organization has a slot for its own."""
    broken_for_all(two)
    two.start(2, job_type="long")
    two.submit()
    other = two.submit(owner=GLOBEX)
    two.let_circuits_rest()
    assert two.turn() == [other.id]


# pauses

PAUSES: dict[str, tuple[str | None, str | None, set[tuple[str, str]]]] = {
    "a type": (None, "a", {("acme", "a"), ("globex", "a")}),
    "an organization": ("acme", None, {("acme", "a"), ("acme", "b")}),
    "a type of one organization": ("acme", "a", {("acme", "a")}),
    "everything": (None, None, {("acme", "a"), ("acme", "b"), ("globex", "a"), ("globex", "b")}),
}


@pytest.mark.parametrize(("organization", "job_type", "held"), PAUSES.values(), ids=PAUSES)
def test_what_is_paused_does_not_start(
    free: Platform, organization: str | None, job_type: str | None, held: set[tuple[str, str]]
) -> None:
    """What was sent is held at the claim, what is new at once; everything else goes on."""
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


def test_resume_lets_them_go(free: Platform, tracked: Tracked) -> None:
    """All that no other pause holds."""
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


def test_a_resumed_line_keeps_its_order_and_its_limit(two: Platform) -> None:
    """Slots are given to the most urgent."""
    two.pause("acme")
    made = [two.submit(priority=priority) for priority in (0, 5, 9)]
    two.resume("acme")
    assert two.turn() == [made[2].id, made[1].id]
    assert two.holds(made) == ["organization_limit", None, None]


def test_a_pause_and_its_end_before_the_claim_cost_nothing(free: Platform, tracked: Tracked) -> None:
    """The job is sent again under its task id."""
    job = free.submit()
    jobs.mark_dispatched(tracked.connection, [job.fence])
    free.pause("acme")
    assert jobs.claim(tracked.connection, [wish(job.fence)]) == [Refusal.HELD]
    free.resume("acme")
    assert free.turn() == [job.id]
    assert tracked.start(tracked.get(job.id)).attempt == 1


def test_running_jobs_go_on_during_a_pause(free: Platform, tracked: Tracked) -> None:
    """Only the start is refused."""
    running = tracked.start(free.submit())
    free.pause("acme")
    assert tracked.end(running).status is Status.SUCCEEDED


def test_paused_jobs_in_line_take_no_slot(two: Platform, tracked: Tracked) -> None:
    """They step aside when it is their turn, and the next one goes."""
    running = two.start(2)
    paused = two.submit_many(5, job_type="paused")
    other = two.submit()
    two.pause("acme", "paused")
    tracked.end(running[0])
    assert two.after(running[0]) == [other.id]
    assert set(two.holds(paused)) == {"paused"}


def test_a_long_line_that_is_paused_steps_aside_in_bounded_steps(two: Platform, pool: Database) -> None:
    """Whoever wants the lock of the line waits for one batch at most."""
    two.submit_many(2, job_type="other")
    two.submit_many(30, job_type="paused")
    two.pause("acme", "paused")
    two.set_limit(3)
    with pool.begin() as connection:
        holds.admit(connection, "acme", two.limits, 10)
    assert len(two.in_line()) == 20


# what was missed


def test_what_was_never_sent_is_sent_although_others_are_due(free: Platform, tracked: Tracked, pool: Database) -> None:
    """It holds a slot: it must not wait for a quiet moment."""
    lost, due = free.submit(), free.submit(delay=HOUR)
    tracked.make_due(due)
    age(tracked, lost)
    sent: list[UUID] = []
    with free.configured(), patch.object(upkeep, "database", lambda: pool):
        sending = Sending(Mock())
        sending._publisher = Mock()
        sent += ids(admitting.due())
        assert not sending.unsent()
    assert [*sent, *ids(sending._publisher.dispatch.call_args.args[0])] == [due.id, lost.id]


# retry


def test_a_retried_job_joins_the_line(two: Platform, tracked: Tracked) -> None:
    """With its old age."""
    failed = tracked.fail(tracked.start(two.submit()))
    running = two.start(2)
    younger = two.submit()
    assert two.retry(failed).hold == "organization_limit"
    assert two.turn() == []
    tracked.end(running[0])
    assert two.after(running[0]) == [failed.id]
    assert tracked.get(younger.id).hold == "organization_limit"


def test_a_retried_job_goes_at_once_when_there_is_room(two: Platform, tracked: Tracked) -> None:
    """By the look that follows the retry."""
    failed = tracked.fail(tracked.start(two.submit()))
    two.retry(failed)
    assert two.after(failed) == [failed.id]


def test_a_retry_is_held_by_a_pause(free: Platform, tracked: Tracked) -> None:
    """Like any other start."""
    failed = tracked.fail(tracked.start(free.submit()))
    free.pause("acme")
    assert free.retry(failed).hold == "paused"


# fairness, many at once


def test_the_organizations_take_turns(two: Platform) -> None:
    """One job of each, then the next one of each."""
    two.pause()
    for owner in (GLOBEX, replace(GLOBEX, organization_id="acme")):
        two.submit_many(2, owner=owner)
    two.resume()
    sent = [two.tracked.get(job_id).organization_id for job_id in two.turn()]
    assert sent in (["acme", "globex"] * 2, ["globex", "acme"] * 2)


def test_eight_threads_give_each_slot_away_once(pool: Database, tracked: Tracked) -> None:
    """A thousand jobs in the lines of four organizations."""
    for number in range(4):
        fill(tracked, 250, organization_id=f"org-{number}", hold="organization_limit")
    seven = limited(pool, tracked, 7)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: seven.admit(f"org-{number % 4}"), range(32)))
    given = [job_id for answer in answers for job_id in answer]
    assert len(given) == len(set(given)) == 28
    assert [len(seven.in_flight(f"org-{number}")) for number in range(4)] == [7] * 4


def test_the_function_in_the_database_is_the_rule_of_today(pool: Database) -> None:
    """Whoever changes a function writes a migration that makes it anew."""
    for function in FUNCTIONS:
        name = function.split("FUNCTION ")[1].split("(")[0]
        with pool.autocommit() as connection:
            there = connection.execute(text("SELECT prosrc FROM pg_proc WHERE proname = :name"), {"name": name})
        assert there.scalar_one().strip() in function
