"""Thousands of jobs, or all verbs, at once."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from random import Random
from threading import Barrier
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from tests.holding import Limited, fill, limited
from tests.racing import PATIENCE, ROUNDS, THREADS, ActionOnJob, Racers, cancel, claim, reaping, retry, settle
from tests.tracked import ACME, HOUR, Tracked, accepted, wish
from tracking import jobs
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.errors import IllegalMove, TrackingError
from tracking.models import Attempt, Fence, JobRecord, Outcome, Refusal
from tracking.states import FINISHED, Event, OutcomeKind, Status

MANY = 2000
FEW = 20  # jobs between two meetings of the racers
ENDS: tuple[OutcomeKind, ...] = ("succeeded", "succeeded", "failed", "released", "retry")


def race_through(pool: Database, rows: list[UUID], one: ActionOnJob, other: ActionOnJob) -> list[tuple[Any, Any]]:
    """What both answer for each of these jobs: pairs of threads go through them, a few at a time, in any order."""
    random = Random(7)
    shares = [rows[number :: THREADS // 2] for number in range(THREADS // 2)]
    answers: list[dict[UUID, Any]] = [{}, {}]

    def go(share: list[list[UUID]], side: int, act: ActionOnJob, line: Barrier) -> None:
        with pool.autocommit() as connection:
            for few in share:
                line.wait()
                for row in few:
                    try:
                        answers[side][row] = act(connection, row)
                    except TrackingError as refusal:
                        answers[side][row] = refusal

    with ThreadPoolExecutor(THREADS) as threads:
        runs = []
        for share in shares:
            line = Barrier(2, timeout=PATIENCE)
            for side, act in enumerate((one, other)):
                fews = [share[start : start + FEW] for start in range(0, len(share), FEW)]
                mixed = [random.sample(few, len(few)) for few in fews]
                runs.append(threads.submit(go, mixed, side, act, line))
        for run in runs:
            run.result(4 * PATIENCE)
    return [(answers[0][row], answers[1][row]) for row in rows]


def test_two_thousand_cancels_against_claims(pool: Database, tracked: Tracked) -> None:
    """In 2,000 races of cancel and claim no cancelled job starts, and no started one is missed."""
    pairs = race_through(
        pool,
        fill(tracked, MANY),
        lambda connection, row: jobs.cancel(connection, row, ACME, actor="u1"),
        lambda connection, row: jobs.claim(connection, [wish(Fence(row, 1))])[0],
    )
    assert all(cancelled.was_running is isinstance(claimed, Attempt) for cancelled, claimed in pairs)
    won = Counter(isinstance(claimed, Attempt) for _, claimed in pairs)
    assert min(won[True], won[False]) > MANY // 20, "each side wins now and then"
    assert {claimed for _, claimed in pairs if not isinstance(claimed, Attempt)} == {Refusal.CANCELLED}
    assert Counter(job.stopping for job in tracked.all()) == won


def test_two_thousand_cancels_against_ends(pool: Database, tracked: Tracked) -> None:
    """In 2,000 races of cancel and end one of them counts, and the loser is told."""
    rows = fill(tracked, MANY)
    jobs.claim(tracked.connection, [wish(Fence(row, 1)) for row in rows])
    pairs = race_through(
        pool,
        rows,
        lambda connection, row: jobs.cancel(connection, row, ACME, actor="u1"),
        lambda connection, row: accepted(connection, [Outcome(Fence(row, 1), "succeeded", "worker-1", 1)]),
    )
    assert all(isinstance(cancelled, IllegalMove) is bool(settled) for cancelled, settled in pairs)
    won = Counter(bool(settled) for _, settled in pairs)
    assert min(won[True], won[False]) > MANY // 20, "each side wins now and then"
    assert Counter(job.status is Status.SUCCEEDED for job in tracked.all()) == won


def test_eight_sweepers_on_a_thousand_due_jobs(racers: Racers, tracked: Tracked) -> None:
    """Eight sweepers release each of a thousand due jobs once."""
    held = fill(tracked, 1000, hold="schedule", delay=-HOUR)

    def sweep(connection: Connection) -> list[JobRecord]:
        found: list[JobRecord] = []
        while batch := holds.lift_due(connection, UNLIMITED, 50):
            found += batch
        return found

    answers = racers.race(*[sweep] * THREADS)
    assert Counter(job.id for answer in answers for job in answer) == dict.fromkeys(held, 1)
    assert all(job.hold is None for job in tracked.all())


def test_eight_sweepers_on_a_thousand_due_jobs_of_one_line(pool: Database, tracked: Tracked) -> None:
    """Eight sweepers bring each of a thousand due jobs into the line once, and fill its slots."""
    held = fill(tracked, 1000, hold="schedule", delay=-HOUR)
    seven = limited(pool, tracked, 7)
    line = Barrier(THREADS, timeout=PATIENCE)

    def sweep(_: int) -> tuple[list[UUID], list[UUID]]:
        lifted: list[UUID] = []
        line.wait()
        with pool.autocommit() as connection:
            while batch := holds.lift_due(connection, seven.limits, 50):
                lifted += [job.id for job in batch]
        return lifted, seven.admit()

    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(sweep, range(THREADS)))
    assert Counter(row for lifted, _ in answers for row in lifted) == dict.fromkeys(held, 1)
    sent = [row for _, admitted in answers for row in admitted]
    assert sorted(sent) == sorted(seven.in_flight())
    assert len(sent) == 7


def test_a_hundred_jobs_of_one_limit_with_everything_at_once(pool: Database, tracked: Tracked) -> None:
    """With eight threads at all verbs, never more than three jobs of a limit of three are under way."""
    three = limited(pool, tracked, 3)
    random = Random(7)

    def work(_: int) -> None:
        job = three.submit()
        if random.random() < 0.2:
            with suppress(IllegalMove), pool.autocommit() as connection:
                jobs.cancel(connection, job.id, ACME, actor="u1")
                jobs.stopped(connection, job.fence, actor="worker-1", how="at a step")
        run_what_was_sent(three, random)

    def run_what_was_sent(platform: Limited, random: Random) -> None:
        with pool.autocommit() as connection:
            own = replace(platform, tracked=Tracked(connection))
            for row in own.in_flight():
                fence = own.tracked.get(row).fence
                [answer] = jobs.claim(connection, [wish(fence)])
                if isinstance(answer, Attempt):
                    seen.append(len(own.in_flight()))
                    accepted(connection, [Outcome(fence, random.choice(ENDS), "worker-1", answer.attempt)])
                    jobs.stopped(connection, fence, actor="worker-1", how="at a step")
                    own.after(own.tracked.get(row))

    seen: list[int] = []
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, range(100)))
    deadline = time.monotonic() + 3 * PATIENCE
    while any(job.status not in FINISHED for job in tracked.all()):
        assert time.monotonic() < deadline, three.holds()
        three.turn()
        run_what_was_sent(three, random)
    assert len(tracked.all()) == 100
    assert max(seen) <= 3
    assert three.most_executing()["acme"] <= 3


def test_everything_at_once(racers: Racers, tracked: Tracked) -> None:
    """Two workers, two people, a reaper and a sweeper on one job leave rows without a contradiction."""
    random = Random(7)
    for _ in range(ROUNDS):
        job = tracked.put_into(random.choice(["queued", "running", "retrying", "backoff", "failed", "stopping"]))
        if job.hold is not None:
            tracked.make_due(job)
        racers.race(
            claim(job),
            claim(job),
            settle(job, random.choice(["succeeded", "failed", "retry", "released"])),
            cancel(job),
            retry(job),
            reaping,
            lambda connection: holds.lift_due(connection, UNLIMITED, 10),
        )
        ends = [entry for entry in tracked.history(job) if entry.event in (Event.COMPLETED, Event.CANCELLED)]
        assert len(ends) <= 1 + tracked.get(job.id).retry_count
