"""Parquet files: columns with types in which every digit fits, written in groups of rows that fit in memory.

The rows are kept on the disk until all are there: how many digits a numeric column needs shows only then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above

from tasks.exports.batches import BYTES, weight
from tasks.exports.cells import text_cell
from tasks.exports.spool import Spool

Row = Sequence[Any]

GROUP_ROWS = 50_000  # of a row group, which is put together in memory,
GROUP_BYTES = 32 * 1024 * 1024  # of its texts, about
MOST_DIGITS = 38  # of a decimal that all readers take; there are longer ones, of which few know
TEXT = "text"

# PostgreSQL's types that Parquet has as well, and what a value of each is in Python; all others are text.
TYPES: dict[str, type] = {
    "bool": bool,
    "int2": int,
    "int4": int,
    "int8": int,
    "oid": int,
    "float4": float,
    "float8": float,
    "numeric": Decimal,
    "date": date,
    "timestamp": datetime,
    "timestamptz": datetime,
    "bytea": bytes,
}


class ParquetWriter:
    """Columns of these names and types, compressed by Zstandard. Null is null, an empty text is one."""

    def __init__(
        self, file: BinaryIO, columns: Sequence[str], directory: Path | None = None, types: Sequence[str] = ()
    ) -> None:
        if directory is None:
            raise ValueError("a Parquet file needs a directory for its rows until their types are known")
        self._file = file
        self._columns = [
            _column(name, kind) for name, kind in zip(columns, types or [TEXT] * len(columns), strict=True)
        ]
        self._kept = Spool(directory)
        self._held: list[Row] = []
        self._size = 0

    def write(self, rows: Iterable[Row]) -> None:
        for row in rows:
            for column, value in zip(self._columns, row, strict=True):
                column.take(value)
            self._held.append(row)
            self._size += weight(row)
            if self._size >= BYTES or len(self._held) == GROUP_ROWS:
                self._keep()

    def finish(self) -> None:
        """Write the file: only now every value is known."""
        self._keep()
        fields = [pa.field(column.name, column.arrow()) for column in self._columns]
        schema = pa.schema(fields)
        with pq.ParquetWriter(self._file, schema, compression="zstd", store_schema=False) as writer:
            for rows in _groups(self._kept.batches()):
                values = zip(*rows, strict=True) if rows else [()] * len(fields)
                arrays = [
                    pa.array(map(column.value, column_values), field.type)
                    for column, column_values, field in zip(self._columns, values, fields, strict=True)
                ]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=GROUP_ROWS)

    def close(self) -> None:
        self._kept.close()

    def _keep(self) -> None:
        if self._held:
            self._kept.write(self._held)
        self._held, self._size = [], 0


def _groups(batches: Iterable[Sequence[Row]]) -> Iterable[list[Row]]:
    group: list[Row] = []
    size = 0
    for batch in batches:
        group += batch
        size += sum(map(weight, batch))
        if size >= GROUP_BYTES or len(group) >= GROUP_ROWS:
            yield group
            group, size = [], 0
    if group:
        yield group


@dataclass(slots=True)
class _Column:
    """A column: its type in PostgreSQL, and what its values need so that each of them fits."""

    name: str
    kind: str
    digits: int = 1  # before the point
    scale: int = 0

    def take(self, value: Any) -> None:
        """Look at a value; one that does not fit makes the column one of texts."""
        if value is None or self.kind == TEXT:
            return
        if type(value) is not TYPES[self.kind]:  # a date before Christ is a text already
            self.kind = TEXT
        elif isinstance(value, Decimal):
            parts = value.as_tuple()
            if not isinstance(parts.exponent, int):  # NaN, Infinity
                self.kind = TEXT
                return
            self.digits = max(self.digits, len(parts.digits) + parts.exponent)
            self.scale = max(self.scale, -parts.exponent)
            if self.digits + self.scale > MOST_DIGITS:
                self.kind = TEXT

    def value(self, value: Any) -> Any:
        """A value as the column holds it."""
        if self.kind == TEXT:
            return text_cell(value)
        if isinstance(value, datetime) and value.tzinfo:
            return value.astimezone(UTC)
        return value

    def arrow(self) -> pa.DataType:
        """The column's type in the file."""
        if self.kind == "numeric":
            return pa.decimal128(MOST_DIGITS, self.scale)
        return {
            TEXT: pa.string(),
            "bool": pa.bool_(),
            "int2": pa.int16(),
            "int4": pa.int32(),
            "int8": pa.int64(),
            "oid": pa.uint32(),
            "float4": pa.float32(),
            "float8": pa.float64(),
            "date": pa.date32(),
            "timestamp": pa.timestamp("us"),
            "timestamptz": pa.timestamp("us", tz="UTC"),
            "bytea": pa.binary(),
        }[self.kind]


def _column(name: str, kind: str) -> _Column:
    """A column, of a numeric one the digits that the database has declared."""
    declared = re.fullmatch(r"numeric\((\d+),(-?\d+)\)", kind)
    if declared is None:
        return _Column(name, kind if kind in TYPES else TEXT)
    precision, scale = int(declared[1]), max(0, int(declared[2]))
    if precision > MOST_DIGITS:
        return _Column(name, "numeric")
    return _Column(name, "numeric", digits=max(1, precision - scale), scale=scale)
