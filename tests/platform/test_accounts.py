"""The parts of compose.yaml, each with its own account of the database and the broker, and with no other right."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from os import environ
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from amqp.exceptions import AccessRefused
from kombu import Connection, Producer
from sqlalchemy import NullPool, create_engine, make_url, text

from bench.chaos import rabbitmq
from celeriac.embedded.processes import free_port
from celeriac.embedded.supervisor import Supervisor
from tests import composed
from tests.api.conftest import serving
from tests.commands import PROGRAM, run_in
from tests.flowering import answers, sees_a_job
from tests.live import LivePlatform, eventually
from tests.platform.test_doctor import examined, health
from tests.servers import Servers, administrator, new_database

FORBIDDEN = 403  # Flower says so
MANAGEMENT = "management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n"
LOGINS = ("celeriac_worker", "celeriac_api")
OWNERS = text("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
ABOVE = text(
    "SELECT count(*) FROM pg_roles WHERE rolname = ANY(:logins) AND (rolsuper OR rolbypassrls OR rolcreaterole)"
)


@dataclass(frozen=True)
class Parts:
    """The servers of compose.yaml, as each service sees them. `said`: what the broker has logged."""

    database_url: str
    broker: rabbitmq.Node
    management: int
    said: list[str]
    values: dict[str, str]
    secrets: Path

    def environment(self, service: str) -> dict[str, str]:
        """What compose.yaml sets for a service, with what is in its secrets."""
        return composed.opened(composed.environment(service, self.values), self.secrets)

    def be_where_the_secrets_say(self) -> None:
        """Let the secrets name these servers instead of those of the networks."""
        url = make_url(self.database_url)
        places = {
            "@database:5432/celeriac": f"@/{url.database}?host={url.query['host']}",
            "@broker:5672": f"@127.0.0.1:{self.broker.port}",
            "@broker:15672": f"@127.0.0.1:{self.management}",
        }
        for file in self.secrets.iterdir():
            text = file.read_text()
            for theirs, ours in places.items():
                text = text.replace(theirs, ours)
            file.chmod(0o600)
            file.write_text(text)

    def broker_url(self, account: str) -> str:
        return f"amqp://{account}:{self._password(account)}@127.0.0.1:{self.broker.port}//"

    def _password(self, account: str) -> str:
        return self.values[f"RABBITMQ_{account.removeprefix('celeriac_').upper()}_PASSWORD"]

    def refusals(self) -> list[str]:
        """What the broker has refused so far."""
        return [line for line in self.said if "refused for user" in line]


@pytest.fixture(scope="module")
def parts(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """A RabbitMQ and a new database with the accounts of compose.yaml, made as its services do that run once."""
    program = rabbitmq.find_program()
    if program is None:
        pytest.skip("no rabbitmq-server on this machine")
    directory = tmp_path_factory.mktemp("accounts")
    values = composed.values()
    secrets = composed.written(directory, values)
    node, management = rabbitmq.open_node(directory, program), free_port()
    accounts = directory / "accounts.json"
    accounts.write_text(composed.content("accounts", values))
    said = composed.content("broker", values).replace("/etc/rabbitmq/accounts.json", str(accounts))
    with (node.home / "rabbitmq.conf").open("a") as configuration:
        configuration.write(said + MANAGEMENT.format(port=management))
    (node.home / "plugins").write_text("[rabbitmq_management].\n")
    lines: list[str] = []
    with ExitStack() as stack:
        parts = Parts(stack.enter_context(new_database(servers, "template0")), node, management, lines, values, secrets)
        parts.be_where_the_secrets_say()
        supervisor = stack.enter_context(Supervisor(show=lambda _name, line: lines.append(line)))
        # The node has no guest, as whom the run of faults asks.
        supervisor.start(replace(rabbitmq.part(node), ready=lambda _: _lets_in(parts.broker_url("celeriac_worker"))))
        make_logins(parts.database_url, secrets)
        for service in ("roles", "migrate"):
            _run_once(parts, service, directory)
        yield parts


def make_logins(url: str, secrets: Path) -> None:
    """Have psql say to a database what the image of compose.yaml says at its first start."""
    script = composed.content("logins", {}).replace(composed.PLACE, str(secrets))
    command = ["psql", "-q", "-v", "ON_ERROR_STOP=1", administrator(url).replace("+psycopg", ""), "-f", "-"]
    subprocess.run(command, input=script, text=True, check=True, timeout=60, env=composed.PLAIN)


def _run_once(parts: Parts, service: str, directory: Path) -> None:
    variables = {**composed.PLAIN, **parts.environment(service)}
    if service == "roles":  # the superuser goes by another name here
        variables["DATABASE_URL"] = administrator(parts.database_url)
    ended = run_in(directory, variables, PROGRAM, *composed.COMPOSE["services"][service]["command"][1:])
    assert ended.status == 0, ended.err


def _lets_in(url: str) -> bool:
    try:
        with Connection(url, connect_timeout=2) as connection:
            connection.connect()
    except OSError:
        return False
    return True


def test_each_part_does_its_work_and_is_refused_nothing(parts: Parts, tmp_path: Path) -> None:
    """With their own accounts the API creates and cancels, a worker runs and leads, and Flower looks on."""
    as_api, as_worker = parts.environment("api"), parts.environment("worker-default")
    with (
        LivePlatform(as_worker.pop("DATABASE_URL"), as_worker.pop("BROKER_URL"), tmp_path, **as_worker) as platform,
        serving(as_api.pop("DATABASE_URL"), as_api.pop("BROKER_URL"), tmp_path, **as_api) as api,
        _flower(parts, platform) as flower,
    ):
        platform.start("celeriac", "worker", "--queues", "default,maintenance,webhooks", log="worker1.log")
        caller = api.caller()
        created = UUID(caller.create("open").json()["jobId"])
        assert platform.wait_for(created).status == "succeeded"
        owner: dict[str, Any] = {"organization": caller.organization, "user": caller.user}
        later = platform.submit("noop", countdown=0.1, **owner)  # which the leader lets through
        assert platform.wait_for(later).status == "succeeded"
        eventually(lambda: sees_a_job(flower, platform), what="a worker's event in Flower")
        napping = platform.submit("nap", payload={"seconds": 60}, **owner)
        eventually(lambda: _state(flower, napping) == "STARTED", what="the job in Flower")
        assert flower.post(f"/api/task/revoke/{napping}", params={"terminate": "true"}).status_code == FORBIDDEN
        (name,) = flower.get("/api/workers", params={"refresh": "1"}).raise_for_status().json()
        assert flower.post(f"/api/worker/shutdown/{name}").status_code == FORBIDDEN
        queues = flower.get("/api/queues/length").raise_for_status().json()["active_queues"]
        assert {"default", "maintenance", "webhooks"} <= {each["name"] for each in queues}
        caller.post(f"/v1/jobs/{napping}/cancel").raise_for_status()
        eventually(lambda: not platform.job(napping).stopping, what="the end of its body")
        _, found = examined(platform, tmp_path, **parts.environment("api"))
        assert {check for check, state in health(found).items() if state != "ok"} <= {"acknowledgement"}, found
        assert found["tenants"]["reason"] == "the database keeps organizations apart in each request"
    assert parts.refusals() == []


@pytest.mark.parametrize(
    ("account", "deed"),
    [
        ("api", "basic_get default"),
        ("api", "queue_declare of_others"),
        ("api", "basic_get webhooks"),
        ("api", "queue_purge default"),
        ("api", "basic_get celeryev.mine"),
        ("worker", "queue_declare of_others"),
        ("worker", "exchange_declare amq.default"),
        ("flower", "basic_publish default"),
        ("flower", "basic_get default"),
        ("flower", "queue_purge default"),
        ("flower", "queue_delete webhooks"),
    ],
)
def test_an_account_is_refused_what_its_part_never_does(parts: Parts, account: str, deed: str) -> None:
    """The API takes no message, a worker makes no queue of others, Flower sends no job, and takes and removes none."""
    verb, name = deed.split()
    with Connection(parts.broker_url("celeriac_worker")) as worker:
        channel: Any = worker.default_channel
        for queue in ("default", "webhooks", "celeryev.mine"):
            channel.queue_declare(queue, durable=True, auto_delete=False, arguments={"x-max-priority": 9})
    with Connection(parts.broker_url(f"celeriac_{account}")) as connection, pytest.raises(AccessRefused):
        _do(connection.default_channel, verb, name)


def _do(channel: Any, verb: str, name: str) -> None:
    if verb == "basic_publish":
        Producer(channel, auto_declare=False).publish({}, routing_key=name)
        channel.queue_declare(name, passive=True)  # a publish has no answer of its own
    elif verb == "exchange_declare":
        channel.exchange_declare(name, "direct")
    else:
        getattr(channel, verb)(name)


def test_what_a_superuser_has_migrated_goes_to_an_ordinary_role(servers: Servers, tmp_path: Path) -> None:
    """The statements of compose.yaml for logins give an old database to an ordinary role, and may be said twice."""
    secrets = composed.written(tmp_path, composed.values())
    with new_database(servers) as url:
        engine = create_engine(administrator(url), poolclass=NullPool)
        for _ in range(2):
            make_logins(url, secrets)
            with engine.connect() as connection:
                assert connection.execute(OWNERS).scalars().all() == ["celeriac_worker"]
                assert connection.execute(ABOVE, {"logins": [*LOGINS]}).scalar_one() == 0


@contextmanager
def _flower(parts: Parts, platform: LivePlatform) -> Iterator[httpx2.Client]:
    """A client of the Flower of compose.yaml, which has no database."""
    environment, port = parts.environment("flower"), free_port()
    assert "DATABASE_URL" not in environment
    path = f"{Path(sys.executable).parent}:{environ['PATH']}"
    environment |= {"FLOWER_PORT": str(port), "DATABASE_URL": "", "BROKER_URL": "", "PATH": path}
    shell, *said = composed.COMPOSE["services"]["flower"]["command"]
    said[-1] = composed.filled(said[-1], {}).replace(composed.PLACE, str(parts.secrets))
    platform.start(str(shutil.which(shell)), *said, log="flower.log", warm=False, **environment)
    user, _, password = (parts.secrets / "flower_basic_auth").read_text().partition(":")
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", auth=(user, password), timeout=10) as client:
        eventually(lambda: answers(client), within=60, what="the start of Flower")
        yield client


def _state(flower: httpx2.Client, job_id: UUID) -> str | None:
    answer = flower.get(f"/api/task/info/{job_id}")
    return str(answer.json()["state"]) if answer.is_success else None
