"""A TCP proxy between the platform and a server, which can do to their connections what a bad network does."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self, TypeVar

T = TypeVar("T")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Upstream = Callable[[], Awaitable[Streams]]

CHUNK = 64 * 1024
PATIENCE = 10.0  # seconds for the proxy's own thread to do what it is told

# PostgreSQL's messages (Message Formats, protocol 3.0): what asks a server to commit, and its answer once it has and
# no transaction is open.
SYNC = b"S\x00\x00\x00\x04"
COMMIT = b"COMMIT"
IDLE = b"Z\x00\x00\x00\x05I"
RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # struct linger


class Mode(Enum):
    """What happens to connections: `black_hole` accepts them and delivers nothing, `refuse` does not listen."""

    OPEN = "open"
    BLACK_HOLE = "black hole"
    REFUSE = "refuse"


@dataclass(eq=False)
class Link:
    """One connection and its counterpart on the server's side."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    cut: bool = False
    asked: bool = False  # the client's last words ask for a commit
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def abort(self, *, reset: bool) -> None:
        """End both sides at once; `reset` lets them see ECONNRESET instead of an end."""
        for writer in (self.client, self.server):
            plug: socket.socket = writer.get_extra_info("socket")
            if reset and plug is not None and plug.family != socket.AF_UNIX:
                with suppress(OSError):  # already gone
                    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            writer.transport.abort()


def to_port(port: int) -> Upstream:
    """A server on a port of this machine."""
    return lambda: asyncio.open_connection("127.0.0.1", port)


def to_socket(path: str) -> Upstream:
    """A server on a Unix socket."""
    return lambda: asyncio.open_unix_connection(path)


class Proxy:
    """Listens on a port of its own, in a thread of its own, until it is left. `dropped` counts lost replies."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._links: set[Link] = set()
        self._serving: set[asyncio.Task[None]] = set()  # one for each connection
        self._asking: set[asyncio.Task[Streams]] = set()  # for the counterparts of those that have none as yet
        self._listener: socket.socket | None = None
        self._kept: socket.socket | None = None  # has the port while nobody listens there
        self._open: asyncio.Event = asyncio.Event()
        self._replies_to_drop = 0
        self.port = 0
        self.dropped = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        self._open.set()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._give_up_port()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def switch(self, mode: Mode) -> None:
        """From now on do this to connections, old and new."""
        self._call(self._switch(mode))

    def reset(self) -> None:
        """Break all connections that there are; new ones pass."""
        self._call(self._abort_all())

    def cut(self) -> None:
        """Let each connection that there is end in the midst of the server's next words."""
        self._call(self._mark_cut())

    def drop_replies(self, count: int = 1) -> None:
        """For PostgreSQL: let so many commits happen, but end the connection instead of saying so."""
        self._call(self._expect_commits(count))

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _listen(self) -> None:
        # No asyncio.Server: one that closes while it accepts leaves the sockets in between open.
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.settimeout(0)
        self._loop.add_reader(self._listener, self._accept_one, self._listener)
        self.port = self._listener.getsockname()[1]
        self._give_up_port()

    def _keep_port(self) -> None:
        """Connections to it are refused; and none of this machine begins there, so that it is free again later."""
        if self._kept is None:
            self._kept = socket.socket()
            self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # for the one that will listen
            self._kept.bind(("127.0.0.1", self.port))

    def _give_up_port(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    async def _switch(self, mode: Mode) -> None:
        if mode is Mode.BLACK_HOLE:
            self._open.clear()
        else:
            self._open.set()
        if mode is Mode.REFUSE:
            await self._close()
            self._keep_port()
        elif self._listener is None:
            await self._listen()

    async def _close(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        await self._abort_all()
        for task in [*self._asking, *(task for link in self._links for task in link.tasks)]:
            task.cancel()
        # Also connections that were accepted just now: each ends by itself once it sees that nobody listens.
        async with asyncio.timeout(PATIENCE):
            while self._serving:
                await asyncio.wait(self._serving)

    async def _abort_all(self) -> None:
        for link in list(self._links):
            link.abort(reset=True)

    async def _mark_cut(self) -> None:
        for link in self._links:
            link.cut = True

    async def _expect_commits(self, count: int) -> None:
        self._replies_to_drop = count

    def _accept_one(self, listener: socket.socket) -> None:
        try:
            plug, _ = listener.accept()
        except OSError:  # the client has changed its mind
            return
        plug.settimeout(0)
        serving = self._loop.create_task(self._serve(plug))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, plug: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=plug)
        asking = asyncio.ensure_future(self._counterpart())
        self._asking.add(asking)
        if self._listener is None:
            asking.cancel()
        try:
            from_server, to_server = await asking
        except (OSError, asyncio.CancelledError):  # the server is down, or the proxy closes: as if it were not there
            writer.transport.abort()
            return
        finally:
            self._asking.discard(asking)
        link = Link(writer, to_server)
        if self._listener is None:  # closed at the moment of the counterpart's answer
            link.abort(reset=True)
            return
        self._links.add(link)
        link.tasks = [
            asyncio.ensure_future(self._carry(link, reader, to_server, self._heard_client)),
            asyncio.ensure_future(self._carry(link, from_server, writer, self._heard_server)),
        ]
        await asyncio.wait(link.tasks, return_when=asyncio.FIRST_COMPLETED)
        self._links.discard(link)
        link.abort(reset=False)
        for task in link.tasks:
            task.cancel()
        await asyncio.gather(*link.tasks, return_exceptions=True)

    async def _counterpart(self) -> Streams:
        await self._open.wait()
        return await self._upstream()

    async def _carry(
        self,
        link: Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        hear: Callable[[Link, bytes], bytes | None],
    ) -> None:
        with suppress(OSError):  # whatever ends one side ends the other
            while data := await reader.read(CHUNK):
                await self._open.wait()
                passed = hear(link, data)
                if passed:
                    writer.write(passed)
                    await writer.drain()
                if passed != data:
                    return
            await self._flush(writer)

    async def _flush(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    def _heard_client(self, link: Link, data: bytes) -> bytes:
        link.asked = data.endswith(SYNC) or COMMIT in data
        return data

    def _heard_server(self, link: Link, data: bytes) -> bytes | None:
        if link.cut:
            return data[: len(data) // 2]
        if self._replies_to_drop and link.asked and data.endswith(IDLE):
            self._replies_to_drop -= 1
            self.dropped += 1
            return None
        return data
