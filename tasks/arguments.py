"""The arguments of a task, and the one JSON object that stands for them in the row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic
from kombu.utils import json as kombu_json
from kombu.utils.json import register_type

from tracking.errors import InvalidValue


def arguments_to_payload(args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """One JSON object for a task's arguments.

    `(payload,)` and `payload=payload` are the object itself, no arguments are `{}`; any other call keeps both, as
    `{"args": […], "kwargs": {…}}`.
    """
    args = [_dumped(value) for value in args or ()]
    kwargs = {name: _dumped(value) for name, value in (kwargs or {}).items()}
    candidates = [*args, *kwargs.values()]
    if not candidates:
        return {}
    if len(candidates) == 1 and (args or "payload" in kwargs):
        value = to_plain(candidates[0])
        if isinstance(value, dict) and not is_call(value):
            return value
    call: dict[str, Any] = to_plain({"args": args, "kwargs": kwargs})
    return call


def is_call(payload: Mapping[str, Any]) -> bool:
    """Whether a payload is a call with several arguments instead of one object."""
    return payload.keys() == {"args", "kwargs"}


def payload_to_arguments(payload: Mapping[str, Any], *, takes_payload: bool) -> tuple[list[Any], dict[str, Any]]:
    """The arguments to send for a payload; `takes_payload` False for a handler without parameters."""
    if is_call(payload):
        return list(payload["args"]), dict(payload["kwargs"])
    return ([dict(payload)], {}) if takes_payload or payload else ([], {})


def to_plain(value: Any) -> Any:
    """`value` as the JSON that a worker would receive. Raises InvalidValue when it is not JSON."""
    # kombu marks what JSON lacks (dates, UUIDs) as {"__type__", "__value__"}: kept so in the row, the worker that
    # decodes the message gets the same Python values as from plain Celery.
    try:
        return json.loads(kombu_json.dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue(f"the arguments are not JSON: {error}") from None


def _dumped(value: Any) -> Any:
    return _model_to_plain(value) if isinstance(value, pydantic.BaseModel) else value


def _model_to_plain(model: pydantic.BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True)


# Wherever a payload stands in a canvas (a chain, a link, the body of a chord), it is JSON for kombu.
# Nothing is marked, so nothing is decoded.
register_type(pydantic.BaseModel, None, _model_to_plain, pydantic.BaseModel.model_validate)
