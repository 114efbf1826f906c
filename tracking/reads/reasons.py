"""Everything that can be said about why a job does not run, or how it ended: in fields, and in a sentence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import field
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AliasGenerator, ConfigDict, Field, computed_field
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass

from tracking.admission.job_limits import Per
from tracking.states import Hold, Status, When
from tracking.values import Instant

LAST_PLACE = 10_000  # in line; whoever stands behind it is not told where: counting takes a core for a while
ORDINALS = {1: "st", 2: "nd", 3: "rd"}
JSON = ConfigDict(alias_generator=AliasGenerator(serialization_alias=to_camel))


@dataclass(frozen=True, slots=True, config=JSON)
class Told(ABC):
    """The base of the reasons. Clients of the API get them as they are here, by names in camelCase."""

    @computed_field(description="The reason for people; programs read the other fields.")  # type: ignore[prop-decorator]
    @property
    def sentence(self) -> str:
        """The reason for people; programs read the other fields."""
        return self._sentence()

    @abstractmethod
    def _sentence(self) -> str: ...


_ENDINGS = {When.SUCCEEDED: "succeed", When.FAILED: "fail", When.FINISHED: "end"}


@dataclass(frozen=True, slots=True, config=JSON)
class Awaited:
    """A job to end first."""

    job_id: UUID
    status: Annotated[Status | None, Field(description="null: it is gone.")]
    when: Annotated[When, Field(description="The end that is waited for.")] = When.SUCCEEDED


@dataclass(frozen=True, slots=True, config=JSON)
class Dependency(Told):
    """Other jobs have to end first, with success unless it says otherwise."""

    kind: Literal["dependency"] = field(default="dependency", init=False, kw_only=True)
    total: int
    unfinished: int
    jobs: Annotated[Sequence[Awaited], Field(description="The unfinished ones that the caller sees, at most twenty.")]

    def _sentence(self) -> str:
        if self.total == 1 and self.jobs:
            (job,) = self.jobs
            return f"Waiting for the job {job.job_id} to {_ENDINGS[job.when]}, which is {job.status or 'gone'}."
        endings = {each.when for each in self.jobs} or {When.SUCCEEDED}
        to_end = _ENDINGS[endings.pop()] if len(endings) == 1 else _ENDINGS[When.FINISHED]
        return f"Waiting for {self.unfinished} of {_counted(self.total, 'job')} that it depends on to {to_end}."


@dataclass(frozen=True, slots=True, config=JSON)
class Scheduled(Told):
    """It was asked to start later."""

    kind: Literal["schedule"] = field(default="schedule", init=False, kw_only=True)
    due_at: Instant

    def _sentence(self) -> str:
        return f"Scheduled: it is due at {_time(self.due_at)}."


@dataclass(frozen=True, slots=True, config=JSON)
class BackOff(Told):
    """Its last attempt has failed, and the next one comes later."""

    kind: Literal["backoff"] = field(default="backoff", init=False, kw_only=True)
    due_at: Instant
    attempt: int
    error_type: str | None
    error_message: str | None

    def _sentence(self) -> str:
        error = _error(self.error_type, self.error_message)
        return f"Attempt {self.attempt} has failed{error}; the next one is due at {_time(self.due_at)}."


@dataclass(frozen=True, slots=True, config=JSON)
class Paused(Told):
    """Its type, its organization, its type in its organization, or its queue is paused."""

    kind: Literal["paused"] = field(default="paused", init=False, kw_only=True)
    job_type: Annotated[str | None, Field(description="null: jobs of every type.")]
    everywhere: Annotated[bool, Field(description="In all organizations.")]
    paused_by: Annotated[str | None, Field(description="null: an operator of the platform.")]
    reason: str | None
    paused_at: Instant
    queue: Annotated[str | None, Field(description="null: whatever the queue is.")] = None

    def _sentence(self) -> str:
        whose = "of all organizations" if self.everywhere else "of the organization"
        what = f"Jobs of type {self.job_type}" if self.job_type else "The jobs"
        what, whose = ("The jobs of the queue", self.queue) if self.queue else (what, whose)
        why = f" ({self.reason})" if self.reason else ""
        by = self.paused_by or "an operator of the platform"
        return f"{what} {whose} are paused by {by}{why} since {_time(self.paused_at)}."


@dataclass(frozen=True, slots=True, config=JSON)
class CircuitOpen(Told):
    """The attempts of its type fail, and another job has to succeed first."""

    kind: Literal["circuit"] = field(default="circuit", init=False, kw_only=True)
    job_type: str
    key: Annotated[
        str | None, Field(description="Only jobs that depend on this, such as a host; null: the whole type.")
    ]
    everywhere: Annotated[bool, Field(description="In all organizations.")]
    state: Literal["open", "half_open"]
    failures: int
    open_until: Instant

    def _sentence(self) -> str:
        what = f"{self.job_type} for {self.key}" if self.key else self.job_type
        whose = "for all organizations" if self.everywhere else "in the organization"
        circuit = f"The circuit of {what} has opened {whose} after {_counted(self.failures, 'failure')} in a row"
        if self.state == "open":
            return f"{circuit}: until {_time(self.open_until)} none is started, then one tries."
        return f"{circuit}: one job tries, the others wait for its success."


@dataclass(frozen=True, slots=True, config=JSON)
class Limited(Told):
    """A limit has no room for it, or others of its kind come before it. What other organizations do is not counted."""

    kind: Literal["limit"] = field(default="limit", init=False, kw_only=True)
    per: Annotated[Per, Field(description="What has a count of its own.")]
    job_type: Annotated[str | None, Field(description="null: jobs of every type.")]
    key: Annotated[str | None, Field(description="The key of its payload, when each key has a count of its own.")]
    concurrency: Annotated[int | None, Field(description="How many may execute at once; null: any number.")]
    executing: Annotated[int | None, Field(description="null: not counted, or jobs of other organizations count too.")]
    rate: Annotated[int | None, Field(description="How many may be sent in each period; null: any number.")]
    period: Annotated[float | None, Field(description="Seconds.")]
    sent: Annotated[int | None, Field(description="In the last period; null: as with `executing`.")]

    def _sentence(self) -> str:
        what = f"{self.job_type} jobs" if self.job_type else "jobs"
        whose = {
            Per.PLATFORM: "of all organizations",
            Per.ORGANIZATION: "of the organization",
            Per.KEY: f"with the key {self.key}",
        }
        parts = []
        if self.concurrency is not None:
            taken = "" if self.executing is None else f", and {self.executing} do"
            parts.append(f"{self.concurrency} may execute at once{taken}")
        if self.rate is not None and self.period is not None:
            sent = "" if self.sent is None else f", and {self.sent} were"
            parts.append(f"{self.rate} may be sent in {_counted(round(self.period), 'second')}{sent}")
        return f"Waiting for the limit of {what} {whose[self.per]}: {'; '.join(parts) or 'others come first'}."


@dataclass(frozen=True, slots=True, config=JSON)
class InLine(Told):
    """It waits for one of its organization's slots.

    With a slot to spare it waits for its organization's turn: the workers are busy, or other organizations are served
    before.
    """

    kind: Literal["organization_limit"] = field(default="organization_limit", init=False, kw_only=True)
    limit: Annotated[int, Field(description="How many jobs of the organization may execute at once; 0: any number.")]
    taken: Annotated[
        int, Field(description="When it is less, the workers are busy, and it waits for its organization's turn.")
    ]
    place: Annotated[int, Field(description=f"In line, from 1; not counted beyond {LAST_PLACE:,}.")]
    holders: Annotated[
        Sequence[UUID], Field(description="Jobs that have a slot and that the caller sees, at most twenty.")
    ]
    place_is_capped: Annotated[bool, Field(description="It stands behind `place`, nobody counts how far.")] = False

    def _sentence(self) -> str:
        place = f"{'after the ' if self.place_is_capped else ''}{_ordinal(self.place)} in line"
        if not self.is_full:
            return f"Waiting for its organization's turn, for the workers are busy: {place}."
        slots = f"one of the organization's {self.limit} slots" if self.limit > 1 else "the organization's only slot"
        return f"Waiting for {slots}: {self.taken} of {self.limit} are taken; {place}."

    @property
    def is_full(self) -> bool:
        """Whether all slots of the organization are taken."""
        return 0 < self.limit <= self.taken


@dataclass(frozen=True, slots=True, config=JSON)
class Unserved(Told):
    """No living worker consumes its queue."""

    kind: Literal["no_worker"] = field(default="no_worker", init=False, kw_only=True)
    queue: str

    def _sentence(self) -> str:
        return f"No living worker consumes the queue {self.queue}."


@dataclass(frozen=True, slots=True, config=JSON)
class Lifting(Told):
    """What the job waited for has ended, or will never happen; the leading worker has not acted on it yet."""

    kind: Literal["lifting"] = field(default="lifting", init=False, kw_only=True)
    hold: Hold

    def _sentence(self) -> str:
        return f"What it waited for ({self.hold}) is over: it is about to be looked at again."


@dataclass(frozen=True, slots=True, config=JSON)
class Unsent(Told):
    """It may run, but the broker has not confirmed its message."""

    kind: Literal["dispatch"] = field(default="dispatch", init=False, kw_only=True)
    queue: str
    since: Instant

    def _sentence(self) -> str:
        return f"On its way to the queue {self.queue} since {_time(self.since)}: the broker has not confirmed it yet."


@dataclass(frozen=True, slots=True, config=JSON)
class Sent(Told):
    """It waits in its queue, which the jobs of all organizations share."""

    kind: Literal["queue"] = field(default="queue", init=False, kw_only=True)
    queue: str
    place: Annotated[int, Field(description="Among the jobs of its organization that were sent to the queue.")]
    workers: Annotated[int, Field(description="Living workers that consume the queue.")]
    since: Instant

    def _sentence(self) -> str:
        consumed = f"which {_counted(self.workers, 'worker')} consume{'s' if self.workers == 1 else ''}"
        return f"{_ordinal(self.place)} of the organization's jobs in the queue {self.queue}, {consumed}."


@dataclass(frozen=True, slots=True, config=JSON)
class Running(Told):
    """A worker runs it; when that is not alive any more, the job will be released."""

    kind: Literal["running"] = field(default="running", init=False, kw_only=True)
    worker: str
    attempt: int
    since: Instant
    is_alive: bool

    def _sentence(self) -> str:
        running = f"Attempt {self.attempt} runs on {self.worker} since {_time(self.since)}"
        return f"{running}." if self.is_alive else f"{running}, but that worker is silent: the job will start again."


@dataclass(frozen=True, slots=True, config=JSON)
class External(Told):
    """Its work is done elsewhere, and no worker runs it. `by`: who has said that it began."""

    kind: Literal["external"] = field(default="external", init=False, kw_only=True)
    by: Annotated[str | None, Field(description="null: nobody has said yet that it has begun.")]
    reported_at: Instant

    def _sentence(self) -> str:
        begun = f"{self.by} has begun it" if self.by else "nobody has begun it yet"
        return f"Its work is done elsewhere: {begun}; the last word of it is of {_time(self.reported_at)}."


@dataclass(frozen=True, slots=True, config=JSON)
class Stopping(Told):
    """It was cancelled, and its body is not over yet."""

    kind: Literal["stopping"] = field(default="stopping", init=False, kw_only=True)
    worker: str
    since: Instant
    seen_at: Annotated[Instant | None, Field(description="When its worker has heard of that; null: not yet.")]
    is_alive: bool

    def _sentence(self) -> str:
        seen = f"heard of it at {_time(self.seen_at)}" if self.seen_at else "has not heard of it yet"
        state = seen if self.is_alive else "is silent"
        return f"Cancelled at {_time(self.since)}; its body is still stopping on {self.worker}, which {state}."


@dataclass(frozen=True, slots=True, config=JSON)
class Succeeded(Told):
    """It has succeeded. `by`: the worker."""

    kind: Literal["succeeded"] = field(default="succeeded", init=False, kw_only=True)
    attempts: int
    by: str
    at: Instant

    def _sentence(self) -> str:
        return f"Succeeded in {_counted(self.attempts, 'attempt')}, on {self.by} at {_time(self.at)}."


@dataclass(frozen=True, slots=True, config=JSON)
class Failed(Told):
    """It has failed for good. `by`: the worker, or the part of the platform, that said so."""

    kind: Literal["failed"] = field(default="failed", init=False, kw_only=True)
    attempts: int
    error_type: str | None
    error_message: str | None
    by: str
    at: Instant

    def _sentence(self) -> str:
        error = _error(self.error_type, self.error_message)
        when = f"after {_counted(self.attempts, 'attempt')}" if self.attempts else "before its first attempt"
        return f"Failed {when}{error}; reported by {self.by} at {_time(self.at)}."


@dataclass(frozen=True, slots=True, config=JSON)
class Cancelled(Told):
    """Somebody, or a part of the platform, has ended it."""

    kind: Literal["cancelled"] = field(default="cancelled", init=False, kw_only=True)
    by: str
    reason: str | None
    at: Instant

    def _sentence(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"Cancelled by {self.by} at {_time(self.at)}{why}."


Reason = (
    Dependency
    | Scheduled
    | BackOff
    | Paused
    | CircuitOpen
    | Limited
    | InLine
    | Unserved
    | Lifting
    | Unsent
    | Sent
    | Running
    | External
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
