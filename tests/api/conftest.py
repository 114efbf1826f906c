"""A server for all tests of the API; each test has organizations of its own in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import httpx2
import psutil
import pytest
from sqlalchemy import make_url

from tests.api.calling import PLAIN, Api, Caller
from tests.api.describing import hold_to_description
from tests.live import LivePlatform, eventually


class Servers(Protocol):
    """What the fixture `servers` knows of the servers of this run."""

    database_url: str
    valkey_url: str

    def database(self, name: str) -> str:
        """The URL of another database on the same server."""


@pytest.fixture(scope="session")
def api_database_url(servers: Servers) -> str:
    """The database of all tests of the API."""
    return servers.database_url


@pytest.fixture(scope="session")
def api_broker_url(servers: Servers) -> str:
    """The broker of all tests of the API: their messages are nobody else's."""
    return make_url(servers.valkey_url).set(database="11").render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def api(api_database_url: str, api_broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A running API. No worker runs: jobs stay as the tests put them."""
    with serving(api_database_url, api_broker_url, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture
def caller(api: Api) -> Caller:
    """Somebody with every ordinary permission, in an organization of this test alone."""
    return api.caller()


@contextmanager
def serving(database_url: str, broker_url: str, directory: Path, **environment: str) -> Iterator[Api]:
    """A server on these; ready when it answers."""
    settings = {
        "CELERIAC_IMPORTS": "tests.sample_handlers,tests.api.handlers",
        "CELERIAC_EXPORTS_DIR": str(directory / "exports"),
        "CELERIAC_JWT_SECRET": os.environ["CELERIAC_JWT_SECRET"],
        **environment,
    }
    with LivePlatform(database_url, broker_url, directory, **settings) as platform:
        process = platform.start("celeriac", "api", "--port", "0", log="api.log")
        port = eventually(lambda: _port(psutil.Process(process.pid)), within=30, what="start of the API")
        address, hooks = f"http://127.0.0.1:{port}", {"response": [hold_to_description]}
        with httpx2.Client(verify=PLAIN, base_url=address, timeout=30, event_hooks=hooks) as client:
            client.get("/healthz")  # waits in the queue of the socket until it is served
            yield Api(
                url=str(client.base_url),
                secret=settings["CELERIAC_JWT_SECRET"],
                client=client,
                database=platform.database,
                process=psutil.Process(process.pid),
                log=directory / "api.log",
                exports=directory / "exports",
            )


def _port(process: psutil.Process) -> int | None:
    """Where it listens, once it does: the system has chosen the port."""
    listening = [each.laddr.port for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    return next(iter(listening), None)
