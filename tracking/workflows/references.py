"""Values of a payload that come from the results of earlier jobs: `{"$from": "key", "path": "/result/rows"}`.

The path is a JSON Pointer (RFC 6901) into what is told of the job with that key: TOLD.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracking.errors import InvalidValue

FROM, PATH = "$from", "path"
TOLD = ("jobId", "status", "result", "errorType", "errorMessage")
WHOLE_RESULT = "/result"  # without a path
LONGEST_PATH = 500  # characters
INDEX = re.compile("0|[1-9][0-9]{0,8}")  # RFC 6901, section 4
BAD_ESCAPE = re.compile("~(?![01])")

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """A value that comes from the job with this key; `place`: where it stands in the payload."""

    place: Place
    key: str
    path: str


@dataclass(frozen=True, slots=True)
class Misfit:
    """Something that is no reference though it begins like one."""

    place: Place
    reason: str


def references(payload: Mapping[str, Any]) -> Iterator[Reference | Misfit]:
    """All that stand in a payload, and what is wrong with others."""
    yield from _references(payload, ())


def filled(payload: Mapping[str, Any], told: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The payload with the values instead of their names. `told`: what is told of each job, by its key.

    Raises InvalidValue when a path leads nowhere.
    """
    values: dict[str, Any] = _filled(payload, (), told)
    return values


def _references(value: Any, place: Place) -> Iterator[Reference | Misfit]:
    if isinstance(value, Mapping) and FROM in value:
        reason = _misfit(value)
        if reason is None:
            yield Reference(place, value[FROM], value.get(PATH, WHOLE_RESULT))
        else:
            yield Misfit(place, reason)
        return
    for key, item in _items(value):
        yield from _references(item, (*place, key))


def _misfit(value: Mapping[str, Any]) -> str | None:
    """Why this is no reference; None: it is one."""
    path = value.get(PATH, WHOLE_RESULT)
    if not isinstance(value[FROM], str):
        return f"{FROM} must be the key of a job"
    if value.keys() - {FROM, PATH}:
        return f"beside {FROM} there may only be {PATH}"
    if not isinstance(path, str) or len(path) > LONGEST_PATH or BAD_ESCAPE.search(path):
        return f"{PATH} must be a JSON Pointer of at most {LONGEST_PATH} characters, in which ~ is written ~0 and / ~1"
    if not path.startswith("/") or path.split("/")[1] not in TOLD:
        return f"{PATH} must begin with one of {', '.join(f'/{name}' for name in TOLD)}"
    return None


def _filled(value: Any, place: Place, told: Mapping[str, Mapping[str, Any]]) -> Any:
    if isinstance(value, Mapping):
        if FROM in value:
            return _followed(told[value[FROM]], value.get(PATH, WHOLE_RESULT), value[FROM], place)
        return {key: _filled(item, (*place, key), told) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, (*place, index), told) for index, item in enumerate(value)]
    return value


def _followed(found: Any, path: str, key: str, place: Place) -> Any:
    passed = ""
    for token in path.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        passed += f"/{token}"
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, list) and INDEX.fullmatch(name) and int(name) < len(found):
            found = found[int(name)]
        else:
            raise InvalidValue(f"{named(place)}: there is no {passed} in the job {key!r}")
    return found


def named(place: Place) -> str:
    """A place in a payload, for people."""
    return ".".join(map(str, ("payload", *place)))


def _items(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield from enumerate(value)
