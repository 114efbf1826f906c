"""Connections to PostgreSQL: one pool a process, fresh after a fork, every wait bounded."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from io import StringIO
from pathlib import Path
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tracking import traces, versions
from tracking.connections import PatientConnection, connect, let_go_after_fork, still_there
from tracking.errors import ConfigurationError
from tracking.outages import LACKING, Outage, cause_of, is_away, is_locked, is_too_slow, outage, said_by
from tracking.settings import Settings
from tracking.tenancy import confinement, confining, has_tenants
from tracking.values import read_json

# What of SQLAlchemy the other packages use: they import it from here alone.
__all__ = [
    "Connection",
    "DBAPIError",
    "Database",
    "Outage",
    "PoolTimeoutError",
    "SQLAlchemyError",
    "Statement",
    "cause_of",
    "is_away",
    "is_locked",
    "is_stopped",
    "is_too_slow",
    "migrate",
    "outage",
    "ping",
    "run",
    "said_by",
    "takes_writes",
]

_pools: WeakSet[Database] = WeakSet()
Statement = tuple[str, Mapping[str, Any]]  # and its parameters

HEAD_START = 0.5  # seconds: a server that is there ends a statement that is too slow before we take it for silent
# For verbs, which find each row by an index: a plan that was made while a table was small would read all of it when it
# has become large.
BY_INDEX = "-c enable_seqscan=off -c enable_incremental_sort=off -c jit=off"
MIGRATIONS = str(Path(__file__).parent / "migrations")
MIGRATION_LOCK = 0x63656C65  # "cele", as for the leader's
MIGRATION_PATIENCE = 3600.0  # seconds to wait for another process that migrates
MIGRATION_POLL = 0.2  # seconds between two looks whether it is done


class Database:
    """A pool of connections, empty after a fork. A verb that is one statement wants `autocommit`; several, `begin`.

    In a context that is confined to an organization (tenancy.py), both are one transaction that sees no other one.

    The settings say how large it is and how long it waits; not where the database is, but whether that is a pooler of
    transactions: then no connection has settings of its own, and `options` do not hold, which only tune plans.
    """

    def __init__(self, url: str, settings: Settings, *, pool_size: int | None = None, options: str = "") -> None:
        is_pooled = settings.direct_url.get_secret_value() != "" and url != settings.direct
        own = {"options": f"-c statement_timeout={settings.statement_timeout}s -c timezone=UTC {options}"}
        self.engine: Engine = create_engine(
            url,
            pool_size=pool_size or settings.pool_size,
            max_overflow=0,
            pool_timeout=settings.connect_timeout,
            pool_pre_ping=False,  # a round trip for every statement: `still_there` makes one only where there is news
            pool_use_lifo=True,
            # Autocommit from the start, and nothing to undo when a connection comes back: switching and resetting cost
            # more than a verb's own work in this process. Only `begin` switches.
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
            skip_autocommit_rollback=True,
            hide_parameters=True,  # payloads: they must not be quoted in errors and logs
            json_deserializer=read_json,
            connect_args={
                "connect_timeout": settings.connect_timeout,
                "patience": settings.statement_timeout + HEAD_START,
                # milliseconds until unanswered data breaks the connection: a black-holed server must not hang us
                "tcp_user_timeout": settings.statement_timeout * 1000,
                **({"prepare_threshold": None} if is_pooled else own),
                "application_name": "celeriac",
            },
        )
        event.listen(self.engine, "do_connect", connect)
        event.listen(self.engine, "checkout", still_there)
        if (spans := traces.spans()) is not None:
            spans.watch(self.engine)
        self._transactional = self.engine.execution_options(isolation_level="READ COMMITTED")
        self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._has_tenants: bool | None = None  # None: nobody has asked yet
        _pools.add(self)

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """A connection on which every statement is a transaction of its own: one round trip instead of three."""
        if confinement() is not None and self.has_tenants:
            with self.begin() as connection:
                yield connection
            return
        try:
            with self.engine.connect() as connection, _dropped_in_midst(connection):
                yield connection
        except DBAPIError as error:
            self._tell_apart(error)
            raise

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A connection in one transaction: committed at the end, rolled back on an exception."""
        with self._transaction(self._transactional) as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection that only reads, all as it was at its first statement. Not for long: it holds vacuum up."""
        with self._transaction(self._reading) as connection:
            yield connection

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        organization = confinement() if confinement() is not None and self.has_tenants else None
        try:
            with engine.begin() as connection, _dropped_in_midst(connection):
                if organization is not None:
                    run(connection, *confining(organization))
                yield connection
        except DBAPIError as error:
            self._tell_apart(error)
            raise

    def _tell_apart(self, error: DBAPIError) -> None:
        """Note on an error for a right that is missing whether somebody has stopped all writes by that."""
        if getattr(error.orig, "sqlstate", None) != LACKING:
            return
        with suppress(SQLAlchemyError), self.engine.connect() as connection:
            error.orig.stops_writes = is_stopped(connection)  # type: ignore[union-attr]

    @property
    def has_tenants(self) -> bool:
        """Whether the database keeps organizations apart by itself; it is asked once."""
        if self._has_tenants is None:
            with self.engine.connect() as connection, _dropped_in_midst(connection):
                self._has_tenants = has_tenants(connection)
        return self._has_tenants

    @property
    def in_use(self) -> int:
        """How many of its connections somebody has."""
        return int(self.engine.pool.checkedout())  # type: ignore[attr-defined]

    @property
    def size(self) -> int:
        """How many connections it may have."""
        return int(self.engine.pool.size())  # type: ignore[attr-defined]

    def forget(self) -> None:
        """Drop the pool without a word to the server: in a forked child its connections belong to the parent."""
        self.engine.dispose(close=False)

    def close(self) -> None:
        self.engine.dispose()


def ping(connection: Connection) -> None:
    """Ask the database for a sign of life. Raises SQLAlchemyError without one."""
    connection.execute(text("SELECT"))


def takes_writes(connection: Connection) -> bool:
    """Whether jobs can be written: not on a standby, under a read-only default, or as a role that may only read.

    A session has the default with which it began: where none can be written it is not used again.
    """
    asked = "SELECT current_setting('transaction_read_only') = 'off' AND has_table_privilege('jobs', 'INSERT')"
    can = bool(connection.execute(text(asked)).scalar())
    if not can:
        _replace(connection)
    return can


def is_stopped(connection: Connection) -> bool:
    """Whether the right to write jobs was taken away, and that to read them was not: an operator's way to stop."""
    asked = "SELECT has_table_privilege('jobs', 'SELECT') AND NOT has_table_privilege('jobs', 'INSERT')"
    return bool(connection.execute(text(asked)).scalar())


def migrate(url: str) -> bool:
    """Bring the schema to the newest version, and make partitions ahead; safe to run from several processes at once.

    False: it is that of a later release, and stays as it is. Raises ConfigurationError when another one has been at
    it for MIGRATION_PATIENCE seconds, or nobody knows of which version the tables are.
    """
    from alembic import command  # noqa: PLC0415 - an eighth of the time that every process takes to start,
    from alembic.config import Config  # noqa: PLC0415 - and one in a thousand migrates

    from tracking import row_security  # noqa: PLC0415 - it knows the tables

    with create_engine(url, poolclass=NullPool).connect() as connection:
        _lock_migrations(connection)
        if versions.is_later(connection):  # Alembic does not know it: a release was taken back
            return False
        connection.rollback()
        config = Config()
        config.set_main_option("script_location", MIGRATIONS)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        row_security.bring_about(connection)
        _make_partitions(connection)
    return True


def migration_sql(found: str, until: str) -> str:
    """What the migration to version `until` runs on a schema of the version before it, `found`.

    Raises ConfigurationError for one that looks at what is there, and decides by that.
    """
    from alembic import command  # noqa: PLC0415 - see `migrate`
    from alembic.config import Config  # noqa: PLC0415 - see `migrate`

    written = StringIO()
    config = Config(output_buffer=written)
    config.set_main_option("script_location", MIGRATIONS)
    try:
        command.upgrade(config, f"{found}:{until}", sql=True)
    except AttributeError:  # of the connection that is none
        reason = f"migration {until} decides by what the database holds"
        raise ConfigurationError(f"{reason}: its SQL cannot be printed before; run `celeriac migrate`") from None
    return written.getvalue()


def _make_partitions(connection: Connection) -> None:
    """Before the first leader does, which goes on with what cannot be made now."""
    from tracking import partitions  # noqa: PLC0415 - see `migrate`

    for monday in partitions.missing(connection):
        connection.commit()
        try:
            partitions.add(connection, monday)
            connection.commit()
        except partitions.TooManyRows:
            connection.rollback()
        except DBAPIError as error:
            if not is_locked(error):
                raise
            connection.rollback()


def _lock_migrations(connection: Connection) -> None:
    """Take the lock of the migrations for this session, by polling. Raises ConfigurationError.

    A session that waits inside a statement holds a snapshot, and CREATE INDEX CONCURRENTLY waits for every older
    snapshot to end.
    """
    deadline = time.monotonic() + MIGRATION_PATIENCE
    while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": MIGRATION_LOCK}).scalar():
        connection.commit()
        if time.monotonic() > deadline:
            raise ConfigurationError("another process has been migrating this database for an hour")
        time.sleep(MIGRATION_POLL)
    connection.commit()


def run(connection: Connection, *statements: Statement) -> list[list[Any]]:
    """The rows, as named tuples, of each of the statements, which are in the driver's own form.

    For those that every job runs: through SQLAlchemy an execution takes twice the time of the driver's. Several are
    sent together, in one round trip, and are one transaction. Raises the DBAPIError of that kind, as
    `Connection.execute` does.
    """
    if (spans := traces.spans()) is None:
        return _run(connection, statements)
    with spans.statements([sql for sql, _ in statements]):
        return _run(connection, statements)


def _run(connection: Connection, statements: Sequence[Statement]) -> list[list[Any]]:
    driver: PatientConnection = connection.connection.driver_connection  # type: ignore[assignment]
    try:
        with driver.pipeline() if len(statements) > 1 else nullcontext():
            cursors = [
                driver.kept_cursor(place).execute(sql, parameters, prepare=driver.prepare_threshold is not None)
                for place, (sql, parameters) in enumerate(statements)
            ]
        return [cursor.fetchall() for cursor in cursors]
    except psycopg.Error as error:
        if driver.closed:
            connection.invalidate(error)
        sent = ";".join(dict.fromkeys(sql for sql, _ in statements))
        raise DBAPIError.instance(
            sent, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=driver.closed
        ) from error


@contextmanager
def _dropped_in_midst(connection: Connection) -> Iterator[None]:
    """Do not use a connection again whose statement was interrupted: its answer is still on the way.

    Nor one that takes no writes: its session would stay so when the default of the database is another one again.
    """
    try:
        yield
    except BaseException as error:
        driver: Any = None if connection.invalidated else connection.connection.driver_connection
        if driver is not None and (driver.info.transaction_status, driver.info.pipeline_status) not in _AT_REST:
            connection.invalidate()
        elif driver is not None and outage(error) is Outage.READ_ONLY:
            _replace(connection)
        raise


def _replace(connection: Connection) -> None:
    """Have the pool make another one of this connection, when it is back."""
    connection.connection.invalidate(soft=True)


_AT_REST = tuple((status, PipelineStatus.OFF) for status in TransactionStatus if status != TransactionStatus.ACTIVE)


def _forget_after_fork() -> None:
    for pool in list(_pools):
        pool.forget()
    let_go_after_fork()


os.register_at_fork(after_in_child=_forget_after_fork)
