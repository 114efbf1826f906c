"""Public tables in PostgreSQL are exported and read back cell by cell: nothing differs but what is documented.

What a cell must be is said here from PostgreSQL's own text of it and from docs/exports.md, not by what writes it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import psycopg
import pytest
from openpyxl.utils.escape import unescape
from psycopg import sql
from sqlalchemy import make_url

from tasks.exports.formulas import original
from tasks.handlers.export_report import ExportReport, export_report
from tests.exporting import file_of
from tests.handling import workplace
from tests.servers import Servers, new_database
from tracking import acting_as

PACKAGES = ("great_tables", "airportsdata")
CELLS = 12_000  # of one table: of a longer one every so many-th row is taken
SIGNS = re.compile("[=+\\-@\t\r\n\u2212\uff1d\uff0b\uff0d\uff20]")  # without one of them no text is a formula

# What a column may be, by what all of its texts look like; the first that fits is taken.
TYPES = (
    ("bigint", re.compile(r"-?(0|[1-9]\d{0,17})")),
    ("numeric", re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")),
    ("double precision", re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")),
    ("boolean", re.compile(r"TRUE|FALSE")),
    ("date", re.compile(r"\d{4}-\d\d-\d\d")),
    ("timestamp", re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")),
    ("time", re.compile(r"\d\d:\d\d(:\d\d)?")),
    ("text", re.compile(r".*", re.DOTALL)),
)


def _files() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        specification = find_spec(package)
        assert specification is not None
        assert specification.origin is not None
        for path in sorted(Path(specification.origin).parent.rglob("*.csv")):
            found[f"{package}_{re.sub('[^a-z]+', '_', path.stem.lower()).strip('_')}"] = path
    return found


FILES = _files()

Same = Callable[[str, str | None, Any], bool]  # of a type, PostgreSQL's text and a cell


@dataclass(frozen=True)
class Table:
    """A public table: the names and types of its columns, and its rows as PostgreSQL's texts; None for null."""

    columns: Sequence[str]
    types: Sequence[str]
    rows: Sequence[Sequence[str | None]]


@pytest.fixture(scope="module")
def tables(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Table]]:
    """All of them, in a database with a report for each."""
    directory = tmp_path_factory.mktemp("tables")
    with new_database(servers) as url:
        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            loaded = {name: _load(connection, name, path) for name, path in FILES.items()}
        for name, table in loaded.items():
            columns = ", ".join(f'"{column}"' for column in table.columns)
            report = f"--: report {name}.\nSELECT {columns} FROM {name} WHERE :organization <> '' ORDER BY {name}.nr_"
            (directory / f"{name}.sql").write_text(report)
        with workplace(url, directory, CELERIAC_REPORTS_DIR=str(directory)):
            yield loaded


def _load(connection: psycopg.Connection[Any], name: str, path: Path) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        columns, *rows = csv.reader(file)
    step = -(-len(rows) * len(columns) // CELLS)
    # In one of the packages an empty text is one, and stands for nothing in the other.
    nothing = None if path.parent.name == "data" else ""
    texts = [[cell or nothing for cell in row] for row in rows[::step]]
    types = [_type(column) for column in zip(*texts, strict=True)]
    fields = [
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind))
        for column, kind in zip(columns, types, strict=True)
    ]
    table = sql.Identifier(name)
    connection.execute(sql.SQL("CREATE TABLE {} (nr_ serial, {})").format(table, sql.SQL(", ").join(fields)))
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    with connection.cursor().copy(sql.SQL("COPY {} ({}) FROM STDIN").format(table, names)) as copy:
        for row in texts:
            copy.write_row(row)
    as_text = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns)
    held = connection.execute(sql.SQL("SELECT {} FROM {} ORDER BY nr_").format(as_text, table)).fetchall()
    return Table(columns, types, held)


def _type(texts: Sequence[str | None]) -> str:
    given = [text for text in texts if text is not None]
    return next(name for name, form in TYPES if all(map(form.fullmatch, given))) if given else "text"


def _export(name: str, form: str) -> Path:
    with acting_as("acme", "u1"):
        return file_of(export_report(ExportReport.model_validate({"reportType": name, "format": form})))


def _differences(table: Table, found: Sequence[Sequence[Any]], same: Same) -> list[Any]:
    """Where and how cells differ, at most ten."""
    assert len(found) == len(table.rows)
    return [
        (number, column, text, cell)
        for number, (row, held) in enumerate(zip(found, table.rows, strict=True))
        for column, kind, text, cell in zip(table.columns, table.types, held, row, strict=True)
        if not same(kind, text, cell)
    ][:10]


def _read_by_duckdb(query: str) -> tuple[list[str], list[Any]]:
    with duckdb.connect() as connection:
        done = connection.execute(query)
        return [column[0] for column in done.description or ()], done.fetchall()


@pytest.mark.parametrize("name", FILES)
def test_a_csv_file_holds_every_cell(name: str, tables: dict[str, Table]) -> None:
    """Python's csv and DuckDB read every cell of a csv export as the database holds it."""
    path, table = _export(name, "csv"), tables[name]
    header, *rows = csv.reader(io.StringIO(path.read_bytes().decode(), newline=""))
    assert header == list(table.columns)
    assert _differences(table, rows, lambda kind, text, cell: _same_field(kind, text or "", cell)) == []
    names, read = _read_by_duckdb(f"SELECT * FROM read_csv('{path}', {AS_TEXTS})")  # noqa: S608 - a path of ours
    assert names == header
    assert _differences(table, read, _same_field) == []


# DuckDB guesses otherwise; a cell of 1 MB is no mistake, and a quoted empty text is not null.
AS_TEXTS = (
    "header = true, all_varchar = true, delim = ',', quote = '\"', escape = '\"', new_line = '\\r\\n',"
    " allow_quoted_nulls = false, max_line_size = 4000000"
)


def _same_field(kind: str, text: str | None, cell: str | None) -> bool:
    if text is None or cell is None:
        return text is cell
    if kind == "text":
        has_apostrophes = cell != text
        return original(cell) == text and (not has_apostrophes or _is_marked(text, cell))
    if text and kind == "timestamp":
        return datetime.fromisoformat(cell) == datetime.fromisoformat(text)
    return float(cell) == float(text) if text and kind == "double precision" else cell == text


def _is_marked(text: str, cell: str) -> bool:
    """Whether nothing but apostrophes was added, to a text that has a sign of a formula."""
    return SIGNS.search(text) is not None and cell.replace("'", "") == text.replace("'", "")


@pytest.mark.parametrize("name", FILES)
def test_a_json_file_holds_every_cell(name: str, tables: dict[str, Table]) -> None:
    """Python's json and DuckDB read every cell of a json export as the database holds it."""
    path, table = _export(name, "json"), tables[name]
    records = json.loads(path.read_bytes())
    assert all(list(record) == list(table.columns) for record in records)
    assert _differences(table, [list(record.values()) for record in records], _same_value) == []
    columns = ", ".join(f"\"{column}\": 'VARCHAR'" for column in table.columns)
    _, read = _read_by_duckdb(f"SELECT * FROM read_json('{path}', format = 'array', columns = {{{columns}}})")  # noqa: S608
    assert _differences(table, read, _same_digits) == []


def _same_value(kind: str, text: str | None, value: Any) -> bool:
    if text is None or kind in ("text", "date", "time"):
        return bool(value == text)
    if kind == "boolean":
        return value is (text == "true")
    if kind == "timestamp":
        return datetime.fromisoformat(value) == datetime.fromisoformat(text)
    if kind == "double precision":
        return float(value) == float(text)
    if isinstance(value, str):  # a double would not hold it
        return value == text and Decimal(repr(float(text))) != Decimal(text)
    return Decimal(repr(value)) == Decimal(text)


def _same_digits(kind: str, text: str | None, cell: str | None) -> bool:
    if text is None or cell is None or kind in ("text", "date", "time", "boolean", "timestamp"):
        return _same_field("", text, cell) if kind != "timestamp" else _same_field(kind, text, cell)
    return float(cell) == float(text) if kind == "double precision" else Decimal(cell) == Decimal(text)


@pytest.mark.parametrize("name", FILES)
def test_an_xlsx_file_holds_every_cell(name: str, tables: dict[str, Table]) -> None:
    """Openpyxl reads every cell of an xlsx export as the database holds it, or as documented."""
    path, table = _export(name, "xlsx"), tables[name]
    book = openpyxl.load_workbook(io.BytesIO(path.read_bytes()), read_only=True)
    header, *rows = book.worksheets[0].iter_rows(values_only=True)
    book.close()
    assert [str(column) for column in header] == list(table.columns)
    assert _differences(table, rows, _same_cell) == []


def _same_cell(kind: str, text: str | None, cell: Any) -> bool:
    if not text:
        return cell is None
    if kind == "boolean":
        return cell is (text == "true")
    if kind in ("date", "timestamp"):
        moment = datetime.fromisoformat(text)
        return bool(cell == (text if moment.date() < date(1900, 3, 1) else moment))
    if kind in ("text", "time"):
        return unescape(cell) == text if isinstance(cell, str) else False
    if isinstance(cell, str):  # Excel keeps fifteen digits, of numbers neither very large nor very small
        return cell == text and (len(text.strip("-0.").replace(".", "")) > 15 or not 1e-307 < abs(float(text)) < 1e15)
    return float(cell) == float(text) if kind == "double precision" else Decimal(repr(cell)) == Decimal(text)


def test_there_are_twenty_tables_and_every_type(tables: dict[str, Table]) -> None:
    """The tests of exports use twenty public tables and every type."""
    assert len(tables) >= 20
    assert {kind for table in tables.values() for kind in table.types} == {kind for kind, _ in TYPES}
    texts = "".join(text or "" for table in tables.values() for row in table.rows for text in row)
    assert {"=", "-", "+", "@", "'", '"', "é", "中", "ع"} <= set(texts)
