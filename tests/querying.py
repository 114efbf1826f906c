"""Queries of data_processing on files of an organization's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.handlers.data_processing import ProcessData, data_processing
from tests.exporting import content as content_of
from tests.handling import call, workplace


@contextmanager
def own_files(database_url: str, directory: Path) -> Iterator[Path]:
    """The directory of exports, within which the platform's settings hold; `acme` has one in the directory of files."""
    (directory / "files" / "acme").mkdir(parents=True)
    own = {"CELERIAC_QUERY_DIR": str(directory / "files"), "CELERIAC_QUERY_TIMEOUT": "60"}
    with workplace(database_url, directory, **own) as exports:
        yield exports


def ask(
    place: Path, content: bytes, sql: str = "SELECT * FROM t", *, name: str = "t.csv", **said: Any
) -> dict[str, Any]:
    """The result of a query on one file of acme's."""
    (place.parents[1] / "files" / "acme" / name).write_bytes(content)
    form = said.pop("result", "json")
    payload = {"sql": sql, "sources": {"t": {"path": name, **said}}, "format": form}
    return call(data_processing, ProcessData.model_validate(payload))


def typed(**types: str) -> list[dict[str, str]]:
    """Types of columns, as a payload has them."""
    return [{"column": column, "type": kind} for column, kind in types.items()]


def rows(result: dict[str, Any]) -> Any:
    """The rows that a result has."""
    return json.loads(content_of(result))
