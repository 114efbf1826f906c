"""The settings and the directory of each test; a port that is closed, and a place for handlers."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.api.calling import EVERYTHING, Api
from tests.celeriac.commands.asking import Door, environment_of, platform_of
from tests.servers import Servers
from tests.tracked import Tracked
from tracking.db import Database
from tracking.settings import settings


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody waits for a server, nothing of this session is changed, and logging is as it was afterwards."""
    monkeypatch.setenv("CELERIAC_START_PATIENCE", "0")
    monkeypatch.setenv("CELERIAC_DATA_DIR", str(tmp_path / "data"))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    settings.cache_clear()
    yield
    settings.cache_clear()
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def configured(pool: Database, tracked: Tracked) -> Iterator[None]:
    """The command works on the database of these tests."""
    with pytest.MonkeyPatch.context() as changes:
        changes.setenv("DATABASE_URL", pool.engine.url.render_as_string(hide_password=False))
        settings.cache_clear()
        yield
    settings.cache_clear()


@pytest.fixture(scope="module")
def closed() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield int(unused.getsockname()[1])


@pytest.fixture
def handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a module with handlers, in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CELERIAC_IMPORTS", "handlers_of_mine")
    return tmp_path / "handlers_of_mine.py"


@pytest.fixture(params=["api", "operator"])
def door(request: pytest.FixtureRequest, api: Api, servers: Servers) -> Iterator[Door]:
    """Either way to the platform, to an organization of this test alone."""
    caller = api.caller(permissions=(*EVERYTHING, "jobs.view_all", "jobs.delete_jobs"))
    broker_url = make_url(servers.valkey_url).set(database="12").render_as_string(hide_password=False)
    by_api = request.param == "api"
    variables = environment_of(caller) if by_api else platform_of(caller, broker_url)
    with pytest.MonkeyPatch.context() as changes:
        for name, value in variables.items():
            changes.setenv(name, value)
        settings.cache_clear()
        yield Door(caller, () if by_api else ("--organization", caller.organization))
    settings.cache_clear()
