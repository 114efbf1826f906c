"""A line that a live worker empties by itself: its slots are passed on where they become free, and none is lost."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from tests.live import LivePlatform
from tracking.crashpoints import GIVEN, SETTLED, VARIABLE
from tracking.exit_status import Exit
from tracking.models import JobRecord
from tracking.schema import workers
from tracking.states import Event, Status

LINE = 120
PLAIN = {Event.CREATED, Event.DUE, Event.STARTED, Event.COMPLETED}


@pytest.fixture(autouse=True)
def _short(platform: LivePlatform) -> None:
    platform.environment |= {
        "CELERIAC_ORGANIZATION_LIMIT": "2",
        "CELERIAC_LEASE_TIMEOUT": "2",
        "CELERIAC_HEARTBEAT": "0.5",
    }


def line(platform: LivePlatform, name: str = "noop", **options: Any) -> list[UUID]:
    """Jobs of one organization, which may have two at once."""
    return platform.submit_all([(name, [], options, {})] * LINE)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_line_runs_in_its_order_and_never_beyond_the_limit(platform: LivePlatform, pool: str) -> None:
    """Every job runs once, after those before it in line, and at most two of them at a time."""
    platform.start_worker("-P", pool, concurrency=3)
    ids = line(platform)
    jobs = platform.all_ended(ids)
    assert {(job.status, job.attempt, job.losses, job.dispatch) for job in jobs} == {("succeeded", 1, 0, 1)}
    assert {Event(event) for told in platform.all_events().values() for event in told} == PLAIN
    began = [job.started_at for job in jobs if job.started_at is not None]
    assert sum(later < earlier for earlier, later in pairwise(began)) <= LINE / 10  # two may change places
    assert most_at_once(jobs) <= 2


def most_at_once(jobs: Sequence[JobRecord]) -> int:
    """How many of them ran at the same time, at most."""
    starts = [(job.started_at, 1) for job in jobs if job.started_at is not None]
    ends = [(job.completed_at, -1) for job in jobs if job.completed_at is not None]
    return max(accumulate(change for _, change in sorted([*starts, *ends])))


def test_a_worker_that_scales_by_itself_grows_with_what_waits(platform: LivePlatform) -> None:
    """A worker of one to eight processes, each for three jobs, soon runs eight at once, and loses none."""
    platform.environment["CELERIAC_ORGANIZATION_LIMIT"] = "0"
    platform.start_worker("--autoscale", "8,1", "--max-tasks-per-child", "3", concurrency=1)
    with platform.database.begin() as connection:
        assert connection.execute(select(workers.c.concurrency)).scalar() == 8  # or nobody would send it more than one
    jobs = platform.all_ended(platform.submit_all([("nap", [], {"payload": {"seconds": 2}}, {})] * 24))
    assert most_at_once(jobs) == 8
    assert {(job.status, job.attempt, job.losses) for job in jobs} == {("succeeded", 1, 0)}


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_pool_that_does_not_grow_is_not_scaled(platform: LivePlatform, pool: str) -> None:
    """A worker that is told to scale such a pool ends at its start with status 2, not when there is much to do."""
    worker = platform.start("celery", "-A", "tasks", "worker", "--pool", pool, "--autoscale", "6,2")
    assert worker.wait(60) == Exit.MISUSED
    assert "--autoscale: a pool of this kind does not grow" in platform.log("process.log")


@pytest.mark.parametrize("point", [GIVEN, SETTLED])
def test_a_worker_that_dies_with_a_slot_that_it_has_passed_on_loses_no_job(platform: LivePlatform, point: str) -> None:
    """The main process dies when the next job has its slot and no message: that is sent, and nothing runs twice."""
    ids = line(platform)
    platform.environment[VARIABLE] = f"{point}:0.1"
    assert platform.start_worker().wait(60) == -signal.SIGKILL
    assert f"crash point {point}" in platform.log()
    del platform.environment[VARIABLE]
    platform.start_worker()
    jobs = platform.all_ended(ids)
    assert {(job.status, job.attempt <= 2, job.losses <= 1) for job in jobs} == {("succeeded", True, True)}
    assert {told.count("completed") for told in platform.all_events().values()} == {1}


def test_a_worker_that_stops_amid_a_line_leaves_it_to_the_next_one(platform: LivePlatform) -> None:
    """After a warm shutdown nothing was lost and nothing runs in the rows; the next worker goes on with the line."""
    stopping = platform.start_worker()
    ids = line(platform)
    platform.wait_for(ids[LINE // 4], within=60)
    stopping.send_signal(signal.SIGTERM)
    assert stopping.wait(30) == 0
    now = Counter(job.status for job in platform.jobs())
    assert now[Status.RUNNING] == 0
    platform.start_worker()
    jobs = platform.all_ended(ids)
    assert {(job.status, job.losses) for job in jobs} == {("succeeded", 0)}
    assert {told.count("completed") for told in platform.all_events().values()} == {1}
