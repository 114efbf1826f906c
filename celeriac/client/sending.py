"""How `Client` takes the steps of its requests: in the caller's thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from typing import Any, Self

import httpx2

from celeriac.client.calling import (
    Ask,
    AwaitNews,
    Ended,
    Flow,
    Give,
    Item,
    Pause,
    ReadOn,
    Step,
    Steps,
    Value,
    Watch,
    advance,
)
from celeriac.client.transport import ANSWER_TIMEOUT, PATIENCE, connecting, errors_told, is_fine, problem
from celeriac.client.watching import END, Ears, ThreadWatcher


class Sender:
    """Sends requests with a token; see Client."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        patience: float = PATIENCE,
        timeout: float = ANSWER_TIMEOUT,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.patience = patience
        self.timeout = timeout
        self._http = httpx2.Client(timeout=timeout, **connecting(url, token, transport))
        self._asking = 0  # requests of any thread that have no answer yet
        self._answered = threading.Condition()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Whatever waits with it, in any thread, ends. A connection that is just being made would outlive it."""
        with self._answered:
            self._is_closed = True
            self._answered.wait_for(lambda: self._asking == 0, END)
        self._http.close()

    @cached_property
    def ears(self) -> Ears:
        """Who hears for all that wait with this client."""
        return Ears(self)

    def taking(self) -> Taking:
        """Who takes the steps of one call."""
        return Taking(self)

    def take(self, steps: Steps[Value]) -> Value:
        """Take these steps; returns their value."""
        with closing(steps), Taking(self) as taking:
            ended: Ended = taking.go_on(steps)
            return ended.value  # type: ignore[no-any-return]  # of the steps

    def iterate(self, flow: Flow[Item]) -> Iterator[Item]:
        """Take these steps while somebody asks for what they give."""
        with closing(flow), Taking(self) as taking:
            while isinstance(given := taking.go_on(flow), Give):
                yield given.item

    def ask(self, ask: Ask) -> httpx2.Response:
        """The answer, if it is a yes. Raises ApiError."""
        with errors_told(), self._counted():
            # A file may be in a bucket, at an address of another server; httpx2 does not show that one the token.
            built = self._http.build_request(ask.method, ask.path, **ask.options)
            answer = self._http.send(built, stream=ask.is_stream, follow_redirects=ask.is_stream)
            if is_fine(answer):
                return answer
            with closing(answer):
                answer.read()
        raise problem(answer)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._answered:
            if self._is_closed:
                raise RuntimeError("the client is closed")
            self._asking += 1
        try:
            yield
        finally:
            with self._answered:
                self._asking -= 1
                self._answered.notify_all()


class Taking:
    """The steps of one call, and what is open for them."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._open = ExitStack()
        self._rest: Iterator[Any] = iter(())
        self.answer: httpx2.Response | None = None  # whose body is read
        self._watcher: ThreadWatcher | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def go_on(self, steps: Any) -> Any:
        """Take steps until one of them gives something, or the last one is taken."""
        brought: Any = None
        error: Exception | None = None
        while not isinstance(step := advance(steps, brought, error), Give | Ended):
            brought = error = None
            try:
                brought = self._take(step)
            except Exception as raised:  # noqa: BLE001 - the steps are told of it
                error = raised
        return step

    def _take(self, step: Step) -> Any:
        match step:
            case Ask():
                return self._ask(step)
            case Pause():
                time.sleep(step.seconds)
            case ReadOn():
                return next(self._rest, None)
            case Watch():
                self._watcher = self._open.enter_context(self._sender.ears.watcher(step.job_id))
            case AwaitNews():
                assert self._watcher is not None  # noqa: S101 - they watch before
                self._watcher.wait(step.seconds, step.otherwise)
        return None

    def _ask(self, ask: Ask) -> httpx2.Response:
        if not ask.is_stream:
            return self._sender.ask(ask)
        self._open.close()  # the one before it
        self.answer = answer = self._open.enter_context(closing(self._sender.ask(ask)))
        self._rest = answer.iter_lines() if ask.by_lines else answer.iter_bytes()
        return answer
