"""A stream as server-sent events: one write for all that is there, a sign of life in between, and an end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.live.hub import Chunk, Hub, Stream
from api.live.messages import RESYNC_SSE

HEARTBEAT = 15.0  # seconds without a message
RECONNECT = (1500, 3000)  # milliseconds until a client comes back, so that not all of them come at once
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # that proxies pass on what there is


class EventStream(Response):
    """The answer that does not end: what was `missed`, and from then on what happens.

    `missed` None: that cannot be told any more. `expires`: seconds since the epoch at which the rights end.
    """

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, stream: Stream, missed: Sequence[Chunk] | None, *, expires: float) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._hub = hub
        self._stream = stream
        self._missed = missed
        self._expires = expires

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        watch = asyncio.create_task(self._until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await _write(send, self._opening())
            await self._tell(send)
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._hub.leave(self._stream)
            watch.cancel()

    def _opening(self) -> bytes:
        """Also where the client stands before the first message, which it says when it comes back."""
        retry = f"retry: {random.randint(*RECONNECT)}\n\n".encode()  # noqa: S311 - no secret
        missed = [RESYNC_SSE] if self._missed is None else [chunk.sse for chunk in self._missed]
        return b"".join([retry, *missed, f"id: {self._stream.after}\n\n".encode()])

    async def _tell(self, send: Send) -> None:
        while not self._stream.is_over:
            left = self._expires - time.time()
            if left <= 0:
                return
            taken = await self._stream.take(min(HEARTBEAT, left))
            if self._stream.is_over:
                return
            body = (RESYNC_SSE if taken.resync else b"") + taken.sse
            await _write(send, body or self._heartbeat())

    def _heartbeat(self) -> bytes:
        """A comment, with the id up to which there was nothing: so that a quiet stream resumes at once."""
        reached = self._hub.reached(self._stream)
        return b": ping\n\n" if reached is None else f": ping\nid: {reached}\n\n".encode()

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._stream.end()


async def _write(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
