"""What both clients share: a request is written once, as steps, which a thread or an event loop takes.

A method of a class of requests is a generator: it yields a step, is sent what that brings, and returns the value.
`call` makes of it a method that returns the value in `Client`, and a coroutine in `AsyncClient`; `listing` an iterator
of either kind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload
from uuid import UUID

if TYPE_CHECKING:
    from celeriac.client.awaiting import AsyncSender
    from celeriac.client.sending import Sender

P = ParamSpec("P")
Value = TypeVar("Value")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; its answer is a yes, or "not modified".

    `is_stream`: its body is left to be read, by lines or by pieces of bytes, until the next one or the end.
    """

    method: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    is_stream: bool = False
    by_lines: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ReadOn:
    """The next line or piece of the body that was left to be read; None at its end."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Begin to listen for news of a job, before the first look at it."""

    job_id: UUID


@dataclass(frozen=True, slots=True)
class AwaitNews:
    """Wait for news of that job, `seconds` at most; while no events come in, `otherwise` many."""

    seconds: float
    otherwise: float


@dataclass(frozen=True, slots=True)
class Give(Generic[Item]):
    """Hand this to whoever iterates."""

    item: Item


@dataclass(frozen=True, slots=True)
class Ended:
    """The steps are over, with this value."""

    value: Any


Step = Ask | Pause | ReadOn | Watch | AwaitNews
Steps = Generator[Step, Any, Value]
Flow = Generator[Step | Give[Item], Any, None]


class call(Generic[P, Value]):  # noqa: N801 - a decorator
    """A request of both clients, whose steps are these."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[Value]]) -> None:
        @wraps(steps)
        def called(client: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
            return client.take(steps(client, *args, **kwargs))

        self._called: Any = called

    @overload
    def __get__(self, client: None, owner: type) -> Callable[..., Any]: ...

    @overload
    def __get__(self, client: Sender, owner: type) -> Callable[P, Value]: ...

    @overload
    def __get__(self, client: AsyncSender, owner: type) -> Callable[P, Coroutine[Any, Any, Value]]: ...

    def __get__(self, client: Any, owner: type) -> Any:
        """The method of a client, or of its class."""
        return self._called.__get__(client, owner)


class listing(Generic[P, Item]):  # noqa: N801 - a decorator
    """What is iterated over with both clients: `for` with one, `async for` with the other."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[Item]]) -> None:
        @wraps(flow)
        def called(client: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
            return client.iterate(flow(client, *args, **kwargs))

        self._called: Any = called

    @overload
    def __get__(self, client: None, owner: type) -> Callable[..., Any]: ...

    @overload
    def __get__(self, client: Sender, owner: type) -> Callable[P, Iterator[Item]]: ...

    @overload
    def __get__(self, client: AsyncSender, owner: type) -> Callable[P, AsyncIterator[Item]]: ...

    def __get__(self, client: Any, owner: type) -> Any:
        """The method of a client, or of its class."""
        return self._called.__get__(client, owner)


def picked(steps: Steps[Value], pick: Callable[[Value], Item]) -> Steps[Item]:
    """The same, and of its value what `pick` takes."""
    return pick((yield from steps))


def advance(steps: Generator[Any, Any, Any], brought: Any, error: Exception | None) -> Any:
    """The next step, or Ended: what the last one has brought is sent to the steps, or what it has raised."""
    try:
        return steps.send(brought) if error is None else steps.throw(error)
    except StopIteration as end:
        return Ended(end.value)
