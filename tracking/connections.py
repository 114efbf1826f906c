"""The driver's connections as the pools use them: with a deadline for each wait, and none that outlives its process."""

from __future__ import annotations

import os
import re
import select
from contextlib import suppress
from functools import cached_property
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import namedtuple_row
from sqlalchemy.exc import InvalidatePoolError

# As PostgreSQL and PgBouncer say it.
NO_CONNECTION_LEFT = re.compile(
    "too many clients already|too many connections for|remaining connection slots|no more connections allowed"
    "|query_wait_timeout"
)


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

    def rollback(self) -> None:
        """Undo the transaction, without forgetting the prepared statements if the server has refused none of it.

        Psycopg forgets them, as tables may have been made in it. Ours only give up what somebody may not do, and the
        next job that is submitted would have its statements planned anew, which takes longer than they do.
        """
        if self.info.transaction_status != TransactionStatus.INTRANS or self.info.pipeline_status != PipelineStatus.OFF:
            super().rollback()
            return
        with self.lock:
            self.wait(self._exec_command(b"ROLLBACK"))

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Psycopg's wait for any answer of the server, with a deadline of `patience` seconds."""
        try:
            return super().wait(gen, interval, timeout or self.patience)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 - what psycopg's own wait raises
            self.pgconn.finish()
            raise psycopg.OperationalError("the server does not answer") from None


_all: WeakSet[PatientConnection] = WeakSet()


def connect(_dialect: Any, _record: Any, arguments: Any, parameters: dict[str, Any]) -> PatientConnection:
    """One for a pool; its `patience` is among the parameters. Raises TooManyConnections, or what psycopg does."""
    patience = parameters.pop("patience")
    try:
        connection = PatientConnection.connect(*arguments, **parameters)
    except psycopg.OperationalError as error:
        # The error of a connection that was not made has no code.
        if error.sqlstate is None and NO_CONNECTION_LEFT.search(str(error)):
            raise psycopg.errors.TooManyConnections(str(error)) from None
        raise
    connection.patience = patience
    _all.add(connection)
    return connection


def still_there(connection: PatientConnection, _record: Any, _borrowed: Any) -> None:
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


def let_go_after_fork() -> None:
    """In a child, which outlives a process that is killed: the server would take that one's connections for alive.

    Their sockets are not closed, but lead nowhere: a number that is free may become that of another file.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    for connection in list(_all):
        with suppress(psycopg.OperationalError):  # it is closed
            os.dup2(nowhere, connection.fileno(), inheritable=False)
    os.close(nowhere)
    _all.clear()
