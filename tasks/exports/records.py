"""Reading back the records of an export, one by one."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from tasks.exports.formulas import original

Record = Mapping[str, Any]


class DamagedExport(Exception):
    """The file is not as exports are written."""


@dataclass(frozen=True, slots=True)
class Records:
    """An open export: its column names (empty for json without records), and its records by iteration, once."""

    columns: tuple[str, ...]
    size: int
    _file: BinaryIO
    _records: Iterator[Record]

    def __iter__(self) -> Iterator[Record]:
        return self._records

    @property
    def read(self) -> float:
        """The share of the file that has been read, 0-1."""
        return min(1.0, self._file.tell() / self.size) if self.size else 1.0


@contextmanager
def open_records(path: Path) -> Iterator[Records]:
    """The records of a csv or json export, compressed or not."""
    with (
        path.open("rb") as stored,
        _unpacked(path, stored) as content,
        io.TextIOWrapper(content, encoding="utf-8", newline="") as file,
    ):
        records = _csv_records(file) if ".csv" in path.suffixes else _json_records(file)
        columns = next(records)
        yield Records(tuple(columns), path.stat().st_size, stored, records)


def _unpacked(path: Path, stored: BinaryIO) -> BinaryIO:
    return cast("BinaryIO", gzip.GzipFile(fileobj=stored)) if path.suffix == ".gz" else stored


def _csv_records(file: TextIO) -> Iterator[Record]:
    """First the columns, as the keys of a record without values; the values are those that the cells were made of."""
    rows = _csv_rows(file)
    columns = [str(name) for name in next(rows)]
    yield dict.fromkeys(columns)
    for row in rows:
        if len(row) != len(columns):
            raise DamagedExport(f"a record has {len(row)} fields instead of {len(columns)}")
        yield dict(zip(columns, row, strict=True))


def _csv_rows(file: TextIO) -> Iterator[list[str | None]]:
    """The rows, null told from an empty text: the csv module cannot do that before Python 3.12."""
    lines: list[str] = []
    quotes = 0
    for line in file:
        lines.append(line)
        quotes += line.count('"')
        if quotes % 2 == 0:  # else the line break is part of a field
            yield _fields("".join(lines))
            lines, quotes = [], 0
    if lines:
        raise DamagedExport('the last field has no closing "')


def _fields(line: str) -> list[str | None]:
    fields: list[str | None] = []
    position = 0
    while field := _FIELD.match(line, position):
        quoted, plain, end = field.groups()
        fields.append((plain and original(plain)) or None if quoted is None else original(quoted.replace('""', '"')))
        if end != ",":
            return fields
        position = field.end()
    raise DamagedExport("a field is not quoted as it should be")


_FIELD = re.compile(r'(?:"(?P<quoted>(?:[^"]++|"")*+)"|(?P<plain>[^",\r\n]*+))(?P<end>,|\r?\n|\Z)')


def _json_records(file: TextIO) -> Iterator[Record]:
    """First the columns, as the first record; our json has one record a line (formats.JsonWriter)."""
    lines = (line.strip().rstrip(",") for line in file)
    records = (json.loads(line) for line in lines if line.startswith("{"))
    first: Record = next(records, {})
    yield first
    if first:
        yield first
    yield from records
