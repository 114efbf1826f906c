"""Clients of live events: what a browser's EventSource does, and a WebSocket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from websockets.sync.client import ClientConnection, connect

from tests.api.calling import PLAIN, Api, Caller

PATIENCE = 10.0  # seconds for the next event


@dataclass(frozen=True)
class Told:
    id: int | None
    name: str
    data: dict[str, Any]


class Listener:
    """Reads a stream of server-sent events, as the HTML standard has it."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.last_id: str | None = None
        self._lines = response.iter_lines()

    def next(self) -> Told | None:
        """The next event; None when the stream is over."""
        name, data = "message", ""
        for line in self._lines:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "id":
                self.last_id = value
            elif field == "event":
                name = value
            elif field == "data":
                data += value
            elif not line and data:
                return Told(int(self.last_id) if self.last_id else None, name, json.loads(data))
            elif not line:
                name = "message"
        return None

    def take(self, count: int) -> list[Told]:
        found = [self.next() for _ in range(count)]
        return [told for told in found if told is not None]

    def begin(self) -> None:
        """Wait until what was missed is told."""
        while self.last_id is None:
            line = next(self._lines)
            if line.startswith("id:"):
                self.last_id = line.removeprefix("id:").strip()


@contextmanager
def listening(
    caller: Caller, *, headers: dict[str, str] | None = None, api: Api | None = None, **params: Any
) -> Iterator[Listener]:
    """A stream of what happens from now on, which has begun; with `Last-Event-ID` of what was missed as well."""
    given = {**({} if "ticket" in params else caller.headers), **(headers or {})}
    with (
        httpx2.Client(verify=PLAIN, base_url=(api or caller.api).url, timeout=PATIENCE) as client,
        client.stream("GET", "/v1/events", params=params, headers=given) as response,
    ):
        assert response.status_code == 200, response.read()
        listener = Listener(response)
        if not headers and "lastEventId" not in params:
            listener.begin()
        yield listener


@contextmanager
def conversing(caller: Caller, query: str = "", **headers: str) -> Iterator[ClientConnection]:
    """A WebSocket. Raises InvalidStatus with the answer to a handshake that is refused."""
    url = caller.api.url.replace("http://", "ws://") + f"/v1/ws{query}"
    given = headers if headers or "ticket=" in query else caller.headers
    with connect(url, additional_headers=given, open_timeout=PATIENCE, proxy=None) as connection:
        yield connection


def received(connection: ClientConnection) -> Told:
    message = json.loads(connection.recv(PATIENCE))
    return Told(message.get("id"), message["event"], message["data"])
