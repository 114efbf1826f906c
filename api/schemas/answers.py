"""What answers look like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import AliasGenerator, BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

from api.problems import CODES
from api.schemas.fields import Milliseconds, Payload, Percent, Priority
from tracking import tickets
from tracking.models import JobRecord, Submitted
from tracking.reads import lists
from tracking.reads.answers import HistoryEntry, Page, Stats
from tracking.reads.lists import EPOCH
from tracking.states import FINISHED, Event, Hold, Status, can_cancel, can_retry
from tracking.values import Instant, in_milliseconds

REPLAYED = "Idempotency-Replayed"
POLL_OFTEN_UNTIL = timedelta(seconds=10)  # of age


def _is_none(value: Any) -> bool:
    return value is None


class Answered(BaseModel):
    """The base of what clients get; it can be read from the values of `tracking`."""

    model_config = ConfigDict(
        alias_generator=AliasGenerator(serialization_alias=to_camel), from_attributes=True, frozen=True
    )


class Created(Answered):
    """A job was accepted."""

    job_id: UUID
    status: Status
    message: str
    timestamp: Instant

    @classmethod
    def of(cls, job: JobRecord) -> Self:
        """The answer for this job, new or not."""
        return cls(job_id=job.id, status=job.status, message="Job created successfully", timestamp=job.created_at)


class Moved(Answered):
    """A job was cancelled or retried."""

    message: str
    status: Status
    job_id: UUID | None = Field(
        default=None, exclude_if=_is_none, description="Of the new job that a retry with a payload has made."
    )


class Retry(Answered):
    """A job that repeats another one with another payload."""

    job_id: UUID = Field(validation_alias="id")
    status: Status
    created_at: Instant


class Job(Answered):
    """A job."""

    id: UUID
    dispatch: int
    organization_id: str
    project_id: str | None
    user_id: str
    job_type: str
    status: Status
    hold: Hold | None = Field(description="What a waiting job waits for; null: it was sent to the broker.")
    priority: Priority
    attempt: int
    retry_count: int
    max_retries: int
    payload: Payload
    metadata: dict[str, Any]
    result: Any
    error_message: str | None
    message: str | None
    progress: Percent
    total_steps: int
    current_step: int
    worker: str | None
    depends_on: list[UUID]
    retry_of: UUID | None = Field(
        default=None, exclude_if=_is_none, description="The job that this one repeats with another payload."
    )
    scheduled_at: Instant | None
    next_retry_at: Instant | None
    cancel_requested_at: Instant | None
    started_at: Instant | None
    completed_at: Instant | None
    duration_ms: Milliseconds | None = Field(validation_alias="duration")
    created_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, job: JobRecord) -> Self:
        """The job as clients see it."""
        return cls.model_validate(job)


class Attempt(Answered):
    """One attempt of a job."""

    attempt: int
    dispatch: int
    worker: str
    started_at: Instant
    completed_at: Instant | None
    outcome: Event | None = Field(description="How it ended; null while it runs.")
    error_type: str | None
    error_message: str | None
    traceback: str | None


class TimelineEntry(Answered):
    """Something that happened to a job."""

    id: int
    event: Event
    from_: Status | None = Field(validation_alias="from_status", serialization_alias="from")
    to: Status = Field(validation_alias="to_status")
    attempt: int
    dispatch: int
    actor: str
    detail: dict[str, Any]
    at: Instant

    @field_validator("detail")
    @classmethod
    def _due(cls, detail: dict[str, Any]) -> dict[str, Any]:
        due_at = detail.get("dueAt")  # PostgreSQL has written it, to the microsecond
        return {**detail, "dueAt": in_milliseconds(datetime.fromisoformat(due_at))} if due_at else detail


class JobWithDetails(Job):
    """A job with what `include` asked for."""

    attempts: list[Attempt] | None = Field(default=None, exclude_if=_is_none)
    history: list[TimelineEntry] | None = Field(default=None, exclude_if=_is_none)
    retries: list[Retry] | None = Field(
        default=None, exclude_if=_is_none, description="The jobs that repeat it with another payload, oldest first."
    )

    @classmethod
    def with_details(
        cls, job: JobRecord, timeline: Sequence[HistoryEntry], retries: Sequence[JobRecord], include: Sequence[str]
    ) -> Self:
        """The job with those of its details that are in `include`."""
        attempts = [Attempt.model_validate(attempt) for attempt in lists.attempts(timeline)]
        entries = [TimelineEntry.model_validate(entry) for entry in timeline]
        anew = [Retry.model_validate(each) for each in retries]
        details = {"attempts": attempts, "history": entries, "retries": anew}
        return cls.of(job).model_copy(update={name: details[name] for name in include})


class ProgressDetail(BaseModel):
    """How far a job is: its step, and what its handler says."""

    current: int
    total: int
    percentage: Percent
    message: str | None
    detail: Any


class JobStatus(Answered):
    """A job, and what can be done about it now."""

    job: Job
    progress: Percent = Field(description="In percent.")
    progress_detail: ProgressDetail
    document_id: str | None = Field(
        default=None, exclude_if=_is_none, description="What the work that was done elsewhere has made."
    )
    can_cancel: bool
    can_retry: bool

    @classmethod
    def of(cls, job: JobRecord) -> Self:
        """The status of this job."""
        return cls(
            job=Job.of(job),
            progress=job.progress,
            progress_detail=ProgressDetail(
                current=job.current_step,
                total=job.total_steps,
                percentage=job.progress,
                message=job.message,
                detail=job.progress_detail,
            ),
            document_id=_document(job),
            can_cancel=can_cancel(job.status),
            can_retry=can_retry(job.status, job.retry_count, job.max_retries)
            and not (job.stopping or job.ended_uncalled),
        )


class JobList(Answered):
    """A page of jobs; read by cursor, it has neither a number nor a total."""

    jobs: list[Job]
    total: int | None = Field(default=None, exclude_if=_is_none)
    total_is_capped: bool | None = Field(
        default=None, exclude_if=_is_none, description="There are more jobs than `total`: only a cursor goes on."
    )
    page: int | None = Field(default=None, exclude_if=_is_none)
    page_size: int
    total_pages: int | None = Field(default=None, exclude_if=_is_none)
    next_cursor: str | None = Field(description="Where the next page begins; null: there is none.")

    @classmethod
    def of(cls, page: Page, *, number: int | None, size: int) -> Self:
        """The page as clients see it."""
        return cls(
            jobs=[Job.of(job) for job in page.jobs],
            total=page.total,
            total_is_capped=None if page.total is None else page.total_is_capped,
            page=number,
            page_size=size,
            total_pages=None if page.total is None else -(-page.total // size),
            next_cursor=page.next_cursor,
        )


class RecentJobs(Answered):
    """Active jobs, then those that have just finished."""

    jobs: list[Job]

    @classmethod
    def of(cls, jobs: Sequence[JobRecord]) -> Self:
        """These jobs as clients see them."""
        return cls(jobs=[Job.of(job) for job in jobs])


class JobStats(Answered):
    """How many jobs; finished ones are counted over the window."""

    total: int = Field(description="All that are counted: active ones, and finished ones of the window.")
    total_active: int = Field(description="Jobs that are not finished.")
    pending: int = Field(
        description="Queued jobs that a worker could run now: sent to the broker, or in line for a slot."
    )
    scheduled: int = Field(description="Queued jobs that are due later.")
    running: int
    retrying: int
    completed: int
    failed: int
    cancelled: int
    held: int = Field(description="Of the active ones that workers run, those not sent to the broker yet.")
    oldest_pending_age_ms: Milliseconds | None = Field(
        validation_alias="oldest_pending_age",
        description="How long the first of the pending ones could have run; null: there is none.",
    )
    average_duration_ms: Milliseconds | None = Field(validation_alias="average_duration")

    @classmethod
    def of(cls, stats: Stats) -> Self:
        """The counts as clients see them."""
        return cls.model_validate(stats)


class FinishedJob(Answered):
    """One line of the history."""

    id: UUID
    job_id: UUID = Field(validation_alias="id")
    type: str = Field(validation_alias="job_type")
    priority: Priority
    payload: Payload
    status: Status
    error: str | None = Field(validation_alias="error_message")
    retry_count: int
    created_at: Instant
    started_at: Instant | None
    completed_at: Instant
    duration_ms: Milliseconds | None = Field(validation_alias="duration")


class History(Answered):
    """Finished jobs, last finished first."""

    history: list[FinishedJob]
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page) -> Self:
        """The page as clients see it."""
        return cls(history=[FinishedJob.model_validate(job) for job in page.jobs], next_cursor=page.next_cursor)


class Ticket(Answered):
    """What opens one stream, once."""

    ticket: str
    expires_at: Instant

    @classmethod
    def of(cls, issued: tickets.Ticket) -> Self:
        """The ticket as its client sees it."""
        return cls(ticket=issued.secret, expires_at=issued.expires_at)


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Jobs are accepted; `checks` tells of the database, the workers and the broker."""

    status: Literal["ready"]
    checks: dict[str, str]


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str


class ProblemBody(BaseModel):
    """RFC 9457, with a stable code that docs/errors.md explains."""

    type: str
    title: str
    status: int
    detail: str
    code: Literal[CODES]  # type: ignore[valid-type]  # from the data
    errors: list[FieldError] | None = Field(default=None, description="What is wrong with single fields.")
    checks: dict[str, str] | None = Field(default=None, description="Of not_ready: the state of each part.")


def _document(job: JobRecord) -> str | None:
    """What a result names as the document that it made."""
    named = job.result.get("documentId") if job.external and isinstance(job.result, dict) else None
    is_number = isinstance(named, int) and not isinstance(named, bool)  # as of a row in a database
    return str(named) if is_number or isinstance(named, str) else None


def created_headers(submitted: Submitted) -> dict[str, str]:
    """Where the job is, and whether an earlier request with the same key has made it."""
    location = {"Location": f"/v1/jobs/{submitted.job.id}"}
    return location if submitted.created else {**location, REPLAYED: "true"}


def polling_headers(job: JobRecord) -> dict[str, str]:
    """What a client that waits for a job needs: whether it has changed, and when to look again.

    The tag is weak, because it names a state of the row and not the bytes. A finished job has no `Retry-After`.
    """
    headers = {
        "ETag": f'W/"{_tag(job)}"',
        "Cache-Control": "private, no-cache",  # may be kept, must be asked for
    }
    return headers if job.status in FINISHED else {**headers, "Retry-After": str(_patience(job))}


def _tag(job: JobRecord) -> str:
    return f"{job.id.hex}-{job.status}-{(job.updated_at - EPOCH) // timedelta(microseconds=1)}"


def changed_at(tags: str, job_id: UUID) -> datetime | None:
    """When the job was changed last by its tag in `If-Match`; None: by no tag of ours, of this job.

    Whether it is marked as weak does not matter: who sends it has it from our ETag.
    """
    found = re.search(rf'"{job_id.hex}-[a-z]+-([0-9]{{1,17}})"', tags)
    return EPOCH + timedelta(microseconds=int(found[1])) if found else None


def _patience(job: JobRecord) -> int:
    if datetime.now(UTC) - job.created_at < POLL_OFTEN_UNTIL:
        return 2
    return 5 if job.status is Status.RUNNING else 10
