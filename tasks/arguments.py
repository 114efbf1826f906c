"""The arguments of a task, and the one JSON object that stands for them in the row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pydantic

from tasks.encoding import as_json, from_plain, marked, named, to_plain
from tasks.payloads import as_sent
from tracking.errors import InvalidValue
from tracking.values import check_json

if TYPE_CHECKING:
    from tasks.attempt.job import Job

Passing = Literal["object", "keyword", "named"]

PASSING = "passing"  # the name under which a row's `delivery` keeps it


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a row keeps of a call.

    `passing` says how `payload` becomes arguments again. object: it is the one positional argument. keyword: it is the
    argument named `payload`. named: each of its members is an argument of that name. None: it is a call with several
    arguments, `{"args": […], "kwargs": {…}}`, or else the one positional argument; an empty one is passed to those
    handlers only that cannot be called without.
    """

    payload: dict[str, Any]
    passing: Passing | None = None


def arguments_to_payload(
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    *,
    parameter: str | None = None,
    takes_payload: bool | None = None,
) -> Arguments:
    """One JSON object for a task's arguments, from which exactly these arguments come back.

    `parameter`: the name of the handler's only one, which may be given either way; None: it has several, or is not
    known here. `takes_payload`: whether it cannot be called without; None: not known here.
    """
    plain_args = [to_plain(_sendable(value)) for value in args or ()]
    plain_kwargs = {name: to_plain(_sendable(value)) for name, value in (kwargs or {}).items()}
    if not plain_args and plain_kwargs.keys() == {parameter}:
        plain_args, plain_kwargs = list(plain_kwargs.values()), {}
    if not plain_args and not plain_kwargs:
        return Arguments({}, None if takes_payload is False else "named")
    if len(plain_args) == 1 and not plain_kwargs and isinstance(plain_args[0], dict):
        return _whole(plain_args[0], takes_payload=takes_payload is True)
    if not plain_args and plain_kwargs.keys() == {"payload"} and isinstance(plain_kwargs["payload"], dict):
        return Arguments(plain_kwargs["payload"], "keyword")
    return Arguments({"args": plain_args, "kwargs": named(plain_kwargs)})


def arguments_of(handler: Job | None, args: Any, kwargs: Any, limits: Mapping[str, int]) -> Arguments:
    """What the row keeps of a call: the arguments as they were sent, and the defaults of a payload.

    Raises pydantic.ValidationError or InvalidValue.
    """
    if handler is None:
        arguments = arguments_to_payload(args, kwargs)
    else:
        sole, needed = handler.signature_read.sole, handler.takes_payload
        arguments = arguments_to_payload(args, kwargs, parameter=sole, takes_payload=needed)
        if handler.payload_model is not None:
            arguments = _validated(handler, arguments, is_read=_is_model(handler, args, kwargs))
    check_json(as_json(arguments.payload), "payload", **limits)
    return arguments


def from_outside(handler: Job, payload: Mapping[str, Any]) -> Arguments:
    """What the row keeps of a payload, which is JSON within the limits: it, with its defaults.

    Raises pydantic.ValidationError or InvalidValue.
    """
    if not handler.signature_read.takes_object:
        return arguments_of(handler, (), handler.signature_read.arguments(payload), {})
    whole = handler.validate_payload(payload)
    if whole != payload:
        check_json(whole, "payload")
    return _whole(marked(whole), takes_payload=handler.takes_payload)


def payload_to_arguments(
    payload: Mapping[str, Any], passing: Passing | None = None, *, takes_payload: bool
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments to send for a payload; `takes_payload` False for a handler that can be called without any."""
    if passing == "object":
        return [dict(payload)], {}
    if passing == "keyword":
        return [], {"payload": dict(payload)}
    if passing == "named":
        return [], dict(payload)
    if is_call(payload):
        return list(payload["args"]), dict(payload["kwargs"])
    return ([dict(payload)], {}) if takes_payload or payload else ([], {})


def is_call(payload: Mapping[str, Any]) -> bool:
    """Whether a payload looks like a call with several arguments instead of one object."""
    return payload.keys() == {"args", "kwargs"}


def _is_model(handler: Job, args: Any, kwargs: Any) -> bool:
    given = [*(args or ()), *(kwargs or {}).values()]
    return len(given) == 1 and type(given[0]) is handler.payload_model


def _validated(handler: Job, arguments: Arguments, *, is_read: bool) -> Arguments:
    """The same call with its payload as the one argument; `is_read`: `as_sent` has validated that already."""
    payload: Any = from_plain(arguments.payload)
    if arguments.passing is None and is_call(payload):
        if len(payload["args"]) + len(payload["kwargs"]) != 1:
            raise InvalidValue(f"{handler.name} takes one argument, its payload")
        payload = [*payload["args"], *payload["kwargs"].values()][0]
    elif arguments.passing == "named" and not handler.takes_payload:
        return arguments
    whole = payload if is_read else handler.validate_payload(payload)
    return arguments_to_payload([whole], None, takes_payload=True)


def _whole(payload: dict[str, Any], *, takes_payload: bool) -> Arguments:
    """The one positional argument is the payload; an empty one has to be told from none at all."""
    is_plain = bool(payload) or takes_payload
    return Arguments(payload, None if is_plain and not is_call(payload) else "object")


def _sendable(value: Any) -> Any:
    return as_sent(value) if isinstance(value, pydantic.BaseModel) else value
