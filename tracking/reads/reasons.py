"""Everything that can be said about why a job does not run, or how it ended: in fields, and in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Literal
from uuid import UUID

from tracking.states import Hold, Status

ORDINALS = {1: "st", 2: "nd", 3: "rd"}


@dataclass(frozen=True, slots=True)
class Awaited:
    """A job to succeed first. `status` None: it is gone."""

    job_id: UUID
    status: Status | None


@dataclass(frozen=True, slots=True)
class Dependency:
    """`unfinished` of the `total` jobs that it depends on have not succeeded; `jobs`: those that the caller sees."""

    kind: ClassVar[Literal["dependency"]] = "dependency"
    total: int
    unfinished: int
    jobs: Sequence[Awaited]

    @property
    def sentence(self) -> str:
        """For people."""
        if self.total == 1 and self.jobs:
            (job,) = self.jobs
            return f"Waiting for the job {job.job_id} to succeed, which is {job.status or 'gone'}."
        return f"Waiting for {self.unfinished} of {_counted(self.total, 'job')} that it depends on to succeed."


@dataclass(frozen=True, slots=True)
class Scheduled:
    """It was asked to start later."""

    kind: ClassVar[Literal["schedule"]] = "schedule"
    due_at: datetime

    @property
    def sentence(self) -> str:
        """For people."""
        return f"Scheduled: it is due at {_time(self.due_at)}."


@dataclass(frozen=True, slots=True)
class BackOff:
    """Its last attempt has failed, and the next one comes later."""

    kind: ClassVar[Literal["backoff"]] = "backoff"
    due_at: datetime
    attempt: int
    error_type: str | None
    error_message: str | None

    @property
    def sentence(self) -> str:
        """For people."""
        error = _error(self.error_type, self.error_message)
        return f"Attempt {self.attempt} has failed{error}; the next one is due at {_time(self.due_at)}."


@dataclass(frozen=True, slots=True)
class Paused:
    """Its type (None: any) is paused, in its organization or `everywhere`. `paused_by` None: an operator."""

    kind: ClassVar[Literal["paused"]] = "paused"
    job_type: str | None
    everywhere: bool
    paused_by: str | None
    reason: str | None
    paused_at: datetime

    @property
    def sentence(self) -> str:
        """For people."""
        whose = "of all organizations" if self.everywhere else "of the organization"
        what = f"Jobs of type {self.job_type}" if self.job_type else "The jobs"
        why = f" ({self.reason})" if self.reason else ""
        by = self.paused_by or "an operator of the platform"
        return f"{what} {whose} are paused by {by}{why} since {_time(self.paused_at)}."


@dataclass(frozen=True, slots=True)
class CircuitOpen:
    """The attempts of its type fail, in its organization or `everywhere`, and another job has to succeed first.

    `key`: only those that depend on this, such as a host; None: those of the whole type.
    """

    kind: ClassVar[Literal["circuit"]] = "circuit"
    job_type: str
    key: str | None
    everywhere: bool
    state: Literal["open", "half_open"]
    failures: int
    open_until: datetime

    @property
    def sentence(self) -> str:
        """For people."""
        what = f"{self.job_type} for {self.key}" if self.key else self.job_type
        whose = "for all organizations" if self.everywhere else "in the organization"
        circuit = f"The circuit of {what} has opened {whose} after {_counted(self.failures, 'failure')} in a row"
        if self.state == "open":
            return f"{circuit}: until {_time(self.open_until)} none is started, then one tries."
        return f"{circuit}: one job tries, the others wait for its success."


@dataclass(frozen=True, slots=True)
class InLine:
    """It is the `place`-th of its organization's jobs to get a slot. `holders`: visible jobs that have one now.

    `limit`: the slots of the organization, 0 = any number, of which so many are `taken`. With a slot to spare it waits
    for its organization's turn: the workers are busy, or other organizations are served before.
    """

    kind: ClassVar[Literal["organization_limit"]] = "organization_limit"
    limit: int
    taken: int
    place: int
    holders: Sequence[UUID]

    @property
    def sentence(self) -> str:
        """For people."""
        place = f"{_ordinal(self.place)} in line"
        if not self.is_full:
            return f"Waiting for its organization's turn, for the workers are busy: {place}."
        slots = f"one of the organization's {self.limit} slots" if self.limit > 1 else "the organization's only slot"
        return f"Waiting for {slots}: {self.taken} of {self.limit} are taken; {place}."

    @property
    def is_full(self) -> bool:
        """Whether all slots of the organization are taken."""
        return 0 < self.limit <= self.taken


@dataclass(frozen=True, slots=True)
class Unserved:
    """No living worker consumes its queue."""

    kind: ClassVar[Literal["no_worker"]] = "no_worker"
    queue: str

    @property
    def sentence(self) -> str:
        """For people."""
        return f"No living worker consumes the queue {self.queue}."


@dataclass(frozen=True, slots=True)
class Lifting:
    """What it waited for is over, or will never come; upkeep has yet to see that."""

    kind: ClassVar[Literal["lifting"]] = "lifting"
    hold: Hold

    @property
    def sentence(self) -> str:
        """For people."""
        return f"What it waited for ({self.hold}) is over: it is about to be looked at again."


@dataclass(frozen=True, slots=True)
class Unsent:
    """It may run, but the broker has not confirmed its message."""

    kind: ClassVar[Literal["dispatch"]] = "dispatch"
    queue: str
    since: datetime

    @property
    def sentence(self) -> str:
        """For people."""
        return f"On its way to the queue {self.queue} since {_time(self.since)}: the broker has not confirmed it yet."


@dataclass(frozen=True, slots=True)
class Sent:
    """It is the `place`-th of its organization's jobs in its queue, which that many living workers consume."""

    kind: ClassVar[Literal["queue"]] = "queue"
    queue: str
    place: int
    workers: int
    since: datetime

    @property
    def sentence(self) -> str:
        """For people."""
        consumed = f"which {_counted(self.workers, 'worker')} consume{'s' if self.workers == 1 else ''}"
        return f"{_ordinal(self.place)} of the organization's jobs in the queue {self.queue}, {consumed}."


@dataclass(frozen=True, slots=True)
class Running:
    """A worker runs it. Not `is_alive`: nothing was heard of that worker for too long, and the job will be released."""

    kind: ClassVar[Literal["running"]] = "running"
    worker: str
    attempt: int
    since: datetime
    is_alive: bool

    @property
    def sentence(self) -> str:
        """For people."""
        running = f"Attempt {self.attempt} runs on {self.worker} since {_time(self.since)}"
        return f"{running}." if self.is_alive else f"{running}, but that worker is silent: the job will start again."


@dataclass(frozen=True, slots=True)
class Stopping:
    """It was cancelled, and its body is not over yet. `seen_at` None: its worker has not heard of that."""

    kind: ClassVar[Literal["stopping"]] = "stopping"
    worker: str
    since: datetime
    seen_at: datetime | None
    is_alive: bool

    @property
    def sentence(self) -> str:
        """For people."""
        seen = f"heard of it at {_time(self.seen_at)}" if self.seen_at else "has not heard of it yet"
        state = seen if self.is_alive else "is silent"
        return f"Cancelled at {_time(self.since)}; its body is still stopping on {self.worker}, which {state}."


@dataclass(frozen=True, slots=True)
class Succeeded:
    """It has succeeded at its last attempt. `by`: the worker."""

    kind: ClassVar[Literal["succeeded"]] = "succeeded"
    attempts: int
    by: str
    at: datetime

    @property
    def sentence(self) -> str:
        """For people."""
        return f"Succeeded in {_counted(self.attempts, 'attempt')}, on {self.by} at {_time(self.at)}."


@dataclass(frozen=True, slots=True)
class Failed:
    """It has failed for good. `by`: the worker, or the part of the platform, that said so."""

    kind: ClassVar[Literal["failed"]] = "failed"
    attempts: int
    error_type: str | None
    error_message: str | None
    by: str
    at: datetime

    @property
    def sentence(self) -> str:
        """For people."""
        error = _error(self.error_type, self.error_message)
        when = f"after {_counted(self.attempts, 'attempt')}" if self.attempts else "before its first attempt"
        return f"Failed {when}{error}; reported by {self.by} at {_time(self.at)}."


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody, or a part of the platform, has ended it."""

    kind: ClassVar[Literal["cancelled"]] = "cancelled"
    by: str
    reason: str | None
    at: datetime

    @property
    def sentence(self) -> str:
        """For people."""
        why = f": {self.reason}" if self.reason else ""
        return f"Cancelled by {self.by} at {_time(self.at)}{why}."


Reason = (
    Dependency
    | Scheduled
    | BackOff
    | Paused
    | CircuitOpen
    | InLine
    | Unserved
    | Lifting
    | Unsent
    | Sent
    | Running
    | Stopping
    | Succeeded
    | Failed
    | Cancelled
)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else ORDINALS.get(number % 10, "th")
    return f"{number}{ending}"


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _error(error_type: str | None, message: str | None) -> str:
    said = ": ".join(part for part in (error_type, message) if part)
    return f" with {said}" if said else ""
