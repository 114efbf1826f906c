"""What a JSON value may be, the same at every door of the platform (design: payload limits)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tracking.errors import InvalidValue

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_PATH = 200  # characters of a place that an error names
MAX_INTEGER = 2**53  # beyond it a JavaScript client reads another number (ECMA-262, Number.MAX_SAFE_INTEGER)


def check_json(value: Any, name: str, *, max_bytes: int = MAX_BYTES) -> Any:
    """`value` unchanged when it is JSON within the limits. Raises InvalidValue, which names the place.

    Sizes are of the UTF-8 text without white space.
    """
    _check(value, name, MAX_DEPTH)
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > max_bytes:
        raise InvalidValue(f"{name} is {size} bytes of JSON; at most {max_bytes} are allowed")
    return value


def check_text(value: str, name: str) -> str:
    """`value` unchanged when PostgreSQL and UTF-8 can hold it. Raises InvalidValue."""
    if "\x00" in value:
        raise InvalidValue(f"{name} contains a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidValue(f"{name} contains a lone surrogate") from None
    return value


def bounded(text: str, max_bytes: int) -> str:
    """`text` made storable: no NUL, no lone surrogates, and cut in the middle to `max_bytes` of UTF-8."""
    data = text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace")
    if len(data) <= max_bytes:
        return data.decode()
    mark = b"\n... cut ...\n"
    half = max(0, (max_bytes - len(mark)) // 2)
    return (data[:half] + mark + data[len(data) - half :])[:max_bytes].decode(errors="ignore")


def _check(value: Any, path: str, depth: int) -> None:
    if isinstance(value, Mapping | list | tuple):
        if depth == 0:
            raise InvalidValue(f"{path} is nested deeper than {MAX_DEPTH} levels")
        for place, item in _items(value, path):
            _check(item, place[:MAX_PATH], depth - 1)
    else:
        _check_scalar(value, path)


def _check_scalar(value: Any, path: str) -> None:
    if isinstance(value, str):
        check_text(value, path)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValue(f"{path} is not a finite number")
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise InvalidValue(f"{path} is an integer beyond ±2^53")
    elif value is not None:
        raise InvalidValue(f"{path} is not JSON: {type(value).__name__}")


def _items(value: Mapping[Any, Any] | Sequence[Any], path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield from ((f"{path}[{index}]", item) for index, item in enumerate(value))
        return
    for key, item in value.items():
        if not isinstance(key, str):
            raise InvalidValue(f"{path} has a key that is not text: {key!r}")
        yield f"{path}.{check_text(key, f'a key of {path}')}", item
