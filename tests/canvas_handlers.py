"""Tasks and canvases that mean the same on plain Celery and here; each canvas is a question with one answer."""

# ruff: noqa: D103 - the name of a canvas says what it is
# The stubs know one kind of result.
# mypy: disable-error-code="attr-defined,union-attr,call-overload,untyped-decorator"

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any
from uuid import UUID

import pydantic
from celery import Task, chain, chord, group, shared_task, signature
from celery.exceptions import Ignore
from celery.result import allow_join_result

WITHIN = 40  # seconds in which every canvas must have ended
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


@shared_task(name="canvas.replace_after_total", bind=True)
def replace_after_total(self: Task[..., Any], values: Any) -> Any:
    """Be replaced by a group that goes on with the sum of the values."""
    return self.replace(group(add.s(sum(values), 1), add.s(sum(values), 2)))


@shared_task(name="canvas.replace_later", bind=True)
def replace_later(self: Task[..., Any], wanted: Any) -> Any:
    """Ask for another attempt, which is replaced."""
    if self.request.retries == 0:
        raise self.retry(countdown=0.01)
    return self.replace(signature(wanted))


@shared_task(name="canvas.count_down", bind=True)
def count_down(self: Task[..., Any], number: int) -> Any:
    """Be replaced by oneself with a smaller number, down to 0."""
    return self.replace(count_down.s(number - 1)) if number else [self.request.retries, "end"]


@shared_task(name="canvas.note")
def note(task_id: str, path: str = "", role: str = "") -> None:
    """An errback of the old style: it is a task, and gets an id."""
    with Path(path).open("a") as file:
        file.write(f"{role} id {len(task_id)}\n")


@shared_task(name="canvas.note_error")
def note_error(request: Any, exc: Exception, traceback: Any, path: str = "", role: str = "") -> None:
    """An errback of the new style: it is called with the request and the exception."""
    with Path(path).open("a") as file:
        file.write(f"{role} {type(exc).__name__} {len(request.id)}\n")


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


def noted(ask: Callable[[Callable[..., Any]], Any], count: int) -> list[str]:
    """What the errbacks of a canvas have written when there are `count` lines; nothing may come after that."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "notes"
        ask(lambda task, role: task.s(path=str(path), role=role))
        deadline = monotonic() + WITHIN
        while monotonic() < deadline and (not path.exists() or len(path.read_text().splitlines()) < count):
            sleep(0.02)
        sleep(0.2)
        return sorted(path.read_text().splitlines()) if path.exists() else []


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
def two_groups_in_a_row_and_a_task() -> Any:
    steps = echo.si(1) | group(add.s(1), add.s(1)) | group(total.s(), total.s()) | total.s()
    return steps.delay().get(timeout=WITHIN)


@canvas
def three_groups_in_a_row_and_two_tasks() -> Any:
    twice = group(total.s(), total.s())
    steps = echo.si(1) | group(add.s(1), add.s(1)) | twice | twice.clone() | total.s() | add.s(1)
    return steps.delay().get(timeout=WITHIN)


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
    return chord([long.s(2_048)] * 160, length.s()).delay().get(timeout=WITHIN)


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
def a_failing_header_whose_result_has_parents() -> Any:
    return raised(chord([echo.s(1), refuse.s()], total.s()).delay())[:3]


@canvas
def a_header_that_begins_with_a_chord() -> Any:
    return chord([chord([echo.s(1), echo.s(2)], total.s()), echo.s(3)], total.s()).delay().get(timeout=WITHIN)


@typed(["celery.exceptions", "ChordError", "FAILURE"])  # for which plain Celery waits for ever
def a_failing_chord_in_a_header() -> Any:
    result = chord([chord([echo.s(1), refuse.s()], total.s()), echo.s(2)], total.s()).delay()
    answer = raised(echo.AsyncResult(result.id))
    return [*answer[:2], answer[3]]


@canvas
def what_follows_a_failed_chord() -> Any:
    result = chain(group(echo.s(1), refuse.s()), total.s(), echo.s()).delay()
    answer = raised(echo.AsyncResult(result.id))
    return [*answer[:2], answer[3]]


@canvas
def a_failing_body() -> Any:
    return raised(chord([echo.s(1), echo.s(2)], refuse.s()).delay())


# replacements


@canvas
def replaced_by_a_task() -> Any:
    result = replace.delay(add.s(1, 2))
    return [result.get(timeout=WITHIN), result.state]


@canvas
def replaced_by_a_chain() -> Any:
    return replace.delay(chain(add.s(1, 2), add.s(3), add.s(4))).get(timeout=WITHIN)


@canvas
def replaced_by_a_group() -> Any:
    return replace.delay(group(add.s(1, 2), add.s(3, 4))).get(timeout=WITHIN)


@canvas
def replaced_by_a_chord() -> Any:
    return replace.delay(chord([add.s(1, 2), add.s(3, 4)], total.s())).get(timeout=WITHIN)


@canvas
def replaced_by_a_chain_that_ends_in_a_group() -> Any:
    return replace.delay(chain(echo.s(1), group(add.s(1), add.s(2)))).get(timeout=WITHIN)


@canvas
def replaced_by_a_chain_with_a_group_in_it() -> Any:
    return replace.delay(chain(echo.s(1), group(add.s(1), add.s(2)), total.s())).get(timeout=WITHIN)


@canvas
def replaced_by_itself_again_and_again() -> Any:
    return count_down.delay(5).get(timeout=WITHIN)


@canvas
def replaced_after_a_retry() -> Any:
    return replace_later.delay(chain(add.s(1, 2), add.s(3))).get(timeout=WITHIN)


@canvas
def replaced_by_a_task_that_is_retried() -> Any:
    return replace.delay(again.s(1, 2)).get(timeout=WITHIN)


@canvas
def replaced_at_the_beginning_of_a_chain() -> Any:
    return chain(replace.s(add.s(1, 2)), add.s(10), add.s(100)).delay().get(timeout=WITHIN)


@canvas
def replaced_within_a_chain() -> Any:
    result = chain(echo.s(1), replace_after.s(), add.s(100)).delay()
    return [result.get(timeout=WITHIN), result.parent.get(timeout=WITHIN)]


@canvas
def replaced_by_a_group_within_a_chain() -> Any:
    return chain(echo.s(1), replace.si(group(echo.s(1), echo.s(2))), total.s(), add.s(1)).delay().get(timeout=WITHIN)


@canvas
def replaced_by_a_chord_within_a_chain() -> Any:
    inner = chord([add.s(1, 2), add.s(3, 4)], total.s())
    return chain(echo.s(1), replace.si(inner), add.s(1)).delay().get(timeout=WITHIN)


@canvas
def replaced_at_the_end_of_a_chain() -> Any:
    return chain(echo.s(1), replace_after.s()).delay().get(timeout=WITHIN)


@canvas
def replaced_in_a_group() -> Any:
    return group(echo.s(1), replace.s(add.s(1, 2)), replace.s(chain(echo.s(3), add.s(1)))).delay().get(timeout=WITHIN)


@canvas
def replaced_in_a_header() -> Any:
    header = [echo.s(1), replace.s(add.s(1, 2)), replace.s(chain(echo.s(3), add.s(1)))]
    return chord(header, echo.s()).delay().get(timeout=WITHIN)


@canvas
def replaced_by_groups_and_chords_in_a_header() -> Any:
    header = [replace.s(group(echo.s(1), echo.s(2))), echo.s(3), replace.s(chord([echo.s(4), echo.s(5)], total.s()))]
    return chord(header, echo.s()).delay().get(timeout=WITHIN)


@canvas
def replaced_in_a_chain_in_a_header() -> Any:
    header = [chain(echo.s(1), replace_after.s(), add.s(100)), chain(echo.s(2), replace_after.s())]
    return chord(header, total.s()).delay().get(timeout=WITHIN)


@canvas
def a_body_that_is_replaced() -> Any:
    return chord([echo.s(1), echo.s(2)], replace_after_total.s()).delay().get(timeout=WITHIN)


@canvas
def replaced_with_a_link() -> Any:
    result = replace.apply_async((add.s(1, 2),), link=add.s(10))
    return [result.get(timeout=WITHIN), [child.get(timeout=WITHIN) for child in result.children]]


@canvas
def a_replacement_that_fails() -> Any:
    return raised(replace.delay(refuse.s(number=5)))


@canvas
def a_replacement_that_fails_within_a_chain() -> Any:
    result = chain(replace.s(chain(echo.s(1), refuse.s(number=5), echo.s())), echo.s()).delay()
    return [raised(echo.AsyncResult(result.parent.id)), raised(echo.AsyncResult(result.id))]


@canvas
def a_replacement_that_fails_in_a_header() -> Any:
    result = chord([echo.s(1), replace.s(chain(echo.s(2), refuse.s()))], total.s()).delay()
    answer = raised(echo.AsyncResult(result.id))
    return [*answer[:2], answer[3]]


@canvas
def types_through_a_replacement() -> Any:
    return replace.delay(types.s(VALUE, more=VALUE)).get(timeout=WITHIN)


@canvas
def joined_to_a_chord() -> Any:
    return chord([join.s(5), echo.s(1), join.s(7)], total.s()).delay().get(timeout=WITHIN)


# errbacks


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
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(names, pool.map(lambda name: _answer(app, name), names), strict=True))


def _answer(app: Any, name: str) -> Any:
    app.set_current()
    try:
        return json.loads(json.dumps(CANVASES[name]()))
    except Exception as error:  # noqa: BLE001 - the other one must give the same
        return f"{type(error).__name__}: {error}"
