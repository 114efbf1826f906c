"""Why a job does not run, or who or what ended it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field

from api.schemas.answers import Answered
from api.schemas.fields import Instant
from tracking.reads import explain
from tracking.states import Hold, Status


class Reason(Answered):
    """The base of the reasons."""

    sentence: str = Field(description="The reason for people; programs read the other fields.")


class Awaited(Answered):
    """A job to succeed first."""

    job_id: UUID
    status: Status | None = Field(description="null: it is gone.")


class Dependency(Reason):
    """Other jobs have to succeed first."""

    kind: Literal["dependency"]
    total: int
    unfinished: int
    jobs: list[Awaited] = Field(description="The unfinished ones that the caller sees, at most twenty.")


class Scheduled(Reason):
    """It was asked to start later."""

    kind: Literal["schedule"]
    due_at: Instant


class BackOff(Reason):
    """Its last attempt has failed, and the next one comes later."""

    kind: Literal["backoff"]
    due_at: Instant
    attempt: int
    error_type: str | None
    error_message: str | None


class Paused(Reason):
    """Its type, its organization, or its type in its organization is paused."""

    kind: Literal["paused"]
    job_type: str | None = Field(description="null: jobs of every type.")
    everywhere: bool = Field(description="In all organizations.")
    paused_by: str | None = Field(description="null: an operator of the platform.")
    reason: str | None
    paused_at: Instant


class CircuitOpen(Reason):
    """The attempts of its type fail, and another job has to succeed first."""

    kind: Literal["circuit"]
    job_type: str
    key: str | None = Field(description="Only jobs that depend on this, such as a host; null: the whole type.")
    everywhere: bool = Field(description="In all organizations.")
    state: Literal["open", "half_open"]
    failures: int
    open_until: Instant


class InLine(Reason):
    """It waits for one of its organization's slots."""

    kind: Literal["organization_limit"]
    limit: int = Field(description="How many jobs of the organization may execute at once; 0: any number.")
    taken: int = Field(description="When it is less, the workers are busy, and it waits for its organization's turn.")
    place: int
    holders: list[UUID] = Field(description="Jobs that have a slot and that the caller sees, at most twenty.")


class Unserved(Reason):
    """No living worker consumes its queue."""

    kind: Literal["no_worker"]
    queue: str


class Lifting(Reason):
    """What it waited for is over; upkeep has yet to see that."""

    kind: Literal["lifting"]
    hold: Hold


class Unsent(Reason):
    """It may run, but the broker has not confirmed its message."""

    kind: Literal["dispatch"]
    queue: str
    since: Instant


class Sent(Reason):
    """It waits in its queue, which the jobs of all organizations share."""

    kind: Literal["queue"]
    queue: str
    place: int = Field(description="Among the jobs of its organization that were sent to the queue.")
    workers: int
    since: Instant


class Running(Reason):
    """A worker runs it; when that is not alive any more, the job will be released."""

    kind: Literal["running"]
    worker: str
    attempt: int
    since: Instant
    is_alive: bool


class Stopping(Reason):
    """It was cancelled, and its body is not over yet."""

    kind: Literal["stopping"]
    worker: str
    since: Instant
    seen_at: Instant | None = Field(description="When its worker has heard of that; null: not yet.")
    is_alive: bool


class Succeeded(Reason):
    """It has succeeded."""

    kind: Literal["succeeded"]
    attempts: int
    by: str
    at: Instant


class Failed(Reason):
    """It has failed for good."""

    kind: Literal["failed"]
    attempts: int
    error_type: str | None
    error_message: str | None
    by: str
    at: Instant


class Cancelled(Reason):
    """Somebody, or a part of the platform, has ended it."""

    kind: Literal["cancelled"]
    by: str
    reason: str | None
    at: Instant


AnyReason = Annotated[
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
    | Cancelled,
    Field(discriminator="kind"),
]

EXAMPLE: dict[str, Any] = {
    "jobId": "019aa0f3-7c1e-7d5a-9f57-3a1f6a0c9d11",
    "status": "queued",
    "hold": "organization_limit",
    "sentence": "Waiting for one of the organization's 5 slots: 5 of 5 are taken; 3rd in line.",
    "reasons": [
        {
            "kind": "organization_limit",
            "sentence": "Waiting for one of the organization's 5 slots: 5 of 5 are taken; 3rd in line.",
            "limit": 5,
            "taken": 5,
            "place": 3,
            "holders": ["019aa0f3-7b02-7c11-8a53-0c1f6a0c9d42"],
        }
    ],
}


class Explanation(Answered):
    """Why a job is where it is: every reason that holds now, the one that matters first."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    job_id: UUID
    status: Status
    hold: Hold | None
    sentence: str
    reasons: list[AnyReason]

    @classmethod
    def of(cls, explanation: explain.Explanation) -> Self:
        """The explanation as clients see it."""
        job, reasons = explanation.job, explanation.reasons
        fields = {"job_id": job.id, "status": job.status, "hold": job.hold, "sentence": reasons[0].sentence}
        return cls.model_validate({**fields, "reasons": reasons}, from_attributes=True)
