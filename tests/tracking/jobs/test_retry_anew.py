"""Repeating a job that has ended with another payload: a new job beside it, and the old one stays as it ended."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection

from tests.live import eventually
from tests.racing import PATIENCE
from tests.tracked import ACME, OTHERS, SITUATIONS, Tracked, check_rows
from tracking import jobs
from tracking.admission.rule import UNLIMITED, Limits
from tracking.db import Database
from tracking.errors import IdempotencyConflict, IllegalMove, JobNotFound
from tracking.models import Changes, JobRecord, Submitted
from tracking.reads import lists
from tracking.states import Hold, Status

RETRYABLE = ("failed", "cancelled")


def repeat(tracked: Tracked, job: JobRecord, limits: Limits = UNLIMITED, **options: Any) -> Submitted:
    """What a retry of u1's with another payload led to."""
    to = options.pop("to", None)
    changes = Changes(payload={"n": 2}, circuit_key="b", delivery={"passing": "named"}, priority=to)
    return jobs.retry_anew(tracked.connection, job.id, ACME, changes, actor="u1", limits=limits, **options)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_only_what_can_be_retried_is_repeated(tracked: Tracked, situation: str) -> None:
    """A failed or cancelled job is repeated by a new one and stays as it ended; of any other one nothing is made."""
    job = tracked.put_into(situation)
    if situation in RETRYABLE:
        anew = repeat(tracked, job).job
        assert (anew.retry_of, anew.payload, anew.status) == (job.id, {"n": 2}, Status.QUEUED)
        assert (anew.retry_count, anew.attempt, anew.circuit_key) == (0, 0, "b")
        kept = ("user_id", "job_type", "queue", "priority", "max_retries", "metadata", "project_id")
        assert [getattr(anew, name) for name in kept] == [getattr(job, name) for name in kept]
        assert tracked.last_detail(anew)["retryOf"] == str(job.id)
        assert tracked.events(job)[-1] == "retried_anew"
        assert tracked.last_detail(job) == {"by": "u1", "force": False, "jobId": str(anew.id)}
        assert lists.retries(tracked.connection, job.id, ACME) == [anew]
    else:
        with pytest.raises(IllegalMove):
            repeat(tracked, job)
    assert tracked.get(job.id) == job
    check_rows(tracked)


def test_force_repeats_a_job_without_a_retry_left(tracked: Tracked) -> None:
    """A job that has used its retries is repeated by force, with another priority if one is given."""
    assert repeat(tracked, tracked.put_into("exhausted"), force=True, to=7).job.priority == 7


def test_the_same_key_is_the_same_repetition(tracked: Tracked) -> None:
    """A key makes one new job however often it comes, also when the old one runs again; another request conflicts."""
    job = tracked.put_into("failed")
    first = repeat(tracked, job, idempotency_key="k", request_hash="a")
    tracked.retry(job)
    again = repeat(tracked, job, idempotency_key="k", request_hash="a")
    assert (first.created, again.created, again.job.id) == (True, False, first.job.id)
    with pytest.raises(IdempotencyConflict):
        repeat(tracked, job, idempotency_key="k", request_hash="b")
    other = repeat(tracked, tracked.put_into("failed"), idempotency_key="k", request_hash="b")
    assert other.created
    assert tracked.events(job).count("retried_anew") == 1


@pytest.mark.parametrize("which", ["anew", "in place"])
def test_one_key_is_one_kind_of_a_retry(tracked: Tracked, pool: Database, which: str) -> None:
    """Of a retry in place and one with a payload, under one key at the same moment, the second one conflicts."""
    job = tracked.put_into("failed")
    kinds = [partial(retry, job=job), partial(repeat_on, job=job)]
    is_anew = which == "anew"
    first, second = reversed(kinds) if is_anew else kinds
    with ThreadPoolExecutor(1) as threads, pool.begin() as connection, pool.begin() as other:
        first(connection)
        waiting = threads.submit(second, other)
        eventually(tracked.waits_for_lock, what="the second one to wait")
        connection.commit()
        with pytest.raises(IdempotencyConflict):
            waiting.result(PATIENCE)
    assert len(tracked.all()) == 1 + is_anew
    assert tracked.get(job.id).status is (Status.FAILED if is_anew else Status.QUEUED)


def retry(connection: Connection, job: JobRecord) -> Submitted:
    """What a retry of the job itself leads to."""
    return jobs.retry(connection, job.id, ACME, actor="u1", limits=UNLIMITED, idempotency_key="k")


def repeat_on(connection: Connection, job: JobRecord) -> Submitted:
    """What a retry with another payload leads to."""
    changes = Changes(payload={"n": 2}, circuit_key="", delivery={})
    return jobs.retry_anew(
        connection, job.id, ACME, changes, actor="u1", limits=UNLIMITED, idempotency_key="k", request_hash="a"
    )


def test_under_a_limit_it_stands_in_line(tracked: Tracked) -> None:
    """A repetition goes into the line of its organization."""
    assert repeat(tracked, tracked.put_into("failed"), Limits(1)).job.hold is Hold.ORGANIZATION_LIMIT


def test_it_waits_for_what_the_first_one_waited_for(tracked: Tracked) -> None:
    """The repetition of a job that never ran waits for the same jobs; that of one that has run waits for none."""
    awaited = tracked.submit()
    waiting = tracked.cancel(tracked.submit(depends_on=[awaited.id]))
    assert repeat(tracked, waiting).job.hold is Hold.DEPENDENCY
    tracked.end(tracked.start(awaited))
    ran = tracked.run("failed", depends_on=[awaited.id])
    assert (repeat(tracked, ran).job.depends_on, repeat(tracked, ran).job.hold) == ([], None)


@pytest.mark.parametrize("scope", OTHERS)
def test_nobody_repeats_what_they_do_not_see(tracked: Tracked, scope: Any) -> None:
    """A repetition of a job outside of the scope finds no job, with a key or without, and lists no repetition of it."""
    job = tracked.put_into("failed")
    repeat(tracked, job, idempotency_key="k")
    for key in (None, "k"):
        with pytest.raises(JobNotFound):
            jobs.retry_anew(
                tracked.connection, job.id, scope, Changes(payload={}), actor="x", limits=UNLIMITED, idempotency_key=key
            )
    assert lists.retries(tracked.connection, job.id, scope) == []
    with pytest.raises(JobNotFound):
        jobs.retry_anew(tracked.connection, uuid4(), ACME, Changes(payload={}), actor="x", limits=UNLIMITED)
