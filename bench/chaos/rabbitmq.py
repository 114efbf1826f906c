"""A RabbitMQ node of the run alone, from the programs of the machine: it can be killed and lose its data."""

from __future__ import annotations

import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from kombu import Connection

from bench.launch import clean_environment
from celeriac.embedded.processes import Steps, free_port, spawn
from celeriac.embedded.supervisor import Part

# Debian's program of the same name on the PATH becomes another user, and keeps its data where that user's are.
PLACES = ("/usr/lib/rabbitmq/bin", "/usr/lib/rabbitmq/sbin", "/opt/rabbitmq/sbin")
STEPS: Steps = ()  # killed: whatever it has is the run's
PATIENCE = 60.0  # seconds for a start; 7 on two quiet processors


@dataclass(frozen=True)
class Node:
    """One RabbitMQ: its program, its directory, its two ports and the name that it has among the machine's nodes."""

    program: Path
    home: Path
    port: int
    distribution_port: int
    name: str

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"


def find_program() -> Path | None:
    """The script that starts a node as whoever calls it; None when the machine has no RabbitMQ."""
    found = next((path for place in PLACES if (path := Path(place) / "rabbitmq-server").exists()), None)
    on_path = shutil.which("rabbitmq-server")
    return found or (Path(on_path).resolve() if on_path else None)


def open_node(directory: Path, program: Path) -> Node:
    """The node of a run, not yet started."""
    home = directory / "rabbitmq"
    home.mkdir(mode=0o700)
    node = Node(program, home, free_port(), free_port(), f"chaos-{uuid4().hex[:8]}@localhost")
    (home / "env.conf").touch()
    (home / "plugins").write_text("[].\n")
    (home / "rabbitmq.conf").write_text(f"listeners.tcp.local = 127.0.0.1:{node.port}\n")
    return node


def part(node: Node) -> Part:
    """The server as a part of the run."""
    return Part(
        name="rabbitmq", launch=lambda: _launch(node), ready=lambda _: _answers(node), steps=STEPS, patience=PATIENCE
    )


def forget(node: Node) -> None:
    """Delete all that a stopped node knows."""
    shutil.rmtree(node.home / "mnesia", ignore_errors=True)


def _launch(node: Node) -> subprocess.Popen[bytes]:
    environment = {
        **clean_environment(),
        "HOME": str(node.home),  # where Erlang keeps its cookie
        "RABBITMQ_NODENAME": node.name,
        "RABBITMQ_DIST_PORT": str(node.distribution_port),
        "RABBITMQ_MNESIA_BASE": str(node.home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(node.home / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_CONF_ENV_FILE": str(node.home / "env.conf"),
        "RABBITMQ_CONFIG_FILE": str(node.home / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(node.home / "plugins"),
        "RABBITMQ_PID_FILE": str(node.home / "pid"),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    # The script stops the node when it gets this, should we be killed.
    return spawn([str(node.program)], death_signal=signal.SIGTERM, environment=environment, directory=node.home)


def _answers(node: Node) -> bool:
    try:
        with Connection(node.url, connect_timeout=2) as connection:
            connection.connect()
    except OSError:
        return False
    return True
