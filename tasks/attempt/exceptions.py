"""Exceptions: what the row keeps of one, and which are the fault of the payload."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from typing import Any

import pydantic
from celery.exceptions import Reject
from celery.utils.serialization import UnpickleableExceptionWrapper, ensure_serializable
from kombu.utils.json import dumps

from tracking.models import Failure
from tracking.values import bounded, check_json, storable_text

NAME_BYTES = 512
ARGUMENTS_BYTES = 16 * 1024
TRACEBACK_BYTES = 64 * 1024


def failure_of(error: BaseException, einfo: Any = None) -> Failure:
    """What a row says of an exception; `einfo`, Celery's, knows the traceback of one from another process."""
    name = storable_text(type(error).__name__, NAME_BYTES)
    return Failure(
        type=name,
        message=storable_text(error) or name,
        traceback=_traceback(error, einfo),
        exception=described(error),
    )


def rejection(error: Reject) -> tuple[Any, bool]:
    """The reason of a Reject, and whether the job is to run again."""
    known: Any = error  # its attributes are missing in the stubs
    return known.reason, bool(known.requeue)


class PayloadError(Exception):
    """What the job was asked for is wrong or is not there. It says nothing of its type, and counts in no circuit."""


def is_of_arguments(error: BaseException, handler: Callable[..., Any]) -> bool:
    """Whether a job failed before its body because the handler could not be called with its arguments."""
    if not isinstance(error, pydantic.ValidationError | TypeError) or error.__traceback__ is None:
        return False
    code = getattr(handler, "__code__", None)
    return code is not None and all(frame.f_code is not code for frame, _ in traceback.walk_tb(error.__traceback__))


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
        return [storable_text(error)]


def _traceback(error: BaseException, einfo: Any) -> str:
    try:
        text = getattr(einfo, "traceback", None) or "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - it shows objects of the handler's
        text = ""
    return bounded(str(text), TRACEBACK_BYTES)
