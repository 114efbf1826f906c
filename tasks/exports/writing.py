"""What a writer of a file format is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol


class FileTooLarge(Exception):
    """The report does not fit in a file of this format; csv and json have no limit."""


class Writer(Protocol):
    """A file being written: rows of cells, then `finish`; `close` in any case. The file object stays open."""

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """Append rows; their cells are what the format's `cell` made of the values."""

    def finish(self) -> None:
        """Write the end of the file: it is complete now."""

    def close(self) -> None:
        """Let go of what writing took, whether the file is complete or not."""


class CellWriter(Protocol):
    """Makes a writer of the file (binary, seekable unless the format takes gzip) and the names of its columns.

    `directory` is for temporary files. `types` are the columns' types in the database; without them all is text to
    the formats that have types of columns.
    """

    def __call__(self, file: BinaryIO, columns: Sequence[str], directory: Path, types: Sequence[str] = (), /) -> Writer:
        """A new writer."""
