"""The file formats of exports: csv, json, xlsx and parquet, each written row by row in constant memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

import xlsxwriter  # type: ignore[import-untyped]  # it has no types
from xlsxwriter.exceptions import FileSizeError  # type: ignore[import-untyped]  # as above
from xlsxwriter.worksheet import Worksheet  # type: ignore[import-untyped]  # as above

from tasks.exports.cells import CellTooLong, csv_cell, exact_cell, json_cell, xlsx_cell
from tasks.exports.formulas import neutral, runs
from tasks.exports.writing import CellWriter, FileTooLarge, Writer

FormatName = Literal["csv", "json", "xlsx", "parquet"]
GZIP = ".gz"  # after the name of a format
COMPRESSED = "application/gzip"
XLSX_ROWS = 1_048_576  # of one sheet, the line of column names included (Excel specifications and limits)


@dataclass(frozen=True, slots=True)
class Format:
    """A file format: `cell` makes a database value fit for its writer; `gzip`: the file gets smaller by that."""

    media_type: str
    cell: Callable[[Any], Any]
    writer: CellWriter
    gzip: bool


class CsvWriter:
    """RFC 4180: comma, CRLF, quotes where needed, one line of column names, UTF-8 without a byte order mark.

    An empty text is quoted and null is not, as in PostgreSQL's COPY.
    """

    def __init__(self, file: BinaryIO, columns: Sequence[str], *_: Any) -> None:
        self._file = file
        self.write([[neutral(column) for column in columns]])

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        self._file.writelines(_line(row) for row in rows)

    def finish(self) -> None:
        """The last line is the end of the file."""

    def close(self) -> None:
        """Do nothing: this writer holds nothing but the file."""


def _line(row: Sequence[str | None]) -> bytes:
    # A line of nothing would be no record for most readers: null in the only column looks like an empty text.
    return (",".join(map(_field, row)) or '""').encode() + b"\r\n"


def _field(text: str | None) -> str:
    if text is None:
        return ""
    return text if text and not _QUOTED.search(text) else '"' + text.replace('"', '""') + '"'


_QUOTED = re.compile(r'[",\r\n]')


class JsonWriter:
    """An array with one object a line, its keys the column names."""

    def __init__(self, file: BinaryIO, columns: Sequence[str], *_: Any) -> None:
        self._file = file
        self._columns = columns
        self._before = b"[\n"

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        for row in rows:
            line = json.dumps(dict(zip(self._columns, row, strict=True)), ensure_ascii=False, separators=(",", ":"))
            self._file.write(self._before + line.encode())
            self._before = b",\n"

    def finish(self) -> None:
        self._file.write(b"[]\n" if self._before == b"[\n" else b"\n]\n")

    def close(self) -> None:
        """Do nothing: this writer holds nothing but the file."""


class XlsxWriter:
    """A workbook with a bold, frozen line of column names; a full sheet is followed by another one."""

    def __init__(
        self,
        file: BinaryIO,
        columns: Sequence[str],
        directory: Path | None = None,
        _types: Sequence[str] = (),
        *,
        sheet_rows: int = XLSX_ROWS,
    ) -> None:
        # A text stays a text: nothing becomes a formula, a link or a number. The quote
        # prefix keeps it one when somebody edits the cell.
        plain = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
        temporary = str(directory) if directory else None
        self._book = xlsxwriter.Workbook(file, {"constant_memory": True, "tmpdir": temporary, **plain})
        self._bold = self._book.add_format({"bold": True})
        self._moment = self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss.000"})
        self._day = self._book.add_format({"num_format": "yyyy-mm-dd"})
        self._quoted = self._book.add_format({"quote_prefix": True})
        self._columns = columns
        self._sheet_rows = sheet_rows
        self._sheets = 0
        self._begin_sheet()

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        for row in rows:
            if self._row == self._sheet_rows:
                self._begin_sheet()
            for column, cell in enumerate(row):
                self._write_cell(column, cell)
            self._row += 1

    def finish(self) -> None:
        """Put the workbook together. Raises FileTooLarge."""
        try:
            self._book.close()
        except FileSizeError:
            raise FileTooLarge from None

    def close(self) -> None:
        """Close the temporary file of each sheet, which XlsxWriter does only when it puts the workbook together."""
        for sheet in self._book.worksheets():
            sheet.row_data_fh.close()

    def _begin_sheet(self) -> None:
        self._sheets += 1
        name = "Report" if self._sheets == 1 else f"Report {self._sheets}"
        self._sheet = self._book.add_worksheet(name, worksheet_class=_ExactSheet)
        self._sheet.freeze_panes(1, 0)
        self._sheet.set_column(0, len(self._columns) - 1, width=20)
        for column, name in enumerate(self._columns):
            self._sheet.write_string(0, column, name, self._bold)
        self._row = 1

    def _write_cell(self, column: int, cell: str | float | bool | date | None) -> None:  # noqa: FBT001 - a cell's value
        match cell:
            case None | "":
                pass
            case str():
                if self._sheet.write_string(self._row, column, cell, self._quoted if runs(cell) else None):
                    raise CellTooLong  # XlsxWriter has cut it, and says so by its result alone
            case bool():
                self._sheet.write_boolean(self._row, column, cell)
            case datetime():
                self._sheet.write_datetime(self._row, column, cell, self._moment)
            case date():
                self._sheet.write_datetime(self._row, column, cell, self._day)
            case _:
                self._sheet.write_number(self._row, column, cell)


class _ExactSheet(Worksheet):  # type: ignore[misc]  # its base has no types
    """A sheet that writes every digit of a double and every character of a text."""

    def _xml_number_element(self, number: float, attributes: Iterable[tuple[str, Any]] = ()) -> None:
        # XlsxWriter writes 16 digits; it takes 17 to give a double back.
        names = "".join(f' {key}="{value}"' for key, value in attributes)
        self.fh.write(f"<c{names}><v>{number!r}</v></c>")

    def _xml_inline_string(self, string: str, preserve: bool, attributes: Any = ()) -> None:  # noqa: FBT001 - its signature
        # XML has none of these two (XML 1.0, 2.2), and Excel refuses the file; its own escape does for them too.
        escaped = string.replace("\ufffe", "_xFFFE_").replace("\uffff", "_xFFFF_")
        super()._xml_inline_string(escaped, preserve, attributes)

    def _xml_rich_inline_string(self, string: str, attributes: Any = ()) -> None:
        # A text between <r> and </r>, which XlsxWriter takes for markup of its own.
        self._xml_inline_string(string, preserve=True, attributes=attributes)


def _parquet(file: BinaryIO, columns: Sequence[str], directory: Path, types: Sequence[str] = (), /) -> Writer:
    from tasks.exports.parquet import ParquetWriter  # noqa: PLC0415 - its library is an extra

    return ParquetWriter(file, columns, directory, types)


FORMATS: Mapping[str, Format] = {
    "csv": Format("text/csv; charset=utf-8", csv_cell, CsvWriter, gzip=True),
    "json": Format("application/json", json_cell, JsonWriter, gzip=True),
    "xlsx": Format(
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", xlsx_cell, XlsxWriter, gzip=False
    ),
    "parquet": Format("application/vnd.apache.parquet", exact_cell, _parquet, gzip=False),
}
