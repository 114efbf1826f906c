"""A Redis or Valkey with a replica, and a sentinel that promotes it when its master is gone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from celeriac.embedded.processes import free_port, spawn
from celeriac.embedded.programs import find_valkey
from celeriac.embedded.supervisor import Part, Supervisor
from tests.live import eventually

PASSWORD, ASKING = "of-the-servers", "of-the-sentinel"
NAME = "jobs"
AWAY = 1000  # milliseconds of silence after which a master is gone


@dataclass(frozen=True)
class Watched:
    """The ports of a master, its replica and their sentinel."""

    master: int
    replica: int
    sentinel: int
    servers: Supervisor

    @property
    def url(self) -> str:
        """As BROKER_URL."""
        return f"sentinel://:{PASSWORD}@127.0.0.1:{self.sentinel}/0?master_name={NAME}&sentinel_password={ASKING}"

    def kill_master(self) -> None:
        """As a machine dies."""
        self.servers.processes[_name(self.master)].kill()

    def promoted(self) -> int:
        """The port of whoever is the master in the eyes of the sentinel."""
        with redis.Redis(port=self.sentinel, password=ASKING) as sentinel:
            found: Any = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
            return int(found[1])


@contextmanager
def watched(directory: Path) -> Iterator[Watched]:
    """All three run, and the sentinel knows of both servers."""
    master, replica, sentinel = free_port(), free_port(), free_port()
    secured = {"requirepass": PASSWORD, "masterauth": PASSWORD, "save": '""', "repl-diskless-sync-delay": "0"}
    watching = [
        f"requirepass {ASKING}",
        f"sentinel monitor {NAME} 127.0.0.1 {master} 1",
        f"sentinel auth-pass {NAME} {PASSWORD}",
        f"sentinel down-after-milliseconds {NAME} {AWAY}",
        f"sentinel failover-timeout {NAME} 3000",
    ]
    lines = [f"{name} {value}" for name, value in secured.items()]
    with Supervisor(show=lambda *_: None) as servers:
        servers.start(_part(directory, master, lines, PASSWORD))
        servers.start(_part(directory, replica, [*lines, f"replicaof 127.0.0.1 {master}"], PASSWORD))
        servers.start(_part(directory, sentinel, watching, ASKING, "--sentinel"))
        eventually(lambda: _knows_replica(sentinel), what="the replica in the eyes of the sentinel")
        yield Watched(master, replica, sentinel, servers)


def _part(directory: Path, port: int, lines: list[str], password: str, *options: str) -> Part:
    home = directory / str(port)
    home.mkdir()
    file = home / "server.conf"
    file.write_text("\n".join([f"port {port}", "bind 127.0.0.1", f"dir {home}", *lines, ""]))
    program = str(find_valkey().path)
    return Part(
        name=_name(port),
        launch=lambda: spawn(
            [program, str(file), *options], death_signal=signal.SIGKILL, environment={"LC_ALL": "C"}, directory=home
        ),
        steps=(),
        ready=lambda _: _answers(port, password),
    )


def _name(port: int) -> str:
    return f"server {port}"


def _answers(port: int, password: str) -> bool:
    with redis.Redis(port=port, password=password, socket_timeout=2) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def _knows_replica(port: int) -> bool:
    with redis.Redis(port=port, password=ASKING) as sentinel:
        found: Any = sentinel.execute_command("SENTINEL", "REPLICAS", NAME)
        return len(found) == 1
