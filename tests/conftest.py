"""Real servers for every test: a PostgreSQL and a Valkey of this run alone, RabbitMQ where the machine has one."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis
import pytest
from kombu import Connection
from sqlalchemy import make_url

from celeriac.embedded.processes import own_directory
from tests import spreading
from tests.forkserver import ADDRESS, fork_servers
from tests.live import LivePlatform, empty_queues, fork_server
from tests.servers import (
    DATABASE,
    MARK,
    Servers,
    database_server,
    new_database,
    patient,
    remove_abandoned,
    session_directory,
    started,
    virtual_host,
)
from tests.tracked import Tracked, empty, own_pool
from tracking.db import Database
from tracking.settings import settings

RABBITMQ_URL = os.environ.get("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")

# An example takes longer on a busy machine, and that says nothing of what it shows. Continuous integration tries the
# same examples each time, so that it is red by a fault of the change; a run by hand looks for further ones.
hypothesis.settings.register_profile("without a clock", deadline=None, derandomize=os.environ.get("CI") == "true")
hypothesis.settings.load_profile("without a clock")

_stack = ExitStack()
_servers: list[Servers] = []


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the servers before the tests are imported: Celery reads its settings once, at the first use.

    With pytest-xdist, the process that distributes the tests has the PostgreSQL, and each that runs them a Valkey.
    """
    gc.disable()  # what is imported and collected is no garbage: to look for some took a third of the collection
    if session.config.option.collectonly:
        return
    worker: dict[str, str] | None = getattr(session.config, "workerinput", None)
    if worker is None:
        for name in remove_abandoned():
            _rabbitmqctl("delete_vhost", name)
        os.environ[MARK] = str(_stack.enter_context(session_directory()))
        os.environ["XDG_STATE_HOME"] = str(Path(os.environ[MARK]) / "state")  # where `up` notes its directories
        os.environ[ADDRESS] = _stack.enter_context(fork_servers(Path(os.environ[MARK])))
        shared = own_directory(Path(os.environ[MARK]) / "shared")
        os.environ[DATABASE] = _stack.enter_context(database_server(shared))
    if worker or session.config.getoption("dist", "no") == "no":
        _start_servers(Path(os.environ[MARK]) / (worker["workerid"] if worker else "alone"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Leave all of it out of every later look, and of those at the end."""
    gc.freeze()
    gc.enable()


def _start_servers(directory: Path) -> None:
    servers = _stack.enter_context(started(own_directory(directory), os.environ[DATABASE]))
    _stack.callback(fork_server.close)
    os.environ.update(
        DATABASE_URL=servers.database_url,
        BROKER_URL=servers.valkey_url,
        CELERIAC_IMPORTS="tests.sample_handlers",
        CELERIAC_DATA_DIR=str(directory),
        CELERIAC_JWT_SECRET=uuid4().hex + uuid4().hex,
    )
    settings.cache_clear()  # read by the conftest of a directory that the command line names, which is imported first
    _servers.append(servers)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Say which tests stay together, and put the longest first."""
    if hasattr(config, "workerinput"):
        spreading.tell(items)
        items[:] = spreading.in_order(items)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> spreading.Together | None:
    """`--dist loadgroup`: by our groups."""
    return spreading.Together(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.hookimpl(trylast=True)  # the processes of pytest-xdist have ended
def pytest_sessionfinish() -> None:
    _stack.close()


@pytest.fixture(scope="session")
def servers() -> Servers:
    """The servers of this run."""
    return _servers[0]


@pytest.fixture
def database_url(servers: Servers) -> Iterator[str]:
    """A database of this test alone, with the newest schema."""
    with new_database(servers) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A pool on the database of this test."""
    pool = Database(database_url, settings())
    yield pool
    pool.close()


@pytest.fixture
def roomy(database_url: str) -> Iterator[Database]:
    """The same; filling its tables may take longer than a statement of the platform."""
    pool = patient(database_url)
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def pool(servers: Servers) -> Iterator[Database]:
    """A pool on a database of those tests that leave its schema as it is; `tracked` empties it."""
    with own_pool(servers) as pool:
        yield pool


@pytest.fixture
def tracked(pool: Database) -> Iterator[Tracked]:
    """No jobs yet; every statement is a transaction of its own."""
    empty(pool)
    with pool.autocommit() as connection:
        yield Tracked(connection)


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
    host = virtual_host(Path(os.environ["CELERIAC_DATA_DIR"]))
    if not _rabbitmqctl("add_vhost", host):
        yield RABBITMQ_URL
        return
    _rabbitmqctl("set_permissions", "-p", host, make_url(RABBITMQ_URL).username or "guest", ".*", ".*", ".*")
    yield make_url(RABBITMQ_URL).set(database=host).render_as_string(hide_password=False)
    _rabbitmqctl("delete_vhost", host)


@pytest.fixture(scope="module", params=["valkey", "rabbitmq"])
def broker_url(request: pytest.FixtureRequest, servers: Servers) -> str:
    url = servers.valkey_url if request.param == "valkey" else request.getfixturevalue("rabbitmq_url")
    return str(url)


@pytest.fixture
def platform(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[LivePlatform]:
    """The platform on a database of its own and each broker in turn, queues empty; the test starts its workers."""
    empty_queues(broker_url)
    with LivePlatform(database_url, broker_url, tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def running(servers: Servers, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A platform with a worker of two processes, shared by the tests of a module that leave it as it is."""
    empty_queues(broker_url)
    with new_database(servers) as url, LivePlatform(url, broker_url, tmp_path_factory.mktemp("running")) as platform:
        platform.start_worker()
        yield platform


def _rabbitmqctl(*arguments: str) -> bool:
    program = shutil.which("rabbitmqctl")
    if program is None or make_url(RABBITMQ_URL).host not in ("127.0.0.1", "localhost"):
        return False
    return subprocess.run([program, "-q", *arguments], capture_output=True, timeout=60, check=False).returncode == 0
