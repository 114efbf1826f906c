"""What becomes of jobs whose messages the broker had confirmed and then lost."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from amqp.exceptions import ChannelError
from kombu import Connection
from redis import Redis
from redis.exceptions import RedisError

from celeriac.embedded import valkey
from celeriac.embedded.processes import own_directory
from tests.live import LivePlatform, eventually

ONE_RUN = ["created", "started", "completed"]


@pytest.fixture
def platform(platform: LivePlatform) -> LivePlatform:
    """One that sends all jobs at once."""
    platform.environment["CELERIAC_ORGANIZATION_LIMIT"] = "0"
    return platform


def _submit(platform: LivePlatform, name: str, count: int) -> list[UUID]:
    """Jobs that the broker has confirmed, in a queue that was empty."""
    _purge(platform, "default")
    job_ids = platform.submit_all([(name, [], {}, {})] * count)
    eventually(lambda: all(platform.job(job_id).dispatched_at for job_id in job_ids), what="their dispatch")
    return job_ids


def _purge(platform: LivePlatform, queue: str) -> None:
    with Connection(platform.broker_url) as connection:
        channel: Any = connection.default_channel
        with suppress(ChannelError):  # no such queue
            channel.queue_purge(queue)


def _take(platform: LivePlatform, count: int) -> None:
    """Messages away, as if the broker had lost them."""
    with Connection(platform.broker_url) as connection:
        channel: Any = connection.default_channel
        for _ in range(count):
            assert channel.basic_get("default", no_ack=True) is not None


def _ready(platform: LivePlatform) -> int:
    with Connection(platform.broker_url) as connection:
        channel: Any = connection.default_channel
        return int(channel.queue_declare("default", passive=True).message_count)


def _lose_one_elsewhere(platform: LivePlatform) -> None:
    """Let upkeep look for lost messages, long enough to find one in the other queue."""
    [job_id] = platform.submit_all([("noop", [], {}, {"queue": "maintenance"})])
    eventually(lambda: platform.job(job_id).dispatched_at, what="its dispatch")
    _purge(platform, "maintenance")
    eventually(lambda: "messages.lost" in platform.log(), what="the second dispatch")
    eventually(lambda: platform.job(job_id).dispatched_at, what="the second dispatch")
    _purge(platform, "maintenance")


def test_jobs_whose_queue_was_purged_run_once_each(platform: LivePlatform) -> None:
    """After a purge of its queue each waiting job is sent again and runs once."""
    job_ids = _submit(platform, "noop", 20)
    _purge(platform, "default")
    platform.start_worker(CELERIAC_RESEND_AFTER="1")
    for job_id in job_ids:
        assert platform.wait_for(job_id).status == "succeeded"
        assert platform.events(job_id) == ONE_RUN


def test_a_backlog_that_the_broker_still_has_is_not_sent_again(platform: LivePlatform) -> None:
    """Jobs whose messages the broker still has are not sent again, however long they wait."""
    sent = {job_id: platform.job(job_id).dispatched_at for job_id in _submit(platform, "noop", 20)}
    platform.start_worker(queues="elsewhere", CELERIAC_RESEND_AFTER="1")
    _lose_one_elsewhere(platform)
    assert _ready(platform) == 20
    assert {job_id: platform.job(job_id).dispatched_at for job_id in sent} == sent


def test_only_as_many_messages_are_sent_again_as_are_missing(platform: LivePlatform) -> None:
    """As many jobs as messages are missing are sent again, and copies are refused."""
    job_ids = _submit(platform, "noop", 10)
    _take(platform, 4)
    worker = platform.start_worker(queues="elsewhere", CELERIAC_RESEND_AFTER="1")
    eventually(lambda: _ready(platform) == 10, what="the second dispatch")
    _lose_one_elsewhere(platform)
    assert _ready(platform) == 10
    worker.terminate()
    assert worker.wait(20) == 0
    platform.start_worker(CELERIAC_RESEND_AFTER="1")
    assert {platform.wait_for(job_id).attempt for job_id in job_ids} == {1}


def test_messages_that_a_worker_holds_behind_a_long_job_are_sent_at_most_once_more(platform: LivePlatform) -> None:
    """A message that a worker holds is sent at most once more, and the copy is refused."""
    platform.start_worker("--prefetch-multiplier", "4", concurrency=1, CELERIAC_RESEND_AFTER="1")
    long = platform.submit("nap", payload={"seconds": 6})
    platform.wait_for(long, "running")
    behind = _submit(platform, "noop", 3)
    assert platform.wait_for(long).status == "succeeded"
    for job_id in behind:
        assert platform.wait_for(job_id).attempt == 1
        assert platform.events(job_id).count("duplicate_refused") <= 1


class Forgetful:
    """A Valkey of one test that writes nothing down."""

    def __init__(self, directory: Path) -> None:
        self._broker = valkey.open_broker(own_directory(directory))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What clients connect to; the same after a restart."""
        return f"redis://127.0.0.1:{self._broker.port}/0"

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        options = ["--bind", "127.0.0.1", "--port", str(self._broker.port), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([str(self._broker.program.path), *options], stdout=subprocess.DEVNULL)
        eventually(self._answers, what="its start")

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)

    def _answers(self) -> bool:
        with Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[Forgetful]:
    server = Forgetful(tmp_path / "broker")
    server.start()
    yield server
    server.kill()


def test_a_broker_that_comes_back_empty_loses_no_job(database_url: str, forgetful: Forgetful, tmp_path: Path) -> None:
    """After a broker came back empty, all jobs run, and a worker lives through it."""
    with LivePlatform(
        database_url, forgetful.url, tmp_path, CELERIAC_RESEND_AFTER="1", CELERIAC_ORGANIZATION_LIMIT="0"
    ) as platform:
        platform.start_worker(concurrency=1)
        running = platform.submit("nap", payload={"seconds": 3})
        platform.wait_for(running, "running")
        waiting = _submit(platform, "noop", 10)
        forgetful.kill()
        forgetful.start()
        for job_id in (running, *waiting):
            assert platform.wait_for(job_id, within=40).status == "succeeded"
            assert platform.events(job_id) == ONE_RUN
