"""How `AsyncClient` takes the steps of its requests: in the caller's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, closing, contextmanager
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
from celeriac.client.watching import END, AsyncEars, AsyncWatcher, set_within


class AsyncSender:
    """Sends requests with a token; see AsyncClient."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        patience: float = PATIENCE,
        timeout: float = ANSWER_TIMEOUT,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.patience = patience
        self.timeout = timeout
        self._http = httpx2.AsyncClient(timeout=timeout, **connecting(url, token, transport))
        self._asking = 0  # requests of any task that have no answer yet
        self._answered = asyncio.Event()
        self._answered.set()
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None  # of the connections that are kept

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Whatever waits with it ends. A connection that is just being made would outlive it."""
        self._is_closed = True
        await set_within(self._answered, END)
        await self._http.aclose()

    @cached_property
    def ears(self) -> AsyncEars:
        """Who hears for all that wait with this client."""
        return AsyncEars(self)

    async def take(self, steps: Steps[Value]) -> Value:
        """Take these steps; returns their value."""
        with closing(steps):
            async with _Taking(self) as taking:
                ended: Ended = await taking.go_on(steps)
                return ended.value  # type: ignore[no-any-return]  # of the steps

    async def iterate(self, flow: Flow[Item]) -> AsyncIterator[Item]:
        """Take these steps while somebody asks for what they give."""
        with closing(flow):
            async with _Taking(self) as taking:
                while isinstance(given := await taking.go_on(flow), Give):
                    yield given.item

    async def ask(self, ask: Ask) -> httpx2.Response:
        """The answer, if it is a yes. Raises ApiError."""
        with errors_told(), self._counted():
            # A file may be in a bucket, at an address of another server; httpx2 does not show that one the token.
            options = dict(ask.options)
            if "content" in options:  # of a file
                options["content"] = _read_apart(options["content"])
            built = self._http.build_request(ask.method, ask.path, **options)
            answer = await self._http.send(built, stream=ask.is_stream, follow_redirects=ask.is_stream)
            if is_fine(answer):
                return answer
            async with aclosing(answer):
                await answer.aread()
        raise problem(answer)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._is_closed:
            raise RuntimeError("the client is closed")
        self._loop = self._loop or asyncio.get_running_loop()
        if self._loop is not asyncio.get_running_loop():
            raise RuntimeError("the client is for the event loop that used it first: make another one in this loop")
        self._asking += 1
        self._answered.clear()
        try:
            yield
        finally:
            self._asking -= 1
            if not self._asking:
                self._answered.set()


class _Taking:
    """The steps of one call, and what is open for them."""

    def __init__(self, sender: AsyncSender) -> None:
        self._sender = sender
        self._open = AsyncExitStack()
        self._rest: AsyncIterator[Any]
        self._watcher: AsyncWatcher | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def go_on(self, steps: Any) -> Any:
        """Take steps until one of them gives something, or the last one is taken."""
        brought: Any = None
        error: Exception | None = None
        while not isinstance(step := advance(steps, brought, error), Give | Ended):
            brought = error = None
            try:
                brought = await self._take(step)
            except Exception as raised:  # noqa: BLE001 - the steps are told of it
                error = raised
        return step

    async def _take(self, step: Step) -> Any:
        match step:
            case Ask():
                return await self._ask(step)
            case Pause():
                await asyncio.sleep(step.seconds)
            case ReadOn():
                return await anext(self._rest, None)
            case Watch():
                self._watcher = await self._open.enter_async_context(self._sender.ears.watcher(step.job_id))
            case AwaitNews():
                assert self._watcher is not None  # noqa: S101 - they watch before
                await self._watcher.wait(step.seconds, step.otherwise)
        return None

    async def _ask(self, ask: Ask) -> httpx2.Response:
        if not ask.is_stream:
            return await self._sender.ask(ask)
        await self._open.aclose()  # the one before it
        answer = await self._open.enter_async_context(aclosing(await self._sender.ask(ask)))
        self._rest = answer.aiter_lines() if ask.by_lines else answer.aiter_bytes()
        return answer


async def _read_apart(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The same, each read in a thread."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
