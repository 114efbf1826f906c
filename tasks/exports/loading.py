"""What the rows of a report become in Python: values where that loses nothing, else PostgreSQL's own text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader

from tasks.exports.cells import Json


def load_exactly(connection: psycopg.Connection[Any]) -> None:
    """Let this connection give every type that has no value of its own here as text: ranges, arrays, intervals ...

    So are values that Python does not have: dates before Christ, after the year 9999, and without end.
    """
    for info in list(connection.adapters.types):
        for oid in filter(None, (info.oid, info.array_oid)):
            connection.adapters.register_loader(oid, _Text)
    for name, loader in _LOADERS.items():
        connection.adapters.register_loader(name, loader)


class _Text(Loader):
    """The database's text, unchanged; a subclass converts the texts whose meaning it knows."""

    meaning: Callable[[str], Any] = str

    def load(self, data: Buffer) -> Any:
        text = bytes(data).decode()
        try:
            return type(self).meaning(text)
        except ValueError:
            return text


def _meaning(convert: Callable[[str], Any]) -> type[_Text]:
    return type(f"_{convert.__name__}", (_Text,), {"meaning": staticmethod(convert)})


def _is_true(text: str) -> bool:
    return text == "t"


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix(r"\x"))


_LOADERS = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), _meaning(int)),
    **dict.fromkeys(("float4", "float8"), _meaning(float)),
    **dict.fromkeys(("json", "jsonb"), _meaning(Json)),
    "numeric": _meaning(Decimal),
    "bool": _meaning(_is_true),
    "bytea": _meaning(_bytes),
    "date": _meaning(date.fromisoformat),
    "timestamp": _meaning(datetime.fromisoformat),
    "timestamptz": _meaning(datetime.fromisoformat),
}
