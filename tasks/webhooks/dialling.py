"""Connections to public addresses only, which end at a deadline whatever the other side does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Collection, Iterable
from ssl import SSLContext
from typing import Any

import httpcore2

CONNECT_SECONDS = 5  # for one address, so that another one gets its turn
LARGEST_WRITE = 64 * 1024


class PrivateAddress(Exception):
    """The name leads to an address that is not to be connected to."""


class OtherPort(Exception):
    """The port is none that is to be connected to."""


class Dialler(httpcore2.NetworkBackend):
    """Looks a name up once, checks all of its addresses by `allows`, and connects to one of those that it has checked.

    Only to these `ports`; None: to any.

    From the first look-up on everything takes `seconds` at most, and `most` bytes are read. What takes longer is an
    httpcore2.TimeoutException; an unknown name is an httpcore2.ConnectError.
    """

    def __init__(self, seconds: float, most: int, allows: Any, ports: Collection[int] | None) -> None:
        self.until = time.monotonic() + seconds
        self.left_bytes = most
        self._allows = allows
        self._ports = ports
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline rules
        local_address: str | None = None,  # noqa: ARG002 - httpcore2's signature
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """A connection to one of the host's addresses."""
        addresses = self._addresses(host, port)
        if not all(self._allows(address) for address in addresses):
            raise PrivateAddress
        if self._ports is not None and port not in self._ports:
            raise OtherPort
        return _Stream(self._first_that_answers(addresses, port, socket_options), self)

    def left(self) -> float:
        """Seconds until the deadline. Raises httpcore2.ReadTimeout after it."""
        seconds = self.until - time.monotonic()
        if seconds <= 0:
            raise httpcore2.ReadTimeout
        return seconds

    def _addresses(self, host: str, port: int) -> list[str]:
        """By a thread, since nothing else ends a look-up in time; one that never ends is left behind."""
        found: list[Any] = []

        def look_up() -> None:
            try:
                found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                found.append(error)

        thread = threading.Thread(target=look_up, name="look-up", daemon=True)
        thread.start()
        thread.join(self.left())
        if not found:
            raise httpcore2.ConnectTimeout
        if isinstance(found[0], UnicodeError):
            raise found[0]
        if isinstance(found[0], Exception):
            raise httpcore2.ConnectError from found[0]
        return list(dict.fromkeys(str(entry[4][0]) for entry in found[0]))

    def _first_that_answers(self, addresses: list[str], port: int, options: Any) -> httpcore2.NetworkStream:
        for address in addresses[:-1]:
            try:
                return self._sockets.connect_tcp(address, port, min(CONNECT_SECONDS, self.left()), None, options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return self._sockets.connect_tcp(addresses[-1], port, min(CONNECT_SECONDS, self.left()), None, options)


class _Stream(httpcore2.NetworkStream):
    """A connection whose every wait ends at the deadline of its dialler."""

    def __init__(self, stream: httpcore2.NetworkStream, dialler: Dialler) -> None:
        self._stream = stream
        self._dialler = dialler

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline rules
        if self._dialler.left_bytes <= 0:
            raise httpcore2.ReadError
        data = self._stream.read(min(max_bytes, self._dialler.left_bytes), self._dialler.left())
        self._dialler.left_bytes -= len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the deadline rules
        for start in range(0, len(buffer), LARGEST_WRITE):
            self._stream.write(buffer[start : start + LARGEST_WRITE], self._dialler.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline rules
    ) -> httpcore2.NetworkStream:
        secure = self._stream.start_tls(ssl_context, server_hostname, self._dialler.left())
        return _Stream(secure, self._dialler)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
