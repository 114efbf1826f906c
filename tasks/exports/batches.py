"""Rows in batches that fit in memory, however long a row is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

Row = TypeVar("Row", bound=Sequence[Any])

ROWS = 500
BYTES = 4 * 1024 * 1024  # a batch ends with the row that reaches it


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows in order, at most ROWS in a batch; a batch ends with the row that brings it to BYTES."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += weight(row)
        if len(batch) == ROWS or size >= BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def weight(row: Sequence[Any]) -> int:
    """About how many bytes a row takes in memory: those of its texts, since all other values are small."""
    return sum(len(value) for value in row if isinstance(value, str | bytes))
