"""The embedded Valkey: a broker on loopback, behind a random password, that keeps its port and its messages."""

from __future__ import annotations

import json
import secrets
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import redis

from celeriac.embedded.processes import Steps, end_orphan, free_port, runs, spawn, write_private
from celeriac.embedded.programs import Program, find_valkey
from celeriac.embedded.supervisor import Part

# SIGTERM writes the log's last second and ends; Valkey waits for no client.
STEPS: Steps = ((signal.SIGTERM, 15.0),)


@dataclass(frozen=True)
class Broker:
    """One embedded Valkey: its program, its directory, its port and its password."""

    program: Program
    home: Path
    port: int
    password: str

    @property
    def configuration(self) -> Path:
        """The file that holds the port and the password: on a command line all users could read them."""
        return self.home / "valkey.conf"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"


def open_broker(data_dir: Path) -> Broker:
    """The broker of a data directory, which the caller holds; port and password are those of the last time.

    Raises ConfigurationError with one line.
    """
    home = data_dir / "valkey"
    home.mkdir(mode=0o700, exist_ok=True)
    _end_predecessor(home)  # before its port is looked at
    port, password = _read_access(home)
    if not _is_free(port):
        port = free_port()
    write_private(home / "access.json", json.dumps([port, password]))
    return Broker(find_valkey(), home, port, password)


def part(broker: Broker) -> Part:
    """The server as a part of the platform."""
    return Part(
        name="valkey",
        launch=lambda: _launch(broker),
        ready=lambda _pid: _answers(broker),
        steps=STEPS,
        firm=True,
    )


def is_running(data_dir: Path) -> bool:
    """Whether a server runs on a data directory, whoever has started it."""
    home = data_dir / "valkey"
    try:
        pid = int((home / "valkey.pid").read_text())
    except (FileNotFoundError, ValueError):  # killed while it wrote
        return False
    return runs(pid, str(home / "valkey.conf"))


def _read_access(home: Path) -> tuple[int, str]:
    """Those of the last time; new ones where nobody has been, or where the file is damaged."""
    try:
        port, password = json.loads((home / "access.json").read_text())
        return int(port), str(password)
    except (FileNotFoundError, TypeError, ValueError):
        return free_port(), secrets.token_urlsafe(32)


def _launch(broker: Broker) -> subprocess.Popen[bytes]:
    _end_predecessor(broker.home)
    settings = {
        "bind": "127.0.0.1",
        "port": broker.port,
        "protected-mode": "yes",
        "requirepass": broker.password,
        "dir": _quoted(broker.home),
        "pidfile": _quoted(broker.home / "valkey.pid"),
        "daemonize": "no",
        "set-proc-title": "no",  # the command line is how we know our own process again
        "always-show-logo": "no",
        "loglevel": "warning",
        "save": '""',
        "appendonly": "yes",
        # kill -9 loses nothing at all; a power cut may lose a second of messages, and a message is only a hint: the
        # row sends another. `always` would put a disk flush into every dispatch.
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",  # a queue is no cache
    }
    write_private(broker.configuration, "".join(f"{key} {value}\n" for key, value in settings.items()))
    return spawn(
        [str(broker.program.path), str(broker.configuration)],
        death_signal=signal.SIGTERM,
        environment={"LC_ALL": "C"},
        directory=broker.home,
    )


def _end_predecessor(home: Path) -> None:
    try:
        pid = int((home / "valkey.pid").read_text())
    except (FileNotFoundError, ValueError):  # ended by itself, or killed while it wrote
        return
    end_orphan(pid, str(home / "valkey.conf"), STEPS)
    (home / "valkey.pid").unlink(missing_ok=True)


def _answers(broker: Broker) -> bool:
    with redis.Redis.from_url(broker.url, socket_timeout=2, socket_connect_timeout=2) as client:
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):  # not yet listening, or still reading its log
            return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last run may linger
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
