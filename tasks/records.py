"""Reading back the records of an export, one by one."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

Record = Mapping[str, Any]

# A text of our own csv files may be as long as the database allows; the module's limit is 128 KiB.
csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True, slots=True)
class Records:
    """An open export: its column names (empty for json without records), and its records by iteration, once."""

    columns: tuple[str, ...]
    size: int
    _file: TextIO
    _records: Iterator[Record]

    def __iter__(self) -> Iterator[Record]:
        return self._records

    @property
    def read(self) -> float:
        """The share of the file that has been read, 0-1."""
        return min(1.0, self._file.buffer.tell() / self.size) if self.size else 1.0


@contextmanager
def open_records(path: Path) -> Iterator[Records]:
    """The records of a csv or json export."""
    with path.open(encoding="utf-8", newline="") as file:
        records = _csv_records(file) if path.suffix == ".csv" else _json_records(file)
        columns = next(records)
        yield Records(tuple(columns), path.stat().st_size, file, records)


def _csv_records(file: TextIO) -> Iterator[Record]:
    """First the columns, as the keys of a record without values."""
    rows = csv.reader(file, strict=True)
    columns = next(rows)
    yield dict.fromkeys(columns)
    for row in rows:
        yield dict(zip(columns, row, strict=True))


def _json_records(file: TextIO) -> Iterator[Record]:
    """First the columns, as the first record; our json has one record a line (formats.JsonWriter)."""
    lines = (line.strip().rstrip(",") for line in file)
    records = (json.loads(line) for line in lines if line.startswith("{"))
    first: Record = next(records, {})
    yield first
    if first:
        yield first
    yield from records
