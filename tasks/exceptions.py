"""Exceptions: what the row keeps of one, and which are the fault of the payload."""

from __future__ import annotations

import json
from collections.abc import Callable
from traceback import walk_tb
from typing import Any

import pydantic
from celery.utils.serialization import UnpickleableExceptionWrapper, ensure_serializable
from kombu.utils.json import dumps

from tracking.values import bounded, check_json

NAME_BYTES = 512
TEXT_BYTES = 4 * 1024
ARGUMENTS_BYTES = 16 * 1024


class PayloadError(Exception):
    """What the job was asked for is wrong or is not there. It says nothing of its type, and counts in no circuit."""


def is_of_arguments(error: BaseException, handler: Callable[..., Any]) -> bool:
    """Whether a job failed before its body because the handler could not be called with its arguments."""
    if not isinstance(error, pydantic.ValidationError | TypeError) or error.__traceback__ is None:
        return False
    code = getattr(handler, "__code__", None)
    return code is not None and all(frame.f_code is not code for frame, _ in walk_tb(error.__traceback__))


def described(error: BaseException) -> dict[str, Any]:
    """The class and arguments of an exception, as Celery's result backends keep them; bounded and storable."""
    if isinstance(error, UnpickleableExceptionWrapper):
        module, name, args = error.exc_module, error.exc_cls_name, error.exc_args
    else:
        module, name, args = type(error).__module__, type(error).__qualname__, error.args
    return {
        "exc_type": bounded(str(name), NAME_BYTES),
        "exc_module": bounded(str(module), NAME_BYTES),
        "exc_message": _arguments(error, args),
    }


def _arguments(error: BaseException, args: Any) -> list[Any]:
    try:
        plain = json.loads(dumps(ensure_serializable(args, dumps)))
        return list(check_json(plain, "the arguments", max_bytes=ARGUMENTS_BYTES))
    except Exception:  # noqa: BLE001 - arguments are objects of the handler's, whose repr may raise anything
        return [bounded(_text(error), TEXT_BYTES)]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a __str__ of the handler's may raise anything
        return f"<an unprintable {type(error).__name__}>"
