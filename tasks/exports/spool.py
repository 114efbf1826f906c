"""A temporary file for the rows between two steps, so that any number of them fits."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Spool:
    """Batches of rows in a file without a name: first all are written, then they are read from the beginning."""

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed by __exit__
        self.rows = 0

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        pickle.dump(rows, self._file, pickle.HIGHEST_PROTOCOL)
        self.rows += len(rows)

    def batches(self) -> Iterator[Sequence[Sequence[Any]]]:
        """All batches, in the order of writing."""
        left = self.rows
        self._file.seek(0)
        while left:
            batch = pickle.load(self._file)  # noqa: S301 - only we can have written it: the file never had a name
            left -= len(batch)
            yield batch

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
