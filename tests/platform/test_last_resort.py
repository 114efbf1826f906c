"""A row that says it runs, while no body does, is settled by the worker whose lease it has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from tests.live import LivePlatform, eventually
from tests.servers import Servers, new_database
from tests.tracked import new_job
from tracking import jobs
from tracking.admission.rule import UNLIMITED
from tracking.models import Attempt, Claim, Fence, Scope
from tracking.schema import workers

AT_MOST = 10.0  # seconds that a row may run without a body
LONGER_THAN_TWO_LOOKS = 7.0  # seconds: a look is every three


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"])
def pool(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LivePlatform]:
    """A worker with each pool in turn."""
    directory = tmp_path_factory.mktemp("last-resort")
    with new_database(servers) as url, LivePlatform(url, servers.valkey_url, directory) as platform:
        platform.start_worker("-P", request.param)
        yield platform


def lease_of(platform: LivePlatform) -> UUID:
    """The lease of the one worker."""
    with platform.database.autocommit() as connection:
        return UUID(str(connection.execute(select(workers.c.lease)).scalar_one()))


def claimed_by_nobody(platform: LivePlatform) -> UUID:
    """A job that runs under the lease of the worker, which has never heard of it."""
    wanted = new_job(job_type="noop", queue="default")
    lease = lease_of(platform)
    with platform.database.begin() as connection:
        jobs.submit(connection, wanted, UNLIMITED, scope=Scope(wanted.owner.organization_id, None))
        [granted] = jobs.claim(connection, [Claim(Fence(wanted.id, 1), uuid4(), "nobody", lease)])
    assert isinstance(granted, Attempt)
    return wanted.id


def test_a_row_that_nobody_runs_is_given_to_somebody(pool: LivePlatform) -> None:
    """A running row without a body is released within ten seconds, counted as a loss, and runs."""
    job_id = claimed_by_nobody(pool)
    job = pool.wait_for(job_id, "succeeded", within=20)
    assert (job.attempt, job.losses) == (2, 1)
    released = next(each for each in pool.history(job_id) if each.event == "released")
    assert released.detail["reason"] == "its worker holds no body of it any more"
    started = next(each for each in pool.history(job_id) if each.event == "started")
    assert (released.at - started.at).total_seconds() < AT_MOST


def test_a_body_that_runs_on_is_left_alone(pool: LivePlatform) -> None:
    """A job whose body runs is not released, however often its worker looks."""
    began = time.monotonic()
    job = pool.wait_for(pool.submit("nap", payload={"seconds": LONGER_THAN_TWO_LOOKS}), within=60)
    assert time.monotonic() - began > LONGER_THAN_TWO_LOOKS
    assert (job.status, job.attempt) == ("succeeded", 1)


def test_the_worker_says_how_many_bodies_it_can_run(pool: LivePlatform) -> None:
    """The row of a worker has the number of bodies that it can run."""

    def concurrency() -> int:
        with pool.database.autocommit() as connection:
            return int(connection.execute(select(workers.c.concurrency)).scalar_one())

    eventually(lambda: concurrency() in (1, 2), what="the heartbeat")
