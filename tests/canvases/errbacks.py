"""What is called when a canvas fails."""

# ruff: noqa: D103 - the name of a canvas says what it is
# The stubs know one kind of result.
# mypy: disable-error-code="attr-defined,union-attr,call-overload,untyped-decorator"

from __future__ import annotations

from typing import Any

from celery import chain, chord, group

from tests.canvases.table import canvas, noted
from tests.canvases.tasks import echo, note, note_error, refuse, replace, total


@canvas
def an_errback_of_a_task() -> Any:
    return noted(lambda call: refuse.apply_async(link_error=[call(note, "old"), call(note_error, "new")]), 2)


@canvas
def an_errback_of_a_chain() -> Any:
    return noted(
        lambda call: chain(echo.s(1), refuse.s(), echo.s(), echo.s()).apply_async(link_error=call(note, "chain")), 1
    )


@canvas
def an_errback_of_the_body_of_a_chord() -> Any:
    def ask(call: Any) -> Any:
        body = total.s().on_error(call(note, "old")).on_error(call(note_error, "new"))
        return chord([echo.s(1), refuse.s(), refuse.s()], body).delay()

    return noted(ask, 2)


@canvas
def an_errback_of_a_chord_in_a_chain() -> Any:
    def ask(call: Any) -> Any:
        body = total.s().on_error(call(note_error, "body"))
        return chain(echo.s(1), chord([echo.s(), refuse.s()], body), echo.s().on_error(call(note, "last"))).delay()

    return noted(ask, 1)


@canvas
def an_errback_of_a_body_that_is_a_chain() -> Any:
    def ask(call: Any) -> Any:
        body = chain(total.s(), echo.s())
        return chord([echo.s(1), refuse.s()], body).apply_async(link_error=call(note_error, "body"))

    return noted(ask, 1)


@canvas
def errbacks_of_a_body_that_is_a_group() -> Any:
    def ask(call: Any) -> Any:
        body = group(total.s().on_error(call(note_error, "one")), echo.s().on_error(call(note_error, "two")))
        return chord([echo.s(1), refuse.s()], body).delay()

    return noted(ask, 2)


@canvas
def an_errback_of_a_replaced_task() -> Any:
    wanted = chain(echo.s(1), refuse.s())
    return noted(lambda call: replace.apply_async((wanted,), link_error=call(note_error, "replaced")), 1)
