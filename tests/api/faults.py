"""Servers that fail: a relay in front of a database that can go silent, and one that never says anything."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

SOCKET = ".s.PGSQL.5432"  # the file that libpq looks for in a directory


class Relay:
    """Passes bytes on until it is told to be silent; then it keeps all connections open and says nothing."""

    def __init__(self, directory: Path, target: Path) -> None:
        self._path = directory / SOCKET
        self._target = target / SOCKET
        self._loop = asyncio.new_event_loop()
        self._passing = asyncio.Event()
        self._serving = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._over = asyncio.Event()

    def start(self) -> None:
        self._thread.start()
        assert self._serving.wait(5)

    def silence(self) -> None:
        """From now on, nothing passes."""
        self._loop.call_soon_threadsafe(self._passing.clear)

    def heal(self) -> None:
        """What was held back passes."""
        self._loop.call_soon_threadsafe(self._passing.set)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(5)
        self._loop.close()

    async def _serve(self) -> None:
        self._passing.set()
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.add(asyncio.ensure_future(self._relay(reader, writer)))

        async with await asyncio.start_unix_server(accept, self._path):
            self._serving.set()
            await self._over.wait()
            for connection in connections:
                connection.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._target)
        await asyncio.gather(self._pass_on(reader, far_writer), self._pass_on(far_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._passing.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            return  # the other end has gone; so do we
        finally:
            writer.close()


@contextmanager
def relayed(database_url: str) -> Iterator[tuple[str, Relay]]:
    """The URL of the same database behind a relay."""
    url = make_url(database_url)
    with tempfile.TemporaryDirectory(prefix="relay-") as directory:
        relay = Relay(Path(directory), Path(str(url.query["host"])))
        relay.start()
        try:
            yield url.update_query_dict({"host": directory}).render_as_string(hide_password=False), relay
        finally:
            relay.stop()


@dataclass
class Silent:
    """A server that accepts connections and neither reads nor answers."""

    port: int
    accepted: int = 0


@contextmanager
def silent_server() -> Iterator[Silent]:
    """Such a server on a free port."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = Silent(listener.getsockname()[1])

        def accept() -> None:
            with suppress(OSError):  # the listener is closed
                while True:
                    held.append(listener.accept()[0])
                    silent.accepted += 1

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield silent
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    for connection in held:
        connection.close()
