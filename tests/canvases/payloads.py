"""Typed payloads in every position of a canvas, with the answers: plain Celery cannot send them."""


# The stubs know one kind of result.
# mypy: disable-error-code="attr-defined,union-attr,call-overload,untyped-decorator"

from __future__ import annotations

from typing import Any

from celery import chain, chord, group, signature

from tests.canvases.table import WITHIN, typed
from tests.canvases.tasks import Order, echo, more, order


@typed({"number": 2, "words": ["x"]})
def typed_in_a_chain() -> Any:
    return chain(order.s(Order(number=1)), order.si(Order(number=2, words=["x"]))).delay().get(timeout=WITHIN)


@typed([1, 2])
def typed_behind_a_result() -> Any:
    return chain(echo.s(1), more.s(Order(number=2))).delay().get(timeout=WITHIN)


@typed([1, 2])
def typed_as_a_keyword() -> Any:
    return chain(echo.s(1), more.s(payload=Order(number=2))).delay().get(timeout=WITHIN)


@typed([[{"number": 1, "words": []}, {"number": 2, "words": []}], 3])
def typed_in_a_chord() -> Any:
    return (
        chord([order.s(Order(number=1)), order.si(payload=Order(number=2))], more.s(Order(number=3)))
        .delay()
        .get(timeout=WITHIN)
    )


@typed([[{"number": 1, "words": []}, {"number": 2, "words": []}], 3])
def typed_in_a_group_in_a_chain() -> Any:
    members = group(order.si(Order(number=1)), order.si(Order(number=2)))
    return chain(echo.s(0), members, more.s(Order(number=3))).delay().get(timeout=WITHIN)


@typed({"number": 4, "words": []})
def typed_by_signature() -> Any:
    return signature("canvas.order", args=(Order(number=4),)).delay().get(timeout=WITHIN)


@typed({"number": 5, "words": []})
def typed_by_name() -> Any:
    return echo.app.send_task("canvas.order", (Order(number=5),)).get(timeout=WITHIN)


@typed([[1, 6]])
def typed_in_a_link() -> Any:
    result = echo.apply_async((1,), link=more.s(Order(number=6)))
    result.get(timeout=WITHIN)
    return [child.get(timeout=WITHIN) for child in result.children]
