"""The API of an operator's command begins and ends with the command."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from celeriac.commands.operating import GRACE, _serving

TICK = 0.1  # seconds between two looks of uvicorn whether it is to end


async def fine(_scope: object, _receive: object, send: object) -> None:
    """An application that says yes."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b"ok"})  # type: ignore[operator]


@contextmanager
def asked(directory: Path) -> Iterator[socket.socket]:
    """A connection to such an API that has had its answer; it stays open until the caller closes it."""
    path = str(directory / "api")
    configuration = uvicorn.Config(
        fine,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=GRACE,
    )
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        with _serving(configuration, listener):
            client.connect(path)
            client.sendall(b"GET / HTTP/1.1\r\nHost: operator\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
            yield client


def ended(directory: Path, *, closes: bool) -> float:
    """How many seconds the end of the API took, of a client that has closed its connection or has not."""
    directory.mkdir()
    with asked(directory) as client:
        if closes:
            client.close()
        begun = time.monotonic()
    return time.monotonic() - begun


def test_it_ends_at_once(tmp_path: Path) -> None:
    """When the command's client is closed its API ends at once, not at the next looks of uvicorn."""
    assert min(ended(tmp_path / str(number), closes=True) for number in range(5)) < TICK / 2


def test_an_open_connection_is_closed_in_time(tmp_path: Path) -> None:
    """A connection that the client has left open is closed by the server, and does not keep the command."""
    assert ended(tmp_path / "open", closes=False) < GRACE
