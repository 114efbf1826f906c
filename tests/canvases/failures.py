"""What get() raises."""


# The stubs know one kind of result.
# mypy: disable-error-code="attr-defined,union-attr,call-overload,untyped-decorator"

from __future__ import annotations

from typing import Any

from celery import chain, chord, group

from tests.canvases.table import WITHIN, canvas, raised, typed
from tests.canvases.tasks import OrderError, add, echo, refuse, total


@canvas
def an_exception_of_the_handlers_own() -> Any:
    result = refuse.delay(number=3)
    answer = raised(result)
    return [answer, isinstance(result.result, OrderError), "OrderError" in result.traceback]


@canvas
def a_failing_chain() -> Any:
    # Plain Celery stores the state of the last task after that of the one that has failed, which is what this raises.
    return raised(chain(echo.s(1), refuse.s(), echo.s()).delay())[:3]


@canvas
def the_end_of_a_failed_chain_by_its_id() -> Any:
    result = chain(echo.s(1), refuse.s(), echo.s(), echo.s()).delay()
    return raised(echo.AsyncResult(result.id))


@canvas
def a_failing_member() -> Any:
    return raised(group(echo.s(1), refuse.s()).delay().results[1])


@canvas
def a_failing_header() -> Any:
    result = chord([echo.s(1), refuse.s()], total.s()).delay()
    answer = raised(echo.AsyncResult(result.id))
    return [*answer[:2], answer[2][0].split(" ")[0], "OrderError" in answer[2][0], answer[3]]


@canvas
def a_failing_header_whose_result_has_parents() -> Any:
    return raised(failed_body())[:3]


@typed(["tests.canvases.tasks", "OrderError"])  # plain Celery does not look at the parents of what has ended by then
def a_failing_header_that_ends_while_get_begins() -> Any:
    body = failed_body()
    after_its_look_at_the_parents = {"on_interval": body._maybe_reraise_parent_error}
    try:
        return body.backend.wait_for_pending(body, timeout=WITHIN, **after_its_look_at_the_parents)
    except Exception as error:  # noqa: BLE001 - it is the answer
        return [type(error).__module__, type(error).__qualname__]


def failed_body() -> Any:
    """The body of a chord whose header has failed: `get` finds both ended, on plain Celery as well."""
    body = chord([echo.s(1), refuse.s()], total.s()).delay()
    raised(echo.AsyncResult(body.id))
    return body


@canvas
def a_header_that_begins_with_a_chord() -> Any:
    return chord([chord([echo.s(1), echo.s(2)], total.s()), echo.s(3)], total.s()).delay().get(timeout=WITHIN)


def the_body_of(*header: Any) -> list[Any]:
    """What the body of a chord with this header raises: class, first word and cause."""
    result = chord(header, total.s()).delay()
    module, name, (message, *_), state = raised(echo.AsyncResult(result.id))
    return [module, name, message.split(" ")[0], message[message.index("raised") :], state]


ENDED = ["celery.exceptions", "ChordError", "FAILURE"]


@typed(ENDED)  # for which plain Celery waits for ever
def a_failing_chord_in_a_header() -> Any:
    answer = the_body_of(chord([echo.s(1), refuse.s()], total.s()), echo.s(2))
    return [*answer[:2], answer[4]]


@typed(ENDED)  # as above
def a_failing_chain_before_a_group_in_a_header() -> Any:
    answer = the_body_of(echo.s(1), chain(refuse.s(), group(echo.s(), echo.s())))
    return [*answer[:2], answer[4]]


@canvas
def a_failing_chain_in_a_header() -> Any:
    return the_body_of(echo.s(1), chain(refuse.s(), echo.s(), echo.s()))


@canvas
def a_header_of_failing_chains() -> Any:
    return the_body_of(chain(echo.s(1), refuse.s(), echo.s()))


@canvas
def a_failing_body_of_a_chord_in_a_header() -> Any:
    return the_body_of(echo.s(1), chord([echo.s(2)], chain(total.s(), refuse.s(), echo.s())))


@canvas
def what_follows_a_failed_chord() -> Any:
    result = chain(group(echo.s(1), refuse.s()), total.s(), echo.s()).delay()
    answer = raised(echo.AsyncResult(result.id))
    return [*answer[:2], answer[3]]


@canvas
def a_failing_body() -> Any:
    return raised(chord([echo.s(1), echo.s(2)], refuse.s()).delay())


@typed([2, ["tracking.errors", "IdempotencyConflict"]])  # plain Celery runs two tasks under one id
def a_frozen_signature_in_two_chains() -> Any:
    frozen = add.s(1)
    frozen.freeze()
    first = chain(echo.s(1), frozen).delay().get(timeout=WITHIN)
    second = chain(echo.s(2), frozen, echo.s(), echo.s()).delay()
    return [first, raised(echo.AsyncResult(second.id))[:2]]
