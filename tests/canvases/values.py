"""Values that JSON lacks, and values that are longer than what a caller may send."""


# The stubs know one kind of result.
# mypy: disable-error-code="attr-defined,union-attr,call-overload,untyped-decorator"

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from celery import chain, chord, group

from tests.canvases.table import WITHIN, canvas
from tests.canvases.tasks import again, echo, length, long, types

SCALARS = (
    Decimal("1.50"),
    datetime(2026, 2, 3, 4, 5, 6, 789, UTC),
    date(2026, 2, 3),
    time(4, 5),
    UUID(int=7),
    b"\x00\xff",
    "text",
    1.5,
    None,
)
VALUE = {"each": list(SCALARS), "in": {"another": [{"of": Decimal("0.1")}]}}


@canvas
def types_of_arguments() -> Any:
    return types.delay(VALUE, more=VALUE).get(timeout=WITHIN)


@canvas
def types_of_a_result() -> Any:
    return [types(echo.delay(value).get(timeout=WITHIN)) for value in (VALUE, Decimal(2))]


@canvas
def types_through_a_chain() -> Any:
    return chain(echo.s(VALUE), echo.s(), types.s(more=VALUE)).delay().get(timeout=WITHIN)


@canvas
def types_through_chains() -> Any:
    return group(chain(echo.s(value), types.s()) for value in SCALARS).delay().get(timeout=WITHIN)


@canvas
def types_through_a_link() -> Any:
    result = echo.apply_async((VALUE,), link=types.s())
    result.get(timeout=WITHIN)
    return [child.get(timeout=WITHIN) for child in result.children]


@canvas
def types_through_a_chord() -> Any:
    return chord([echo.s(value) for value in (VALUE, *SCALARS)], types.s(more=VALUE)).delay().get(timeout=WITHIN)


@canvas
def types_through_a_shaped_chord() -> Any:
    header = [echo.s(Decimal(1)), chain(echo.s(VALUE), group(echo.s(), echo.s()))]
    return chord(header, types.s()).delay().get(timeout=WITHIN)


@canvas
def types_through_a_group_in_a_chain() -> Any:
    return chain(echo.s(VALUE), group(echo.s(), echo.s()), types.s()).delay().get(timeout=WITHIN)


@canvas
def types_through_the_body_of_a_chord() -> Any:
    body = chain(echo.s(), group(echo.s(), types.s()))
    return types(chord([echo.s(VALUE), echo.s(1)], body).delay().get(timeout=WITHIN))


@canvas
def types_through_a_retry() -> Any:
    return again.delay(VALUE, Decimal(3)).get(timeout=WITHIN)


# what is handed on may be larger than what a caller may send


@canvas
def a_long_result_in_a_chain() -> Any:
    return chain(long.s(600_000), echo.s(), length.s()).delay().get(timeout=WITHIN)


@canvas
def long_results_in_a_chord() -> Any:
    return chord([long.s(2_048)] * 160, length.s()).delay().get(timeout=WITHIN)
