"""PostgreSQL's driver as the verbs use it: statements sent together, errors as SQLAlchemy's, no wait without an end."""

from __future__ import annotations

import re
import select
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InvalidatePoolError

from tracking import traces

Statement = tuple[str, Mapping[str, Any]]  # and its parameters


def run(connection: Connection, *statements: Statement) -> list[list[Any]]:
    """The rows, as named tuples, of each of the statements, which are in the driver's own form.

    For those that every job runs: through SQLAlchemy an execution takes twice the time of the driver's. Several are
    sent together, in one round trip, and are one transaction. Raises the DBAPIError of that kind, as
    `Connection.execute` does.
    """
    sent = [sql for sql, _ in statements]
    with _traced(sent), _told(connection, sent) as driver:
        with driver.pipeline() if len(statements) > 1 else nullcontext():
            cursors = [driver.executed(place, statement) for place, statement in enumerate(statements)]
        return [cursor.fetchall() for cursor in cursors]


def run_each(connection: Connection, sql: str, given: Iterable[Mapping[str, Any]]) -> list[Any]:
    """The rows of a statement with each of these parameters, which are made while the server is at those before them.

    One transaction. Raises as `run` does.
    """
    with _traced([sql]), _told(connection, [sql]) as driver, driver.pipeline():
        under_way: deque[psycopg.Cursor[Any]] = deque()
        rows: list[Any] = []
        for place, parameters in enumerate(given):
            under_way.append(driver.executed(place % 2, (sql, parameters)))
            if len(under_way) > 1:
                rows += under_way.popleft().fetchall()
        for cursor in under_way:
            rows += cursor.fetchall()
        return rows


def _traced(statements: Sequence[str]) -> AbstractContextManager[None]:
    return nullcontext() if (spans := traces.spans()) is None else spans.statements(statements)


@contextmanager
def _told(connection: Connection, statements: Iterable[str]) -> Iterator[PatientConnection]:
    """The driver's connection; what it raises is the DBAPIError of these statements."""
    driver: PatientConnection = connection.connection.driver_connection  # type: ignore[assignment]
    try:
        yield driver
    except psycopg.Error as error:
        if driver.closed:
            connection.invalidate(error)
        raise DBAPIError.instance(
            ";".join(dict.fromkeys(statements)),
            None,
            error,
            psycopg.Error,
            hide_parameters=True,
            connection_invalidated=driver.closed,
        ) from error


class PatientConnection(psycopg.Connection[Any]):
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

    def executed(self, place: int, statement: Statement) -> psycopg.Cursor[Any]:
        """The kept cursor of this place, with which a statement was executed; within a pipeline: sent."""
        sql, parameters = statement
        return self.kept_cursor(place).execute(sql, parameters, prepare=self.prepare_threshold is not None)

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Psycopg's wait for any answer of the server, with a deadline of `patience` seconds."""
        try:
            return super().wait(gen, interval, timeout or self.patience)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 - what psycopg's own wait raises
            self.pgconn.finish()
            raise psycopg.OperationalError("the server does not answer") from None


# As PostgreSQL and PgBouncer say it.
NO_CONNECTION_LEFT = re.compile(
    "too many clients already|too many connections for|remaining connection slots|no more connections allowed"
    "|query_wait_timeout"
)


def connected(_dialect: Any, _record: Any, arguments: Any, parameters: dict[str, Any]) -> PatientConnection:
    """A new connection, as SQLAlchemy wants one; `patience` in seconds. Raises psycopg.OperationalError."""
    patience = parameters.pop("patience")
    try:
        connection = PatientConnection.connect(*arguments, **parameters)
    except psycopg.OperationalError as error:
        # The error of a connection that was not made has no code.
        if error.sqlstate is None and NO_CONNECTION_LEFT.search(str(error)):
            raise psycopg.errors.TooManyConnections(str(error)) from None
        raise
    connection.patience = patience
    return connection


def require_there(connection: PatientConnection, _record: Any, _borrowed: Any) -> None:
    """Before a connection of the pool is used: those of a server that was restarted are replaced, all at once.

    A server that ends a connection says so, and of an idle one nothing else but what a reload of its settings changes:
    only what has something to read is asked for a sign of life.
    """
    unread = select.poll()
    try:
        unread.register(connection.fileno(), select.POLLIN)
        if unread.poll(0):
            connection.execute("SELECT")
    except psycopg.Error as error:
        raise InvalidatePoolError from error
