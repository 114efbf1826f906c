"""The embedded Valkey: private, durable, and there again on another port when its own is taken."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import redis

from celeriac.embedded import valkey
from tests.embedded import Servers, connected, started


def test_broker_wants_its_password(running: Servers) -> None:
    """The embedded broker answers nothing without its password."""
    with redis.Redis(port=running.broker.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_brokers_password_is_not_on_its_command_line(running: Servers) -> None:
    """Neither command line nor environment of the embedded broker holds its password."""
    assert running.broker.password not in json.dumps([running.valkey.cmdline(), running.valkey.environ()])


def test_broker_listens_on_loopback_alone(running: Servers) -> None:
    """The embedded broker listens on loopback alone."""
    found = running.valkey.net_connections("inet")
    assert {connection.laddr.ip for connection in found if connection.status == "LISTEN"} == {"127.0.0.1"}


def test_messages_survive_kill(data_dir: Path) -> None:
    """A message pushed right before kill -9 of the broker is there after its next start, on the same port."""
    broker = valkey.open_broker(data_dir)
    with started(valkey.part(broker)) as server, connected(broker) as client:
        client.lpush("queue", "message")
        server.kill()
    again = valkey.open_broker(data_dir)
    with started(valkey.part(again)), connected(again) as client:
        assert (again.port, client.lrange("queue", 0, -1)) == (broker.port, [b"message"])


def test_broker_takes_another_port_when_its_own_is_taken(data_dir: Path) -> None:
    """The embedded broker takes another port when its own was taken meanwhile."""
    first = valkey.open_broker(data_dir)
    with socket.create_server(("127.0.0.1", first.port)):
        assert valkey.open_broker(data_dir).port != first.port


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, b"\xff\x00", b"[1]", b"null", b'["a", "b"]'])
def test_broker_starts_on_a_damaged_note_of_its_port(data_dir: Path, damage: bytes) -> None:
    """Where the note of its port and password is damaged, the embedded broker has new ones."""
    (data_dir / "valkey").mkdir()
    (data_dir / "valkey" / "access.json").write_bytes(damage)
    broker = valkey.open_broker(data_dir)
    assert json.loads((data_dir / "valkey" / "access.json").read_text()) == [broker.port, broker.password]
