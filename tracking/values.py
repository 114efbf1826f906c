"""What a value may be, the same at every door of the platform (design: payload limits).

`check_*` refuse what a caller sends; `storable_*` and `bounded` make what a handler reports fit, and never fail.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Annotated, Any
from uuid import UUID

from pydantic import PlainSerializer, WithJsonSchema

from tracking.errors import InvalidValue

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_PATH = 200  # characters of a place that an error names
MAX_INTEGER = 2**53  # beyond it a JavaScript client reads another number (ECMA-262, Number.MAX_SAFE_INTEGER)
LONGEST_INTEGER = len(str(MAX_INTEGER))
MAX_NAME = 255  # bytes of a name in a message (AMQP 0-9-1, 4.2.5.3: short strings)
MAX_HEADERS = 32 * 1024  # bytes; RabbitMQ takes all headers in one frame of 128 KiB
KEY = re.compile("(?! )[ -~]{1,255}(?<! )")  # of a request that is repeated, in a header
KEYS = "1 to 255 printable ASCII characters, and no space around them"
DETAIL_BYTES = 64 * 1024
MESSAGE_BYTES = 4 * 1024
MOST_DEPENDENCIES = 100
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(3000, 1, 1, tzinfo=UTC)
LONGEST = timedelta(days=365 * 100)
MAX_STEPS = 2**31 - 1  # PostgreSQL's integer
SCALARS = frozenset({str, int, float, bool, type(None)})
CONTAINERS = frozenset({dict, list, tuple})
LONG_NUMBER = re.compile("[0-9]{16}")  # perhaps an integer beyond the limits
# A number that PostgreSQL keeps, and writes, with hundreds of digits: 1e300; in a text it is no number.
MANY_DIGITS = rb"(?<=[\[,:])-?[0-9](?:\.[0-9]+)?e[+-]([0-9]{3})(?=[\],}])"
PERHAPS_MANY_DIGITS = re.compile(MANY_DIGITS)
TEXT_OR_MANY_DIGITS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|' + MANY_DIGITS)
TOO_DEEP = "... too deep ..."
CUT = "... cut ..."


def in_milliseconds(moment: datetime) -> str:
    """A time as every answer and file says it: `2026-01-31T12:00:00.000Z`. A naive one is of the local zone."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Instant = Annotated[
    datetime,
    PlainSerializer(in_milliseconds, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


def check_json(value: Any, name: str, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """`value` unchanged when it is JSON within the limits. Raises InvalidValue, which names the place.

    Sizes are of the UTF-8 text without white space, and with the digits that 1e300 has where it is kept.
    """
    data = _plain(value, max_depth)
    if data is None:
        _check(value, name, max_depth, max_depth)
        data = _text(value).encode()
    size = _size(data)
    if size > max_bytes:
        raise InvalidValue(f"{name} is {size} bytes of JSON; at most {max_bytes} are allowed")
    return value


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object that JSON has. A ValueError for two things of one name: parsers differ in which of them counts."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise ValueError(f"an object has the key {twice[:100]!r} twice")
    return made


def read_json(data: bytes | str) -> Any:
    """What the database has of a JSON value: 1e300 comes back from it as an integer of 301 digits, and is a float."""
    text = data if isinstance(data, str) else data.decode()
    return json.loads(text) if LONG_NUMBER.search(text) is None else _WITH_LONG_NUMBERS.decode(text)


def check_text(value: str, name: str) -> str:
    """`value` unchanged when PostgreSQL and UTF-8 can hold it. Raises InvalidValue."""
    if "\x00" in value:
        raise InvalidValue(f"{name} contains a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidValue(f"{name} contains a lone surrogate") from None
    return value


def check_name(value: Any, name: str, *, max_bytes: int = MAX_NAME) -> str:
    """`value` unchanged when it is text that fits into a message's short string. Raises InvalidValue."""
    if not isinstance(value, str) or not value:
        raise InvalidValue(f"{name} must be text and not empty: {type(value).__name__}")
    size = len(check_text(value, name).encode())
    if size > max_bytes:
        raise InvalidValue(f"{name} is {size} bytes long; at most {max_bytes} are allowed")
    return value


def check_headers(value: Any, name: str, reserved: AbstractSet[str]) -> dict[str, Any]:
    """The headers of a message, none of whose names is `reserved`. Raises InvalidValue."""
    if not isinstance(value, Mapping):
        raise InvalidValue(f"{name} must be a mapping: {type(value).__name__}")
    for key in value:
        check_name(key, f"a name in {name}")
        if key in reserved:
            raise InvalidValue(f"{name} must not set {key!r}: the platform or Celery does")
    checked: dict[str, Any] = check_json(dict(value), name, max_bytes=MAX_HEADERS)
    _check_inner_names(checked, name)
    return checked


def check_moment(value: Any, name: str) -> datetime:
    """A point in time, from a datetime or ISO 8601 text; without a zone it is UTC. Raises InvalidValue."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            raise InvalidValue(f"{name} must be a datetime: {type(value).__name__}")
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidValue(f"{name} is no time that can be kept: {str(value)[:MAX_PATH]!a}") from None
    if not EARLIEST <= moment < LATEST:
        raise InvalidValue(f"{name} must lie between the years {EARLIEST.year} and {LATEST.year - 1}: {moment.year}")
    return moment


def check_seconds(value: Any, name: str) -> timedelta:
    """A span of time from a number of seconds; negative ones are allowed. Raises InvalidValue."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise InvalidValue(f"{name} must be a number of seconds: {type(value).__name__}")
    try:
        seconds = float(value)
    except (OverflowError, ValueError):
        seconds = math.inf
    if not abs(seconds) <= LONGEST.total_seconds():  # NaN is not
        raise InvalidValue(f"{name} must be within ±{LONGEST.days // 365} years, in seconds")
    return timedelta(seconds=seconds)


def storable_json(value: Any, *, max_bytes: int = DETAIL_BYTES) -> Any:
    """`value` itself when it is JSON within the limits, else what JSON can say of it, cut where it is too much."""
    try:
        return check_json(value, "value", max_bytes=max_bytes)
    except Exception:  # noqa: BLE001 - whatever the methods of a strange object raise
        made = _made_json(value, MAX_DEPTH, _Room(max_bytes))
    text = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    return made if _size(text.encode()) <= max_bytes else bounded(text, max(0, max_bytes // 2 - 2))


def storable_text(value: Any, max_bytes: int = MESSAGE_BYTES) -> str:
    """`value` as text that can be stored, at most `max_bytes` of UTF-8."""
    if isinstance(value, bytes | bytearray):
        value = bytes(value[:max_bytes]).decode(errors="replace")
    try:
        return bounded(str(value), max_bytes)
    except BaseException:  # noqa: BLE001 - whatever a strange __str__ raises, KeyboardInterrupt as well
        return bounded(f"<{type(value).__name__}>", max_bytes)


def storable_count(value: Any) -> int | None:
    """`value` as a whole number that a column can hold; None for what is no number."""
    try:
        return int(max(0, min(MAX_STEPS, math.floor(value))))
    except OverflowError:
        return MAX_STEPS if value > 0 else 0
    except Exception:  # noqa: BLE001 - NaN, text, whatever a strange number raises
        return None


def check_segment(value: str, name: str) -> str:
    """`value` unchanged when it can be a segment of a URL's path. Raises InvalidValue."""
    if not isinstance(value, str) or not value:
        raise InvalidValue(f"{name} must be text: {value!r}")
    if "/" in value or value in (".", ".."):
        raise InvalidValue(f"{name} stands in the paths of URLs and cannot be {value!r}: it has a '/' or is all dots")
    return check_text(value, name)


def bounded(text: str, max_bytes: int) -> str:
    """`text` made storable: no NUL, no lone surrogates, and cut in the middle to `max_bytes` of UTF-8."""
    data = text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace")
    if len(data) <= max_bytes:
        return data.decode()
    mark = b"\n... cut ...\n"
    half = max(0, (max_bytes - len(mark)) // 2)
    return (data[:half] + mark + data[len(data) - half :])[:max_bytes].decode(errors="ignore")


def _plain(value: Any, max_depth: int) -> bytes | None:
    """The JSON text of a valid value, found by C code alone; None when the value needs a closer look."""
    try:
        text = _text(value, allow_nan=False)
        data = text.encode()
    except (TypeError, ValueError, RecursionError):
        return None
    is_sound = "\\u0000" not in text and LONG_NUMBER.search(text) is None
    return data if is_sound and type(value) in CONTAINERS and _is_shallow(value, max_depth) else None


def _size(data: bytes) -> int:
    if PERHAPS_MANY_DIGITS.search(data) is None:
        return len(data)
    return len(data) + sum(int(digits) for digits in TEXT_OR_MANY_DIGITS.findall(data) if digits)


def _integer(digits: str) -> int | float:
    """From 1e16 on a float is sent with an exponent; an integer that no float has is from somewhere else, and stays."""
    return (
        float(digits)
        if len(digits) > LONGEST_INTEGER and f"{Decimal(repr(float(digits))):f}" == digits
        else int(digits)
    )


_WITH_LONG_NUMBERS = json.JSONDecoder(parse_int=_integer)


def _text(value: Any, *, allow_nan: bool = True) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=allow_nan, separators=(",", ":"))


def _is_shallow(value: Any, depth: int) -> bool:
    """Whether all keys are text and nothing is nested deeper than `depth`; False when that is not certain."""
    if depth == 0:
        return False
    if isinstance(value, dict):
        if not {*map(type, value)} <= {str}:
            return False
        value = value.values()
    kinds = {*map(type, value)}
    if kinds <= SCALARS:
        return True
    containers = [each for each in value if type(each) in CONTAINERS]
    return kinds <= SCALARS | CONTAINERS and all(_is_shallow(each, depth - 1) for each in containers)


def _check(value: Any, path: str, depth: int, max_depth: int) -> None:
    if isinstance(value, Mapping | list | tuple):
        if depth == 0:
            raise InvalidValue(f"{path} is nested deeper than {max_depth} levels")
        for place, item in _items(value, path):
            _check(item, place[:MAX_PATH], depth - 1, max_depth)
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


def _check_inner_names(value: Any, name: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_name(key, f"a name in {name}")
            _check_inner_names(item, name)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_inner_names(item, name)


class _Room:
    """How many more values may be copied: an object that contains itself several times would grow without end."""

    def __init__(self, values: int) -> None:
        self.left = values

    def take(self) -> bool:
        """Whether there was room for one."""
        self.left -= 1
        return self.left >= 0


def _made_json(value: Any, depth: int, room: _Room) -> Any:
    if not room.take():
        return CUT
    try:
        return _made_scalar(value) if _is_scalar(value) else _made_container(value, depth, room)
    except Exception:  # noqa: BLE001 - whatever the methods of a strange object raise
        return storable_text(f"<{type(value).__name__}>")


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(
        value, bool | int | float | str | bytes | bytearray | datetime | date | time | timedelta | UUID | Decimal
    )


def _made_scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) <= MAX_INTEGER:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return storable_text(value, DETAIL_BYTES)


def _made_container(value: Any, depth: int, room: _Room) -> Any:
    if isinstance(value, Enum):
        return _made_json(value.value, depth, room)
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="python", by_alias=True)
    if not isinstance(value, Mapping | list | tuple | AbstractSet):
        return storable_text(value)
    if depth == 0:
        return TOO_DEEP
    if isinstance(value, Mapping):
        items = islice(value.items(), max(0, room.left) + 1)
        return {storable_text(key, MAX_PATH): _made_json(item, depth - 1, room) for key, item in items}
    return [_made_json(item, depth - 1, room) for item in islice(value, max(0, room.left) + 1)]
