"""Which waiting job goes next: the one rule, and turns between organizations."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import text

from tests.holding import GLOBEX, Limited, fill, limited
from tests.tracked import HOUR, Tracked, new_job
from tracking import jobs
from tracking.admission.functions import FUNCTIONS
from tracking.db import Database
from tracking.states import Hold

# the rule


def test_a_job_waits_for_one_thing_after_another(two: Limited, tracked: Tracked) -> None:
    """A job passes dependencies, time, pause, circuit and slot in turn, and history says when."""
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


def test_a_retry_waits_for_its_backoff_and_then_in_line(two: Limited, tracked: Tracked) -> None:
    """A retry waits for its backoff, then in line, and comes back as a new dispatch."""
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


def test_a_job_that_is_due_at_once_does_not_wait(two: Limited) -> None:
    """A job with a time in the past is not held."""
    assert two.submit(delay=timedelta(seconds=-5)).hold is None


def test_a_scheduled_job_takes_no_slot_before_it_is_due(two: Limited, tracked: Tracked) -> None:
    """A scheduled job takes no slot before it is due, and stands in line then."""
    scheduled = two.submit(delay=HOUR)
    running = two.start(2)
    assert two.submit().hold == "organization_limit"
    tracked.make_due(scheduled)
    assert two.turn() == []
    tracked.end(running[0])
    assert two.turn() == [scheduled.id], "it is the older one"


# fairness, many at once


def test_the_organizations_take_turns(two: Limited) -> None:
    """Slots are given to one job of each organization, then to the next one of each."""
    two.pause()
    for owner in (GLOBEX, replace(GLOBEX, organization_id="acme")):
        two.submit_many(2, owner=owner)
    two.resume()
    sent = [two.tracked.get(job_id).organization_id for job_id in two.turn()]
    assert sent in (["acme", "globex"] * 2, ["globex", "acme"] * 2)


def test_eight_threads_give_each_slot_away_once(pool: Database, tracked: Tracked) -> None:
    """Eight threads give each slot of four organizations' thousand jobs away once."""
    for number in range(4):
        fill(tracked, 250, organization_id=f"org-{number}", hold="organization_limit")
    seven = limited(pool, tracked, 7)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: seven.admit(f"org-{number % 4}"), range(32)))
    given = [job_id for answer in answers for job_id in answer]
    assert len(given) == len(set(given)) == 28
    assert [len(seven.in_flight(f"org-{number}")) for number in range(4)] == [7] * 4


def test_who_joins_a_line_waits_for_nobody(two: Limited, pool: Database) -> None:
    """While a submit of the same organization is not yet committed, another one joins the line that is there."""
    two.submit_many(3)
    with pool.begin() as slow, pool.begin() as other:
        jobs.submit(slow, new_job(priority=9), two.limits)  # may overtake: it has the lock of the line until its commit
        other.execute(text("SET LOCAL lock_timeout = '500ms'"))
        assert jobs.submit(other, new_job(), two.limits).job.hold is Hold.ORGANIZATION_LIMIT


def test_the_function_in_the_database_is_the_rule_of_today(pool: Database) -> None:
    """The functions in the database are those of the code: else a migration is missing."""
    for function in FUNCTIONS:
        name = function.split("FUNCTION ")[1].split("(")[0]
        with pool.autocommit() as connection:
            there = connection.execute(text("SELECT prosrc FROM pg_proc WHERE proname = :name"), {"name": name})
        assert any(code.strip() in function for code in there.scalars()), name  # another may be the earlier release's
