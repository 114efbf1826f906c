"""Whose certificates are trusted: those of SSL_CERT_FILE and SSL_CERT_DIR, or of the system, as they are now."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import httpx2


class Authorities(ssl.SSLContext):
    """Looks at each connection whether what is trusted has changed: a process may live longer than a certificate.

    Nothing is read before the first connection with TLS, since that takes 35 ms, ten times what a request does.
    """

    _protocols: tuple[str, ...] = ()

    def __new__(cls) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        self._protocols = tuple(alpn_protocols)

    def wrap_socket(self, sock: socket.socket, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        return self._now().wrap_socket(sock, *arguments, **options)

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *arguments: Any, **options: Any
    ) -> ssl.SSLObject:
        return self._now().wrap_bio(incoming, outgoing, *arguments, **options)

    def _now(self) -> ssl.SSLContext:
        """The ones that count now. Raises SSLError, which is an answer that did not come, when they cannot be read."""
        try:
            found = trusted()
        except OSError as error:
            raise ssl.SSLError(f"whom to trust cannot be read: {error}") from error
        if self._protocols:
            found.set_alpn_protocols(self._protocols)
        return found


def trusted() -> ssl.SSLContext:
    """Read once for the process, and again when the file is another one. Raises OSError."""
    file, directory = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    read = file or directory or ssl.get_default_verify_paths().openssl_cafile
    return _read(file, directory, _state(Path(read)))


def _state(place: Path) -> tuple[int, int, int] | None:
    """What differs when a file was written or replaced, or a directory has got another one; None: it is away."""
    try:
        found = place.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


@lru_cache(maxsize=1)
def _read(_file: str | None, _directory: str | None, _state: object) -> ssl.SSLContext:
    return httpx2.create_ssl_context()
