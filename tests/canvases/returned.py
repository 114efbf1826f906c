"""What a handler returns, and what it has sent."""

# ruff: noqa: D103 - the name of a canvas says what it is
# The stubs know one kind of result.
# mypy: disable-error-code="attr-defined,union-attr,call-overload,untyped-decorator"

from __future__ import annotations

from typing import Any

from celery import chain

from tests.canvases.table import WITHIN, canvas
from tests.canvases.tasks import add, echo, quiet, start


@canvas
def a_handler_that_returns_a_result() -> Any:
    (identifier, parent), children = start.delay(5).get(timeout=WITHIN)
    return [len(identifier), parent, children]


@canvas
def a_result_that_is_ignored() -> Any:
    result = quiet.delay()
    return [result.ignored, result.get(timeout=WITHIN)]


@canvas
def children() -> Any:
    result = start.delay(5)
    result.get(timeout=WITHIN)
    return [child.get(timeout=WITHIN) for child in result.children]


@canvas
def children_of_a_chain() -> Any:
    result = chain(echo.s(1), add.s(2)).delay()
    result.get(timeout=WITHIN)
    result.parent.get(timeout=WITHIN)  # plain Celery sends the next task before it stores the result
    return [child.id == result.id for child in result.parent.children]
