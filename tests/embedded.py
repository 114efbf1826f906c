"""The embedded PostgreSQL and Valkey, started one by one, and asked.

`python -m tests.embedded DIRECTORY` runs both until it is told to stop.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import redis
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from celeriac.embedded import postgres, valkey
from celeriac.embedded.postgres import Cluster
from celeriac.embedded.processes import hold
from celeriac.embedded.supervisor import Part, Supervisor
from celeriac.embedded.valkey import Broker

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone runs servers as somebody else")


@contextmanager
def started(part: Part) -> Iterator[psutil.Process]:
    """One server, running; afterwards stopped as `up` stops it."""
    with Supervisor() as supervisor:
        supervisor.start(part)
        process = supervisor.processes[part.name]
        yield psutil.Process(process.pid)


@contextmanager
def database(cluster: Cluster) -> Iterator[Engine]:
    """Connections to a running cluster."""
    engine = create_engine(cluster.url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    yield engine
    engine.dispose()


def ask(cluster: Cluster, query: str) -> object:
    """The single value that a query gives."""
    with database(cluster) as engine, engine.connect() as connection:
        return connection.execute(text(query)).scalar_one()


def keep(cluster: Cluster) -> None:
    """Write a row that must survive."""
    with database(cluster) as engine, engine.begin() as connection:
        connection.execute(text("CREATE TABLE kept AS SELECT 42 AS answer"))


@dataclass(frozen=True)
class Servers:
    """Both servers and their processes."""

    cluster: Cluster
    broker: Broker
    postgres: psutil.Process
    valkey: psutil.Process


@contextmanager
def connected(broker: Broker) -> Iterator[redis.Redis]:
    """A client with the password."""
    with redis.Redis.from_url(broker.url) as client:
        yield client


def run_servers(directory: Path) -> None:
    """What `up` does with the servers, and nothing else."""
    with hold(directory), ExitStack() as stack, Supervisor() as supervisor:
        cluster = postgres.open_cluster(directory)
        stack.enter_context(hold(cluster.home))
        supervisor.obey_signals()
        supervisor.start(postgres.part(cluster))
        supervisor.start(valkey.part(valkey.open_broker(directory)))
        print("ready", flush=True)  # noqa: T201  the test waits for it
        supervisor.watch()


if __name__ == "__main__":
    run_servers(Path(sys.argv[1]))
