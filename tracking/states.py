"""The state machine of a job, as data: every verb takes its guard from here, and the docs draw it from here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Status(StrEnum):
    """Where a job is. The last three are its ends."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Hold(StrEnum):
    """Why a waiting job has not been sent to the broker yet; EXTERNAL, why one never is, waiting or running."""

    SCHEDULE = "schedule"
    BACKOFF = "backoff"
    DEPENDENCY = "dependency"
    LIMIT = "limit"
    ORGANIZATION_LIMIT = "organization_limit"
    CIRCUIT = "circuit"
    PAUSED = "paused"
    EXTERNAL = "external"


# What is over when the line of the organization is looked at.
IN_LINE = (Hold.LIMIT, Hold.ORGANIZATION_LIMIT)


class When(StrEnum):
    """For which end of another job one waits. FINISHED: for any, and that its body is over."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    FINISHED = "finished"


class Event(StrEnum):
    """What a history row says happened. Most move the status; the others leave it as it is."""

    CREATED = "created"
    STARTED = "started"
    PROGRESS = "progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RELEASED = "released"
    RETRIED = "retried"
    RETRIED_ANEW = "retried_anew"
    HELD = "held"
    DUE = "due"
    EDITED = "edited"
    SEEN = "seen"
    STOPPED = "stopped"
    DUPLICATE_REFUSED = "duplicate_refused"


# Other words for a status, as the systems that this platform replaces call it: taken in filters, never answered.
SYNONYMS = {
    "pending": Status.QUEUED,
    "processing": Status.RUNNING,
    "completed": Status.SUCCEEDED,
    "error": Status.FAILED,
}
STATUS_WORDS = (*map(str, Status), *SYNONYMS)


@dataclass(frozen=True, slots=True)
class Move:
    """One allowed change of status, and the event that it is recorded as."""

    source: Status
    target: Status
    event: Event
    cause: str


MOVES: tuple[Move, ...] = (
    Move(Status.QUEUED, Status.RUNNING, Event.STARTED, "a worker claims it"),
    Move(Status.QUEUED, Status.CANCELLED, Event.CANCELLED, "cancel"),
    Move(Status.QUEUED, Status.FAILED, Event.FAILED, "no worker can ever run it, or what it follows has failed"),
    Move(Status.RUNNING, Status.SUCCEEDED, Event.COMPLETED, "the handler returns"),
    Move(Status.RUNNING, Status.FAILED, Event.FAILED, "the handler raises, no retry left"),
    Move(Status.RUNNING, Status.RETRYING, Event.FAILED, "the handler raises, a retry is left"),
    Move(Status.RUNNING, Status.CANCELLED, Event.CANCELLED, "cancel"),
    Move(Status.RUNNING, Status.QUEUED, Event.RELEASED, "its worker is lost or shut down, or another task replaces it"),
    Move(Status.RETRYING, Status.RUNNING, Event.STARTED, "a worker claims it"),
    Move(Status.RETRYING, Status.QUEUED, Event.RELEASED, "released without waiting"),
    Move(Status.RETRYING, Status.CANCELLED, Event.CANCELLED, "cancel"),
    Move(Status.RETRYING, Status.FAILED, Event.FAILED, "no worker can ever run it"),
    Move(Status.FAILED, Status.QUEUED, Event.RETRIED, "retry"),
    Move(Status.CANCELLED, Status.QUEUED, Event.RETRIED, "retry"),
)

# How an attempt can end, and where its job goes then.
OutcomeKind = Literal["succeeded", "failed", "retry", "lost", "released", "returned", "replaced", "cancelled"]
ENDS: dict[OutcomeKind, Status] = {
    "succeeded": Status.SUCCEEDED,
    "failed": Status.FAILED,
    "retry": Status.RETRYING,
    "cancelled": Status.CANCELLED,
    "released": Status.QUEUED,
    "replaced": Status.QUEUED,
    "lost": Status.QUEUED,
    "returned": Status.QUEUED,
}
LOSSES: tuple[OutcomeKind, ...] = ("lost", "returned")  # these are counted: after too many of them the job fails

ACTIVE = (Status.QUEUED, Status.RUNNING, Status.RETRYING)
WAITING = (Status.QUEUED, Status.RETRYING)
FINISHED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)


def status_of(word: str) -> Status:
    """The status that one of STATUS_WORDS means. Raises ValueError for any other word."""
    return SYNONYMS.get(word) or Status(word)


def sources(event: Event, target: Status | None = None) -> tuple[Status, ...]:
    """The statuses from which `event` may happen (to `target`, when given), in the order of MOVES."""
    return tuple(dict.fromkeys(move.source for move in MOVES if move.event is event and target in (None, move.target)))


def event_of(source: Status, target: Status) -> Event:
    """What a move is recorded as. Raises StopIteration when there is no such move."""
    return next(move.event for move in MOVES if move.source is source and move.target is target)


def is_legal(source: Status, target: Status) -> bool:
    """Whether a job may go from `source` to `target`."""
    return any(move.source is source and move.target is target for move in MOVES)


def can_cancel(status: Status) -> bool:
    """Whether a cancel is allowed now."""
    return is_legal(status, Status.CANCELLED)


def can_retry(status: Status, retry_count: int, max_retries: int) -> bool:
    """Whether a retry without `force` is allowed now."""
    return status in sources(Event.RETRIED) and retry_count < max_retries
