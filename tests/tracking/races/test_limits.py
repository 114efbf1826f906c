"""Limits that organizations share, with everything at once."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random

from sqlalchemy import text

from tests.holding import EXECUTING, Limited, limited
from tests.racing import PATIENCE, THREADS
from tests.tracked import Tracked, accepted, check_rows, wish
from tracking import jobs
from tracking.admission import within
from tracking.db import Database
from tracking.models import Attempt, Outcome, Owner
from tracking.states import FINISHED, OutcomeKind

ORGANIZATIONS = ("acme", "globex", "initech")
TYPES = ("count_words", "noop")
ACCOUNTS = ("a", "b")
ENDS: tuple[OutcomeKind, ...] = ("succeeded", "succeeded", "failed", "released", "lost")


def test_three_organizations_with_everything_at_once_stay_within_all_limits(pool: Database, tracked: Tracked) -> None:
    """With eight threads at all verbs no shared limit and no limit of a key is exceeded, nobody waits for ever."""
    four = limited(pool, tracked, 4)
    four.bound("platform", concurrency=3)
    four.bound("platform", job_type="noop", concurrency=2)
    four.bound("key", key_path="account", concurrency=1)

    def work(number: int) -> None:
        random = Random(number)
        owner = Owner(random.choice(ORGANIZATIONS), "u1")
        account = {"account": random.choice(ACCOUNTS)}
        four.submit(owner=owner, job_type=random.choice(TYPES), payload=account, priority=random.choice((0, 9)))
        if number % 10 == 0:  # what is set anew takes back what has not started
            four.bound("platform", concurrency=3)
        go_on(random)

    def go_on(random: Random) -> None:
        for organization in random.sample(ORGANIZATIONS, 3):
            four.admit(organization, batch=random.choice((1, 100)))
            with pool.autocommit() as connection:  # one at a time: the pool has hardly more than there are threads
                run_what_was_sent(replace(four, tracked=Tracked(connection)), organization, random)

    def run_what_was_sent(own: Limited, organization: str, random: Random) -> None:
        connection = own.tracked.connection
        for row in own.in_flight(organization):
            fence = own.tracked.get(row).fence
            [answer] = jobs.claim(connection, [wish(fence)])
            if isinstance(answer, Attempt):
                accepted(connection, [Outcome(fence, random.choice(ENDS), "worker-1", answer.attempt)])

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, range(120)))
    deadline, random = time.monotonic() + 3 * PATIENCE, Random(7)
    while any(job.status not in FINISHED for job in tracked.all()):
        assert time.monotonic() < deadline, four.holds()
        four.turn()
        go_on(random)
    check_rows(tracked)
    assert len(tracked.all()) == 120
    most = _most(tracked)
    assert most["count_words"] <= 3
    assert most["noop"] <= 2
    assert {kind: number for kind, number in most.items() if kind.startswith("count_words of") and number > 1} == {}
    assert within.with_room(tracked.connection, four.limits.parameters, 10) == []


def _most(tracked: Tracked) -> Counter[str]:
    """How many bodies of each type, and of each key of an organization, ran at once at most, by the history."""
    running, most = Counter[str](), Counter[str]()
    sql = EXECUTING.replace("SELECT organization_id,", "SELECT job_id, organization_id, job_type,", 1)
    accounts = {job.id: job.payload["account"] for job in tracked.all()}
    for row in tracked.connection.execute(text(sql)):
        for kind in (row.job_type, f"{row.job_type} of {row.organization_id}, {accounts[row.job_id]}"):
            running[kind] += row.change
            most[kind] = max(most[kind], running[kind])
    return most
