"""A stream over a WebSocket: each event is one message, JSON with its id, name and data."""

from __future__ import annotations

import asyncio
import time

import structlog
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from api.live.hub import Hub, Stream, Taken
from api.live.joining import Joined
from api.live.messages import RESYNC_TEXT, ready_text

PATIENCE = 60.0  # seconds between two looks at a stream on which nothing happens; the server's pings tell who is there
EXPIRED, LEAVING = 4401, 1001  # close codes: the rights are over, the server stops

log = structlog.get_logger(__name__)


async def talk(websocket: WebSocket, joined: Joined, *, expires: float) -> None:
    """Send events until the client goes, the rights end, or the server stops."""
    hub: Hub = websocket.app.state.hub
    began, stream = time.monotonic(), joined.stream
    watch: asyncio.Task[int] | None = None
    code = LEAVING
    try:
        await websocket.accept()
        watch = asyncio.create_task(_until_gone(websocket, stream))
        await _send_missed(websocket, joined)
        code = await _tell(websocket, stream, expires)
    except WebSocketDisconnect:
        pass
    finally:
        hub.leave(stream)
        if watch is not None and not watch.cancel():
            code = watch.result()
        log.info("websocket", path=websocket.url.path, code=code, ms=round((time.monotonic() - began) * 1000, 1))
    if websocket.application_state is WebSocketState.CONNECTED and websocket.client_state is WebSocketState.CONNECTED:
        await websocket.close(code)


async def _send_missed(websocket: WebSocket, joined: Joined) -> None:
    await _send_all(websocket, Taken(joined.missed or (), resync=joined.missed is None))
    await websocket.send_text(ready_text(joined.stream.after))


async def _tell(websocket: WebSocket, stream: Stream, expires: float) -> int:
    while not stream.is_over:
        left = expires - time.time()
        if left <= 0:
            return EXPIRED
        await _send_all(websocket, await stream.take(min(PATIENCE, left)))
    return EXPIRED if stream.is_denied else LEAVING


async def _send_all(websocket: WebSocket, taken: Taken) -> None:
    if taken.resync:
        await websocket.send_text(RESYNC_TEXT)
    for chunk in taken.chunks:
        for message in chunk.messages:
            await websocket.send_text(message.text)


async def _until_gone(websocket: WebSocket, stream: Stream) -> int:
    """The close code with which the connection ended."""
    while (message := await websocket.receive())["type"] != "websocket.disconnect":
        pass  # what a client says is nothing that we wait for
    stream.end()
    return int(message["code"])
