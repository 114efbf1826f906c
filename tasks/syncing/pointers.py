"""JSON with every digit, and places in it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

LARGEST_EXPONENT = 1000  # of a number; PostgreSQL has more, which nobody means
NOTHING = object()


def parsed(text: str) -> Any:
    """A JSON value whose fractions are decimals. Raises ValueError, also for NaN and infinities."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refused)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def written(value: Any) -> str:
    """The JSON of a value that `parsed` has given, with the same digits. Raises ValueError for what no table holds."""
    match value:
        case dict():
            text = "{" + ",".join(f"{written(str(key))}:{written(each)}" for key, each in value.items()) + "}"
        case list():
            text = "[" + ",".join(map(written, value)) + "]"
        case Decimal():
            if abs(value.adjusted()) > LARGEST_EXPONENT:
                raise ValueError(f"the number {str(value)[:40]} is beyond all measure")
            text = str(value)
        case str():
            if "\x00" in value:
                raise ValueError("a text holds a NUL character")
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("a text holds half a character (a lone surrogate)") from None
            text = json.dumps(value, ensure_ascii=False)
        case _:
            text = json.dumps(value)
    return text


def pointed(value: Any, pointer: str) -> Any:
    """What a JSON Pointer (RFC 6901) leads to; NOTHING when that is nowhere."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return NOTHING
    return value


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
