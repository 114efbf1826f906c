"""What a stream says of a happening: its name and its fields, encoded once however many streams it goes to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tracking.event_tables import EventType
from tracking.reads.tail import Happening, Occurrence
from tracking.states import Event, Hold

RESYNC = "resync"
RESYNC_SSE = f"event: {RESYNC}\ndata: {{}}\n\n".encode()
RESYNC_TEXT = json.dumps({"event": RESYNC, "data": {}}, separators=(",", ":"))


def ready_text(position: int) -> str:
    """The message with which a WebSocket begins to tell what is new: where the client stands before the first event."""
    return json.dumps({"id": position, "event": "ready", "data": {}}, separators=(",", ":"))


@dataclass(frozen=True)
class Message:
    """A happening as it goes out."""

    happening: Happening | Occurrence
    name: str
    data: str  # JSON

    @property
    def id(self) -> int:
        """That of the row of the history, or of the events."""
        return self.happening.id

    @cached_property
    def sse(self) -> bytes:
        """As a server-sent event. JSON has no line break in it, and the name is one of ours."""
        return f"id: {self.id}\nevent: {self.name}\ndata: {self.data}\n\n".encode()

    @cached_property
    def text(self) -> str:
        """As a message of a WebSocket."""
        return f'{{"id":{self.id},"event":"{self.name}","data":{self.data}}}'


def messages(happenings: Sequence[Happening | Occurrence]) -> list[Message]:
    """What is told of these; of some there is nothing to tell."""
    return [
        Message(each, name, json.dumps(fields, separators=(",", ":"), default=str))
        for each in happenings
        if (told := _told(each)) is not None
        for name, fields in [told]
    ]


def _told(happening: Happening | Occurrence) -> tuple[str, dict[str, Any]] | None:
    if isinstance(happening, Occurrence):
        return NAMES[happening.event], _occurred(happening)
    told = TOLD.get(happening.event)
    return None if told is None else (told[0], told[1](happening))


def _occurred(occurrence: Occurrence) -> dict[str, Any]:
    if occurrence.event.is_of_workflow:
        return {"workflowId": str(occurrence.subject_id), **occurrence.detail}
    return {"scheduleId": str(occurrence.subject_id), "type": occurrence.job_type, **occurrence.detail}


def _created(happening: Happening) -> dict[str, Any]:
    return {**_typed(happening), "priority": happening.detail.get("priority")}


def _started(happening: Happening) -> dict[str, Any]:
    return {**_created(happening), "attempt": happening.attempt, "worker": happening.actor}


def _progress(happening: Happening) -> dict[str, Any]:
    names = ("current", "total", "percentage", "message", "detail")
    return {"jobId": str(happening.job_id), "progress": {name: happening.detail.get(name) for name in names}}


def _completed(happening: Happening) -> dict[str, Any]:
    return {**_typed(happening), "duration": happening.detail.get("duration")}


def _failed(happening: Happening) -> dict[str, Any]:
    detail = happening.detail
    return {
        **_typed(happening),
        "error": detail.get("error"),
        "willRetry": bool(detail.get("willRetry")),
        "duration": detail.get("duration"),
    }


def _cancelled(happening: Happening) -> dict[str, Any]:
    return {**_typed(happening), "by": _by(happening)}


def _retried(happening: Happening) -> dict[str, Any]:
    return {"jobId": str(happening.job_id), "by": _by(happening)}


def _held(happening: Happening) -> dict[str, Any]:
    return {"jobId": str(happening.job_id), "hold": happening.detail.get("hold")}


def _let_go(happening: Happening) -> dict[str, Any]:
    return {"jobId": str(happening.job_id), "hold": happening.detail.get("next")}


def _released(happening: Happening) -> dict[str, Any]:
    hold = Hold.DEPENDENCY if happening.detail.get("reason") == "replaced" else None
    return {"jobId": str(happening.job_id), "hold": hold}


def _typed(happening: Happening) -> dict[str, Any]:
    return {"jobId": str(happening.job_id), "type": happening.job_type}


def _by(happening: Happening) -> str:
    return str(happening.detail.get("by", happening.actor))


# A waiting job's hold changes when it is held, let go, or given back by its worker: all three are told as one.
TOLD: Mapping[Event, tuple[str, Callable[[Happening], dict[str, Any]]]] = {
    Event.CREATED: ("job:created", _created),
    Event.STARTED: ("job:started", _started),
    Event.PROGRESS: ("job:progress", _progress),
    Event.COMPLETED: ("job:completed", _completed),
    Event.FAILED: ("job:failed", _failed),
    Event.CANCELLED: ("job:cancelled", _cancelled),
    Event.RETRIED: ("job:retried", _retried),
    Event.HELD: ("job:held", _held),
    Event.EDITED: ("job:held", _held),
    Event.DUE: ("job:held", _let_go),
    Event.RELEASED: ("job:held", _released),
}
NAMES: Mapping[EventType, str] = {event: event.replace(".", ":") for event in EventType}
