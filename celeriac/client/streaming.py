"""Server-sent events, as the HTML standard has them, read line by line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """What has happened to a job, a workflow or a schedule: its `name` and `data` are those of docs/events.md.

    `id`: behind which a stream can begin again; None before there is any. Of the name "resync", without data: events
    were left out, and the jobs have to be read anew.
    """

    id: int | None
    name: str
    data: Mapping[str, Any]


class Stream:
    """Reads the events of a stream, and remembers the `last` id, which comes without an event too."""

    def __init__(self, last: int | None) -> None:
        self.last = last
        self._name, self._data = "", ""

    @property
    def headers(self) -> dict[str, str]:
        """With which it goes on where it was lost."""
        self._begin()
        return {} if self.last is None else {"Last-Event-ID": str(self.last)}

    def read(self, line: str) -> Event | None:
        """The event that this line completes, if it does. Raises ValueError for what is no event of ours."""
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            event = Event(self.last, self._name, json.loads(self._data)) if self._data else None
            self._begin()
            return event
        if field == "id":
            self.last = int(value)
        elif field == "event":
            self._name = value
        elif field == "data":
            self._data += value
        return None

    def _begin(self) -> None:
        self._name, self._data = "", ""
