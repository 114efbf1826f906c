"""What the database holds is what an export says: every type, in every format, and through data_processing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from openpyxl.utils.escape import unescape

from tasks.exports.cells import CellTooLong
from tasks.exports.formulas import original
from tasks.handlers.data_processing import ProcessData, data_processing
from tasks.handlers.export_report import ExportReport, export_report
from tests.commands import python
from tests.exporting import file_of
from tests.handling import add_job, workplace
from tracking import acting_as
from tracking.db import Database

# An expression, and what csv (after `original`), json and xlsx have of it; None: what csv has.
VALUES: list[tuple[str, str, Any, Any]] = [
    ("32767::int2", "32767", 32767, 32767),
    ("'-9223372036854775808'::int8", "-9223372036854775808", None, None),
    ("9007199254740991", "9007199254740991", 9007199254740991, None),
    ("0.1::float8 + 0.2::float8", "0.30000000000000004", 0.1 + 0.2, 0.1 + 0.2),
    ("0.1::float4", "0.1", 0.1, 0.1),
    ("'-Infinity'::float8", "-Infinity", None, None),
    ("'NaN'::float8", "NaN", None, None),
    ("'-1e-320'::float8", "-1e-320", -1e-320, None),
    ("'-12.50'::numeric", "-12.50", -12.5, -12.5),
    ("123456789.123456789::numeric", "123456789.123456789", None, None),
    ("1234567.12345678::numeric", "1234567.12345678", 1234567.12345678, 1234567.12345678),
    ("1e-400::numeric", "0." + "0" * 399 + "1", None, None),
    ("'NaN'::numeric", "NaN", None, None),
    ("true", "true", True, True),
    ("'=1+1'::text", "=1+1", None, None),
    ("'''=1+1'::text", "'=1+1", None, None),
    ("'-7.5'::text", "-7.5", None, None),
    ("E'\\t=1\\r\\n@x'::text", "\t=1\r\n@x", None, None),
    ("E'a\\u0001_x0041_\\uffff'::text", "a\x01_x0041_\uffff", None, None),
    ("'<r>a</r>'::text", "<r>a</r>", None, None),
    ("'x  '::char(5)", "x    ", None, None),
    ("date 'infinity'", "infinity", None, None),
    ("timestamptz '-infinity'", "-infinity", None, None),
    ("date '0044-03-15 BC'", "0044-03-15 BC", None, None),
    ("date '10000-01-01'", "10000-01-01", None, None),
    ("date '1899-12-31'", "1899-12-31", None, None),
    ("timestamp '0044-03-15 12:00 BC'", "0044-03-15 12:00:00 BC", None, None),
    ("timestamptz '2026-01-02 03:04:05.678901+02'", "2026-01-02T01:04:05.678901Z", None,
     datetime(2026, 1, 2, 1, 4, 5, 678000)),  # noqa: DTZ001
    ("timestamp '9999-12-31 23:59:59.999999'", "9999-12-31T23:59:59.999999", None,
     datetime(9999, 12, 31, 23, 59, 59, 999000)),  # noqa: DTZ001
    ("time '24:00'", "24:00:00", None, None),
    ("timetz '12:00+02'", "12:00:00+02", None, None),
    ("interval '-1 mon 3 days 00:00:01.5'", "-1 mons +3 days 00:00:01.5", None, None),
    ("'{\"b\": 12345678901234567890.12, \"a\": [1.0, -2]}'::jsonb", '{"a": [1.0, -2], "b": 12345678901234567890.12}',
     {"a": [1, -2], "b": "12345678901234567890.12"}, None),
    ("'{\"a\": 1, \"a\": 2}'::json", '{"a": 1, "a": 2}', None, None),
    ("'\\x00ff'::bytea", "AP8=", None, None),
    ("ARRAY['a,b', '=1', NULL]", '{"a,b",=1,NULL}', None, None),
    ("ARRAY[-1, 2]", "{-1,2}", None, None),
    ("ROW(1, '-x', NULL)", "(1,-x,)", None, None),
    ("int4range(-5, 7)", "[-5,7)", None, None),
    ("int4multirange(int4range(1, 2), int4range(5, 7))", "{[1,2),[5,7)}", None, None),
    ("point(-1, 2)", "(-1,2)", None, None),
    ("inet '10.0.0.1/8'", "10.0.0.1/8", None, None),
    ("macaddr '08:00:2b:01:02:03'", "08:00:2b:01:02:03", None, None),
    ("B'101'", "101", None, None),
    ("'-1'::money", "-$1.00", None, None),
    ("to_tsvector('simple', 'a b')", "'a':1 'b':2", None, None),
    ("uuid '00000000-0000-0000-0000-000000000001'", "00000000-0000-0000-0000-000000000001", None, None),
    ("'queued'::name", "queued", None, None),
    ("pg_lsn '16/B374D848'", "16/B374D848", None, None),
    ("''::text", "", None, None),
]  # fmt: skip


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Iterator[Path]:
    """The directory of exports, and reports beside it."""
    columns = ", ".join(f"{value} AS c{number}" for number, (value, *_) in enumerate(VALUES))
    (tmp_path / "values.sql").write_text(f"--: report Values.\nSELECT {columns}, NULL AS none, :organization AS o")
    (tmp_path / "long.sql").write_text(
        "--: report L.\nSELECT n, repeat('=', 32767 + n / 3) AS text, :organization AS o FROM generate_series(1, 3) n"
    )
    (tmp_path / "wide.sql").write_text(
        "--: report Wide rows after narrow ones.\n--: parameter rows integer\n"
        "SELECT repeat('x', CASE WHEN n < 600 THEN 10 ELSE 1000000 END) AS text, :organization AS o"
        " FROM generate_series(1, :rows) AS n"
    )
    with workplace(database_url, tmp_path, CELERIAC_REPORTS_DIR=str(tmp_path)) as exports:
        yield exports


def export(name: str, form: str, **filters: Any) -> Path:
    """The file of an export."""
    with acting_as("acme", "u1"):
        payload = ExportReport.model_validate({"reportType": name, "format": form, "filters": filters})
        return file_of(export_report(payload))


def cells(path: Path) -> list[Any]:
    """The cells of the only record."""
    if path.suffix == ".json":
        return list(json.loads(path.read_bytes())[0].values())
    if path.suffix == ".csv":
        return list(map(original, list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))[1]))
    book = openpyxl.load_workbook(io.BytesIO(path.read_bytes()))
    values = [unescape(cell.value) if isinstance(cell.value, str) else cell.value for cell in book.worksheets[0][2]]
    book.close()
    return values


def expected(form: str) -> list[Any]:
    """What the table says of each value; an xlsx file has no empty texts."""
    if form == "csv":
        return [in_csv for _, in_csv, _, _ in VALUES]
    if form == "json":
        return [in_csv if in_json is None else in_json for _, in_csv, in_json, _ in VALUES]
    return [(in_csv or None) if in_xlsx is None else in_xlsx for _, in_csv, _, in_xlsx in VALUES]


@pytest.mark.parametrize("form", ["csv", "json", "xlsx"])
def test_every_type_comes_out_as_the_database_holds_it(form: str, place: Path) -> None:
    """Every value of every type comes out of an export as the database holds it."""
    found = dict(zip((value for value, *_ in VALUES), cells(export("values", form)), strict=False))
    assert found == dict(zip((value for value, *_ in VALUES), expected(form), strict=True))


@pytest.mark.parametrize(("source", "form"), [("csv", "csv"), ("json", "json"), ("csv", "json")])
def test_processing_keeps_every_value(source: str, form: str, place: Path, database: Database) -> None:
    """data_processing keeps every value, also null and what looks like a formula."""
    exported = export("values", source)
    name = exported.rename(place / f"{add_job(database, 'acme')}-1.{source}").name
    with acting_as("acme", "u1"):
        processed = file_of(data_processing(ProcessData.model_validate({"export": name, "format": form})))
    if source == form:
        assert processed.read_bytes() == (place / name).read_bytes()
    else:
        assert cells(processed) == [*expected("csv"), None, "acme"]


def test_a_text_too_long_for_a_cell_is_named(place: Path) -> None:
    """A text that is too long for an xlsx cell fails the export with its row and column."""
    with pytest.raises(CellTooLong, match=r"^row 3, column text: 32,768 characters .* csv or json"):
        export("long", "xlsx")
    assert export("long", "csv").stat().st_size > 3 * 32767


MEASURE = """
import sys
from tasks.handlers.export_report import ExportReport, export_report
from tests.commands import python
from tests.handling import peak_memory
from tracking import acting_as
with acting_as("acme", "u1"):
    for rows in map(int, sys.argv[1:]):
        payload = {"reportType": "wide", "format": "csv", "filters": {"rows": rows}}
        export_report(ExportReport.model_validate(payload))
        print(peak_memory())
"""


def test_long_rows_take_no_more_memory(place: Path) -> None:
    """Rows of 1 MB after short ones are read a few at a time."""
    done = python("-c", MEASURE, "599", "639")
    assert done.status == 0, done.err
    short, long = map(int, done.out.split())
    assert long - short < 20_000_000
