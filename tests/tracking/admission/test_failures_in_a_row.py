"""Failures are counted in the order in which attempts have ended, however these ends are put together in batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.holding import Limited
from tests.properties import ON_ONE_DATABASE
from tests.tracked import HOUR, Tracked, empty
from tracking import jobs
from tracking.db import Database
from tracking.models import Breaker, Failure, JobRecord, Outcome, Settled

IN_A_ROW = 3
TYPES = ("count_words", "another")
BREAKER = Breaker(IN_A_ROW, timedelta(minutes=1))
FAILURE, FAULT = Failure("ValueError", "wrong"), Failure("PayloadError", "no such export", blames_payload=True)

# How one attempt after the other ended, of which type, in batches.
ENDS = st.tuples(
    st.sampled_from(TYPES), st.sampled_from(["failed", "failed", "failed", "retry", "succeeded", "typed", "blamed"])
)
BATCHES = st.lists(st.lists(ENDS, min_size=1, max_size=9), min_size=1, max_size=4)


def outcome_of(job: JobRecord, how: str) -> Outcome:
    """What a worker says of an attempt that ended so."""
    if how == "succeeded":
        return Outcome(job.fence, "succeeded", "worker-1", job.attempt)
    if how == "typed":
        return Outcome(job.fence, "succeeded", "worker-1", job.attempt, result=1, typed_result=1)
    if how == "blamed":
        return Outcome(job.fence, "failed", "worker-1", job.attempt, failure=FAULT)
    kind = "retry" if how == "retry" else "failed"
    return Outcome(job.fence, kind, "worker-1", job.attempt, failure=FAILURE, delay=HOUR, breaker=BREAKER)  # type: ignore[arg-type]


def openings(ends: Sequence[tuple[str, str]]) -> list[bool]:
    """Which of the ends open the circuit of their type: the last of so many failures in a row, if it is closed."""
    in_a_row, opened, expected = Counter[str](), set[str](), list[bool]()
    for job_type, how in ends:
        if how in ("succeeded", "typed"):
            in_a_row[job_type] = 0
        elif how != "blamed":
            in_a_row[job_type] += 1
        opens = how in ("failed", "retry") and in_a_row[job_type] >= IN_A_ROW and job_type not in opened
        opened |= {job_type} if opens else set()
        expected.append(opens)
    return expected


@settings(ON_ONE_DATABASE, max_examples=60)
@given(batches=BATCHES)
def test_a_circuit_opens_with_the_failure_that_is_one_too_many(
    pool: Database, tracked: Tracked, batches: list[list[tuple[str, str]]]
) -> None:
    """Of ends in batches exactly those open a circuit that would if each were written when its body ended."""
    empty(pool)
    ends = [end for batch in batches for end in batch]
    started = iter([tracked.start(tracked.submit(job_type=job_type, max_retries=9)) for job_type, _ in ends])
    opened = []
    for batch in batches:
        settled = jobs.settle(tracked.connection, [outcome_of(next(started), how) for _, how in batch])
        assert all(isinstance(each, Settled) for each in settled)
        opened += [each.has_opened for each in settled if each is not None]
    assert opened == openings(ends)
    rows = tracked.connection.execute(text("SELECT job_type, failures FROM circuits ORDER BY job_type")).all()
    assert [tuple(row) for row in rows] == sorted(
        (job_type, IN_A_ROW) for (job_type, _), opens in zip(ends, opened, strict=True) if opens
    )


def test_whoever_sees_the_last_failure_sees_the_open_circuit(free: Limited, tracked: Tracked, pool: Database) -> None:
    """The circuit opens in the transaction of the failure: nothing that comes after it can start before it is open."""
    failing = [tracked.start(free.submit()) for _ in range(IN_A_ROW)]
    with pool.begin() as connection:
        jobs.settle(connection, [outcome_of(job, "failed") for job in failing])
        assert free.submit().hold is None, "nobody has seen the failures"
    assert free.submit().hold == "circuit"


def test_failures_at_the_same_moment_open_the_circuit_after_it(free: Limited, tracked: Tracked, pool: Database) -> None:
    """Two transactions do not see each other's failures; who looks after them finds one too many."""
    *early, first, second = [tracked.start(free.submit()) for _ in range(IN_A_ROW)]
    jobs.settle(tracked.connection, [outcome_of(job, "failed") for job in early])
    with pool.begin() as one, pool.begin() as other:
        settled = [
            *jobs.settle(one, [outcome_of(first, "failed")]),
            *jobs.settle(other, [outcome_of(second, "failed")]),
        ]
    assert [each.has_opened for each in settled if each] == [False, False]
    assert free.trip(tracked.get(second.id), IN_A_ROW)


def test_an_outcome_that_nobody_expects_opens_nothing(free: Limited, tracked: Tracked) -> None:
    """A failure whose job was cancelled meanwhile is no failure, and opens no circuit."""
    *failing, cancelled = [tracked.start(free.submit()) for _ in range(IN_A_ROW)]
    tracked.cancel(cancelled)
    settled = jobs.settle(tracked.connection, [outcome_of(job, "failed") for job in (*failing, cancelled)])
    assert settled[-1] is None
    assert free.submit().hold is None


@pytest.mark.parametrize("how", ["blamed", "failed"])
def test_a_failure_without_a_breaker_opens_nothing(free: Limited, tracked: Tracked, how: str) -> None:
    """What is its payload's fault, or of a type whose circuit never opens, is no failure of a circuit."""
    for _ in range(IN_A_ROW + 1):
        job = tracked.start(free.submit())
        failure = FAULT if how == "blamed" else FAILURE
        [settled] = jobs.settle(tracked.connection, [Outcome(job.fence, "failed", "w", 1, failure=failure)])
        assert settled is not None
        assert (settled.failed_in, settled.has_opened) == (None, False)
    assert free.submit().hold is None
