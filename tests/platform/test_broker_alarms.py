"""RabbitMQ is short of memory or disk, and blocks whoever publishes: jobs are accepted, wait, and go out."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from bench.chaos import rabbitmq
from bench.chaos.rabbitmq import Node
from celeriac.embedded.supervisor import Supervisor
from tests.api.calling import Api, Caller
from tests.api.conftest import Servers, serving
from tests.live import LivePlatform, eventually
from tests.servers import new_database

SOON = 1.0  # seconds that a create may take: what waits for a broker waits for five


@dataclass(frozen=True)
class Alarm:
    """What makes a node block its publishers, and what ends that."""

    raised: tuple[str, ...]
    cleared: tuple[str, ...]


ALARMS = {
    "memory": Alarm(("set_vm_memory_high_watermark", "0"), ("set_vm_memory_high_watermark", "0.9")),
    "disk": Alarm(("set_disk_free_limit", "900000GB"), ("set_disk_free_limit", "1MB")),
}


LOOK = """
from tasks import app
from tasks.doctor.broker import checks
[look] = [check.look for check in checks(app.platform) if check.name == "broker"]
print(look())
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A RabbitMQ of these tests alone."""
    program = rabbitmq.find_program()
    if program is None:
        assert os.environ.get("CI") != "true", "RabbitMQ is missing"
        pytest.skip("no RabbitMQ on this machine that can be started")
    found = rabbitmq.open_node(tmp_path_factory.mktemp("alarms"), program)
    with Supervisor(show=lambda *_: None) as supervisor:
        supervisor.start(rabbitmq.part(found))
        yield found


@pytest.fixture
def running(servers: Servers, node: Node, tmp_path: Path) -> Iterator[tuple[LivePlatform, Api]]:
    """A platform with a worker, and an API."""
    with (
        new_database(servers) as url,  # type: ignore[arg-type]  # the same servers by another name
        LivePlatform(url, node.url, tmp_path) as platform,
        serving(url, node.url, tmp_path) as api,
    ):
        platform.start_worker()
        yield platform, api


@pytest.fixture
def told(node: Node) -> Iterator[Callable[..., None]]:
    """Tells the node something by its own program; whatever it was told, no alarm is left."""

    def tell(command: tuple[str, ...]) -> None:
        control = node.program.with_name("rabbitmqctl")
        environment = {**os.environ, "HOME": str(node.home), "RABBITMQ_CONF_ENV_FILE": str(node.home / "env.conf")}
        arguments = [str(control), "-q", "-n", node.name, *command]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr or done.stdout

    yield tell
    for alarm in ALARMS.values():
        tell(alarm.cleared)


def broker_of(api: Api) -> str:
    """What `/readyz` says of the broker."""
    return str(api.client.get("/readyz").json()["checks"]["broker"])


def has_succeeded(caller: Caller, job_id: str) -> bool:
    """Whether a job has."""
    return bool(caller.get(f"/v1/jobs/{job_id}").json()["status"] == "succeeded")


@pytest.mark.parametrize("alarm", ALARMS.values(), ids=ALARMS)
def test_jobs_wait_in_their_rows_while_rabbitmq_blocks_publishers(
    running: tuple[LivePlatform, Api], told: Callable[..., None], alarm: Alarm
) -> None:
    """Under an alarm of RabbitMQ jobs are accepted and wait, `/readyz` says `blocked`, and they run after it."""
    platform, api = running
    caller = api.caller("acme")
    before = caller.create("count_words", payload={"words": ["before"]}).json()["jobId"]
    eventually(partial(has_succeeded, caller, before), what="the first job")
    eventually(lambda: broker_of(api) == "ok", what="a broker that is fine")
    told(alarm.raised)
    eventually(lambda: broker_of(api) == "blocked", what="the alarm in /readyz")
    assert api.client.get("/readyz").status_code == 200
    accepted = []
    for number in range(20):
        began = time.monotonic()
        answer = caller.create("count_words", payload={"words": [str(number)]})
        assert (answer.status_code, time.monotonic() - began < SOON) == (202, True), answer.text
        accepted.append(answer.json()["jobId"])
    told(alarm.cleared)
    eventually(lambda: broker_of(api) == "ok", what="the end of the alarm in /readyz")
    for job_id in accepted:
        eventually(partial(has_succeeded, caller, job_id), what=f"the end of {job_id}")
    assert all(platform.events(job.id).count("completed") == 1 for job in platform.jobs())


def test_the_doctor_says_why_rabbitmq_takes_no_messages(
    running: tuple[LivePlatform, Api], told: Callable[..., None]
) -> None:
    """`celeriac doctor` finds a RabbitMQ that blocks publishers, and says what to do."""
    platform, _ = running
    told(ALARMS["disk"].raised)

    def found() -> str:
        """What the check of the broker finds in a process of its own."""
        said = platform.run(LOOK)
        return said if "memory or disk" in said else ""

    assert "rabbitmq-diagnostics alarms" in eventually(found, what="the alarm in the doctor's words")
