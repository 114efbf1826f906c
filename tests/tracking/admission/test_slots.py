"""The slots of organizations and workers: who takes one, what frees one, and who stands in line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from tests.holding import GLOBEX, Limited, fill, limited
from tests.tracked import HOUR, Tracked, ids, outcome, reap, wish
from tracking import jobs, workers
from tracking.admission import holds, line
from tracking.db import Database
from tracking.models import JobRecord, Refusal
from tracking.settings import settings

# slots


def test_the_first_jobs_go_at_once_and_the_others_stand_in_line(two: Limited) -> None:
    """As many jobs as the limit are sent, and the others are held by organization_limit."""
    made = two.submit_many(5)
    assert two.holds(made) == [None, None, *["organization_limit"] * 3]
    assert two.in_flight() == ids(made[:2])


@contextmanager
def watching(two: Limited, pool: Database) -> Iterator[list[int]]:
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
    """A hundred simultaneous submits take five slots at every instant."""
    five = limited(pool, tracked, 5)
    large = Database(pool.engine.url.render_as_string(hide_password=False), settings(), pool_size=20)
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
    two: Limited, tracked: Tracked, end: Callable[[Tracked, JobRecord], object]
) -> None:
    """The end of an attempt gives its slot to the next one in line."""
    running, _ = two.start(2)
    waiting = two.submit_many(2)
    assert two.admit() == []
    end(tracked, running)
    assert two.after(running) == [waiting[0].id]
    assert two.holds(waiting) == [None, "organization_limit"]


@pytest.mark.parametrize("kind", ["released", "lost"])
def test_an_attempt_that_will_be_repeated_keeps_its_slot(two: Limited, tracked: Tracked, kind: Any) -> None:
    """A job that is to run again at once keeps its slot."""
    running, _ = two.start(2)
    two.submit()
    tracked.end(running, kind)
    assert two.after(running) == []
    assert len(two.in_flight()) == 2


def test_the_cancel_of_a_job_that_was_sent_frees_its_slot(two: Limited, tracked: Tracked) -> None:
    """The cancel of a job that was sent and has not started frees its slot."""
    sent, _ = two.submit_many(2)
    waiting = two.submit()
    tracked.cancel(sent)
    assert two.after(sent) == [waiting.id]


def test_the_cancel_of_a_job_in_line_frees_nothing(two: Limited, tracked: Tracked) -> None:
    """The cancel of a job in line frees no slot."""
    running, _ = two.start(2)
    first, second = two.submit_many(2)
    tracked.cancel(first)
    assert two.after(first) == []
    tracked.end(running)
    assert two.after(running) == [second.id]


def test_the_cancel_of_a_running_job_frees_its_slot_when_its_body_is_over(two: Limited, tracked: Tracked) -> None:
    """A cancelled running job keeps its slot until its body is over."""
    running, _ = two.start(2)
    waiting = two.submit()
    tracked.cancel(running)
    assert two.after(running) == []
    jobs.stopped(tracked.connection, running.fence, actor="worker-1", how="at a step")
    assert two.after(running) == [waiting.id]


def test_a_worker_that_is_lost_takes_no_slot_with_it(two: Limited, tracked: Tracked) -> None:
    """Jobs of a lost worker keep their slots and run again; cancelled ones free theirs."""
    dead = tracked.register_worker(seen=HOUR)
    again, cancelled = (tracked.start(job, lease=dead) for job in two.submit_many(2))
    waiting = two.submit()
    tracked.cancel(cancelled)
    reap(tracked.connection, timedelta(seconds=20), 100)
    assert two.turn() == [waiting.id]
    assert two.in_flight() == [again.id, waiting.id]


def test_a_job_that_no_worker_can_run_frees_its_slot(two: Limited, tracked: Tracked) -> None:
    """A job that fails because its handler is unknown frees its slot."""
    sent, _ = two.submit_many(2)
    waiting = two.submit()
    jobs.fail_waiting(tracked.connection, sent.fence, actor="worker-1", error_type="NotRegistered", message="?")
    assert two.turn() == [waiting.id]


def test_the_line_goes_by_priority_then_by_age(two: Limited, tracked: Tracked) -> None:
    """A line is ordered by priority, then by age."""
    running = two.start(2)
    waiting = [two.submit(priority=priority) for priority in (3, 9, 0, 3, 9)]
    for job in running:
        tracked.end(job)
    assert two.admit() == [waiting[1].id, waiting[4].id]
    for sent in (waiting[1], waiting[4]):
        tracked.end(tracked.start(sent))
    assert two.admit() == [waiting[0].id, waiting[3].id]


def test_a_new_job_does_not_overtake_the_line(two: Limited, tracked: Tracked) -> None:
    """A new job does not take a free slot before the jobs in line."""
    running = two.start(2)
    first = two.submit()
    tracked.end(running[0])
    assert two.submit().hold == "organization_limit"
    assert two.admit() == [first.id]


def test_each_organization_has_slots_of_its_own(two: Limited) -> None:
    """No job waits for a slot of another organization."""
    two.submit_many(5)
    assert two.holds(two.submit_many(3, owner=GLOBEX)) == [None, None, "organization_limit"]


def test_without_a_limit_nobody_stands_in_line(free: Limited) -> None:
    """With a limit of 0 no job stands in line."""
    assert free.holds(free.submit_many(20)) == [None] * 20


def test_a_look_asks_once_for_each_organization_whether_others_stand_in_line(free: Limited, tracked: Tracked) -> None:
    """A look asks once for each organization and queue, not for each job, whether others are in line."""
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


def test_an_organization_may_have_a_limit_of_its_own(two: Limited) -> None:
    """An organization may have a higher limit, a lower one, or none."""
    for limit, organization in ((1, "acme"), (3, "globex"), (0, "initech")):
        two.set_limit(limit, organization)
        made = two.submit_many(4, owner=replace(GLOBEX, organization_id=organization))
        assert two.holds(made).count(None) == (limit or 4)


def test_a_lower_limit_sends_the_least_urgent_back_into_the_line(two: Limited, tracked: Tracked) -> None:
    """A lower limit sends the least urgent and newest jobs back into the line."""
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


def test_a_limit_below_what_runs_waits_for_the_end_of_what_runs(two: Limited, tracked: Tracked) -> None:
    """A limit below the number of running jobs interrupts none, and lets none start."""
    running = two.start(2)
    two.set_limit(1)
    waiting = two.submit()
    tracked.end(running[0])
    assert two.after(running[0]) == []
    tracked.end(running[1])
    assert two.after(running[1]) == [waiting.id]


def test_a_higher_limit_lets_more_go(two: Limited) -> None:
    """A limit that is raised by n lets n more jobs go."""
    made = two.submit_many(6)
    two.set_limit(5)
    assert two.turn() == ids(made[2:5])
    two.set_limit(0)
    assert two.turn() == ids(made[5:])


def test_a_limit_for_those_who_had_none(free: Limited) -> None:
    """A first limit sends the newest surplus jobs back into the line."""
    made = free.submit_many(4)
    free.set_limit(1)
    assert free.holds(made) == [None, *["organization_limit"] * 3]


def test_the_platforms_limit_may_be_given_back(two: Limited, pool: Database) -> None:
    """A reset of an organization's limit gives it the platform's again."""
    two.set_limit(5)
    made = two.submit_many(5)
    with pool.begin() as connection:
        line.reset_limit(connection, "acme", two.limits, actor="admin")
    assert two.in_flight() == ids(made[:2])


def test_a_lower_limit_of_the_platform_sends_back_what_is_too_much(free: Limited, pool: Database) -> None:
    """A lower limit of the platform sends surplus jobs back into their lines."""
    made = free.submit_many(6)
    two = limited(pool, free.tracked, 2)
    two.turn()
    assert two.in_flight() == ids(made[:2])


# the workers' slots


def test_no_more_is_sent_than_the_workers_can_run(pool: Database, tracked: Tracked) -> None:
    """No more jobs are sent than the workers have slots, but for one of each organization."""
    hundred = limited(pool, tracked, 100)
    tracked.register_worker()
    assert hundred.holds(hundred.submit_many(4)) == [None, None, "organization_limit", "organization_limit"]
    assert hundred.submit(owner=GLOBEX).hold is None
    assert hundred.turn() == []


def test_another_worker_lets_more_go(pool: Database, tracked: Tracked) -> None:
    """A new worker lets more jobs go, and a dead one does not count."""
    hundred = limited(pool, tracked, 100)
    tracked.register_worker()
    made = hundred.submit_many(5)
    lease = tracked.register_worker()
    assert hundred.turn() == ids(made[2:4])
    tracked.age_heartbeat(lease, HOUR)
    tracked.end(tracked.start(made[0]))
    assert hundred.turn() == []


def test_without_a_worker_the_limit_alone_counts(two: Limited, tracked: Tracked) -> None:
    """Without any worker jobs are sent up to the limit."""
    tracked.register_worker(seen=HOUR)
    assert two.holds(two.submit_many(3)) == [None, None, "organization_limit"]


# the workers' queues


def serve(tracked: Tracked, *queues: str) -> UUID:
    """The lease of a worker that consumes these queues."""
    lease = uuid4()
    workers.beat(tracked.connection, lease, name=queues[0], pid=1, queues=queues, concurrency=2)
    return lease


def test_a_job_that_no_living_worker_would_run_takes_no_slot(two: Limited, tracked: Tracked) -> None:
    """A job whose queue no living worker consumes takes no slot."""
    serve(tracked, "default")
    unserved = two.submit_many(2, queue="reports")
    served = two.submit_many(3)
    assert two.holds(unserved) == ["organization_limit"] * 2
    assert two.holds(served) == [None, None, "organization_limit"]
    assert two.turn() == []
    serve(tracked, "reports")
    tracked.end(tracked.start(served[0]))
    assert two.turn() == [unserved[0].id]


def test_what_was_sent_to_a_queue_whose_last_worker_died_gives_its_slot_back(two: Limited, tracked: Tracked) -> None:
    """A sent job whose queue's last worker died gives its slot back."""
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
