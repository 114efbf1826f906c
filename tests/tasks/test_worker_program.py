"""What an error that ends a worker, or keeps it waiting at its start, is taken for."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from kombu import Connection

from tasks.worker.program import fault_of_worker
from tracking.exit_status import Exit


def _cut(server: socket.socket, length: int) -> None:
    with suppress(OSError):  # the server is closed
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(length)


@pytest.mark.parametrize("length", [8, 4], ids=["after the greeting", "in the greeting"])
def test_a_broker_that_cuts_a_new_connection_is_away(length: int) -> None:
    """A broker that cuts a new connection counts as one that is away."""
    with ThreadPoolExecutor(1) as threads, socket.create_server(("127.0.0.1", 0)) as server:
        threads.submit(_cut, server, length)
        with pytest.raises(OSError) as raised:  # noqa: PT011 - py-amqp's message is its own business
            Connection(f"amqp://127.0.0.1:{server.getsockname()[1]}//", connect_timeout=1).connect()
        server.shutdown(socket.SHUT_RDWR)
    fault = fault_of_worker(raised.value)
    assert fault is not None
    assert (fault.status, fault.line.startswith("the broker is away: ")) == (Exit.AWAY, True)
