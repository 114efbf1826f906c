"""A client that is closed while others ask by it: no connection that was just being made is left open."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx2
import pytest

from celeriac.client import ApiError, AsyncClient, Client

URL, TOKEN = "http://127.0.0.1:9", "a-token"


def nothing() -> httpx2.Response:
    """The answer for a job that is not there."""
    return httpx2.Response(404, json={"code": "job_not_found", "status": 404})


class Held(httpx2.BaseTransport):
    """Answers when it is let, and notes whether it was closed before that."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()
        self.is_closed = self.was_closed = False

    def handle_request(self, _request: httpx2.Request) -> httpx2.Response:
        self.asked.set()
        assert self.go.wait(10)
        self.was_closed = self.is_closed
        return nothing()

    def close(self) -> None:
        self.is_closed = True


def test_close_waits_for_what_other_threads_ask() -> None:
    """A client is closed when other threads have their answers; whoever asks after that is told so."""
    transport = Held()
    client = Client(URL, TOKEN, transport=transport)
    with ThreadPoolExecutor() as threads:
        asking = threads.submit(client.get, uuid4())
        assert transport.asked.wait(10)
        closing = threads.submit(client.close)
        with pytest.raises(TimeoutError):
            closing.result(0.2)
        with pytest.raises(RuntimeError, match="closed"):
            client.get(uuid4())
        transport.go.set()
        closing.result(10)
        with pytest.raises(ApiError, match="404"):
            asking.result(10)
    assert (transport.was_closed, transport.is_closed) == (False, True)


class AsyncHeld(httpx2.AsyncBaseTransport):
    """The same in an event loop."""

    def __init__(self) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        self.is_closed = self.was_closed = False

    async def handle_async_request(self, _request: httpx2.Request) -> httpx2.Response:
        self.asked.set()
        await asyncio.wait_for(self.go.wait(), 10)
        self.was_closed = self.is_closed
        return nothing()

    async def aclose(self) -> None:
        self.is_closed = True


def test_aclose_waits_for_what_other_tasks_ask() -> None:
    """An asynchronous client is closed when other tasks have their answers, too."""

    async def close() -> tuple[bool, bool]:
        transport = AsyncHeld()
        client = AsyncClient(URL, TOKEN, transport=transport)
        asking = asyncio.create_task(client.get(uuid4()))
        await transport.asked.wait()
        closing = asyncio.create_task(client.aclose())
        await asyncio.wait([closing], timeout=0.2)
        assert not closing.done()
        with pytest.raises(RuntimeError, match="closed"):
            await client.get(uuid4())
        transport.go.set()
        await closing
        with pytest.raises(ApiError, match="404"):
            await asking
        return transport.was_closed, transport.is_closed

    assert asyncio.run(close()) == (False, True)


def test_close_waits_no_longer_than_it_says() -> None:
    """A server that does not answer keeps a client from nothing."""
    transport = Held()
    client = Client(URL, TOKEN, transport=transport)
    with ThreadPoolExecutor() as threads:
        asking = threads.submit(client.get, uuid4())
        assert transport.asked.wait(10)
        client.close()
        assert transport.is_closed
        transport.go.set()
        with pytest.raises(ApiError):
            asking.result(10)
