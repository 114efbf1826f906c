"""Which errors mean that the database is away: one list, by PostgreSQL's codes, for every process."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tracking.db import is_away, is_too_slow

AWAY = [
    errors.AdminShutdown(),
    errors.CannotConnectNow(),
    errors.IdleSessionTimeout(),
    errors.TooManyConnections(),
    errors.DiskFull(),
    errors.IoError(),
    errors.DeadlockDetected(),
    errors.SerializationFailure(),
    errors.LockNotAvailable(),
    errors.ReadOnlySqlTransaction(),
    psycopg.OperationalError("the server does not answer"),
    psycopg.InterfaceError("the connection is closed"),
]
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


@pytest.mark.parametrize("error", AWAY, ids=repr)
def test_what_passes_by_itself_is_an_outage(error: psycopg.Error) -> None:
    """The driver's error, and SQLAlchemy's around it."""
    assert is_away(error)
    assert is_away(DBAPIError("…", {}, error))


@pytest.mark.parametrize("error", REFUSED, ids=repr)
def test_a_refused_statement_is_no_outage_and_neither_is_a_value_that_the_driver_cannot_send(
    error: psycopg.Error,
) -> None:
    """Repeating it would change nothing."""
    assert not is_away(error)
    assert not is_away(DBAPIError("…", {}, error))


def test_a_pool_without_a_free_connection_is_an_outage() -> None:
    """It has one again soon."""
    assert is_away(PoolTimeoutError("no connection became free"))


def test_whatever_broke_its_connection_is_an_outage() -> None:
    """The error of the statement may be any."""
    assert is_away(DBAPIError("…", {}, errors.DataError(), connection_invalidated=True))


@pytest.mark.parametrize("error", [ValueError("x"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "…"), OSError("x")])
def test_an_error_of_another_kind_is_no_outage(error: Exception) -> None:
    """Its cause lies in our process."""
    assert not is_away(error)


def test_a_statement_over_its_time_limit_is_slow_and_the_database_is_not_away() -> None:
    """Others are served meanwhile."""
    slow = DBAPIError("…", {}, errors.QueryCanceled())
    assert is_too_slow(slow)
    assert not is_away(slow)
    assert not is_too_slow(DBAPIError("…", {}, errors.AdminShutdown()))
