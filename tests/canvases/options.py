"""Single calls with options: when they run, what follows them, and what they say of themselves."""


# The stubs know one kind of result.
# mypy: disable-error-code="attr-defined,union-attr,call-overload,untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any
from uuid import uuid4

from celery import chain, current_app

from tests.canvases.table import WITHIN, canvas, noted, raised
from tests.canvases.tasks import add, doze, echo, note_value, quiet, refuse, told

SOON = timedelta(seconds=0.8)


def in_time(send: Callable[[], Any]) -> list[Any]:
    """What a call gives, and whether it has waited until SOON."""
    began = monotonic()
    value = send().get(timeout=WITHIN)
    return [value, monotonic() - began >= SOON.total_seconds()]


@canvas
def a_call_with_a_countdown() -> Any:
    return in_time(lambda: echo.apply_async((1,), countdown=SOON.total_seconds()))


@canvas
def a_call_with_an_eta() -> Any:
    return in_time(lambda: echo.apply_async((1,), eta=datetime.now(UTC) + SOON))


@canvas
def a_call_with_an_eta_of_another_zone() -> Any:
    zone = (datetime.now(UTC) + SOON).astimezone().tzinfo
    return in_time(lambda: echo.apply_async((1,), eta=datetime.now(zone) + SOON))


@canvas
def a_call_with_an_eta_that_is_over() -> Any:
    return echo.apply_async((1,), eta=datetime.now(UTC) - timedelta(days=1)).get(timeout=WITHIN)


@canvas
def a_call_by_name_with_a_countdown() -> Any:
    return in_time(lambda: current_app.send_task("canvas.add", (1,), {"y": 2}, countdown=SOON.total_seconds()))


@canvas
def a_signature_with_a_countdown() -> Any:
    return in_time(lambda: add.s(1).set(countdown=SOON.total_seconds()).delay(2))


@canvas
def a_countdown_in_a_chain() -> Any:
    return in_time(lambda: chain(echo.s(1), add.s(2).set(countdown=SOON.total_seconds())).delay())


@canvas
def a_call_that_has_expired() -> Any:
    return raised(echo.apply_async((1,), expires=-10))


@canvas
def a_call_that_expired_at_a_time() -> Any:
    return raised(echo.apply_async((1,), expires=datetime.now(UTC) - timedelta(hours=1)))


@canvas
def a_call_that_expires_before_it_is_due() -> Any:
    return raised(echo.apply_async((1,), countdown=2, expires=0.5))


@canvas
def a_call_that_expires_later() -> Any:
    return raised(echo.apply_async((1,), expires=600))


@canvas
def a_call_with_a_priority() -> Any:
    return [echo.apply_async((number,), priority=number).get(timeout=WITHIN) for number in (0, 9)]


@canvas
def a_link() -> Any:
    return noted(lambda call: add.apply_async((1, 2), link=call(note_value, "link")), 1)


@canvas
def links_of_several_kinds() -> Any:
    def ask(call: Any) -> Any:
        links = [call(note_value, "first"), add.s(10) | call(note_value, "chain"), call(note_value, "late")]
        links[2].set(countdown=0.3)
        return add.apply_async((1, 2), link=links)

    return noted(ask, 3)


@canvas
def a_link_of_a_signature() -> Any:
    def ask(call: Any) -> Any:
        sent = add.s(1, 2)
        sent.link(call(note_value, "link"))
        return sent.delay()

    return noted(ask, 1)


@canvas
def a_link_that_takes_no_result() -> Any:
    def ask(call: Any) -> Any:
        own = call(note_value, "own").clone((99,))
        own.immutable = True
        return add.apply_async((1, 2), link=own)

    return noted(ask, 1)


@canvas
def a_link_of_what_fails() -> Any:
    return noted(lambda call: refuse.apply_async(link=call(note_value, "link")), 0)


@canvas
def what_a_link_gives() -> Any:
    result = add.apply_async((1, 2), link=add.s(10))
    result.get(timeout=WITHIN)
    return [child.get(timeout=WITHIN) for child in result.children]


@canvas
def a_call_with_a_countdown_and_a_link() -> Any:
    return noted(lambda call: echo.apply_async((5,), countdown=0.5, link=call(note_value, "link")), 1)


@canvas
def a_call_with_an_id() -> Any:
    mine = str(uuid4())
    result = echo.apply_async((1,), task_id=mine)
    return [result.id == mine, result.get(timeout=WITHIN)]


@canvas
def a_call_with_a_limit_of_time() -> Any:
    return raised(doze.apply_async((20,), soft_time_limit=1))


@canvas
def a_call_whose_result_nobody_wants() -> Any:
    return [echo.apply_async((1,), ignore_result=True).get(timeout=WITHIN), quiet.delay().get(timeout=WITHIN)]


@canvas
def what_a_call_says_of_itself() -> Any:
    result = told.apply_async(("a",), {"b": 2}, headers={"mark": "x"}, shadow="other")
    return result.get(timeout=WITHIN)


@canvas
def how_a_message_is_packed() -> Any:
    packed: list[dict[str, Any]] = [
        {"compression": "gzip"},
        {"serializer": "json"},
        {"retry": False},
        {"retry_policy": {"max_retries": 1}},
    ]
    return [echo.apply_async((number,), **options).get(timeout=WITHIN) for number, options in enumerate(packed)]
