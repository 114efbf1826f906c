"""Waiting by the events of one stream, whoever waits: a look at a job's status comes when something has happened."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

import httpx2

from celeriac.client.calling import Ask, Pause, ReadOn, Steps
from celeriac.client.streaming import Stream
from celeriac.client.transport import EVENTS, PAUSE, ApiError, silence

if TYPE_CHECKING:
    from celeriac.client.awaiting import AsyncSender
    from celeriac.client.sending import Sender

LAST_RESORT = 10.0  # seconds after which somebody who waits looks without an event
PATIENCE = 5.0  # seconds for the stream to begin; until then, and without one, they look as the server says
END = 2.0  # seconds for the thread to end, and for requests of a client that is closed to be answered

News = TypeVar("News", threading.Event, asyncio.Event)


class Watcher(Generic[News]):
    """Somebody who waits for news of a job."""

    def __init__(self, hearing: Hearing[News], job_id: UUID, news: News) -> None:
        self._hearing: Hearing[News] = hearing
        self.job_id = str(job_id)
        self.news: News = news

    def limit(self, seconds: float, otherwise: float) -> float:
        """For how long at most."""
        return max(0.0, min(seconds, LAST_RESORT if self._hearing.hears else otherwise))


class Hearing(Generic[News]):
    """One stream of events for all who wait with a client: it is open while somebody does.

    A stream that is refused or lost only makes them look more seldom than they could: it is never an error of theirs.
    """

    def __init__(self, begun: News) -> None:
        self.watchers: set[Watcher[News]] = set()
        self.begun: News = begun  # the stream is open, or refused
        self.hears = False
        self.is_over = False

    def tell(self, job_id: str | None) -> None:
        """Something has happened to this job; None: perhaps to any."""
        for watcher in tuple(self.watchers):
            if job_id in (None, watcher.job_id):
                watcher.news.set()

    def listen(self, timeout: float) -> Steps[None]:
        """Hear events, by a stream that is opened again when it is lost, until nobody waits any more."""
        stream = Stream(None)
        while not self.is_over:
            try:
                yield Ask(
                    "GET",
                    EVENTS,
                    {"headers": stream.headers, "timeout": silence(timeout)},
                    is_stream=True,
                    by_lines=True,
                )
                yield from self._hear(stream)
            except ApiError as error:
                if not error.is_temporary:
                    break  # refused: a stream too many, or no right to it
            except (httpx2.TransportError, httpx2.StreamError, ValueError):
                pass  # lost, or no event of ours: begun again
            except RuntimeError:
                break  # the client was closed: whoever waits with it is told by a look of their own
            finally:
                self.hears = False
                self.begun.set()
            yield Pause(PAUSE)

    def _hear(self, stream: Stream) -> Steps[None]:
        self.hears = True
        self.begun.set()
        self.tell(None)  # what happened before it was open is seen by looking
        while not self.is_over and (line := (yield ReadOn())) is not None:
            event = stream.read(line)
            if event is not None:
                self.tell(None if event.name == "resync" else str(event.data.get("jobId")))


class Ears:
    """Those of Client: a thread hears."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._lock = threading.Lock()
        self.hearing: _Thread | None = None

    @contextmanager
    def watcher(self, job_id: UUID) -> Iterator[ThreadWatcher]:
        """Within it events of the job are news; those before its first look are in what that look sees."""
        with self._lock:
            if self.hearing is None:
                self.hearing = _Thread(self._sender)
            hearing = self.hearing
            watcher = ThreadWatcher(hearing, job_id, threading.Event())
            hearing.watchers.add(watcher)
        hearing.begun.wait(PATIENCE)
        try:
            yield watcher
        finally:
            with self._lock:
                hearing.watchers.discard(watcher)
                if not hearing.watchers and self.hearing is hearing:
                    self.hearing = None
                    hearing.end()


class ThreadWatcher(Watcher[threading.Event]):
    """Who waits in a thread."""

    def wait(self, seconds: float, otherwise: float) -> None:
        """Return at news of the job, and after `seconds` at the latest; without a stream `otherwise` many."""
        self.news.wait(self.limit(seconds, otherwise))
        self.news.clear()


class _Thread(Hearing[threading.Event]):
    def __init__(self, sender: Sender) -> None:
        super().__init__(threading.Event())
        self._taking = sender.taking()
        self._thread = threading.Thread(
            target=self._run, args=(sender.timeout,), name="events of the client", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """Close the stream. Closing the socket alone would leave the thread in its read until the next heartbeat."""
        self.is_over = True
        answer = self._taking.answer
        if answer is not None and (stream := answer.extensions.get("network_stream")) is not None:
            with suppress(OSError, AttributeError):
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        if self._thread is not threading.current_thread():
            self._thread.join(END)

    def _run(self, timeout: float) -> None:
        with self._taking as taking:
            taking.go_on(self.listen(timeout))


class AsyncEars:
    """Those of AsyncClient: a task hears."""

    def __init__(self, sender: AsyncSender) -> None:
        self._sender = sender
        self.hearing: Hearing[asyncio.Event] | None = None
        self._task: asyncio.Task[Any] | None = None

    @asynccontextmanager
    async def watcher(self, job_id: UUID) -> AsyncIterator[AsyncWatcher]:
        """As that of Ears."""
        if self.hearing is None:
            self.hearing = Hearing(asyncio.Event())
            self._task = asyncio.create_task(self._sender.take(self.hearing.listen(self._sender.timeout)))
        hearing, task = self.hearing, self._task
        watcher = AsyncWatcher(hearing, job_id, asyncio.Event())
        hearing.watchers.add(watcher)
        try:
            await set_within(hearing.begun, PATIENCE)
            yield watcher
        finally:
            hearing.watchers.discard(watcher)
            if not hearing.watchers and self.hearing is hearing:
                self.hearing = None
                if task is not None:
                    task.cancel()
                    await asyncio.wait([task])


class AsyncWatcher(Watcher[asyncio.Event]):
    """Who waits in an event loop."""

    async def wait(self, seconds: float, otherwise: float) -> None:
        """As that of ThreadWatcher."""
        await set_within(self.news, self.limit(seconds, otherwise))
        self.news.clear()


async def set_within(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, after so long at the latest."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):  # `wait_for` of Python 3.11 loses a cancel that comes with the event
            await event.wait()
