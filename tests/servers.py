"""The servers of a test session: one PostgreSQL, a Valkey for each of its processes, and what killed ones left."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from celeriac.embedded import postgres, valkey
from celeriac.embedded.processes import hold, own_directory
from celeriac.embedded.supervisor import Supervisor
from tracking import roles
from tracking.db import Database, migrate
from tracking.errors import ConfigurationError
from tracking.settings import settings

MARK = "CELERIAC_TESTS"  # in the environment of every process of a session: its directory
DATABASE = "PYTEST_CELERIAC_DATABASE"  # likewise: its PostgreSQL
TEMPLATE = "template_celeriac"
# Nobody needs these rows after a crash; several processes have pools and platforms of their own.
SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "400"}
MEMORY = Path("/dev/shm")  # noqa: S108 - a file system without a disk, where there is one
ROOM = 8 << 30  # bytes of it that the databases of a session may need
STATEMENT = 240  # seconds that filling a table may take on a busy machine; on a quiet one it takes one
YOUNG = 60.0  # seconds in which a session may not hold its new directory yet

_PREFIX = "celeriac-test-"


@dataclass(frozen=True)
class Servers:
    """Where the servers of this process of the session are, and the database of all its tests."""

    database_url: str
    valkey_url: str

    def database(self, name: str) -> str:
        """The URL of another database on the same server."""
        return make_url(self.database_url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def session_directory() -> Iterator[Path]:
    """A directory for one session: nothing of the session outlives it, however its processes ended."""
    directory = own_directory(Path(tempfile.mkdtemp(prefix=_PREFIX)))
    with hold(directory):
        try:
            yield directory
        finally:
            _remove(directory)


def remove_abandoned() -> list[str]:
    """Remove what killed sessions left: processes, databases, directories. Returns their names for virtual hosts."""
    names = []
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(ConfigurationError, FileNotFoundError, PermissionError):  # in use, or removed by another session
            if time.time() - directory.stat().st_mtime > YOUNG:
                with hold(directory):
                    names += [virtual_host(part) for part in directory.iterdir()]
                    _remove(directory)
    return names


def virtual_host(part: Path) -> str:
    """The name of RabbitMQ's virtual host for the tests of one process; `part` is its directory in the session's."""
    return f"{part.parent.name}-{part.name}"


@contextmanager
def database_server(directory: Path) -> Iterator[str]:
    """The URL of a PostgreSQL with a template of the newest schema."""
    cluster = postgres.open_cluster(directory)
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM:
        _keep_in_memory(cluster.data, _in_memory(directory.parent))
    with (cluster.data / "postgresql.auto.conf").open("a") as configuration:
        configuration.writelines(f"{name} = {value}\n" for name, value in SETTINGS.items())
    with (cluster.home / "pg_ident.conf").open("a") as identities:
        identities.write(f'celeriac "{pwd.getpwuid(os.geteuid()).pw_name}" /^celeriac_[a-z]+$\n')
    with Supervisor(show=lambda *_: None) as supervisor:
        supervisor.start(postgres.part(cluster))
        url = make_url(cluster.url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
        servers = Servers(url, "")
        roles.make(_administrator(servers), [postgres.ROLE])
        _execute(servers, f"CREATE DATABASE {TEMPLATE} OWNER {postgres.ROLE}")
        migrate(servers.database(TEMPLATE))
        yield url


def _keep_in_memory(data: Path, place: Path) -> None:
    """A copy of a database is four hundred files, for which a disk takes up to ten times as long."""
    subprocess.run(["cp", "--archive", data, place], check=True)
    shutil.rmtree(data)
    data.symlink_to(place)


def _in_memory(session: Path) -> Path:
    return MEMORY / session.name


@contextmanager
def started(directory: Path, database_url: str) -> Iterator[Servers]:
    """A Valkey, and a database on the PostgreSQL of the session."""
    broker = valkey.open_broker(directory)
    with Supervisor(show=lambda *_: None) as supervisor, new_database(Servers(database_url, "")) as url:
        supervisor.start(valkey.part(broker))
        yield Servers(url, broker.url)


@contextmanager
def new_database(servers: Servers, template: str = TEMPLATE) -> Iterator[str]:
    """The URL of a copy of a database that nobody is connected to, dropped at the end."""
    name = f"test_{uuid4().hex[:12]}"
    _execute(servers, f"CREATE DATABASE {name} TEMPLATE {template} OWNER {postgres.ROLE}")
    yield servers.database(name)
    _execute(servers, f"DROP DATABASE {name} WITH (FORCE)")


def patient(url: str, options: str = "") -> Database:
    """A pool for tests that fill tables: a statement of it may take longer than one of the platform."""
    return Database(url, settings().model_copy(update={"statement_timeout": STATEMENT}), options=options)


def administrator(url: str) -> str:
    """A superuser's URL of the same database."""
    return make_url(url).set(username="postgres").render_as_string(hide_password=False)


def _remove(directory: Path) -> None:
    _end_processes(directory)
    for part in filter(Path.is_dir, (directory, *directory.iterdir())):
        postgres.discard(part)
    shutil.rmtree(_in_memory(directory), ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


def _end_processes(directory: Path) -> None:
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.pid != os.getpid() and process.environ().get(MARK) == str(directory):
                process.kill()


def _execute(servers: Servers, statement: str) -> None:
    engine = create_engine(_administrator(servers), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(statement))


def _administrator(servers: Servers) -> str:
    return administrator(servers.database("postgres"))
