"""Connections to PostgreSQL: one pool a process, fresh after a fork, every wait bounded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tracking.settings import Settings, settings

MIGRATION_LOCK = 0x63656C65  # "cele"; any constant will do, it only has to be ours

# PostgreSQL's error codes (its manual, appendix A) that pass by themselves. Classes: connection, rollback, resources,
# operator intervention, system. Codes: read-only during a fail-over, lock not available, a session that was ended.
AWAY_CLASSES = frozenset({"08", "40", "53", "57", "58"})
AWAY = frozenset({"25006", "55P03", "25P03", "25P04"})
TOO_SLOW = "57014"


class Database:
    """A pool of connections. A verb that is one statement wants `autocommit`; several wants `begin`."""

    def __init__(self, url: str, configuration: Settings | None = None, *, pool_size: int | None = None) -> None:
        limits = configuration or settings()
        self.engine: Engine = create_engine(
            url,
            pool_size=pool_size or limits.pool_size,
            max_overflow=0,
            pool_timeout=limits.connect_timeout,
            pool_pre_ping=False,  # a round trip for every statement; the verbs can be repeated instead
            pool_use_lifo=True,
            # Autocommit from the start, and nothing to undo when a connection comes back: switching and resetting cost
            # more than a verb's own work in this process. Only `begin` switches.
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
            skip_autocommit_rollback=True,
            hide_parameters=True,  # payloads: they must not be quoted in errors and logs
            connect_args={
                "connect_timeout": limits.connect_timeout,
                "patience": limits.statement_timeout,
                # milliseconds until unanswered data breaks the connection: a black-holed server must not hang us
                "tcp_user_timeout": limits.statement_timeout * 1000,
                "options": f"-c statement_timeout={limits.statement_timeout}s -c timezone=UTC",
                "application_name": "celeriac",
            },
        )
        event.listen(self.engine, "do_connect", _connect)
        self._transactional = self.engine.execution_options(isolation_level="READ COMMITTED")

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
        """Close all idle connections."""
        self.engine.dispose()


@cache
def database() -> Database:
    """The tracking database of this process."""
    return Database(settings().database)


def is_away(error: BaseException) -> bool:
    """Whether the database cannot be used for now, so that the same call may succeed later.

    An error without a code comes from the driver: a broken link, or a value that it cannot send, which never passes.
    """
    if isinstance(error, PoolTimeoutError):
        return True
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if not isinstance(cause, psycopg.Error):
        return False
    if cause.sqlstate is None:
        return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    return cause.sqlstate != TOO_SLOW and (cause.sqlstate in AWAY or cause.sqlstate[:2] in AWAY_CLASSES)


def is_too_slow(error: BaseException) -> bool:
    """Whether the database ended a statement that took longer than its time limit."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, psycopg.Error) and cause.sqlstate == TOO_SLOW


def migrate(url: str) -> None:
    """Bring the schema to the newest version; safe to run from several processes at once."""
    from alembic import command  # noqa: PLC0415 - an eighth of the time that every process takes to start,
    from alembic.config import Config  # noqa: PLC0415 - and one in a thousand migrates

    with create_engine(url, poolclass=NullPool).connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def run(connection: Connection, sql: str, parameters: dict[str, Any]) -> Any:
    """The one row, as a named tuple, of a statement in the driver's own form; None without one.

    For the two that every job runs: through SQLAlchemy an execution takes twice the time of the driver's. Raises
    the DBAPIError of that kind, as `Connection.execute` does.
    """
    driver: _PatientConnection = connection.connection.driver_connection  # type: ignore[assignment]
    try:
        return driver.kept_cursor.execute(sql, parameters, prepare=True).fetchone()
    except psycopg.Error as error:
        if driver.closed:
            connection.invalidate(error)
        raise DBAPIError.instance(
            sql, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=driver.closed
        ) from error


@contextmanager
def _dropped_in_midst(connection: Connection) -> Iterator[None]:
    """Do not use a connection again whose statement was interrupted: its answer is still on the way."""
    try:
        yield
    except BaseException:
        driver: Any = None if connection.invalidated else connection.connection.driver_connection
        if driver is not None and driver.info.transaction_status == TransactionStatus.ACTIVE:
            connection.invalidate()
        raise


class _PatientConnection(psycopg.Connection[Any]):
    """A connection that gives up on a server that is silent.

    A stopped or black-holed server still has its kernel acknowledge what we send, so that neither TCP's nor the
    statement's time-out ends the wait.
    """

    patience = 4.0

    @cached_property
    def kept_cursor(self) -> psycopg.Cursor[Any]:
        """The cursor of `run`: a new one for every statement looks up its types again, which takes a third of it."""
        return self.cursor(row_factory=namedtuple_row)

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Psycopg's wait for any answer of the server, with a deadline of `patience` seconds."""
        try:
            return super().wait(gen, interval, timeout or self.patience)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 - what psycopg's own wait raises
            self.pgconn.finish()
            raise psycopg.OperationalError("the server does not answer") from None


def _connect(_dialect: Any, _record: Any, arguments: Any, parameters: dict[str, Any]) -> _PatientConnection:
    patience = parameters.pop("patience")
    connection = _PatientConnection.connect(*arguments, **parameters)
    connection.patience = patience
    return connection


def _forget_after_fork() -> None:
    if database.cache_info().currsize:
        database().forget()


os.register_at_fork(after_in_child=_forget_after_fork)
