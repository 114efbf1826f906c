"""What the HTTP API answers, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pydantic
from pydantic.alias_generators import to_camel

from tracking.states import FINISHED, Hold, Status
from tracking.values import Instant


class Answer(pydantic.BaseModel):
    """The base of what the API answers; fields of a newer server are ignored."""

    model_config = pydantic.ConfigDict(alias_generator=to_camel, frozen=True, hide_input_in_errors=True)


class Paged(Answer):
    """The base of lists that come in pages. `next_cursor`: where the next one begins; None: there is none."""

    next_cursor: UUID | int | str | None


class Created(Answer):
    """An accepted job."""

    job_id: UUID
    status: Status
    timestamp: Instant


class Job(Answer):
    """A job. `hold` None: a waiting one was sent to the broker. `retry_of`: the one that it repeats, changed."""

    id: UUID
    dispatch: int
    organization_id: str
    project_id: str | None
    user_id: str
    job_type: str
    status: Status
    hold: Hold | None
    priority: int
    attempt: int
    retry_count: int
    max_retries: int
    payload: dict[str, Any]
    metadata: dict[str, Any]
    result: Any
    error_message: str | None
    message: str | None
    progress: int
    total_steps: int
    current_step: int
    worker: str | None
    depends_on: tuple[UUID, ...]
    retry_of: UUID | None = None
    scheduled_at: Instant | None
    next_retry_at: Instant | None
    cancel_requested_at: Instant | None
    started_at: Instant | None
    completed_at: Instant | None
    duration_ms: int | None
    created_at: Instant
    updated_at: Instant

    @property
    def is_finished(self) -> bool:
        """Whether it has come to its end; a failed or cancelled job can be retried."""
        return self.status in FINISHED


class ProgressDetail(Answer):
    """How far a job is: step `current` of `total`, and the percentage, which never falls within an attempt."""

    current: int
    total: int
    percentage: int
    message: str | None
    detail: Any


class JobStatus(Answer):
    """A job, and what can be done about it now; `progress` is the percentage.

    `document_id`: what work that was done elsewhere has made, if it said so.
    """

    job: Job
    progress: int
    progress_detail: ProgressDetail
    document_id: str | None = None
    can_cancel: bool
    can_retry: bool


class Reason(Answer):
    """One reason for where a job is. `fields`: what else is known, by the names of the API."""

    model_config = pydantic.ConfigDict(extra="allow")

    kind: str
    sentence: str

    @property
    def fields(self) -> Mapping[str, Any]:
        """Such as `limit`, `taken` and `place` of the kind "organization_limit"; see docs/holds.md."""
        return self.__pydantic_extra__ or {}


class Explanation(Answer):
    """Why a job is where it is: every reason that holds now, the one that matters first, whose sentence it is."""

    job_id: UUID
    status: Status
    hold: Hold | None
    sentence: str
    reasons: tuple[Reason, ...]


class Stats(Answer):
    """How many jobs; those that are completed, failed or cancelled are of the last hour unless asked otherwise.

    `pending` ones could run now, `scheduled` ones are due later.
    """

    total: int
    total_active: int
    pending: int
    scheduled: int
    running: int
    retrying: int
    completed: int
    failed: int
    cancelled: int
    held: int
    oldest_pending_age_ms: int | None
    average_duration_ms: int | None

    @property
    def finished(self) -> int:
        """All that came to an end."""
        return self.completed + self.failed + self.cancelled

    @property
    def by_status(self) -> Mapping[str, int]:
        """How many jobs are in each status; those that are held are queued or retrying."""
        return {
            "queued": self.total_active - self.running - self.retrying,
            "running": self.running,
            "retrying": self.retrying,
            "succeeded": self.completed,
            "failed": self.failed,
            "cancelled": self.cancelled,
        }


class Pause(Answer):
    """Jobs that do not start, of one type or (None) all; `paused_by` None: an operator of the platform."""

    job_type: str | None
    everywhere: bool
    paused_by: str | None
    reason: str | None
    paused_at: Instant


class KeyCircuit(Answer):
    """A circuit that holds only the jobs that depend on one thing, such as the host of a receiver."""

    key: str
    state: str
    open_until: Instant


class Circuit(Answer):
    """The circuit breaker of a type: "closed", "open" until `open_until`, or "half_open" while one job tries.

    It is that of the caller's organization, or one for all of them (`everywhere`).
    """

    state: str
    everywhere: bool = False
    failures: int
    pause_seconds: float
    open_until: Instant | None
    keys: tuple[KeyCircuit, ...] = ()


class JobType(Answer):
    """A type of jobs: the JSON Schema of its payload, the permission it asks for, the names of its steps.

    `circuit` and `pauses`: what may keep its jobs from starting now. `external`: their work is done elsewhere.
    """

    job_type: str
    payload_schema: dict[str, Any]
    permission: str | None
    steps: tuple[str, ...]
    retry_policy: dict[str, Any]
    circuit: Circuit
    pauses: tuple[Pause, ...]
    external: bool = False


class Page(Paged):
    """Some of the jobs; `next_cursor` None: the last ones."""

    jobs: tuple[Job, ...]


class JobTypes(Answer):
    """All types of jobs."""

    job_types: tuple[JobType, ...]


class Moved(Answer):
    """A job was cancelled or retried, and is in this status now."""

    status: Status


class Repeated(Answer):
    """A new job repeats one that has ended, with another payload."""

    job_id: UUID


class Refused(Answer):
    """Why one of many jobs was not accepted; `errors` has one {"field", "message"} for each field at fault."""

    code: str
    detail: str
    errors: tuple[dict[str, str], ...]


class CreatedOne(Answer):
    """The answer for one of many jobs. `is_new` False: an earlier request has made it. `refusal` None: accepted."""

    index: int
    job_id: UUID | None
    status: Status | None
    is_new: bool
    refusal: Refused | None


class CreatedJobs(Answer):
    """How many of the jobs were accepted, and an answer for each of them, in their order."""

    accepted: int
    refused: int
    jobs: tuple[CreatedOne, ...]


class Counts(Answer):
    """Of the jobs of a bulk operation; `matched` less `done` have no outcome yet."""

    matched: int
    done: int
    succeeded: int
    refused: int
    failed: int


class Operation(Answer):
    """A bulk operation. `state`: "canary", "running", and at its end "completed", "stopped" or "aborted".

    `filter` None: there were ids, so many. `reason`: why it has stopped. `progress` in percent.
    """

    id: UUID
    organization_id: str
    user_id: str
    action: str
    state: str
    reason: str | None
    filter: dict[str, Any] | None
    ids: int | None
    priority: int | None
    force: bool
    canary: int | None
    canary_until: Instant | None
    counts: Counts
    progress: int
    created_at: Instant
    updated_at: Instant
    completed_at: Instant | None


class Operations(Paged):
    """Some of the bulk operations; `next_cursor` None: the last ones."""

    operations: tuple[Operation, ...]


class Preview(Answer):
    """What a bulk operation would touch, and the newest of these. `too_many`: more than it takes."""

    matched: int
    too_many: bool
    sample: tuple[Job, ...]


class JobResult(Answer):
    """What became of one job of a bulk operation; `code` and `detail` say why it was refused, or has failed."""

    job_id: UUID
    outcome: str
    code: str | None
    detail: str | None
    is_canary: bool
    at: Instant | None


class Results(Paged):
    """Some of the results; `next_cursor` None: the last ones."""

    jobs: tuple[JobResult, ...]
