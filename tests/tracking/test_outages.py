"""Which errors mean that the database is away: one list, by PostgreSQL's codes, for every process."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tracking.db import Outage, is_away, is_too_slow, outage

PASSING: dict[Outage, list[psycopg.Error]] = {
    Outage.AWAY: [
        errors.AdminShutdown(),
        errors.CrashShutdown(),
        errors.CannotConnectNow(),
        errors.IdleSessionTimeout(),
        errors.IdleInTransactionSessionTimeout(),
        errors.ConnectionFailure(),
        errors.IoError(),
        psycopg.OperationalError("the server does not answer"),
        psycopg.InterfaceError("the connection is closed"),
    ],
    Outage.BUSY: [
        errors.TooManyConnections(),
        errors.OutOfMemory(),
        errors.DeadlockDetected(),
        errors.SerializationFailure(),
        errors.LockNotAvailable(),
    ],
    Outage.FULL: [errors.DiskFull()],
    Outage.READ_ONLY: [errors.ReadOnlySqlTransaction()],
    Outage.UNGRANTED: [errors.InsufficientPrivilege()],
    Outage.TOO_SLOW: [errors.QueryCanceled()],
}
REFUSED = [
    errors.UniqueViolation(),
    errors.CheckViolation(),
    errors.UntranslatableCharacter(),
    errors.NumericValueOutOfRange(),
    errors.UndefinedTable(),
    errors.TooManyColumns(),
    psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"),
    psycopg.ProgrammingError("cannot adapt type 'object'"),
    psycopg.NotSupportedError("date too large (after year 10K)"),
]


@pytest.mark.parametrize(
    ("kind", "error"), [(kind, error) for kind, found in PASSING.items() for error in found], ids=repr
)
def test_what_passes_by_itself_is_an_outage_of_its_kind(kind: Outage, error: psycopg.Error) -> None:
    """Errors of the database that pass by themselves are outages of their kind."""
    for shown in (error, DBAPIError("…", {}, error)):
        assert outage(shown) is kind
        assert is_away(shown) is (kind is not Outage.TOO_SLOW)
        assert is_too_slow(shown) is (kind is Outage.TOO_SLOW)


@pytest.mark.parametrize("error", REFUSED, ids=repr)
def test_a_refused_statement_is_no_outage_and_neither_is_a_value_that_the_driver_cannot_send(
    error: psycopg.Error,
) -> None:
    """A refused statement or an unsendable value is no outage."""
    assert outage(error) is None
    assert outage(DBAPIError("…", {}, error)) is None


def test_a_pool_without_a_free_connection_is_an_outage() -> None:
    """A pool without a free connection is an outage."""
    assert outage(PoolTimeoutError("no connection became free")) is Outage.BUSY


def test_whatever_broke_its_connection_is_an_outage() -> None:
    """Any error that broke its connection is an outage."""
    assert outage(DBAPIError("…", {}, errors.DataError(), connection_invalidated=True)) is Outage.AWAY


@pytest.mark.parametrize("error", [ValueError("x"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "…"), OSError("x")])
def test_an_error_of_another_kind_is_no_outage(error: Exception) -> None:
    """An error that is not the database's is no outage."""
    assert outage(error) is None
