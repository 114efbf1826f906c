"""Real servers for every test: a PostgreSQL and a Valkey of this run alone, RabbitMQ where the machine has one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kombu import Connection
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from celeriac import postgres, valkey
from celeriac.processes import own_directory
from celeriac.supervisor import Supervisor
from tests.live import Platform
from tracking.db import Database, migrate

RABBITMQ_URL = os.environ.get("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
TEMPLATE = "template_celeriac"


@dataclass(frozen=True)
class Servers:
    """Where the servers of this run are."""

    database_url: str
    valkey_url: str

    def database(self, name: str) -> str:
        """The URL of another database on the same server."""
        return make_url(self.database_url).set(database=name).render_as_string(hide_password=False)


_stack = ExitStack()
_servers: list[Servers] = []


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the servers before the tests are imported: Celery reads its settings once, at the first use."""
    if session.config.option.collectonly:
        return
    directory = own_directory(Path(tempfile.mkdtemp(prefix="celeriac-tests-")))
    _stack.callback(shutil.rmtree, directory, ignore_errors=True)
    _stack.callback(postgres.discard, directory)
    cluster = postgres.open_cluster(directory)
    broker = valkey.open_broker(directory)
    supervisor = _stack.enter_context(Supervisor(show=lambda *_: None))
    for part in (postgres.part(cluster), valkey.part(broker)):
        supervisor.start(part)
    url = make_url(cluster.url).set(drivername="postgresql+psycopg")
    servers = Servers(url.render_as_string(hide_password=False), broker.url)
    _execute(servers, f"CREATE DATABASE {TEMPLATE} OWNER {postgres.ROLE}")
    migrate(servers.database(TEMPLATE))
    _execute(servers, f"CREATE DATABASE session TEMPLATE {TEMPLATE} OWNER {postgres.ROLE}")
    os.environ.update(
        DATABASE_URL=servers.database("session"),
        BROKER_URL=servers.valkey_url,
        CELERIAC_IMPORTS="tests.sample_handlers",
        CELERIAC_DATA_DIR=str(directory),
        CELERIAC_JWT_SECRET=uuid4().hex + uuid4().hex,
    )
    _servers.append(servers)


def pytest_sessionfinish() -> None:
    """Stop them."""
    _stack.close()


@pytest.fixture(scope="session")
def servers() -> Servers:
    """The servers of this run."""
    return _servers[0]


@pytest.fixture
def database_url(servers: Servers) -> Iterator[str]:
    """A database of this test alone, with the newest schema."""
    with _database(servers) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A pool on the database of this test."""
    pool = Database(database_url)
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    """A RabbitMQ, with a virtual host of this run where we may make one; skips without one, fails in CI."""
    try:
        with Connection(RABBITMQ_URL, connect_timeout=2) as connection:
            connection.connect()
    except OSError as error:
        reason = f"no RabbitMQ at RABBITMQ_URL: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    host = f"celeriac-{uuid4().hex[:8]}"
    if not _rabbitmqctl("add_vhost", host):
        yield RABBITMQ_URL
        return
    _rabbitmqctl("set_permissions", "-p", host, make_url(RABBITMQ_URL).username or "guest", ".*", ".*", ".*")
    yield make_url(RABBITMQ_URL).set(database=host).render_as_string(hide_password=False)
    _rabbitmqctl("delete_vhost", host)


@pytest.fixture(scope="module", params=["valkey", "rabbitmq"])
def broker_url(request: pytest.FixtureRequest, servers: Servers) -> str:
    """Each broker in turn."""
    url = servers.valkey_url if request.param == "valkey" else request.getfixturevalue("rabbitmq_url")
    return str(url)


@pytest.fixture
def platform(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Platform]:
    """The platform on a database of its own and each broker in turn, queues empty; the test starts its workers."""
    _empty(broker_url)
    with Platform(database_url, broker_url, tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def running(servers: Servers, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with a worker of two processes, shared by the tests of a module that leave it as it is."""
    _empty(broker_url)
    with _database(servers) as url, Platform(url, broker_url, tmp_path_factory.mktemp("running")) as platform:
        platform.start_worker()
        yield platform


@contextmanager
def _database(servers: Servers) -> Iterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    _execute(servers, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} OWNER {postgres.ROLE}")
    yield servers.database(name)
    _execute(servers, f"DROP DATABASE {name} WITH (FORCE)")


def _rabbitmqctl(*arguments: str) -> bool:
    program = shutil.which("rabbitmqctl")
    if program is None or make_url(RABBITMQ_URL).host not in ("127.0.0.1", "localhost"):
        return False
    return subprocess.run([program, "-q", *arguments], capture_output=True, timeout=60, check=False).returncode == 0


def _empty(broker_url: str) -> None:
    with Connection(broker_url) as connection:
        channel: Any = connection.default_channel
        for queue in ("default", "maintenance"):
            channel.queue_delete(queue)


def _execute(servers: Servers, statement: str) -> None:
    administrator = make_url(servers.database_url).set(username="postgres", database="postgres")
    engine = create_engine(administrator, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(statement))
