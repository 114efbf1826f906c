"""A PostgreSQL and its standby, to which every commit goes before it is confirmed, and the promotion of that one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sqlalchemy import NullPool, create_engine, make_url, text

from bench.chaos.proxy import Mode, Proxy, to_socket
from celeriac.embedded import postgres
from celeriac.embedded.postgres import Cluster
from celeriac.embedded.processes import own_directory, run
from celeriac.embedded.supervisor import Supervisor
from tests.live import eventually
from tests.servers import administrator
from tracking.db import migrate
from tracking.urls import check_database

STREAMS = "SELECT state FROM pg_stat_replication WHERE sync_state = :kind"


@dataclass
class Pair:
    """Two servers, each behind an address of its own; `url` names both, for whoever wants the one that takes writes."""

    primary: Cluster
    standby: Cluster
    doors: tuple[Proxy, Proxy]
    servers: Supervisor
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def url(self) -> str:
        """As libpq has it."""
        hosts = ",".join(f"127.0.0.1:{door.port}" for door in self.doors)
        return f"postgresql://{postgres.ROLE}@{hosts}/{postgres.ROLE}?target_session_attrs=read-write"

    def url_of(self, door: Proxy) -> str:
        """Of one of them alone."""
        return f"postgresql://{postgres.ROLE}@127.0.0.1:{door.port}/{postgres.ROLE}"

    def kill_primary(self) -> None:
        """As a machine dies: all of its processes, and its address."""
        postmaster = psutil.Process(self.servers.processes["postgres"].pid)
        for process in (postmaster, *postmaster.children(recursive=True)):
            process.kill()
        self.doors[0].switch(Mode.REFUSE)

    def promote(self) -> None:
        """Let the standby take writes."""
        ask(self.standby, "SELECT pg_promote()")


def ask(cluster: Cluster, statement: str, **parameters: object) -> object:
    """The first value of an answer to a superuser; None: there is no row."""
    url = make_url(administrator(check_database(cluster.url)))
    with create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect() as connection:
        result = connection.execute(text(statement), parameters)
        return result.scalar() if result.returns_rows else None


@contextmanager
def pair(directory: Path) -> Iterator[Pair]:
    """A migrated database on a primary whose commits wait for the standby."""
    primary = _opened(directory / "primary")
    standby = _opened(directory / "standby")
    with ExitStack() as stack:
        servers, other = (stack.enter_context(Supervisor(show=lambda *_: None)) for _ in range(2))
        servers.start(postgres.part(primary))
        postgres.make_roles(primary)
        migrate(check_database(primary.url))
        _copy(primary, standby)
        other.start(postgres.part(standby))
        eventually(lambda: ask(primary, STREAMS, kind="async"), what="the replication")
        ask(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        ask(primary, "SELECT pg_reload_conf()")
        eventually(lambda: ask(primary, STREAMS, kind="sync"), what="the synchronous replication")
        first, second = (stack.enter_context(_door(each)) for each in (primary, standby))
        yield Pair(primary, standby, (first, second), servers)
    for each in ("primary", "standby"):
        postgres.discard(directory / each)


def _door(cluster: Cluster) -> Proxy:
    return Proxy(to_socket(str(cluster.sockets / postgres.SOCKET)))


def _opened(data_dir: Path) -> Cluster:
    """One that its own server's account may copy."""
    cluster = postgres.open_cluster(own_directory(data_dir))
    with (cluster.home / "pg_hba.conf").open("a") as rules:
        rules.write("local replication all peer map=celeriac\n")
    if cluster.account:
        with (cluster.home / "pg_ident.conf").open("a") as identities:
            identities.write(f'celeriac "{cluster.account.name}" postgres\n')
    return cluster


def _copy(primary: Cluster, standby: Cluster) -> None:
    shutil.rmtree(standby.data)
    standby.data.mkdir(mode=0o700)
    if standby.account:
        shutil.chown(standby.data, standby.account.user, standby.account.group)
    whom = f"host={primary.sockets} port=5432 user=postgres"
    copying = ("-d", whom, "-D", str(standby.data), "-R", "-X", "stream", "-c", "fast")
    run(
        [str(primary.binaries / "pg_basebackup"), *copying],
        seconds=120,
        environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        account=standby.account,
        directory=standby.home,
    )
