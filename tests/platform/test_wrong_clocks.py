"""The clock of a worker's host is wrong: what matters goes by the database's clock."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from tests.api.conftest import Servers
from tests.live import LivePlatform, empty_queues, eventually
from tests.verifying import broken

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
AHEAD, BEHIND = "+3600", "-7200"  # seconds


class Clock:
    """What the processes that are started with its environment take for the time; their monotonic clocks are true."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def be_off(self, difference: str) -> None:
        """By so many seconds."""
        self._file.write_text(f"{difference}\n")

    @property
    def environment(self) -> dict[str, str]:
        """Of libfaketime."""
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    """A clock that a test sets wrong."""
    if not LIBRARY.exists():
        assert os.environ.get("CI") != "true", "libfaketime is missing"
        pytest.skip("no libfaketime on this machine: on Debian `apt-get install faketime`")
    return Clock(tmp_path / "clock")


def started(platform: LivePlatform, clock: Clock, *, concurrency: int = 2) -> None:
    """A worker whose clock that is, which is there."""
    command = ("worker", "--queues", "default,maintenance", "--concurrency", str(concurrency))
    platform.start("celeriac", *command, log="worker1.log", warm=False, **clock.environment)
    eventually(lambda: platform.workers() == 1, what="the start of the worker")


@pytest.mark.parametrize("difference", [AHEAD, BEHIND])
def test_a_wrong_clock_of_a_worker_is_nobodys_time(
    servers: Servers, database_url: str, tmp_path: Path, clock: Clock, difference: str
) -> None:
    """On a host whose clock is wrong jobs run that expire in a minute, retries come when due, and times are true."""
    empty_queues(servers.valkey_url)
    clock.be_off(difference)
    with LivePlatform(database_url, servers.valkey_url, tmp_path) as platform:
        started(platform, clock)
        expiring = platform.submit("add", 1, 2, expires=60)
        later = platform.submit("add", 3, 4, countdown=0.5)
        assert [platform.wait_for(job_id).result for job_id in (expiring, later)] == [3, 7]
        retried = platform.wait_for(platform.submit("flaky", payload={"failures": 1}))
        assert (retried.status, retried.attempt) == ("succeeded", 2)
        over = platform.wait_for(platform.submit("noop", expires=-1.0))
        assert over.status == "cancelled"
        assert broken(platform.database) == {}
        for job in platform.jobs():
            assert job.completed_at is not None
            assert abs(job.completed_at - job.created_at) < timedelta(minutes=5)


@pytest.mark.parametrize("difference", [AHEAD, BEHIND])
def test_a_clock_that_steps_while_bodies_run_ends_none_of_them(
    platform: LivePlatform, tmp_path: Path, clock: Clock, difference: str
) -> None:
    """A worker's clock steps by hours in the midst of bodies: each runs once, to its end, and its times are true."""
    clock.be_off("+0")
    started(platform, clock, concurrency=3)
    # No time.sleep in the body: libfaketime lets one that is under way at a step fail or end at once.
    over = tmp_path / "over"
    running = [platform.submit("until", str(over)), platform.submit("until", str(over), time_limit=120)]
    waiting = [platform.submit("noop") for _ in range(20)]
    eventually(lambda: all(platform.job(job).status == "running" for job in running), what="their start")
    clock.be_off(difference)
    after = platform.submit("noop", countdown=1)
    assert platform.wait_for(platform.submit("noop")).status == "succeeded"
    over.touch()
    for job_id in (*running, *waiting, after):
        job = platform.wait_for(job_id)
        assert (job.status, job.attempt, job.error_message) == ("succeeded", 1, None)
        assert platform.events(job_id).count("started") == 1
    for job in platform.jobs():
        assert job.started_at is not None
        assert job.completed_at is not None
        assert timedelta(0) <= job.completed_at - job.started_at < timedelta(minutes=5)
    assert broken(platform.database) == {}
