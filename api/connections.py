"""The HTTP server's connections: their number is bounded, and one whose client keeps it waiting is closed."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

HEAD_PATIENCE = 10.0  # seconds from the first byte of a request, or the opening, until its head is complete
READ_PATIENCE = 30.0  # seconds in which a client has to take LEAST_READ bytes of its answer
LEAST_READ = 32 * 1024  # less than what is written between two pauses of asyncio
NOT_READ = "what was sent is not read"
UNANSWERED, SLOW = 1011, 1013  # close codes of a WebSocket whose client does not answer a ping, or does not read
LONGEST_HEAD = 64 * 1024  # bytes, with the trailers after a body; the parser itself has no limit, and keeps all
ADDRESSES = "addresses"  # beside the next: what each address has, as api.addresses counts it
MOST = "most connections"  # in the state that the application gives the server when it begins
LEAVING = "leaving"  # beside it: what is called when the server begins to stop; open answers have to end by themselves
FIELD = 4  # bytes: the colon and the end of a line
# RFC 9112, 3.2: what a Host may be.
HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
FULL = "full"  # in the state of a request: its connection is one too many


class Connection(HttpToolsProtocol):
    """Uvicorn's connection, with a deadline for whatever the client has to do next.

    The body has its deadline in `api.strict`, the pause between two requests in uvicorn (`timeout_keep_alive`).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.waits_since = time.monotonic()  # the loop's own clock may tick in milliseconds, and many come in one
        self._head = _Deadline(self, HEAD_PATIENCE)
        self._reading = _ReadDeadline(self, READ_PATIENCE)
        self._head_size: int | None = None  # bytes so far; None: no head has begun
        self._read = 0  # bytes of its fields

    @property
    def is_waiting(self) -> bool:
        """Whether the client is to send a head, which it may never do."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head; when there are too many connections, in the place of another one."""
        super().connection_made(transport)
        self._head.start()
        addresses = self.app_state.get(ADDRESSES)
        too_many = addresses.opened(self._host, self) if addresses else None
        if too_many:
            self._make_room(too_many)
        if len(self.connections) > self.app_state[MOST] and not self._make_room(self.connections):
            self.app_state = {**self.app_state, FULL: True}

    def data_received(self, data: bytes) -> None:
        """Take what came; a head that is begun has to be complete in time."""
        super().data_received(data)
        if self not in self.connections or not self.is_waiting:  # a WebSocket's now, or at work
            self._head.cancel()
            return
        self._head.start()
        if self._head_size is not None:
            self._head_size += len(data)
            if self._head_size > LONGEST_HEAD:
                self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_size = self._read = 0

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field, of the head or of the trailers after a body in chunks, which are kept with it."""
        self._count(len(name) + len(value) + FIELD)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Take the head that is complete. What raises here is answered with 400, and the connection closed."""
        self._head_size = None
        require_plain(self.parser.get_http_version(), self.headers)
        super().on_headers_complete()

    def _count(self, size: int) -> None:
        self._read += size
        if self._read > LONGEST_HEAD:
            raise ValueError("the head is too long")

    def on_response_complete(self) -> None:
        """Wait for the client again: it has to read the rest of the answer, or to send its next request."""
        super().on_response_complete()
        self.waits_since = time.monotonic()
        if self.transport.is_closing():
            self._reading.start()

    def shutdown(self) -> None:
        """The server stops: have answers ended that would never end."""
        leave = self.app_state.get(LEAVING)
        if leave is not None:
            leave()
        super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which no further request came."""
        super().timeout_keep_alive_handler()
        self._reading.start()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        super().pause_writing()
        self._reading.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reading.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head.cancel()
        self._reading.cancel()
        self._forget()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to the protocol of the WebSocket, which is one of the requests of its address."""
        self._forget()
        super().handle_websocket_upgrade()

    @property
    def _host(self) -> str | None:
        return self.client[0] if self.client else None

    def give_up(self) -> None:
        """End it, without waiting for what it still holds."""
        self.transport.abort()

    def _forget(self) -> None:
        addresses = self.app_state.get(ADDRESSES)
        if addresses:
            addresses.closed(self._host, self)

    def _make_room(self, among: Iterable[Any]) -> bool:
        """Close of these the one that has kept the server waiting longest; those that never sent a request come first.

        Whether there was one: else all are at work.
        """
        waiting = [other for other in among if other is not self and getattr(other, "is_waiting", False)]
        if not waiting:
            return False
        last = min(waiting, key=lambda other: (other.cycle is not None, other.waits_since))
        self.connections.discard(last)  # it is told later that it is lost
        last._forget()  # noqa: SLF001 - of this class
        last.transport.abort()
        return True


def require_plain(http_version: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raise ValueError for a head that another server on the way may read otherwise than we do (RFC 9112, 3.2 and 6.1).

    HTTP/1.1 has one Host, and of all codings of a transfer we know chunks alone.
    """
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 and (hosts or http_version == "1.1"):
        raise ValueError("there is to be one Host")
    if not all(HOST.fullmatch(host) for host in hosts):
        raise ValueError("the Host is none")
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    if codings not in ([], [b"chunked"]) or (codings and http_version != "1.1"):
        raise ValueError("the transfer has a coding that is not known")


class Socket(WebSocketsSansIOProtocol):
    """Uvicorn's WebSocket, with a deadline for the client to read, also what is left at the end.

    Uvicorn itself would wait for ever: its close frame, and the end of the connection, come behind what is not read.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading = _ReadDeadline(self, READ_PATIENCE)

    def pause_writing(self) -> None:
        """The client does not read as fast as it is told."""
        super().pause_writing()
        self._reading.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._reading.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._reading.cancel()
        super().connection_lost(exc)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Nothing more will be said: the client has to read the rest."""
        super().on_task_complete(task)
        if self in self.connections:
            self._reading.start()

    def keepalive_timeout(self) -> None:
        """A ping was not answered, which a client does that reads."""
        if self.writable.is_set():
            self._leave(UNANSWERED, "a ping was not answered")
        else:
            self._leave(SLOW, NOT_READ)

    def give_up(self) -> None:
        """Leave a client that does not read; it is told why, should it read again before the deadline comes again."""
        if self.transport.is_closing():
            self.transport.abort()
        else:
            self._leave(SLOW, NOT_READ)

    def _leave(self, code: int, reason: str) -> None:
        if not self.close_sent:
            self.conn.fail(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.close_sent = self.disconnected = True
        self.transport.close()
        self.writable.set()  # whoever waits to send has nobody left
        self._reading.cancel()
        self._reading.start()


class _Ending(Protocol):
    """A connection with a deadline."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def give_up(self) -> None:
        """The deadline is over."""


class _Deadline:
    """Has a connection given up, unless it is cancelled in time."""

    def __init__(self, connection: _Ending, patience: float) -> None:
        self._connection = connection
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the deadline, unless it runs already."""
        if self._timer is None:
            self._timer = self._connection.loop.call_later(self._patience, self.expire)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def expire(self) -> None:
        self._timer = None
        self._connection.give_up()


class _ReadDeadline(_Deadline):
    """The deadline of a client that is to read its answer; it starts again whenever the client has read a part."""

    _unread = 0

    def start(self) -> None:
        if self._timer is None:
            self._unread = self._connection.transport.get_write_buffer_size()
        super().start()

    def expire(self) -> None:
        if self._unread - self._connection.transport.get_write_buffer_size() < LEAST_READ:
            super().expire()
        else:
            self.cancel()
            self.start()
