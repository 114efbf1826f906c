"""The servers of a run: a PostgreSQL and a Valkey of its own, and a RabbitMQ that the machine has."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from kombu import Connection
from sqlalchemy import URL, NullPool, create_engine, make_url, text

from celeriac.embedded import postgres, valkey
from celeriac.embedded.processes import own_directory
from celeriac.embedded.supervisor import Supervisor
from tracking.db import migrate

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Broker:
    """A broker to measure on; `pid` None: its CPU time cannot be read."""

    name: str
    url: str
    pid: int | None


@dataclass(frozen=True)
class Servers:
    """Where the private servers are; `directory` is the run's own and goes with it."""

    directory: Path
    tracked_url: str
    results_url: str
    postgres_pid: int
    valkey: Broker


@contextmanager
def private_servers() -> Iterator[Servers]:
    """PostgreSQL, with one database for Celeriac and one for Celery's result backend, and Valkey; both end with it."""
    with ExitStack() as stack:
        directory = own_directory(Path(tempfile.mkdtemp(prefix="celeriac-bench-")))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.callback(postgres.discard, directory)
        supervisor = stack.enter_context(Supervisor(show=_write_lines(directory / "servers.log")))
        cluster = postgres.open_cluster(directory)
        broker = valkey.open_broker(directory)
        supervisor.start(postgres.part(cluster))
        supervisor.start(valkey.part(broker))
        home = make_url(cluster.url).set(drivername="postgresql+psycopg")
        postgres.make_roles(cluster)
        tracked, results = make_database(home, "tracked"), make_database(home, "results")
        migrate(tracked)
        yield Servers(
            directory,
            tracked,
            results,
            supervisor.processes["postgres"].pid,
            Broker("Valkey", broker.url, supervisor.processes["valkey"].pid),
        )


def postgres_version(servers: Servers) -> str:
    """The version of the private PostgreSQL."""
    with create_engine(servers.tracked_url, poolclass=NullPool).connect() as connection:
        return str(connection.execute(text("SHOW server_version")).scalar_one())


def find_rabbitmq(url: str) -> Broker:
    """The RabbitMQ at `url`. Raises the client's errors when there is none."""
    with Connection(url, connect_timeout=3) as connection:
        connection.connect()
        host, port = connection.hostname, connection.port or 5672
    return Broker("RabbitMQ", url, _listening_on(port) if host in LOOPBACK else None)


def make_database(home: URL, name: str) -> str:
    """Make an empty database on the server of `home`; returns its URL."""
    engine = create_engine(
        home.set(username="postgres", database="postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool
    )
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} OWNER {postgres.ROLE}"))
    return home.set(database=name).render_as_string(hide_password=False)


def delete_queues(broker: Broker, *names: str) -> None:
    """Remove the queues of a round, and the exchanges that Celery made for them."""
    with Connection(broker.url, connect_timeout=3) as connection:
        channel: Any = connection.default_channel
        for name in names:
            channel.queue_delete(name)
            channel.exchange_delete(name)


def _listening_on(port: int) -> int | None:
    pids = {
        found.pid
        for found in psutil.net_connections("tcp")
        if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port
    }
    # Another user's sockets have no pid for us; a single Erlang machine must be it.
    beams = [process.pid for process in psutil.process_iter(["name"]) if process.info["name"] == "beam.smp"]
    return next((pid for pid in pids if pid), beams[0] if len(beams) == 1 else None)


def _write_lines(path: Path) -> Callable[[str, str], None]:
    def show(name: str, line: str) -> None:
        with path.open("a") as file:
            file.write(f"{name}: {line}\n")

    return show
