"""What webhooks are told of: the events by their names, and the message of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from tracking.event_tables import EventType
from tracking.reads.tail import Happening, Occurrence
from tracking.states import Event
from tracking.values import in_milliseconds
from tracking.webhooks import Happened

MOST_BYTES = 20 * 1024  # of a message, as Standard Webhooks advises
MOST_OF_RESULT = 16 * 1024  # bytes; a larger one is left out, and to be read where the job is
LONGEST_ERROR = 2000  # characters

TEST = "webhook.test"

Telling = Callable[[Happening, Happened], dict[str, Any]]


def event_of(happening: Happening | Occurrence) -> str | None:
    """The name of what has happened; None: webhooks are not told of it. A failure is told when no retry follows."""
    if isinstance(happening, Occurrence):
        return str(happening.event)
    if happening.event is Event.FAILED and happening.detail.get("willRetry"):
        return None
    told = TOLD.get(happening.event)
    return None if told is None else told[0]


def message(happening: Happening, happened: Happened) -> dict[str, Any]:
    """The body of the request that tells of it."""
    name, fields = TOLD[happening.event]
    data = {
        "jobId": str(happening.job_id),
        "jobType": happening.job_type,
        "organizationId": happening.organization_id,
        "projectId": happening.project_id,
        "userId": happening.user_id,
        "status": str(happening.to_status),
        "attempt": happening.attempt,
        **fields(happening, happened),
    }
    return body(name, happened.at, data)


def message_of(occurrence: Occurrence) -> dict[str, Any]:
    """The body of the request that tells of a workflow or a schedule."""
    detail = {RENAMED.get(name, name): value for name, value in occurrence.detail.items()}
    subject = {"workflowId": str(occurrence.subject_id)}
    if not occurrence.event.is_of_workflow:
        subject = {"scheduleId": str(occurrence.subject_id), "jobType": str(occurrence.job_type)}
    data = {
        **subject,
        "organizationId": occurrence.organization_id,
        "projectId": occurrence.project_id,
        "userId": occurrence.user_id,
        **detail,
    }
    return body(str(occurrence.event), occurrence.at, data)


def body(name: str, at: datetime, data: Mapping[str, Any]) -> dict[str, Any]:
    """A message, as Standard Webhooks has it."""
    return {"type": name, "timestamp": in_milliseconds(at), "data": dict(data)}


def encoded(told: Mapping[str, Any]) -> bytes:
    """A message as it is signed and sent."""
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def _created(happening: Happening, _: Happened) -> dict[str, Any]:
    return {"priority": happening.detail.get("priority")}


def _started(happening: Happening, _: Happened) -> dict[str, Any]:
    return {"worker": happening.actor}


def _completed(happening: Happening, happened: Happened) -> dict[str, Any]:
    told = {"durationMs": happening.detail.get("duration"), "result": happened.result}
    if happened.has_result and happened.result is None:
        told["resultOmitted"] = True
    return told


def _failed(happening: Happening, _: Happened) -> dict[str, Any]:
    detail = happening.detail
    error = str(detail.get("error") or "")
    return {
        "durationMs": detail.get("duration"),
        "errorType": detail.get("errorType"),
        "error": error if len(error) <= LONGEST_ERROR else f"{error[: LONGEST_ERROR - 1]}…",
    }


def _cancelled(happening: Happening, _: Happened) -> dict[str, Any]:
    return {"by": str(happening.detail.get("by", happening.actor))}


TOLD: Mapping[Event, tuple[str, Telling]] = {
    Event.CREATED: ("job.created", _created),
    Event.STARTED: ("job.started", _started),
    Event.COMPLETED: ("job.completed", _completed),
    Event.FAILED: ("job.failed", _failed),
    Event.CANCELLED: ("job.cancelled", _cancelled),
}
RENAMED = {"duration": "durationMs"}
EVENTS = (*(name for name, _ in TOLD.values()), *map(str, EventType))
