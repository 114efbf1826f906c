"""Redis Sentinel: workers follow the promoted server; brokers on which no job could run are refused at the start."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import redis

from celeriac.embedded.processes import free_port, spawn
from celeriac.embedded.programs import find_valkey
from celeriac.embedded.supervisor import Part, Supervisor
from tests.live import LivePlatform, eventually
from tests.sentinels import AWAY, watched
from tracking.exit_status import Exit


def test_workers_follow_the_server_that_sentinels_promote(database_url: str, tmp_path: Path) -> None:
    """After the end of a master that sentinels watch jobs run by the promoted one, none twice."""
    witness = tmp_path / "bodies"
    with watched(tmp_path) as broker, LivePlatform(database_url, broker.url, tmp_path) as platform:
        worker = platform.start_worker()
        words = [uuid4().hex for _ in range(40)]
        jobs = [_count(platform, word, witness) for word in words[:20]]
        platform.wait_for(jobs[0])
        broker.kill_master()
        jobs += [_count(platform, word, witness) for word in words[20:]]
        eventually(lambda: broker.promoted() == broker.replica, what=f"a promotion after {AWAY} ms")
        for job_id in jobs:
            assert platform.wait_for(job_id).status == "succeeded"
        assert worker.poll() is None
        asked = f"from celeriac import alive; print(alive.main([{platform.directory.name!r}]))"
        assert platform.run(asked).strip() == "0"  # the probe finds its way by the sentinels as well
        starts = Counter(witness.read_text().split())
        assert {word: starts[word] for word in words if starts[word] != 1} == {}


def _count(platform: LivePlatform, word: str, witness: Path) -> UUID:
    return platform.submit("count_words", payload={"words": [word], "witness": str(witness)})


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """The URL of a node of a Redis Cluster, the only one."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--dir", str(tmp_path)]
    command = [str(find_valkey().path), *options, "--save", "", "--cluster-port", str(free_port())]

    def answers(_: int) -> bool:
        with redis.Redis(port=port) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    with Supervisor(show=lambda *_: None) as servers:
        servers.start(
            Part(
                name="node",
                launch=lambda: spawn(command, death_signal=signal.SIGKILL, environment={}, directory=tmp_path),
                steps=(),
                ready=answers,
            )
        )
        yield f"redis://127.0.0.1:{port}/0"


def test_a_node_of_a_redis_cluster_is_refused_at_the_start(cluster: str, database_url: str, tmp_path: Path) -> None:
    """A worker on a node of a Redis Cluster ends at once, with the reason."""
    with LivePlatform(database_url, cluster, tmp_path) as platform:
        worker = platform.start("celeriac", "worker", log="worker.log")
        assert worker.wait(60) == Exit.MISUSED
        assert "it is a node of a Redis Cluster" in platform.log("worker.log")


@pytest.fixture
def quorum_url(rabbitmq_url: str) -> Iterator[str]:
    """A virtual host of RabbitMQ in which every queue is a quorum queue."""
    name = f"quorum-{uuid4().hex[:8]}"
    if not _told("add_vhost", name, "--default-queue-type", "quorum"):
        assert os.environ.get("CI") != "true", "rabbitmqctl cannot make a virtual host"
        pytest.skip("rabbitmqctl cannot make a virtual host here")
    _told("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    yield f"{rabbitmq_url.rpartition('/')[0]}/{name}"
    _told("delete_vhost", name)


def _told(*arguments: str) -> bool:
    try:
        done = subprocess.run(["rabbitmqctl", "-q", *arguments], capture_output=True, timeout=60, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


def test_a_virtual_host_of_quorum_queues_is_refused_at_the_start(
    quorum_url: str, database_url: str, tmp_path: Path
) -> None:
    """A worker whose queues would be quorum queues, without ten priorities, ends at once, with the reason."""
    with LivePlatform(database_url, quorum_url, tmp_path) as platform:
        worker = platform.start("celeriac", "worker", log="worker.log")
        assert worker.wait(60) == Exit.MISUSED
        assert "they have no ten priorities before RabbitMQ 4.3" in platform.log("worker.log")
