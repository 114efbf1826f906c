"""Limits of types, keys and rates: who is within them, and what changing them does."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from tests.holding import GLOBEX, Limited
from tests.tracked import Tracked, wish
from tracking import jobs
from tracking.admission import within
from tracking.models import Attempt, Owner, Refusal

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def test_as_many_of_a_type_execute_as_its_limit_says(free: Limited, tracked: Tracked) -> None:
    """Of a limited type the first in order are sent, the others wait, and each end lets one through."""
    free.bound(concurrency=2)
    calm, urgent, *others = (free.submit(priority=priority) for priority in (1, 5, 1, 1))
    assert free.holds([calm, urgent]) == ["limit", "limit"]
    assert free.turn() == [urgent.id, calm.id]
    assert free.turn() == []
    assert free.holds(others) == ["limit", "limit"]
    tracked.end(tracked.start(urgent))
    assert free.after(urgent) == [others[0].id]
    assert free.turn() == []


def test_another_type_is_not_held_up(two: Limited) -> None:
    """What a limit holds takes no slot of its organization from jobs that may run."""
    two.bound(concurrency=1)
    limited = two.submit_many(3, priority=9)
    assert two.turn() == [limited[0].id]
    others = two.submit_many(2, job_type="noop")
    assert two.holds([*limited, *others]) == [None, "limit", "limit", None, "organization_limit"]


def test_a_slot_goes_to_the_most_urgent_of_the_line_and_of_the_limited(two: Limited, tracked: Tracked) -> None:
    """Jobs that a limit has room for stand in line with the others, by priority and age."""
    running = two.start(2, job_type="noop")
    two.bound(concurrency=5)
    calm = two.submit(job_type="noop", priority=1)
    limited = two.submit(priority=5)
    urgent = two.submit(job_type="noop", priority=9)
    order: list[UUID] = []
    for job in (*running, calm):
        tracked.end(tracked.get(job.id) if job in running else tracked.start(tracked.get(order[-1])))
        order += two.after(job)
    assert order == [urgent.id, limited.id, calm.id]


@pytest.mark.parametrize("per", ["platform", "organization", "key"])
def test_a_limit_counts_for_what_it_is_set_for(free: Limited, tracked: Tracked, per: str) -> None:
    """A limit counts over all organizations, in each of them, or for each key of each of them."""
    free.bound(per, concurrency=2, key_path="account.id" if per == "key" else None)
    for owner in (Owner("acme", "u1"), GLOBEX):
        for account in ("a", "a", "a", "b", 7, "7"):
            free.submit(owner=owner, payload={"account": {"id": account}})
    sent = [tracked.get(job_id) for job_id in (*free.turn(), *free.turn())]
    counted = Counter((job.organization_id, str(job.payload["account"]["id"])) for job in sent)
    organizations = Counter(job.organization_id for job in sent)
    if per == "platform":
        assert sorted(organizations.items()) == [("acme", 1), ("globex", 1)]
    elif per == "organization":
        assert sorted(organizations.items()) == [("acme", 2), ("globex", 2)]
    else:
        assert counted == {(who, key): n for who in ("acme", "globex") for key, n in (("a", 2), ("b", 1), ("7", 2))}


def test_a_job_without_the_key_is_not_limited_by_it(free: Limited) -> None:
    """Jobs whose payload lacks the key, or has null there, are let through; a very long key is one like others."""
    free.bound("key", concurrency=1, key_path="account")
    without = [free.submit(payload=payload) for payload in ({}, {"account": None}, {"account": ""}, {"other": 1})]
    assert free.holds(without) == [None] * 4
    long = [free.submit(payload={"account": "x" * 10_000}) for _ in range(2)]
    assert free.turn() == [long[0].id]


def test_what_an_organization_has_of_its_own_stands_instead(free: Limited) -> None:
    """A limit of one organization replaces that of all, also when it says any number."""
    free.bound(concurrency=1)
    free.bound(concurrency=3, organization_id="acme")
    free.bound(organization_id="globex")
    everybody = {owner: free.submit_many(4, owner=Owner(owner, "u1")) for owner in ("acme", "globex", "initech")}
    free.turn()
    sent = {owner: free.holds(found).count(None) for owner, found in everybody.items()}
    assert sent == {"acme": 3, "globex": 4, "initech": 1}


def test_all_limits_of_a_job_have_to_have_room(free: Limited, tracked: Tracked) -> None:
    """A job waits until every limit that it meets has room, and does not keep a place of the others meanwhile."""
    free.bound("platform", concurrency=2)
    free.bound("key", concurrency=1, key_path="account")
    first = free.submit(payload={"account": "a"})
    blocked = free.submit_many(3, payload={"account": "a"})
    other = free.submit(payload={"account": "b"}, owner=GLOBEX)
    assert set(free.turn()) == {first.id, other.id}
    tracked.end(tracked.start(other))
    assert free.after(other) == []
    assert free.holds(blocked) == ["limit"] * 3
    tracked.end(tracked.start(first))
    assert free.after(first) == [blocked[0].id]


def test_organizations_that_share_a_limit_take_turns(free: Limited, tracked: Tracked) -> None:
    """Under a limit of the platform the organization comes next whose last turn is the longest ago."""
    free.bound("platform", concurrency=1)
    owners = [Owner(name, "u1") for name in ("acme", "globex", "initech")]
    for owner in owners:
        free.submit_many(3, owner=owner)
    order = []
    (sent,) = free.turn()
    for _ in range(8):
        job = tracked.get(sent)
        order.append(job.organization_id)
        tracked.end(tracked.start(job))
        (sent,) = free.after(job)
    assert order == [*("acme", "globex", "initech") * 2, "acme", "globex"]


def test_a_rate_lets_so_many_through_in_each_period(free: Limited, tracked: Tracked) -> None:
    """As many jobs are sent as the rate says, in any window of its period, whether they have ended or not."""
    free.bound(rate=2, period=HOUR)
    first, second, third, *_ = free.submit_many(4)
    assert free.turn() == [first.id, second.id]
    for job in (first, second):
        tracked.end(tracked.start(job))
        assert free.after(job) == []
    free.execute(
        "UPDATE limit_admissions SET expires_at = clock_timestamp() WHERE id = (SELECT min(id) FROM limit_admissions)"
    )
    assert free.turn() == [third.id]
    assert free.turn() == []


def test_it_is_known_when_a_rate_has_room_again(free: Limited) -> None:
    """While a job waits, the time to the end of the first that counts is told; what nobody waits for, nobody asks."""
    free.bound(rate=2, period=HOUR)
    free.submit_many(2)
    free.turn()
    free.execute("UPDATE limit_admissions SET expires_at = expires_at - interval '1 hour' + id * interval '10 seconds'")
    with free.pool.autocommit() as connection:
        assert within.seconds_to_room(connection) is None
        free.submit()
        first = connection.execute(text("SELECT min(expires_at) - now() FROM limit_admissions")).scalar_one()
        assert within.seconds_to_room(connection) == pytest.approx(first.total_seconds(), abs=1)
        free.execute("UPDATE limit_admissions SET expires_at = clock_timestamp()")
        assert within.seconds_to_room(connection) is None


def test_what_counts_in_no_rate_any_more_is_removed(free: Limited) -> None:
    """Rows of rates go when their period is over, in batches, and those that count stay."""
    free.bound(rate=9, period=HOUR)
    free.submit_many(5)
    free.turn()
    free.execute("UPDATE limit_admissions SET expires_at = clock_timestamp() WHERE id % 2 = 0")
    with free.pool.autocommit() as connection:
        removed = [within.forget_expired(connection, 2) for _ in range(2)]
        left = connection.execute(text("SELECT count(*) FROM limit_admissions")).scalar_one()
    assert sum(removed) == 5 - left
    assert left in {2, 3}


def test_an_attempt_counts_in_the_rate_each_time(free: Limited, tracked: Tracked) -> None:
    """The next attempt of a job waits for the rate like any other job."""
    free.bound(rate=1, period=HOUR)
    job = free.submit(max_retries=3)
    assert free.turn() == [job.id]
    tracked.end(tracked.start(job), "retry", delay=timedelta(0))
    free.turn()
    assert free.holds([job]) == ["limit"]


def test_a_rate_of_an_organization_counts_jobs_of_every_type(free: Limited, tracked: Tracked) -> None:
    """A rate without a type counts all jobs of an organization together, beside the rates of their types."""
    free.bound(job_type=None, rate=3, period=HOUR)
    free.bound(job_type="noop", rate=1, period=HOUR)
    for job_type in ("noop", "noop", "count_words", "count_words", "count_words"):
        free.submit(job_type=job_type)
        free.submit(job_type=job_type, owner=GLOBEX)
    sent = [tracked.get(job_id) for job_id in free.turn()]
    assert Counter((job.organization_id, job.job_type) for job in sent) == {
        (who, job_type): number for who in ("acme", "globex") for job_type, number in (("noop", 1), ("count_words", 2))
    }


def test_a_lower_limit_takes_back_what_has_not_started(free: Limited, tracked: Tracked) -> None:
    """With a lower limit what was sent waits again, what runs counts, and a message that comes now starts nothing."""
    free.bound(concurrency=3)
    running, sent, _ = (tracked.get(job.id) for job in free.submit_many(3))
    free.turn()
    tracked.start(tracked.get(running.id))
    free.bound(concurrency=1)
    assert free.holds([running, sent]) == [None, "limit"]
    assert free.turn() == []
    with free.pool.begin() as connection:
        assert jobs.claim(connection, [wish(tracked.get(sent.id).fence)]) == [Refusal.HELD]
    tracked.end(tracked.get(running.id))
    assert free.after(running) == [sent.id]


def test_a_limit_that_is_new_counts_what_runs_and_stops_what_was_sent(free: Limited, tracked: Tracked) -> None:
    """What runs when a limit is set counts in it; what was sent before meets it when a worker claims it."""
    running, sent, other = free.submit_many(3)
    tracked.start(running)
    limit = free.bound(concurrency=1)
    with free.pool.begin() as connection:
        assert jobs.claim(connection, [wish(job.fence) for job in (sent, other)]) == [Refusal.HELD] * 2
    assert free.holds([sent, other]) == ["limit"] * 2
    assert free.turn() == []
    free.unbound(limit)
    assert free.turn() == [sent.id, other.id]
    with free.pool.begin() as connection:
        assert isinstance(jobs.claim(connection, [wish(tracked.get(sent.id).fence)])[0], Attempt)


def test_a_key_may_move(free: Limited, tracked: Tracked) -> None:
    """With another path, or another payload, a job counts for its new key."""
    free.bound("key", concurrency=1, key_path="account")
    running, waiting = (free.submit(payload={"account": "a", "region": region}) for region in ("x", "y"))
    assert free.turn() == [running.id]
    tracked.start(tracked.get(running.id))
    assert free.turn() == []
    free.bound("key", concurrency=1, key_path="region")
    assert free.turn() == [waiting.id]
    free.bound("key", concurrency=1, key_path="account")
    assert free.turn() == []
    free.execute(
        'UPDATE jobs SET payload = payload || \'{"account": "b"}\', limit_key = NULL WHERE id = :id', id=waiting.id
    )
    assert free.turn() == [waiting.id]


def test_a_pause_and_a_limit_do_not_lose_a_job(free: Limited) -> None:
    """A job that waits for a limit and whose type is paused then waits for that, and afterwards for the limit again."""
    limit = free.bound(concurrency=1)
    first, second = free.submit_many(2)
    free.pause(job_type="count_words")
    assert free.turn() == []
    assert "paused" in free.holds([first, second])
    free.resume(job_type="count_words")
    assert free.turn() == [first.id]
    free.unbound(limit)
    assert second.id in free.turn()


def test_queues_without_a_worker_do_not_hold_up_others(free: Limited, tracked: Tracked) -> None:
    """Jobs of a limited type that no worker would take leave its places to those that one would."""
    tracked.register_worker(concurrency=4)
    free.bound(concurrency=1)
    free.submit_many(3, queue="nobody", priority=9)
    served = free.submit()
    assert free.turn() == [served.id]


def test_under_a_rate_no_more_are_sent_than_start_at_once(free: Limited, tracked: Tracked) -> None:
    """While the workers are busy one job under a rate waits at the broker, so that no burst of them starts later."""
    tracked.register_worker(concurrency=2)
    free.bound(rate=100, period=SECOND, job_type="noop")
    free.start(2)
    free.submit_many(5, job_type="noop")
    assert len(free.turn()) == 1
    assert free.turn() == []


def test_an_organization_with_a_weight_has_as_many_at_the_broker(two: Limited, tracked: Tracked) -> None:
    """While the workers are busy an organization may have as many jobs at the broker as its weight says."""
    two.set_limit(20, "acme")
    two.set_limit(20, "globex")
    tracked.register_worker(concurrency=2)
    two.start(2, owner=Owner("initech", "u1"))
    two.weigh("acme", 3)
    two.submit_many(5)
    two.submit_many(5, owner=GLOBEX)
    two.turn()
    assert (len(two.in_flight("acme")), len(two.in_flight("globex"))) == (3, 1)
    two.weigh("acme", None)
    two.turn()
    assert (len(two.in_flight("acme")), len(two.in_flight("globex"))) == (1, 1)
