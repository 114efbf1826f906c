"""Connections to PostgreSQL: one pool a process, fresh after a fork, every wait bounded."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tracking.errors import ConfigurationError
from tracking.settings import Settings

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
    "is_read_only",
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
MIGRATION_LOCK = 0x63656C65  # "cele", as for the leader's
MIGRATION_PATIENCE = 3600.0  # seconds to wait for another process that migrates
MIGRATION_POLL = 0.2  # seconds between two looks whether it is done


class Outage(Enum):
    """Why the database cannot do now what it may do later."""

    AWAY = "it cannot be reached"
    BUSY = "it has no connection, lock or resource to spare"
    READ_ONLY = "it takes no writes"
    TOO_SLOW = "a statement has run into its time limit"


# PostgreSQL's error codes (its manual, appendix A) that pass by themselves, and their classes: connection, system, end
# of a session by its operator; rollback, resources. A role that may only read is one too: an operator's way to stop
# writes, which ends with a GRANT.
CODES = {
    "57014": Outage.TOO_SLOW,
    "25006": Outage.READ_ONLY,
    "42501": Outage.READ_ONLY,
    "25P03": Outage.AWAY,
    "25P04": Outage.AWAY,
    "55P03": Outage.BUSY,
}
CLASSES = {"08": Outage.AWAY, "57": Outage.AWAY, "58": Outage.AWAY, "40": Outage.BUSY, "53": Outage.BUSY}


class Database:
    """A pool of connections, empty after a fork. A verb that is one statement wants `autocommit`; several, `begin`.

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
            pool_pre_ping=False,  # a round trip for every statement; the verbs can be repeated instead
            pool_use_lifo=True,
            # Autocommit from the start, and nothing to undo when a connection comes back: switching and resetting cost
            # more than a verb's own work in this process. Only `begin` switches.
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
            skip_autocommit_rollback=True,
            hide_parameters=True,  # payloads: they must not be quoted in errors and logs
            connect_args={
                "connect_timeout": settings.connect_timeout,
                "patience": settings.statement_timeout + HEAD_START,
                # milliseconds until unanswered data breaks the connection: a black-holed server must not hang us
                "tcp_user_timeout": settings.statement_timeout * 1000,
                **({"prepare_threshold": None} if is_pooled else own),
                "application_name": "celeriac",
            },
        )
        event.listen(self.engine, "do_connect", _connect)
        self._transactional = self.engine.execution_options(isolation_level="READ COMMITTED")
        _pools.add(self)

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """A connection on which every statement is a transaction of its own: one round trip instead of three."""
        with self.engine.connect() as connection, _dropped_in_midst(connection):
            yield connection

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A connection in one transaction: committed at the end, rolled back on an exception."""
        with self._transactional.begin() as connection, _dropped_in_midst(connection):
            yield connection

    def forget(self) -> None:
        """Drop the pool without closing its sockets: in a forked child they belong to the parent."""
        self.engine.dispose(close=False)

    def close(self) -> None:
        self.engine.dispose()


def outage(error: BaseException) -> Outage | None:
    """Which outage of the database an error of SQLAlchemy or of the driver shows; None: it is a refusal, or a defect.

    An error without a code comes from the driver: a broken link, or a value that it cannot send, which never passes.
    """
    if isinstance(error, PoolTimeoutError):
        return Outage.BUSY
    cause = cause_of(error)
    if not isinstance(cause, psycopg.Error):
        return None
    code = cause.sqlstate or ""
    known = CODES.get(code) or CLASSES.get(code[:2])
    is_broken = isinstance(error, DBAPIError) and error.connection_invalidated
    if known is None and (is_broken or (not code and isinstance(cause, _LINK_ERRORS))):
        return Outage.AWAY
    return known


def is_away(error: BaseException) -> bool:
    """Whether the same call may succeed later without being any smaller: every outage but a statement that is slow."""
    return outage(error) not in (None, Outage.TOO_SLOW)


def is_too_slow(error: BaseException) -> bool:
    """Whether the database ended a statement that took longer than its time limit."""
    return outage(error) is Outage.TOO_SLOW


def is_read_only(error: BaseException) -> bool:
    """Whether the database takes no writes now: a standby, an operator's setting, or a role that may only read."""
    return outage(error) is Outage.READ_ONLY


def is_locked(error: DBAPIError) -> bool:
    """Whether a statement did not get a lock within its time: another one may."""
    return isinstance(error.orig, psycopg.errors.LockNotAvailable)


def cause_of(error: BaseException) -> BaseException:
    """The driver's error within one of SQLAlchemy's; every other one itself."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def said_by(error: BaseException) -> str | None:
    """What the database says in an error of the driver's, without its details, which quote values; None: it is none."""
    return error.diag.message_primary if isinstance(error, psycopg.Error) else None


def ping(connection: Connection) -> None:
    """Ask the database for a sign of life. Raises SQLAlchemyError without one."""
    connection.execute(text("SELECT"))


def takes_writes(connection: Connection) -> bool:
    """Whether jobs can be written: not on a standby, under a read-only default, or as a role that may only read."""
    asked = "SELECT current_setting('transaction_read_only') = 'off' AND has_table_privilege('jobs', 'INSERT')"
    return bool(connection.execute(text(asked)).scalar())


def migrate(url: str) -> None:
    """Bring the schema to the newest version, and make partitions ahead; safe to run from several processes at once.

    Raises ConfigurationError when another one has been at it for MIGRATION_PATIENCE seconds.
    """
    from alembic import command  # noqa: PLC0415 - an eighth of the time that every process takes to start,
    from alembic.config import Config  # noqa: PLC0415 - and one in a thousand migrates

    with create_engine(url, poolclass=NullPool).connect() as connection:
        _lock_migrations(connection)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _make_partitions(connection)


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
    driver: _PatientConnection = connection.connection.driver_connection  # type: ignore[assignment]
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
    """Do not use a connection again whose statement was interrupted: its answer is still on the way."""
    try:
        yield
    except BaseException:
        driver: Any = None if connection.invalidated else connection.connection.driver_connection
        if driver is not None and (driver.info.transaction_status, driver.info.pipeline_status) not in _AT_REST:
            connection.invalidate()
        raise


class _PatientConnection(psycopg.Connection[Any]):
    """A connection that gives up on a server that is silent.

    A stopped or black-holed server still has its kernel acknowledge what we send, so that neither TCP's nor the
    statement's time-out ends the wait.
    """

    patience = 4.0

    @cached_property
    def _kept_cursors(self) -> list[psycopg.Cursor[Any]]:
        return []

    def kept_cursor(self, place: int) -> psycopg.Cursor[Any]:
        """A cursor of `run`: a new one for every statement looks up its types again, which takes a third of it."""
        while len(self._kept_cursors) <= place:
            self._kept_cursors.append(self.cursor(row_factory=namedtuple_row))
        return self._kept_cursors[place]

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Psycopg's wait for any answer of the server, with a deadline of `patience` seconds."""
        try:
            return super().wait(gen, interval, timeout or self.patience)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 - what psycopg's own wait raises
            self.pgconn.finish()
            raise psycopg.OperationalError("the server does not answer") from None


_AT_REST = tuple((status, PipelineStatus.OFF) for status in TransactionStatus if status != TransactionStatus.ACTIVE)

# As PostgreSQL and PgBouncer say it.
NO_CONNECTION_LEFT = re.compile(
    "too many clients already|too many connections for|remaining connection slots|no more connections allowed"
    "|query_wait_timeout"
)

_LINK_ERRORS = (psycopg.OperationalError, psycopg.InterfaceError)


def _connect(_dialect: Any, _record: Any, arguments: Any, parameters: dict[str, Any]) -> _PatientConnection:
    patience = parameters.pop("patience")
    try:
        connection = _PatientConnection.connect(*arguments, **parameters)
    except psycopg.OperationalError as error:
        # The error of a connection that was not made has no code.
        if error.sqlstate is None and NO_CONNECTION_LEFT.search(str(error)):
            raise psycopg.errors.TooManyConnections(str(error)) from None
        raise
    connection.patience = patience
    return connection


def _forget_after_fork() -> None:
    for pool in list(_pools):
        pool.forget()


os.register_at_fork(after_in_child=_forget_after_fork)
