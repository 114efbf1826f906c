"""Report files, and running them: typed, read only, and only for one organization."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from tasks import Job, app
from tasks.exports.reportfile import Report, ReportFilters, read_report
from tasks.exports.reporting import ReportFailed, catalogue, rows_of
from tasks.handlers.export_report import ExportReport, export_report
from tests.commands import run
from tests.handling import add_job, workplace
from tests.live import eventually
from tests.servers import Servers
from tracking.db import Database
from tracking.errors import ConfigurationError

HEADER = "--: report A report.\n"


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Iterator[Path]:
    """A directory for reports of the test's own, and the settings that go with it."""
    reports = tmp_path / "reports"
    reports.mkdir()
    with workplace(database_url, tmp_path, CELERIAC_REPORTS_DIR=str(reports), CELERIAC_REPORTS_TIMEOUT="2"):
        yield reports


def report(directory: Path, sql: str, *, name: str = "mine", header: str = HEADER) -> Report:
    """A report file with this SQL, as it is read."""
    path = directory / f"{name}.sql"
    path.write_text(header + sql)
    return read_report(path)


def rows(wanted: Report, organization: str = "acme", **filters: Any) -> list[tuple[Any, ...]]:
    """All rows of a report."""
    with rows_of(app.platform.settings, wanted, organization, wanted.filters.model_validate(filters)) as found:
        return [row for batch in found for row in batch]


def columns_and_rows(name: str, organization: str, **filters: Any) -> list[dict[str, Any]]:
    """The rows of a shipped report, by column name."""
    wanted = catalogue()[name]
    with rows_of(app.platform.settings, wanted, organization, wanted.filters.model_validate(filters)) as found:
        return [dict(zip(found.columns, row, strict=True)) for batch in found for row in batch]


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ("SELECT :organization", 1, "report <description>` is missing"),
        ("--: report\nSELECT :organization", 1, "is missing"),
        (HEADER + "SELECT 1", 1, "does not use :organization"),
        (HEADER + "-- for :organization\nSELECT ':organization', $$:organization$$", 1, "does not use :organization"),
        (HEADER + "\nSELECT :organization,\n:typo", 4, ":typo is not declared"),
        (HEADER + "--: paramter x text\nSELECT :organization", 2, "unknown header 'paramter'"),
        (HEADER + "--: parameter x\nSELECT :organization", 2, "declared as"),
        (HEADER + "--: parameter x money\nSELECT :organization, :x", 2, "unknown type 'money'; known: text, integer"),
        (HEADER + "--: parameter x integer = many\nSELECT :organization, :x", 2, "'many' of x is no integer"),
        (HEADER + "--: parameter x date = 2026-02-30\nSELECT :organization, :x", 2, "is no date"),
        (HEADER + "--: parameter x text\n--: parameter x text\nSELECT :organization, :x", 3, "declared twice"),
        (HEADER + "--: parameter x text\nSELECT :organization", 2, "x is declared and never used"),
        (HEADER + "--: parameter X text\nSELECT :organization, :X", 2, "lower-case"),
        (HEADER + "--: parameter organization text\nSELECT :organization", 2, "always there"),
        (HEADER + "--: parameter json text\nSELECT :organization, :json", 2, "reserved"),
        (HEADER + "--: parameter min_price integer\nSELECT :organization, :min_price", 2, "monetary"),
        (HEADER + "--: range a b\nSELECT :organization", 2, "declared above it"),
        (HEADER + "--: parameter a date\n--: parameter b text\n--: range a b\nSELECT :organization, :a, :b", 4, "both"),
        (HEADER + "DROP TABLE :organization", 1, "begins with SELECT"),
        (HEADER + "SELECT :organization;\nSELECT 2", 2, "one statement"),
        (HEADER + "SELECT :organization\n/* no end", 3, "/* is not closed, or not supported"),
        (HEADER + "SELECT :organization\n, 'no end", 3, "' is not closed"),
    ],
)
def test_a_wrong_report_file_is_one_clear_line(content: str, line: int, reason: str, tmp_path: Path) -> None:
    """A wrong report file is one line that names the file and the line."""
    path = tmp_path / "mine.sql"
    path.write_text(content)
    with pytest.raises(ConfigurationError) as refused:
        read_report(path)
    assert str(refused.value).startswith(f"{path}:{line}: ")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_report_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """A report file may begin with a byte order mark."""
    assert report(tmp_path, "SELECT :organization", header="\ufeff" + HEADER).description == "A report."


def test_a_report_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    """A report file that is not UTF-8 is named with its line."""
    path = tmp_path / "mine.sql"
    path.write_bytes((HEADER + "SELECT 'Köln', :organization").encode("latin-1"))
    with pytest.raises(ConfigurationError, match=rf"{path}:2: a report file is in UTF-8"):
        read_report(path)


def test_a_directory_with_the_name_of_a_report_file_is_named(tmp_path: Path) -> None:
    """A directory with the name of a report file is refused by its name."""
    path = tmp_path / "mine.sql"
    path.mkdir()
    with pytest.raises(ConfigurationError, match=rf"{path}:1: the report file cannot be read: Is a directory"):
        read_report(path)


def test_shipped_reports_without_their_tables_are_not_offered(
    place: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shipped reports whose tables are missing are not offered; reports of one's own stay."""
    report(place, "SELECT :organization")
    monkeypatch.setenv("CELERIAC_REPORTS_URL", servers.database("postgres"))
    with workplace("postgresql://unused", place, CELERIAC_REPORTS_DIR=str(place)):
        schema = cast("Job", export_report).payload_schema()
        assert schema["properties"]["reportType"]["enum"] == ["mine"]
        assert 'relation "jobs" does not exist' in schema["description"]
        with pytest.raises(ValidationError, match='not offered by CELERIAC_REPORTS_URL: relation "jobs" does not'):
            ExportReport(report_type="jobs")
        assert ExportReport(report_type="mine").report_type == "mine"


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        yield listener


def test_an_import_asks_no_database_for_reports(silent: socket.socket) -> None:
    """Importing the handlers asks no database for reports."""
    url = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x"
    ended = run("token", "--organization", "acme", "--user", "u1", "--admin", CELERIAC_REPORTS_URL=url)
    assert (ended.status, ended.err) == (0, "")
    with pytest.raises(BlockingIOError):
        silent.accept()


def test_a_silent_database_of_reports_holds_nobody_up(
    place: Path, silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent database of reports delays types and creates by a second at most."""
    monkeypatch.setenv("CELERIAC_REPORTS_URL", f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x")
    with workplace("postgresql://unused", place), ThreadPoolExecutor(8) as callers:
        begun = time.monotonic()
        answers = list(callers.map(lambda _: ExportReport(report_type="jobs").report_type, range(8)))
        assert (answers, time.monotonic() - begun < 3) == (["jobs"] * 8, True)
        assert "jobs" in cast("Job", export_report).payload_schema()["properties"]["reportType"]["enum"]
    silent.accept()[0].close()
    with pytest.raises(BlockingIOError):
        silent.accept()


def test_too_many_columns_fail_at_once(place: Path) -> None:
    """A report with too many columns fails without another attempt."""
    names = ", ".join(f"n AS c{number}" for number in range(1700))
    with pytest.raises(ReportFailed, match="at most 1664 entries"):
        rows(report(place, "SELECT " + names + ", :organization FROM generate_series(1, 2) AS n"))  # noqa: S608 - numbers


def test_a_report_file_is_named_like_its_type(tmp_path: Path) -> None:
    """The name of a report file must be a valid report type."""
    with pytest.raises(ConfigurationError, match="file name"):
        report(tmp_path, "SELECT :organization", name="My Report")


def test_the_reports_of_a_directory_of_ones_own_join_the_shipped_ones(place: Path) -> None:
    """Reports of CELERIAC_REPORTS_DIR join the shipped ones."""
    report(place, "SELECT :organization")
    assert list(catalogue()) == ["jobs", "usage", "mine"]


def test_a_report_cannot_replace_a_shipped_one(place: Path) -> None:
    """A report with the name of a shipped one is refused."""
    report(place, "SELECT :organization", name="jobs")
    with pytest.raises(ConfigurationError, match="a report 'jobs' already"):
        catalogue()


def test_a_missing_reports_directory_stops_the_start(database_url: str, tmp_path: Path) -> None:
    """A missing CELERIAC_REPORTS_DIR stops the start with one line."""
    with (
        workplace(database_url, tmp_path, CELERIAC_REPORTS_DIR=str(tmp_path / "none")),
        pytest.raises(ConfigurationError, match=r"CELERIAC_REPORTS_DIR: .* is not a directory"),
    ):
        catalogue()


def test_parameters_have_their_declared_types_in_the_query(place: Path) -> None:
    """Parameters have their declared types in a report's query, also when they are null."""
    wanted = report(
        place,
        "--: parameter words text\n--: parameter n integer = 7 -- a number\n--: parameter day date = 2026-01-02\n"
        "--: parameter at timestamp = none\n--: parameter flag boolean = true\n"
        "SELECT ARRAY[pg_typeof(:words)::text, pg_typeof(:n)::text, pg_typeof(:day)::text, pg_typeof(:at)::text,\n"
        "             pg_typeof(:flag)::text, pg_typeof(:organization)::text] AS types,\n"
        "       :n AS n, :day AS day, :at IS NULL AS no_time, :flag AS flag",
    )
    types = '{text,bigint,date,"timestamp with time zone",boolean,text}'
    assert rows(wanted, words="x") == [(types, 7, date(2026, 1, 2), True, True)]


def test_names_are_camel_case_in_a_payload_and_snake_case_in_sql(place: Path) -> None:
    """A report's parameters are camelCase in payloads and snake_case in SQL."""
    wanted = report(place, "--: parameter job_type text\nSELECT :job_type AS a, :organization AS b")
    assert rows(wanted, jobType="x") == [("x", "acme")]


def test_sql_keeps_its_own_colons_and_percents(place: Path) -> None:
    """Colons and percents of a report's SQL that are no parameters stay."""
    wanted = report(
        place,
        "-- a comment with :name and '\n"
        "SELECT '12:30 :x 5%' AS a, 7 % 4 AS b, 1::text AS c, E'it\\'s :x' AS d, $tag$ ; :x $tag$ AS e,\n"
        "       \"a:b\".n, 'it''s' AS f, :organization AS g -- the end :x\n"
        'FROM (VALUES (1)) AS "a:b" (n); -- done;\n',
    )
    assert rows(wanted) == [("12:30 :x 5%", 3, "1", "it's :x", " ; :x ", 1, "it's", "acme")]


@pytest.mark.parametrize(
    ("filters", "place_of_error", "kind"),
    [
        ({"words": "x", "colour": "red"}, ("colour",), "extra_forbidden"),
        ({}, ("words",), "missing"),
        ({"words": None}, ("words",), "string_type"),
        ({"words": "x", "n": "5"}, ("n",), "int_type"),
        ({"words": "x", "n": True}, ("n",), "int_type"),
        ({"words": "x", "n": 2**60}, ("n",), "less_than_equal"),
        ({"words": "x", "from": "yesterday"}, ("from",), "datetime_from_date_parsing"),
        ({"words": "x", "from": "2026-01-02", "to": "2026-01-02"}, (), "value_error"),
        ({"words": "x", "from": "0001-01-01T00:00:00+23:58", "to": "0001-01-01T00:00:00+23:59"}, (), "value_error"),
    ],
)
def test_filters_are_checked_as_the_report_declares_them(
    filters: dict[str, Any], place_of_error: tuple[str, ...], kind: str, place: Path
) -> None:
    """Filters are checked as the report declares them, and errors name the filter."""
    wanted = report(
        place,
        "--: parameter words text\n--: parameter n integer = 1\n--: parameter from timestamp = none\n"
        "--: parameter to timestamp = none\n--: range from to\nSELECT :organization, :words, :n, :from, :to",
    )
    with pytest.raises(ValidationError) as refused:
        wanted.filters.model_validate(filters)
    (error,) = refused.value.errors(include_url=False)
    assert (error["loc"], error["type"]) == (place_of_error, kind)


def test_a_time_without_a_zone_is_in_utc(place: Path) -> None:
    """A time filter without a zone is in UTC, and a date is its first moment."""
    wanted = report(place, "--: parameter at timestamp\nSELECT :at, :organization")
    assert rows(wanted, at="2026-01-02") == [(datetime(2026, 1, 2, tzinfo=UTC), "acme")]
    assert rows(wanted, at="2026-01-02T01:00:00+02:00")[0][0] == datetime(2026, 1, 1, 23, tzinfo=UTC)


def test_a_hostile_filter_is_a_value_and_no_sql(place: Path) -> None:
    """A hostile filter is bound as a value."""
    wanted = report(place, "--: parameter words text\nSELECT :words AS a, :organization AS b")
    hostile = "'; DROP TABLE jobs; -- %(organization)s :organization %s \\ \u2028"
    assert rows(wanted, words=hostile) == [(hostile, "acme")]


def test_the_jobs_report_shows_the_organizations_jobs_oldest_first(place: Path, database: Database) -> None:
    """The report `jobs` shows the organization's rows, oldest first."""
    first = add_job(database, "acme", message="one")
    add_job(database, "globex", message="canary")
    second = add_job(database, "acme", outcome="failed", message="two")
    third = add_job(database, "acme", outcome=None)
    found = columns_and_rows("jobs", "acme")
    assert [(row["id"], row["status"]) for row in found] == [
        (str(first), "succeeded"),
        (str(second), "failed"),
        (str(third), "queued"),
    ]
    assert found[0]["durationMs"] == round(1000 * (found[0]["completedAt"] - found[0]["startedAt"]).total_seconds())
    assert found[1]["errorMessage"] == "two"
    assert "canary" not in str(found)


def test_the_jobs_report_is_narrowed_by_its_filters(place: Path, database: Database) -> None:
    """The report `jobs` is narrowed by period, type and status."""
    wanted = add_job(database, "acme", job_type="sync")
    add_job(database, "acme", job_type="cleanup", outcome="failed")
    created = columns_and_rows("jobs", "acme", job_type="sync")[0]["createdAt"]
    assert [row["id"] for row in columns_and_rows("jobs", "acme", createdTo=created)] == []
    assert columns_and_rows("jobs", "acme", createdFrom=created)[0]["id"] == str(wanted)
    for word in ("failed", "error"):
        assert [row["jobType"] for row in columns_and_rows("jobs", "acme", status=word)] == ["cleanup"]
    with pytest.raises(ValidationError, match="'queued', 'running'"):
        columns_and_rows("jobs", "acme", status="finished")
    assert columns_and_rows("jobs", "acme", projectId="none") == []


def test_the_usage_report_counts_by_day_and_type(place: Path, database: Database) -> None:
    """The report `usage` counts jobs, ends and percentiles by day and type."""
    ids = [add_job(database, "acme", job_type="sync") for _ in range(3)]
    add_job(database, "acme", job_type="sync", outcome="failed")
    add_job(database, "acme", job_type="cleanup", outcome=None)
    add_job(database, "globex", job_type="sync")
    with database.begin() as connection:
        for seconds, job_id in enumerate(ids, start=1):
            statement = "UPDATE jobs SET completed_at = started_at + make_interval(secs => :s) WHERE id = :id"
            connection.execute(text(statement), {"s": seconds, "id": job_id})
        connection.execute(text("UPDATE jobs SET completed_at = started_at + interval '4 s' WHERE status = 'failed'"))
    found = columns_and_rows("usage", "acme")
    today = datetime.now(UTC).date()
    assert [tuple(row.values()) for row in found] == [
        (today, "cleanup", 1, 0, 0, 0, None, None),
        (today, "sync", 4, 3, 1, 0, 2500, 3850),
    ]
    assert columns_and_rows("usage", "acme", createdTo=today.isoformat(), createdFrom="2026-01-01") == []


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("WITH gone AS (DELETE FROM jobs RETURNING 1) SELECT :organization FROM gone", "data-modifying"),
        ("SELECT nextval('history_id_seq'), :organization", "read-only transaction"),
        ("SELECT set_config('transaction_read_only', 'off', false), :organization", "read-write mode"),
        ("SELECT 1 / 0, :organization", "division by zero"),
        ("SELECT missing FROM jobs WHERE organization_id = :organization", 'column "missing" does not exist'),
        ("SELECT 1 AS a, 2 AS b, 3 AS a, :organization", "several columns named a"),
        ("SELECT pg_sleep(30), :organization", "took longer than 2 s"),
        ("SELECT pg_sleep(0.005), :organization FROM generate_series(1, 2000)", "took longer than 2 s"),
    ],
)
def test_what_the_database_refuses_fails_with_its_reason(sql: str, reason: str, place: Path) -> None:
    """A report that the database refuses fails with one line, without its SQL."""
    with pytest.raises(ReportFailed, match=reason) as failed:
        rows(report(place, sql))
    assert "SELECT" not in str(failed.value)
    assert "\n" not in str(failed.value)


def test_a_report_sees_one_moment(place: Path, database: Database) -> None:
    """A report reads one snapshot."""
    wanted = report(place, "SELECT (SELECT count(*) FROM jobs), n, :organization FROM generate_series(1, 1500) AS n")
    with rows_of(app.platform.settings, wanted, "acme", ReportFilters()) as found:
        batches = iter(found)
        first = next(batches)
        add_job(database, "acme")
        counts = {row[0] for batch in (first, *batches) for row in batch}
    assert counts == {0}


def test_a_database_that_is_away_is_worth_another_attempt(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database of reports that is away is a ConnectionError without address or password."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("CELERIAC_REPORTS_URL", f"postgresql://u:secret@127.0.0.1:{unused.getsockname()[1]}/x")
        with workplace("postgresql://unused", place), pytest.raises(ConnectionError) as failed:
            rows(catalogue()["jobs"])
    assert str(failed.value) == "the database of the report jobs cannot be used now"


class Interrupted(Exception):
    """What a cancelled job's body gets."""


def test_an_interrupted_report_leaves_no_query_behind(place: Path, database: Database) -> None:
    """An interrupted report cancels its query on the server."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    wanted = report(place, "SELECT pg_sleep(20), :organization")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        begun = time.monotonic()
        with pytest.raises(Interrupted):
            rows(wanted)
        assert time.monotonic() - begun < 1.5
    finally:
        signal.signal(signal.SIGALRM, before)
    busy = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'celeriac report' AND datname = current_database()"
    )
    with database.autocommit() as connection:
        eventually(lambda: connection.execute(busy).scalar() == 0, within=1, what="the end of the query")
