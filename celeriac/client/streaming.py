"""Server-sent events, as the HTML standard has them, read line by line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """What has happened to a job: its `name` and `data` are those of docs/events.md.

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

    def read(self, lines: Iterable[str]) -> Iterator[Event]:
        """The events; ends with the lines. Raises ValueError for what is no event of ours."""
        name, data = "", ""
        for line in lines:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not line:
                if data:
                    yield Event(self.last, name, json.loads(data))
                name, data = "", ""
            elif field == "id":
                self.last = int(value)
            elif field == "event":
                name = value
            elif field == "data":
                data += value
