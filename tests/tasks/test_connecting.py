"""Connections to a broker that ends them while they are made."""

from __future__ import annotations

import errno
import socket

import pytest
from amqp.transport import TCPTransport

from tasks.app import JobApp
from tasks.broker.publisher import connect
from tasks.worker.program import fault_of_worker
from tracking.exit_status import Exit


@pytest.mark.parametrize("said", [errno.EINVAL, errno.ENOTCONN])
def test_a_connection_that_is_reset_as_it_is_made_is_a_broker_that_is_away(
    app: JobApp, monkeypatch: pytest.MonkeyPatch, said: int
) -> None:
    """What Linux says of a socket that was reset in between is told as a reset: a worker that starts asks again."""

    def refuse(*_: object) -> None:
        raise OSError(said, "as of a socket that was reset")

    monkeypatch.setattr(TCPTransport, "_set_socket_options", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server:
        app.conf.update(broker_url=f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}//")
        with pytest.raises(ConnectionResetError) as raised:
            connect(app)
    fault = fault_of_worker(raised.value)
    assert fault is not None
    assert fault.status is Exit.AWAY
