"""Tasks and canvases that mean the same on plain Celery and here; each canvas is a question with one answer."""

# ruff: noqa: D103 - the name of a canvas says what it is
# The stubs know one kind of result.
# mypy: disable-error-code="attr-defined,union-attr,call-overload,untyped-decorator"

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pydantic
from celery import Task, chain, chord, group, shared_task, signature
from celery.exceptions import Ignore
from celery.result import allow_join_result

WITHIN = 6  # seconds in which every canvas must have ended
CANVASES: dict[str, Callable[[], Any]] = {}
TYPED: dict[str, Any] = {}  # what canvases with payloads as models give; plain Celery cannot send those


class OrderError(Exception):
    """An exception with arguments of its own."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(number, reason)
        self.number = number


class Order(pydantic.BaseModel):
    """A typed payload."""

    number: int
    words: list[str] = []


@shared_task(name="canvas.echo")
def echo(value: Any = None) -> Any:
    """Return it."""
    return value


@shared_task(name="canvas.add")
def add(x: Any, y: Any) -> Any:
    """Add."""
    return x + y


@shared_task(name="canvas.total")
def total(numbers: list[Any]) -> Any:
    """Add them all."""
    return sum(numbers)


@shared_task(name="canvas.refuse", circuit_failures=0)
def refuse(*_: Any, number: int = 7) -> None:
    """Raise an exception with arguments."""
    raise OrderError(number, "no")


@shared_task(name="canvas.order", pydantic=True)
def order(payload: Order) -> dict[str, Any]:
    """Take a typed payload."""
    return {"number": payload.number, "words": payload.words}


@shared_task(name="canvas.more", pydantic=True)
def more(before: Any, payload: Order) -> list[Any]:
    """Take the result before and a typed payload."""
    return [before, payload.number]


@shared_task(name="canvas.quiet", ignore_result=True)
def quiet() -> str:
    """Return what nobody wants to know."""
    return "nothing"


@shared_task(name="canvas.start", bind=True)
def start(self: Task[..., Any], value: Any) -> Any:
    """Start another task and return its result object."""
    with allow_join_result():
        return echo.delay(value)


@shared_task(name="canvas.replace", bind=True)
def replace(self: Task[..., Any], wanted: Any) -> Any:
    """Be replaced by the canvas that is given."""
    return self.replace(signature(wanted))


@shared_task(name="canvas.replace_after", bind=True)
def replace_after(self: Task[..., Any], value: Any) -> Any:
    """Be replaced by a chain that goes on with a value."""
    return self.replace(chain(add.s(value, 1), add.s(10)))


@shared_task(name="canvas.join", bind=True)
def join(self: Task[..., Any], value: Any) -> Any:
    """Add a member to the own chord."""
    self.add_to_chord(echo.s(value))
    return 0


@shared_task(name="canvas.types")
def types(value: Any, **named: Any) -> Any:
    """Say which types arrived, and their values as text."""
    if named:
        return [types(value), types(named)]
    if isinstance(value, dict):
        return {name: types(each) for name, each in value.items()}
    return [types(each) for each in value] if isinstance(value, list) else [type(value).__name__, str(value)]


@shared_task(name="canvas.again", bind=True, circuit_failures=0)
def again(self: Task[..., Any], value: Any, other: Any = None) -> Any:
    """Ask for another attempt with these arguments the other way round, then tell their types."""
    if self.request.retries == 0:
        raise self.retry(args=(other, value), countdown=0.01)
    return types([value, other])


@shared_task(name="canvas.long", ignore_result=False)
def long(size: int) -> str:
    """Return so many letters."""
    return "x" * size


@shared_task(name="canvas.length")
def length(texts: list[str]) -> int:
    """Count letters."""
    return sum(map(len, texts))


@shared_task(name="canvas.ignore")
def ignore() -> None:
    """End without a result."""
    raise Ignore


def canvas(ask: Callable[[], Any]) -> Callable[[], Any]:
    """Add a question to the table."""
    CANVASES[ask.__name__] = ask
    return ask


def typed(expected: Any) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Add a question with its answer."""

    def remember(ask: Callable[[], Any]) -> Callable[[], Any]:
        TYPED[ask.__name__] = expected
        return canvas(ask)

    return remember


def raised(result: Any) -> list[Any]:
    """What `get` raises: module, class and arguments."""
    try:
        return ["value", result.get(timeout=WITHIN)]
    except Exception as error:  # noqa: BLE001 - it is the answer
        return [type(error).__module__, type(error).__qualname__, list(map(str, error.args)), result.state]


# shapes


@canvas
def a_chain() -> Any:
    return chain(add.s(1, 2), add.s(3), add.s(4)).delay().get(timeout=WITHIN)


@canvas
def a_group() -> Any:
    return group(add.s(i, i) for i in range(4)).delay().get(timeout=WITHIN)


@canvas
def a_group_in_a_group() -> Any:
    return group(echo.s(1), group(echo.s(2), echo.s(3))).delay().get(timeout=WITHIN)


@canvas
def a_chord() -> Any:
    return chord([add.s(i, i) for i in range(5)], total.s()).delay().get(timeout=WITHIN)


@canvas
def a_chord_of_one() -> Any:
    return chord([echo.s(1)], echo.s()).delay().get(timeout=WITHIN)


@canvas
def a_chain_with_a_group_at_its_end() -> Any:
    return chain(echo.s(3), group(add.s(1), add.s(2))).delay().get(timeout=WITHIN)


@canvas
def a_group_in_the_middle_of_a_chain() -> Any:
    return chain(echo.s(3), group(add.s(1), add.s(2)), total.s(), echo.s()).delay().get(timeout=WITHIN)


@canvas
def two_groups_in_a_row() -> Any:
    return chain(group(echo.s(1), echo.s(2)), group(echo.s(), echo.s())).delay().get(timeout=WITHIN)


@canvas
def a_header_of_chains_that_end_in_groups() -> Any:
    header = [echo.s(1), chain(echo.s(2), group(echo.s(), echo.s())), chain(echo.s(3), group(echo.s(), echo.s()))]
    return chord(header, echo.s()).delay().get(timeout=WITHIN)


@canvas
def a_header_with_a_group_in_it() -> Any:
    return chord([echo.s(1), group(echo.s(2), group(echo.s(3)))], echo.s()).delay().get(timeout=WITHIN)


@canvas
def a_header_of_chains() -> Any:
    return chord([chain(echo.s(i), add.s(1)) for i in range(3)], echo.s()).delay().get(timeout=WITHIN)


@canvas
def a_chord_in_a_header() -> Any:
    return chord([echo.s(0), chord([echo.s(1), echo.s(2)], echo.s())], echo.s()).delay().get(timeout=WITHIN)


@canvas
def a_group_of_chains_of_groups() -> Any:
    inner = [chain(echo.s(i), group(add.s(1), add.s(2))) for i in range(2)]
    return group(inner).delay().get(timeout=WITHIN)


@canvas
def a_body_that_is_a_chain() -> Any:
    return chord([echo.s(1), echo.s(2)], chain(total.s(), add.s(10))).delay().get(timeout=WITHIN)


@canvas
def a_body_that_is_a_group() -> Any:
    return chord([echo.s(1), echo.s(2)], group(total.s(), echo.s())).delay().get(timeout=WITHIN)


@canvas
def a_body_that_is_a_chord() -> Any:
    return chord([echo.s(1), echo.s(2)], chord([total.s(), total.s()], total.s())).delay().get(timeout=WITHIN)


@canvas
def chunks() -> Any:
    return add.chunks(zip(range(6), range(6), strict=True), 2).group().delay().get(timeout=WITHIN)


@canvas
def a_map() -> Any:
    return total.map([[1, 2], [3]]).delay().get(timeout=WITHIN)


@canvas
def a_starmap() -> Any:
    return add.starmap([(1, 2), (3, 4)]).delay().get(timeout=WITHIN)


@canvas
def a_group_that_is_restored() -> Any:
    result = group(echo.s(1), echo.s(2)).delay()
    result.save()
    restored = type(result).restore(result.id, app=echo.app)
    return [restored == result, restored.get(timeout=WITHIN)]


# values that JSON lacks

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
    return chord([long.s(2_048)] * 160, length.s()).delay().get(timeout=4 * WITHIN)


# what a handler returns


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


# failures


@canvas
def an_exception_of_the_handlers_own() -> Any:
    result = refuse.delay(number=3)
    answer = raised(result)
    return [answer, isinstance(result.result, OrderError), "OrderError" in result.traceback]


@canvas
def a_failing_chain() -> Any:
    return raised(chain(echo.s(1), refuse.s(), echo.s()).delay())


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
def what_follows_a_failed_chord() -> Any:
    result = chain(group(echo.s(1), refuse.s()), total.s(), echo.s()).delay()
    answer = raised(echo.AsyncResult(result.id))
    return [*answer[:2], answer[3]]


@canvas
def a_failing_body() -> Any:
    return raised(chord([echo.s(1), echo.s(2)], refuse.s()).delay())


# typed payloads


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


def answers(app: Any, names: list[str]) -> dict[str, Any]:
    """The answers to these canvases on one app; what goes wrong is an answer, too."""
    app.set_default()
    app.set_current()
    found = {}
    for name in names or list(CANVASES):
        try:
            found[name] = json.loads(json.dumps(CANVASES[name]()))
        except Exception as error:  # noqa: BLE001 - the other one must give the same
            found[name] = f"{type(error).__name__}: {error}"
    return found
