"""The API in this process, for an operator on the host: a command asks it as it asks any other.

So each command is written once, over the client, and what an operator does is checked, audited and answered like what
anybody does. It listens on a socket in a directory that only this user can enter, and takes one token, which nobody is
shown.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import structlog
import uvicorn

from api.app import create_app
from api.auth import Principal, unauthorized
from api.connections import Connection
from api.problems import Code
from celeriac.client import Client
from celeriac.commands import registered
from celeriac.commands.published import import_published
from celeriac.preconditions import require_servers
from tasks.app import app as tasks
from tasks.app import import_handlers
from tasks.platform import Platform
from tracking import external_types
from tracking.db import Database
from tracking.exits import StartError
from tracking.origins import Source
from tracking.pooling import require_fitting
from tracking.settings import Settings, settings
from tracking.versions import require_newest

ADDRESS = "http://operator"  # nobody looks it up: requests go to the socket
CONNECTIONS = 3  # of the database: one command at a time asks
START = 20.0  # seconds for the API to begin
LOOK = 0.01  # seconds between two looks whether it has
END = 10.0  # seconds for it to end, of which five are for messages that are still to go out
CLOSING = 0.1  # seconds for the connections of a client that has closed them
GRACE = 2  # seconds that open streams have at the end
PATIENCE = 5.0  # seconds that a request is repeated while the database does not answer


@contextmanager
def operating(organization: str, user: str) -> Iterator[Client]:
    """A client of the API of this process, with every permission in this organization, under this name.

    Raises ConfigurationError, and what the database says when it turns us away.
    """
    configured = settings().model_copy(update={"pool_size": CONNECTIONS, "dashboard": False})
    require_servers(configured)
    import_handlers(configured)
    import_published(configured)
    known = OneToken(Principal(organization, user, frozenset(_permissions(configured))))
    app = create_app(Platform(tasks, configured), tokens=known, source=Source.CLI)
    with quiet(), TemporaryDirectory(prefix="celeriac-") as directory, socket.socket(socket.AF_UNIX) as listener:
        path = Path(directory) / "api"  # the directory is 0700
        listener.bind(str(path))
        listener.listen()
        configuration = uvicorn.Config(
            app, http=Connection, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE
        )
        with _serving(configuration, listener):
            unused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # to read whom to trust takes a tenth of a second
            reached = httpx2.HTTPTransport(uds=str(path), verify=unused)
            with Client(ADDRESS, known.token, patience=PATIENCE, transport=reached) as client:
                yield client


class OneToken:
    """Knows one caller, by a token that it has made; see api.auth.Verifier."""

    def __init__(self, principal: Principal) -> None:
        self.token = secrets.token_urlsafe(32)
        self._principal = principal

    async def principal(self, token: str) -> Principal:
        """That caller. Raises the 401 problem for every other token."""
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            raise unauthorized(Code.TOKEN_INVALID, "This API is that of one command.")
        return self._principal


@contextmanager
def _serving(config: uvicorn.Config, listener: socket.socket) -> Iterator[None]:
    server = Prompt(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="api of this command", daemon=True)
    thread.start()
    deadline = time.monotonic() + START
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise StartError("the API of this command did not start: CELERIAC_LOG_LEVEL=INFO shows why")
        time.sleep(LOOK)
    try:
        yield
    finally:
        server.end()
        thread.join(END)


class Prompt(uvicorn.Server):
    """Ends when it is told to: uvicorn looks each tenth of a second, and always waits for another one."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = asyncio.Event()

    def end(self) -> None:
        """From any thread."""
        self.should_exit = True
        if self._loop is not None:  # before there is one, it is looked at
            self._loop.call_soon_threadsafe(self._told.set)

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        deadline = time.monotonic() + CLOSING
        while self._is_used and time.monotonic() < deadline:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(CLOSING / 100)  # until it has read that they are closed
        if self._is_used:
            await super().shutdown(sockets)
            return
        for each in (*self.servers, *(sockets or ())):
            each.close()
        await self.lifespan.shutdown()

    @property
    def _is_used(self) -> bool:
        return bool(self.server_state.connections or self.server_state.tasks)


def _permissions(configured: Settings) -> set[str]:
    """All that there are: those of routes, of handlers, and of types whose work is done elsewhere."""
    database = Database(configured.database, configured, pool_size=1)
    try:
        require_fitting(database, configured)
        with database.autocommit() as connection:
            require_newest(connection)
            added = {each.permission for each in external_types.every(connection) if each.permission}
    finally:
        database.close()
    return {*registered.IN_ORGANIZATION, *registered.OF_PLATFORM, *registered.permissions(), *added}


@contextmanager
def quiet() -> Iterator[None]:
    """Let the API log what is wrong alone, on stderr: the output is the command's."""
    before, root = structlog.get_config() if structlog.is_configured() else None, logging.getLogger()
    level_before, level = root.level, max(logging.WARNING, getattr(logging, settings().log_level))
    structlog.reset_defaults()  # what else is configured may want another factory
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    root.setLevel(level)
    try:
        yield
    finally:
        structlog.reset_defaults()
        if before is not None:
            structlog.configure(**before)
        root.setLevel(level_before)
