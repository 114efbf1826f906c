"""What is called when a canvas fails, and how often."""


# The stubs know one kind of result.
# mypy: disable-error-code="attr-defined,union-attr,call-overload,untyped-decorator"

from __future__ import annotations

from typing import Any

from celery import chain, chord, group

from tests.canvases.table import WITHIN, canvas, noted, raised, typed
from tests.canvases.tasks import add, echo, note, note_error, refuse, replace, total


def noted_by_body(*header: Any) -> list[str]:
    """What the errback of the body of a chord with this header writes."""
    return noted(lambda call: chord(header, total.s().on_error(call(note_error, "body"))).delay(), 1)


def noted_by_chord(body: Any, count: int) -> list[str]:
    """What the errback of a chord with this body, and a header that succeeds, writes."""

    def ask(call: Any) -> Any:
        sent = chord([echo.s(1), echo.s(2)], body)
        sent.link_error(call(note_error, "chord"))
        return sent.delay()

    return noted(ask, count)


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


# a header that fails in its depths


@canvas
def an_errback_of_a_header_whose_chain_fails_first() -> Any:
    return noted_by_body(echo.s(1), chain(refuse.s(), echo.s(), echo.s()))


@canvas
def an_errback_of_a_header_whose_chain_fails_in_the_middle() -> Any:
    return noted_by_body(echo.s(1), chain(echo.s(2), refuse.s(), echo.s()))


@canvas
def an_errback_of_a_header_whose_chain_fails_at_its_end() -> Any:
    return noted_by_body(echo.s(1), chain(echo.s(2), refuse.s()))


@canvas
def an_errback_of_a_header_of_chains_that_fail() -> Any:
    return noted_by_body(chain(refuse.s(), echo.s()), chain(echo.s(1), refuse.s(), echo.s()))


@canvas
def an_errback_of_a_header_with_a_group_that_fails() -> Any:
    return noted_by_body(echo.s(1), group(echo.s(2), refuse.s()))


@canvas
def an_errback_of_a_header_whose_chain_fails_in_a_group_at_its_end() -> Any:
    return noted_by_body(echo.s(1), chain(echo.s(2), group(echo.s(), refuse.s())))


@typed(["body ChordError 36"])  # for which plain Celery waits for ever
def an_errback_of_a_header_whose_chain_fails_before_its_group() -> Any:
    return noted_by_body(echo.s(1), chain(refuse.s(), group(echo.s(), echo.s())))


@typed(["body ChordError 36"])  # for which plain Celery waits for ever
def an_errback_of_a_header_whose_chain_fails_in_its_group() -> Any:
    return noted_by_body(echo.s(1), chain(echo.s(2), group(echo.s(), refuse.s()), total.s()))


@typed(["body ChordError 36"])  # for which plain Celery waits for ever
def an_errback_of_a_header_whose_chord_fails_in_its_header() -> Any:
    return noted_by_body(echo.s(1), chord([echo.s(2), refuse.s()], total.s()))


@canvas
def an_errback_of_a_header_whose_chord_fails_in_its_body() -> Any:
    return noted_by_body(echo.s(1), chord([echo.s(2), echo.s(3)], refuse.s()))


@canvas
def an_errback_of_a_header_whose_chord_fails_in_the_chain_of_its_body() -> Any:
    return noted_by_body(echo.s(1), chord([echo.s(2), echo.s(3)], chain(total.s(), refuse.s(), echo.s())))


@canvas
def an_errback_of_a_header_whose_member_is_replaced_and_fails() -> Any:
    return noted_by_body(echo.s(1), replace.s(chain(echo.s(2), refuse.s(), echo.s())))


@typed(["chord ChordError 36"])  # for which plain Celery waits for ever
def an_errback_of_a_chord_with_a_chord_in_its_header() -> Any:
    def ask(call: Any) -> Any:
        sent = chord(group(echo.s(1), chord([echo.s(2), refuse.s()], total.s())), total.s())
        sent.link_error(call(note_error, "chord"))
        return sent.delay()

    return noted(ask, 1)


# a body that fails in its depths


@canvas
def an_errback_of_a_chord_whose_body_fails() -> Any:
    return noted_by_chord(refuse.s(), 1)


@canvas
def an_errback_of_a_chord_whose_body_is_a_chain_that_fails_in_the_middle() -> Any:
    return noted_by_chord(chain(total.s(), refuse.s(), echo.s()), 1)


@canvas
def an_errback_of_a_chord_whose_body_is_a_chain_that_fails_at_its_end() -> Any:
    return noted_by_chord(chain(total.s(), refuse.s()), 1)


@canvas
def an_errback_of_a_chord_whose_body_is_a_group_that_fails() -> Any:
    return noted_by_chord(group(echo.s(), refuse.s(), refuse.s()), 2)


@canvas
def an_errback_of_a_chord_whose_body_is_a_chord_that_fails_in_its_header() -> Any:
    return noted_by_chord(chord([echo.s(), refuse.s()], total.s()), 1)


@typed(["chord OrderError 36"])  # plain Celery gives it to the outer body alone, which never fails
def an_errback_of_a_chord_whose_body_is_a_chord_that_fails_in_its_body() -> Any:
    return noted_by_chord(chord([total.s(), total.s()], refuse.s()), 1)


@canvas
def an_errback_of_a_chord_whose_body_ends_in_a_group_that_fails() -> Any:
    return noted_by_chord(chain(total.s(), group(add.s(1), refuse.s())), 1)


@canvas
def no_errback_of_a_chord_that_never_began() -> Any:
    def ask(call: Any) -> Any:
        body = total.s().on_error(call(note_error, "body"))
        raised(echo.AsyncResult(chain(refuse.s(), chord([echo.s(), chain(echo.s(), echo.s())], body)).delay().id))

    return noted(ask, 0)


@typed(["body IdempotencyConflict 36", "own IdempotencyConflict 36"])  # plain Celery runs two tasks under one id
def errbacks_of_a_frozen_signature_in_two_canvases() -> Any:
    frozen = add.s(1)
    frozen.freeze()
    chain(echo.s(1), frozen).delay().get(timeout=WITHIN)

    def ask(call: Any) -> Any:
        again = chain(echo.s(2), frozen.clone().on_error(call(note_error, "own")))
        return chord([echo.s(1), again], total.s().on_error(call(note_error, "body"))).delay()

    return noted(ask, 2)
