"""Each fault that the platform promises to survive, one at a time, on real servers and both brokers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
from kombu import Connection

from bench.chaos import rabbitmq
from bench.chaos.proxy import Mode, Proxy
from celeriac.embedded.processes import kill_session, own_directory
from tests.api.calling import Api
from tests.api.conftest import serving
from tests.bare import BARE, adopted, letter_of
from tests.behind import broker_behind, database_behind
from tests.live import LivePlatform, empty_queues, eventually

# Sends ten messages of the dispatch whose job's id is given.
TENFOLD = """
from uuid import UUID
from tasks import app
from tasks.broker.publisher import connect
from tasks.broker.messages import publish
from tracking.reads import lists
with app.platform.database.autocommit() as connection:
    job = lists.find(connection, UUID(stdin))
with connect(app) as broker:
    producer = app.amqp.Producer(broker.default_channel, auto_declare=False)
    for _ in range(10):
        publish(app, producer, job)
"""


@pytest.fixture
def behind_broker_proxy(
    database_url: str, broker_url: str, tmp_path: Path
) -> Iterator[tuple[LivePlatform, Api, Proxy]]:
    """A platform and an API that reach their broker through a proxy."""
    empty_queues(broker_url)
    with (
        broker_behind(broker_url) as (url, proxy),
        LivePlatform(database_url, url, tmp_path) as platform,
        serving(database_url, url, tmp_path) as api,
    ):
        yield platform, api, proxy
        proxy.switch(Mode.OPEN)


@pytest.fixture
def behind_database_proxy(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[tuple[LivePlatform, Proxy]]:
    """A platform whose worker reaches the database through a proxy; the test itself does not."""
    empty_queues(broker_url)
    with database_behind(database_url) as (url, proxy), LivePlatform(database_url, broker_url, tmp_path) as platform:
        platform.start_worker(concurrency=1, DATABASE_URL=url)
        yield platform, proxy
        proxy.switch(Mode.OPEN)


def starts(witness: Path) -> list[str]:
    """A line for each body that has started."""
    return witness.read_text().split() if witness.exists() else []


def nap(platform: LivePlatform, witness: Path, seconds: float) -> UUID:
    """A job that sleeps, once it has left its task id in the witness file."""
    return platform.submit("nap", payload={"seconds": seconds, "witness": str(witness)})


@pytest.mark.parametrize("mode", [Mode.BLACK_HOLE, Mode.REFUSE])
def test_jobs_are_accepted_in_the_usual_time_without_a_broker(
    behind_broker_proxy: tuple[LivePlatform, Api, Proxy], mode: Mode
) -> None:
    """Without a broker jobs are accepted in the usual time, and run when it is back."""
    platform, api, proxy = behind_broker_proxy
    platform.start_worker()
    caller = api.caller()
    usual = min(_seconds_of_a_create(caller) for _ in range(10))
    proxy.switch(mode)
    slowest = max(_seconds_of_a_create(caller) for _ in range(20))
    sent = platform.submit("add", 1, 2)
    assert slowest < max(0.5, 10 * usual)
    assert platform.job(sent).status == "queued"
    proxy.switch(Mode.OPEN)
    eventually(lambda: all(job.completed_at for job in platform.jobs()), within=60, what="end of all jobs")
    for job in platform.jobs():
        # A worker whose bodies stand still gives back what it has claimed ahead: no body was lost by that.
        given_back = [entry for entry in platform.history(job.id) if entry.event == "released"]
        assert (str(job.status), job.attempt) == ("succeeded", 1 + len(given_back))
        assert {entry.detail["errorType"] for entry in given_back} <= {"GivenBack"}


def _seconds_of_a_create(caller: Any) -> float:
    began = time.monotonic()
    response = caller.create("nap", payload={"seconds": 0})
    assert response.status_code == 202, response.text
    return time.monotonic() - began


def test_the_same_message_ten_times_runs_one_body(platform: LivePlatform, tmp_path: Path) -> None:
    """Of ten copies of a message one body runs; the others are refused and counted."""
    platform.start_worker()
    platform.start_worker()
    witness = tmp_path / "starts"
    job_id = nap(platform, witness, 1.5)
    platform.run(TENFOLD, str(job_id))
    platform.wait_for(job_id)
    eventually(lambda: platform.events(job_id).count("duplicate_refused") == 10, what="refusal of ten messages")
    assert len(starts(witness)) == 1
    assert platform.job(job_id).attempt == 1


def test_a_message_that_becomes_visible_again_runs_no_second_body(
    servers: Any, database_url: str, tmp_path: Path
) -> None:
    """A message that Redis hands out again after its visibility time-out runs no second body."""
    empty_queues(servers.valkey_url)
    with LivePlatform(database_url, servers.valkey_url, tmp_path) as platform:
        platform.start_worker()
        witness = tmp_path / "starts"
        job_id = nap(platform, witness, 8)
        eventually(lambda: starts(witness), what="start")
        with Connection(servers.valkey_url, transport_options={"visibility_timeout": 1}) as connection:
            qos: Any = connection.default_channel.qos  # type: ignore[attr-defined]

            def is_refused() -> bool:
                qos.restore_visible(num=100)  # nothing before the time-out, or while the worker looks by itself
                return "duplicate_refused" in platform.events(job_id)

            eventually(is_refused, what="refusal")
        assert platform.wait_for(job_id).attempt == 1
        assert len(starts(witness)) == 1


def test_the_jobs_of_a_killed_worker_run_elsewhere(platform: LivePlatform, tmp_path: Path) -> None:
    """The jobs of a killed worker that led run on another one."""
    lively = {"CELERIAC_LEASE_TIMEOUT": "3", "CELERIAC_HEARTBEAT": "0.5"}
    first = platform.start_worker(concurrency=1, **lively)
    witness = tmp_path / "starts"
    job_id = platform.submit("slow_at_first", str(witness))
    eventually(lambda: starts(witness), what="start")
    platform.start_worker(concurrency=1, **lively)
    for process in (psutil.Process(first.pid), *psutil.Process(first.pid).children()):
        process.send_signal(signal.SIGKILL)
    job = platform.wait_for(job_id, within=40)
    assert (job.status, job.attempt, job.losses) == ("succeeded", 2, 1)
    events = [event for event in platform.events(job_id) if event != "duplicate_refused"]  # RabbitMQ's redelivery
    assert events == ["created", "started", "released", "started", "completed"]
    assert starts(witness) == [str(job_id)] * 2


@pytest.mark.parametrize("mode", [Mode.BLACK_HOLE, Mode.REFUSE])
def test_an_outcome_is_written_when_the_database_is_back(
    behind_database_proxy: tuple[LivePlatform, Proxy], tmp_path: Path, mode: Mode
) -> None:
    """During an outage of the database a body runs on, and its outcome is written afterwards."""
    platform, proxy = behind_database_proxy
    pid = platform.worker_pid
    first, second = tmp_path / "first", tmp_path / "second"
    running = nap(platform, first, 1)
    eventually(lambda: starts(first), what="start")
    proxy.switch(mode)
    waiting = nap(platform, second, 0)
    time.sleep(6)  # the outage: longer than any one wait of the worker's
    assert platform.job(running).status == "running"
    assert starts(second) == []
    proxy.switch(Mode.OPEN)
    assert platform.wait_for(running, within=30).attempt == 1
    assert platform.wait_for(waiting, within=40).attempt == 1
    assert (len(starts(first)), len(starts(second))) == (1, 1)
    assert psutil.Process(pid).is_running()
    assert "Connection to broker lost" not in platform.log()


def test_claims_and_outcomes_whose_commit_was_not_confirmed_count_once(
    behind_database_proxy: tuple[LivePlatform, Proxy], tmp_path: Path
) -> None:
    """Claims and outcomes whose commit was not confirmed are repeated and count once."""
    platform, proxy = behind_database_proxy
    witness = tmp_path / "starts"
    for _ in range(6):
        proxy.drop_replies(2)
        job = platform.wait_for(nap(platform, witness, 0), within=30)
        assert (job.status, job.attempt) == ("succeeded", 1)
    assert proxy.dropped >= 6
    assert len(starts(witness)) == 6


def test_a_create_whose_commit_was_not_confirmed_is_repeated_with_its_key(
    database_url: str, servers: Any, tmp_path: Path
) -> None:
    """A create whose commit was not confirmed is the same job when it is repeated with its key."""
    with database_behind(database_url) as (url, proxy), serving(url, servers.valkey_url, tmp_path) as api:
        caller = api.caller()
        for number in range(5):
            assert caller.get("/v1/jobs").status_code == 200  # the connection that is to lose a reply is open
            proxy.drop_replies(1)
            answers = [caller.create("nap", key=f"key-{number}", payload={"seconds": 0}) for _ in range(3)]
            assert {answer.status_code for answer in answers} <= {202, 503}
            assert answers[-1].status_code == 202
            assert len({answer.json()["jobId"] for answer in answers if answer.status_code == 202}) == 1
        assert proxy.dropped == 5
        assert caller.get("/v1/jobs").json()["total"] == 5


def test_a_frozen_leader_is_replaced(platform: LivePlatform, tmp_path: Path) -> None:
    """Another worker takes over from a frozen leader and runs its job."""
    lively = {"CELERIAC_LEASE_TIMEOUT": "3", "CELERIAC_HEARTBEAT": "0.5"}
    leader = platform.start_worker(concurrency=1, **lively)
    witness = tmp_path / "starts"
    job_id = platform.submit("slow_at_first", str(witness))
    eventually(lambda: starts(witness), what="start")
    platform.start_worker(concurrency=1, **lively)
    frozen = [psutil.Process(leader.pid), *psutil.Process(leader.pid).children()]
    try:
        for process in frozen:
            process.suspend()
        job = platform.wait_for(job_id, within=40)
        assert (job.status, job.attempt, job.losses) == ("succeeded", 2, 1)
    finally:
        for process in frozen:
            process.resume()
    assert platform.job(job_id).attempt == 2


def test_the_outcome_of_a_worker_that_was_frozen_is_refused(platform: LivePlatform, tmp_path: Path) -> None:
    """The outcome of a worker that was frozen for longer than its lease is refused."""
    lively = {"CELERIAC_LEASE_TIMEOUT": "3", "CELERIAC_HEARTBEAT": "0.5"}
    first = platform.start_worker(concurrency=1, **lively)
    witness = tmp_path / "starts"
    job_id = nap(platform, witness, 5)  # longer than the first one needs to see that it was overtaken
    eventually(lambda: starts(witness), what="start")
    platform.start_worker(concurrency=1, **lively)
    frozen = [psutil.Process(first.pid), *psutil.Process(first.pid).children()]
    try:
        for process in frozen:
            process.suspend()
        eventually(lambda: len(starts(witness)) == 2, within=40, what="the second start")
    finally:
        for process in frozen:
            process.resume()
    eventually(lambda: "outcome.refused" in platform.log(), what="the refusal of the first outcome")
    assert platform.job(job_id).status == "running"
    job = platform.wait_for(job_id)
    assert (job.status, job.attempt, job.dispatch) == ("succeeded", 2, 2)
    assert [each.dispatch for each in platform.history(job_id) if each.event == "completed"] == [2]


@pytest.fixture
def node(tmp_path: Path) -> rabbitmq.Node:
    """A RabbitMQ of this test alone, from the programs of the machine; it is the test's to kill."""
    program = rabbitmq.find_program()
    if program is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("this machine has no RabbitMQ to start")
    return rabbitmq.open_node(own_directory(tmp_path / "node"), program)


class Rabbit:
    def __init__(self, node: rabbitmq.Node) -> None:
        self._part = rabbitmq.part(node)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        process = self._process = self._part.launch()
        assert process is not None
        eventually(lambda: self._part.ready(process.pid), within=3 * self._part.patience, what="start of RabbitMQ")

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            kill_session(self._process)
            self._process.communicate(timeout=10)


@contextmanager
def rabbit(node: rabbitmq.Node) -> Iterator[Rabbit]:
    server = Rabbit(node)
    try:
        yield server
    finally:
        server.kill()


@pytest.mark.parametrize("remembers", [True, False])
def test_a_killed_rabbitmq_loses_no_job(
    database_url: str, node: rabbitmq.Node, tmp_path: Path, *, remembers: bool
) -> None:
    """After a crash of RabbitMQ, with its messages or without, each job runs once."""
    environment = {"CELERIAC_RESEND_AFTER": "2", "CELERIAC_ORGANIZATION_LIMIT": "0"}
    with rabbit(node) as server, LivePlatform(database_url, node.url, tmp_path, **environment) as platform:
        server.start()
        worker = platform.start_worker(concurrency=1)
        witness = tmp_path / "starts"
        running = nap(platform, witness, 3)
        eventually(lambda: starts(witness), what="start")
        waiting = [platform.submit("noop") for _ in range(5)]
        eventually(lambda: all(platform.job(job_id).dispatched_at for job_id in waiting), what="dispatch")
        server.kill()
        if not remembers:
            rabbitmq.forget(node)
        server.start()
        for job_id in (running, *waiting):
            assert platform.wait_for(job_id, within=60).attempt == 1
        assert len(starts(witness)) == 1
        assert worker.poll() is None


def test_a_rabbitmq_that_will_not_wait_for_an_acknowledgement_costs_nothing(
    database_url: str, node: rabbitmq.Node, tmp_path: Path
) -> None:
    """A job longer than RabbitMQ's consumer_timeout has one body and one outcome."""
    with (node.home / "rabbitmq.conf").open("a") as configuration:
        configuration.write("consumer_timeout = 3000\n")
    (node.home / "env.conf").write_text('SERVER_ADDITIONAL_ERL_ARGS="-rabbit channel_tick_interval 1000"\n')
    with rabbit(node) as server, LivePlatform(database_url, node.url, tmp_path) as platform:
        server.start()
        worker = platform.start_worker(concurrency=1)
        witness = tmp_path / "starts"
        long = nap(platform, witness, 12)
        eventually(lambda: "broker.refused_to_wait" in platform.log(), what="the end of RabbitMQ's patience")
        job = platform.wait_for(long, within=60)
        assert (job.status, job.attempt, len(starts(witness))) == ("succeeded", 1, 1)
        assert platform.events(long).count("completed") == 1
        assert platform.wait_for(platform.submit("noop"), within=30).status == "succeeded"
        assert worker.poll() is None


@pytest.mark.parametrize("adopt", ["true", "false"])
def test_no_message_without_a_job_is_lost_while_the_database_is_away(
    database_url: str, broker_url: str, tmp_path: Path, adopt: str
) -> None:
    """While the database is away foreign messages stay unacknowledged."""
    empty_queues(broker_url)
    ids = [str(uuid4()) for _ in range(20)]
    with (
        database_behind(database_url) as (url, proxy),
        LivePlatform(database_url, broker_url, tmp_path, CELERIAC_ADOPT=adopt) as platform,
    ):
        platform.start_worker(DATABASE_URL=url)
        proxy.switch(Mode.REFUSE)
        platform.run(BARE + "for each in given: bare.send_task('add', (1, 2), task_id=each)", json.dumps(ids))
        eventually(lambda: "database.away" in platform.log(), what="the outage")
        assert _ready(broker_url) >= len(ids) - 2
        proxy.switch(Mode.OPEN)
        for task_id in ids:
            if adopt == "true":
                assert platform.wait_for(adopted(platform, task_id).id).status == "succeeded"
            else:
                assert letter_of(platform, task_id).task_name == "add"


def _ready(broker_url: str) -> int:
    """How many messages wait in the queue."""
    with Connection(broker_url) as connection:
        channel: Any = connection.default_channel
        return int(channel.queue_declare("default", passive=True).message_count)


@pytest.mark.parametrize("mode", [Mode.BLACK_HOLE, Mode.REFUSE])
def test_a_job_that_ends_without_a_broker_is_over(
    behind_broker_proxy: tuple[LivePlatform, Api, Proxy], mode: Mode, tmp_path: Path
) -> None:
    """The end of a body is written while the broker is away, not when it is back."""
    platform, _, proxy = behind_broker_proxy
    platform.start_worker()
    job_ids = [nap(platform, tmp_path / "starts", 2) for _ in range(2)]
    eventually(lambda: len(starts(tmp_path / "starts")) == 2, what="start of both")
    proxy.switch(mode)
    for job_id in job_ids:
        platform.wait_for(job_id, "succeeded")
