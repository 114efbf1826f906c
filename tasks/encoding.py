"""Python's values as JSON, for a row and for a message: what JSON lacks arrives typed, and JSON arrives as it was sent.

kombu marks what JSON lacks (dates, UUIDs) as `{"__type__": …, "__value__": …}`, and takes every object of these two
keys for such a mark. So one that a caller has sent is marked, as `{"__type__": "object", "__value__": [[key, value]]}`,
of which kombu makes the object again. kombu decodes headers on Redis only, and at a redelivery twice; there it is
`{"__object__": [[key, value]]}`, which the worker decodes on every broker (tasks/worker/consumer.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pydantic
from kombu.utils import json as kombu_json
from kombu.utils.json import object_hook, register_type

from tasks.payloads import as_sent
from tracking.errors import InvalidValue

TYPE, VALUE = "__type__", "__value__"
MARK = {TYPE, VALUE}
OBJECT = "object"
HEADER_OBJECT = "__object__"


class _Object:
    """What kombu registers the mark of an object for; there is no such value."""


def to_plain(value: Any) -> Any:
    """`value` as the JSON of which a worker makes an equal value. Raises InvalidValue when there is none.

    Once for each value: what is plain already would arrive as it is.
    """
    try:
        text = kombu_json.dumps(value)
        return json.loads(text if TYPE not in text else kombu_json.dumps(_marked(value)))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue(f"the arguments are not JSON: {error}") from None


def marked(sent: dict[str, Any]) -> dict[str, Any]:
    """The JSON of which a worker makes what was sent, which is JSON itself."""
    plain: dict[str, Any] = _marked(sent) if TYPE in json.dumps(sent) else sent
    return plain


def from_plain(plain: Any) -> Any:
    """The value that a worker makes of it. Raises ValueError for an unknown mark."""
    if isinstance(plain, dict):
        return object_hook({name: from_plain(each) for name, each in plain.items()})
    return [from_plain(each) for each in plain] if isinstance(plain, list) else plain


def as_json(plain: Any) -> Any:
    """The JSON that was sent; what JSON lacks stays marked."""
    if isinstance(plain, dict):
        if plain.keys() == MARK and plain[TYPE] == OBJECT:
            return {name: as_json(each) for name, each in plain[VALUE]}
        return {name: as_json(each) for name, each in plain.items()}
    return [as_json(each) for each in plain] if isinstance(plain, list) else plain


def has_marks(plain: Any) -> bool:
    """Whether a worker makes another value of it."""
    if isinstance(plain, dict):
        return plain.keys() == MARK or any(has_marks(each) for each in plain.values())
    return isinstance(plain, list | tuple) and any(has_marks(each) for each in plain)


def to_header(value: Any) -> Any:
    """The value of a header as a message has it. Raises InvalidValue when it is not JSON."""
    return _header_of(to_plain(value))


def to_headers(headers: Any) -> Any:
    """All headers of a message, whose names stay as they are; what is no mapping is returned as it is."""
    return {name: to_header(each) for name, each in headers.items()} if isinstance(headers, Mapping) else headers


def from_header(value: Any) -> Any:
    """The value that was sent, from that of a message's header; an unknown mark stays as it is."""
    if isinstance(value, list):
        return [from_header(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {name: from_header(each) for name, each in value.items()}
    try:
        return dict(made[HEADER_OBJECT]) if made.keys() == {HEADER_OBJECT} else object_hook(made)
    except Exception:  # noqa: BLE001 - anybody may send anything
        return made


def named(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Plain arguments by name as a message has them: their names are a caller's, too."""
    return _mark(arguments) if arguments.keys() == MARK else dict(arguments)


def _marked(value: Any) -> Any:
    if isinstance(value, dict):
        marked = {name: _marked(each) for name, each in value.items()}
        return _mark(marked) if marked.keys() == MARK else marked
    return [_marked(each) for each in value] if isinstance(value, list | tuple) else value


def _mark(value: Mapping[str, Any]) -> dict[str, Any]:
    return {TYPE: OBJECT, VALUE: [[name, each] for name, each in value.items()]}


def _header_of(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_header_of(each) for each in plain]
    if not isinstance(plain, dict):
        return plain
    is_object = plain.keys() == MARK and plain[TYPE] == OBJECT
    members = {name: _header_of(each) for name, each in (plain[VALUE] if is_object else plain.items())}
    if is_object or members.keys() == {HEADER_OBJECT}:
        return {HEADER_OBJECT: [[name, each] for name, each in members.items()]}
    return members


_decoder: Any = dict
register_type(_Object, OBJECT, lambda _: [], _decoder)
# Wherever a payload stands in a canvas (a chain, a link, the body of a chord), it is JSON for kombu.
register_type(pydantic.BaseModel, None, lambda model: _marked(as_sent(model)), pydantic.BaseModel.model_validate)
