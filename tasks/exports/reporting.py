"""The report types, and how one is run: read only, on one snapshot, row by row, for one organization."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, cast

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import make_url

from tasks.exports.batches import BYTES, ROWS, batches, weight
from tasks.exports.loading import load_exactly
from tasks.exports.reportfile import ORGANIZATION, Report, ReportFilters, read_report
from tracking.db import Outage, outage
from tracking.errors import ConfigurationError
from tracking.settings import Settings, settings

Row = tuple[Any, ...]

SHIPPED = Path(__file__).parent / "reports"
CURSOR = "report"


class ReportFailed(Exception):
    """The database refused the report, or took too long."""


@cache
def catalogue() -> Mapping[str, Report]:
    """All report types by name: the shipped ones and those of CELERIAC_REPORTS_DIR, as this process began with it.

    Payloads are checked against them, and a model knows no app of which it could ask the settings.
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
    """A report that has begun to answer: its columns, and its rows in batches that fit in memory.

    `types` are the names that `parquet.TYPES` knows, or PostgreSQL's own where a column has another type.
    """

    columns: Sequence[str]
    types: Sequence[str]
    _batches: Iterator[list[Row]] = field(repr=False)

    def __iter__(self) -> Iterator[list[Row]]:
        return self._batches


@contextmanager
def rows_of(settings: Settings, report: Report, organization: str, filters: ReportFilters) -> Iterator[Rows]:
    """Run a report for an organization; entered when the first rows are here, and they are read within the block.

    Raises ConnectionError when the database cannot serve it now, ReportFailed when trying again will not help.
    """
    with (
        _told_plainly(report, settings.reports_timeout),
        connected(settings, settings.reports_timeout) as connection,
        connection.cursor(name=CURSOR) as cursor,
    ):
        cursor.execute(report.sql.encode(), {**filters.model_dump(), ORGANIZATION: organization})
        columns = [column.name for column in cursor.description or ()]
        repeated = sorted({name for name in columns if columns.count(name) > 1})
        if repeated:
            raise ReportFailed(f"the report {report.name} has several columns named {', '.join(repeated)}")
        # Closed before the cursor, which would wait for ever for a stream that is not read to its end.
        with closing(_rows(connection)) as rows:
            following = batches(rows)
            first = next(following, [])
            types = [_type(connection, column) for column in cursor.description or ()]
            yield Rows(columns, types, chain([first] if first else [], following))


def _rows(connection: psycopg.Connection[Row]) -> Generator[Row, None, None]:
    """The rows, one by one as they arrive: what the client asks for at once may be larger than its memory.

    The server works on a FETCH until its last row is taken, and its time limit runs; so the next one asks for no more
    than a batch, as the rows have been until now.
    """
    count, number = ROWS, 0
    while True:
        fetched = size = 0
        try:
            with closing(_fetched(connection, count)) as arriving:
                for row in arriving:
                    fetched += 1
                    size += weight(row)
                    yield row
        except UnicodeDecodeError:
            raise ReportFailed(f"row {number + fetched + 1:,} holds a text that is not UTF-8") from None
        if fetched < count:
            return
        number += fetched
        count = max(1, min(ROWS, fetched * BYTES // max(size, 1)))


def _type(connection: psycopg.Connection[Row], column: psycopg.Column) -> str:
    """The column's type, `numeric` with its digits where it says how many."""
    known = connection.adapters.types.get(column.type_code)
    if known is None or column.type_code != known.oid:  # an array
        return "text"
    if known.name == "numeric" and column.precision is not None:
        return f"numeric({column.precision},{column.scale or 0})"
    return known.name


def _fetched(connection: psycopg.Connection[Row], count: int) -> Generator[Row, None, None]:
    return cast(
        "Generator[Row, None, None]", connection.cursor().stream(f"FETCH FORWARD {count} FROM {CURSOR}".encode())
    )


def _report_files() -> Iterator[Path]:
    own = settings().reports_dir
    if own is not None and not own.is_dir():
        raise ConfigurationError(f"CELERIAC_REPORTS_DIR: {own} is not a directory")
    for directory in (SHIPPED, own):
        if directory is not None:
            yield from sorted(directory.glob("*.sql"))


@contextmanager
def connected(settings: Settings, seconds: float) -> Iterator[psycopg.Connection[Row]]:
    """A connection to the database of the reports, in one read-only transaction, whose statements may take so long."""
    with _connect(settings) as connection:
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        timeout = f"{round(1000 * seconds)}ms"
        connection.execute(_LIMITS, {"statement": timeout, "idle": timeout})
        load_exactly(connection)
        try:
            yield connection
        except BaseException:
            # A cancelled job's exception may strike while the server works: its query is cancelled.
            if connection.info.transaction_status is TransactionStatus.ACTIVE:
                connection.cancel_safe(timeout=settings.connect_timeout)
            connection.close()
            raise


def _connect(settings: Settings) -> psycopg.Connection[Row]:
    url = make_url(settings.reports)
    _, arguments = url.get_dialect()().create_connect_args(url)
    waits = {"connect_timeout": settings.connect_timeout, "keepalives_idle": 30, "keepalives_count": 3}
    fixed = {"application_name": "celeriac report", "client_encoding": "UTF8"}
    return psycopg.connect(**{**waits, **fixed, **arguments})


# Limits of this transaction only, so that they work through a connection pooler too. The last one lets the server
# notice within seconds that the worker has gone, and drop the query (PostgreSQL 14).
_LIMITS = """
    SELECT set_config('statement_timeout', %(statement)s, true),
           set_config('idle_in_transaction_session_timeout', %(idle)s, true),
           set_config('TimeZone', 'UTC', true),
           set_config('DateStyle', 'ISO', true),
           set_config('IntervalStyle', 'postgres', true),
           set_config('bytea_output', 'hex', true),
           set_config('extra_float_digits', '1', true),
           set_config('client_connection_check_interval', '5s', true)"""


@contextmanager
def _told_plainly(report: Report, timeout: int) -> Iterator[None]:
    """Errors without the SQL, its parameters or the server's address: they are shown to people."""
    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise ReportFailed(f"the report {report.name} took longer than {timeout} s") from error
    except psycopg.Error as error:
        if outage(error) in (Outage.AWAY, Outage.BUSY):  # every report is read-only by our doing
            raise ConnectionError(f"the database of the report {report.name} cannot be used now") from error
        reason = error.diag.message_primary or str(error)
        raise ReportFailed(f"the report {report.name} failed: {reason}") from error
