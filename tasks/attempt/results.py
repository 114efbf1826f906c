"""What a body returned, as its row keeps it: for people as plain JSON, for the next task with its types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pydantic_core
from celery.result import ResultBase

from tasks.encoding import has_marks, to_plain
from tracking.values import MAX_DEPTH, check_json

RESULT_BYTES = 1024 * 1024
TYPED_BYTES = 16 * RESULT_BYTES  # a decimal of one digit takes ten times as much with its type


def kept(result: Any) -> tuple[Any, Any]:
    """The result as plain JSON, and with its types (tasks/encoding.py); None when that is the same.

    Raises InvalidValue or PydanticSerializationError when the row cannot keep it, and what a generator's body raises.
    """
    if result is None:
        return None, None
    if isinstance(result, Iterator):
        result = list(result)  # it can be read once, and its body may raise
    plain = check_json(_plain(result), "the result", max_bytes=RESULT_BYTES)
    return plain, _typed(result, plain)


def _plain(result: Any) -> Any:
    if isinstance(result, ResultBase):  # it stands for other tasks
        return result.as_tuple()  # type: ignore[attr-defined]  # missing in the stubs
    try:
        return pydantic_core.to_jsonable_python(result, by_alias=True)
    except (UnicodeDecodeError, pydantic_core.PydanticSerializationError):  # bytes that are no text?
        return pydantic_core.to_jsonable_python(result, by_alias=True, bytes_mode="base64")


def _typed(result: Any, plain: Any) -> Any:
    """None, too, for what plain Celery could not hand on."""
    try:
        if result == plain and not has_marks(plain):
            return None
        typed = check_json(to_plain(result), "the result", max_bytes=TYPED_BYTES, max_depth=2 * MAX_DEPTH)
    except Exception:  # noqa: BLE001 - whatever the methods of a strange object raise
        return None
    return None if typed == plain else typed
