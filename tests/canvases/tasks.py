"""Tasks that mean the same on plain Celery and here."""

# The stubs know one kind of result.
# mypy: disable-error-code="attr-defined,union-attr,call-overload,untyped-decorator"

from __future__ import annotations

from pathlib import Path
from time import sleep
from typing import Any

import pydantic
from celery import Task, chain, group, shared_task, signature
from celery.exceptions import Ignore
from celery.result import allow_join_result


class OrderError(Exception):
    """An exception with arguments of its own."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(number, reason)
        self.number = number


class Order(pydantic.BaseModel):
    number: int
    words: list[str] = []


@shared_task(name="canvas.echo")
def echo(value: Any = None) -> Any:
    return value


@shared_task(name="canvas.add")
def add(x: Any, y: Any) -> Any:
    return x + y


@shared_task(name="canvas.total")
def total(numbers: list[Any]) -> Any:
    return sum(numbers)


@shared_task(name="canvas.refuse", circuit_failures=0)
def refuse(*_: Any, number: int = 7) -> None:
    """Raise an exception with arguments."""
    raise OrderError(number, "no")


@shared_task(name="canvas.order", pydantic=True)
def order(payload: Order) -> dict[str, Any]:
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


@shared_task(name="canvas.start_and_refuse", bind=True, circuit_failures=0)
def start_and_refuse(self: Task[..., Any], value: Any) -> Any:
    """Start another task and fail."""
    echo.delay(value)
    raise OrderError(value, "no")


@shared_task(name="canvas.name", bind=True)
def name(self: Task[..., Any], task_id: str) -> str:
    """An errback of the old style, which returns what it was called with."""
    return task_id


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
def join(self: Task[..., Any], wanted: Any) -> Any:
    """Add a canvas to the own chord."""
    self.add_to_chord(signature(wanted))
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
    return "x" * size


@shared_task(name="canvas.length")
def length(texts: list[str]) -> int:
    return sum(map(len, texts))


@shared_task(name="canvas.ignore")
def ignore() -> None:
    raise Ignore


@shared_task(name="canvas.note_value")
def note_value(value: Any, path: str = "", role: str = "") -> None:
    """A link: it is called with the result of what it follows."""
    with Path(path).open("a") as file:
        file.write(f"{role} {value}\n")


@shared_task(name="canvas.doze", circuit_failures=0)
def doze(seconds: float) -> None:
    """Sleep."""
    sleep(seconds)


@shared_task(name="canvas.told", bind=True)
def told(self: Task[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What Celery tells the body of its call."""
    request = self.request
    mark = (request.headers or {}).get("mark") or getattr(request, "mark", None)
    named = [request.shadow, request.retries, request.called_directly, request.is_eager]
    return [list(request.args or ()), request.kwargs, list(args), kwargs, mark, *named, request.id == request.root_id]


@shared_task(name="canvas.stamps", bind=True)
def stamps(self: Task[..., Any]) -> Any:
    """Say which stamps the call bears."""
    return [sorted(self.request.stamped_headers or ()), self.request.stamps]


@shared_task(name="canvas.note_stamps", bind=True)
def note_stamps(self: Task[..., Any], *_: Any, path: str = "", role: str = "") -> None:
    """A link or an errback that writes which stamps it bears."""
    with Path(path).open("a") as file:
        file.write(f"{role} {sorted(self.request.stamped_headers or ())} {self.request.stamps}\n")


@shared_task(name="canvas.retry_for_stamps", bind=True, circuit_failures=0)
def retry_for_stamps(self: Task[..., Any]) -> Any:
    """Ask for another attempt, which says which stamps it bears."""
    if self.request.retries == 0:
        raise self.retry(countdown=0.01)
    return [sorted(self.request.stamped_headers or ()), self.request.stamps]
