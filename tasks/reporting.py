"""The report types, and how one is run: read only, on one snapshot, row by row, for one organization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import make_url

from tasks.reportfile import ORGANIZATION, Report, ReportFilters, read_report
from tracking.errors import ConfigurationError
from tracking.settings import settings

Row = tuple[Any, ...]

SHIPPED = Path(__file__).parent / "reports"
ROWS_PER_FETCH = 500  # of 10 kB each they are 5 MB: the most that an export keeps in memory


class ReportFailed(Exception):
    """The database refused the report, or took too long."""


@cache
def catalogue() -> Mapping[str, Report]:
    """All report types by name: the shipped ones and those of CELERIAC_REPORTS_DIR.

    Raises ConfigurationError, one line that names the file and the line, when a report is wrong.
    """
    reports: dict[str, Report] = {}
    for path in _report_files():
        if path.stem in reports:
            raise ConfigurationError(f"{path}:1: there is a report {path.stem!r} already; name the file otherwise")
        reports[path.stem] = read_report(path)
    return reports


@dataclass(frozen=True)
class Rows:
    """A report that has begun to answer: its column names, and its rows in lists of up to ROWS_PER_FETCH."""

    columns: Sequence[str]
    _first: Sequence[Row] = field(repr=False)
    _cursor: psycopg.ServerCursor[Row] = field(repr=False)

    def __iter__(self) -> Iterator[Sequence[Row]]:
        """All rows, once."""
        rows = self._first
        while rows:
            yield rows
            rows = self._cursor.fetchmany(ROWS_PER_FETCH)


@contextmanager
def running(report: Report, organization: str, filters: ReportFilters) -> Iterator[Rows]:
    """Run a report for an organization; entered when the first rows are here, and they are read within the block.

    Raises ConnectionError when the database cannot serve it now, ReportFailed when trying again will not help.
    """
    with _told_plainly(report), _connection() as connection, connection.cursor(name="report") as cursor:
        cursor.execute(report.sql.encode(), {**filters.model_dump(), ORGANIZATION: organization})
        first = cursor.fetchmany(ROWS_PER_FETCH)
        columns = [column.name for column in cursor.description or ()]
        repeated = sorted({name for name in columns if columns.count(name) > 1})
        if repeated:
            raise ReportFailed(f"the report {report.name} has several columns named {', '.join(repeated)}")
        yield Rows(columns, first, cursor)


def _report_files() -> Iterator[Path]:
    own = settings().reports_dir
    if own is not None and not own.is_dir():
        raise ConfigurationError(f"CELERIAC_REPORTS_DIR: {own} is not a directory")
    for directory in (SHIPPED, own):
        if directory is not None:
            yield from sorted(directory.glob("*.sql"))


@contextmanager
def _connection() -> Iterator[psycopg.Connection[Row]]:
    """A connection for one report, in one read-only transaction, with limits of its own."""
    with _connect() as connection:
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        timeout = f"{settings().reports_timeout}s"
        connection.execute(_LIMITS, {"statement": timeout, "idle": timeout})
        try:
            yield connection
        except BaseException:
            # A cancelled job's exception may strike while the server works: tell it to stop, nobody will listen.
            if connection.info.transaction_status is TransactionStatus.ACTIVE:
                connection.cancel_safe(timeout=settings().connect_timeout)
            connection.close()
            raise


def _connect() -> psycopg.Connection[Row]:
    url = make_url(settings().reports)
    if url.get_backend_name() != "postgresql":
        raise ConfigurationError("CELERIAC_REPORTS_URL: reports are run by PostgreSQL only")
    _, arguments = url.get_dialect()().create_connect_args(url)
    waits = {"connect_timeout": settings().connect_timeout, "keepalives_idle": 30, "keepalives_count": 3}
    return psycopg.connect(**{**waits, "application_name": "celeriac report", **arguments})


# Limits of this transaction only, so that they work through a connection pooler too. The last one lets the server
# notice within seconds that the worker has gone, and drop the query (PostgreSQL 14).
_LIMITS = """
    SELECT set_config('statement_timeout', %(statement)s, true),
           set_config('idle_in_transaction_session_timeout', %(idle)s, true),
           set_config('TimeZone', 'UTC', true),
           set_config('client_connection_check_interval', '5s', true)"""


@contextmanager
def _told_plainly(report: Report) -> Iterator[None]:
    """Errors without the SQL, its parameters or the server's address: they are shown to people."""
    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise ReportFailed(f"the report {report.name} took longer than {settings().reports_timeout} s") from error
    except psycopg.OperationalError as error:
        raise ConnectionError(f"the database of the report {report.name} cannot be used now") from error
    except psycopg.Error as error:
        reason = error.diag.message_primary or str(error)
        raise ReportFailed(f"the report {report.name} failed: {reason}") from error
