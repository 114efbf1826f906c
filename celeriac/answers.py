"""What the HTTP API answers, as frozen values."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import pydantic
from pydantic.alias_generators import to_camel

from tracking.states import FINISHED, Hold, Status


class Answer(pydantic.BaseModel):
    """The base of what the API answers; fields of a newer server are ignored."""

    model_config = pydantic.ConfigDict(alias_generator=to_camel, frozen=True, hide_input_in_errors=True)


class Created(Answer):
    """An accepted job."""

    job_id: UUID
    status: Status
    timestamp: datetime


class Job(Answer):
    """A job. `hold` None: a waiting one was sent to the broker."""

    id: UUID
    task_id: UUID
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
    scheduled_at: datetime | None
    next_retry_at: datetime | None
    cancel_requested_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    duration_ms: int | None
    created_at: datetime
    updated_at: datetime

    @property
    def is_finished(self) -> bool:
        """Whether it has come to its end; a failed or cancelled job can be retried."""
        return self.status in FINISHED


class Progress(Answer):
    """How far a job is: step `current` of `total`, and the percentage, which never falls within an attempt."""

    current: int
    total: int
    percentage: int
    message: str | None
    detail: Any


class JobStatus(Answer):
    """A job, and what can be done about it now."""

    job: Job
    progress: Progress
    can_cancel: bool
    can_retry: bool


class Stats(Answer):
    """How many jobs; those that are completed, failed or cancelled are of the last hour unless asked otherwise."""

    pending: int
    running: int
    retrying: int
    completed: int
    failed: int
    cancelled: int
    total_active: int
    held: int
    oldest_pending_age_ms: int | None
    average_duration_ms: int | None

    @property
    def finished(self) -> int:
        """All that came to an end."""
        return self.completed + self.failed + self.cancelled


class JobType(Answer):
    """A type of jobs: the JSON Schema of its payload, the permission it asks for, the names of its steps."""

    job_type: str
    payload_schema: dict[str, Any]
    permission: str | None
    steps: tuple[str, ...]
    retry_policy: dict[str, Any]


class Page(Answer):
    """Some of the jobs; `next_cursor` None: the last ones."""

    jobs: tuple[Job, ...]
    next_cursor: str | None


class JobTypes(Answer):
    """All types of jobs."""

    job_types: tuple[JobType, ...]


class Moved(Answer):
    """A job was cancelled or retried, and is in this status now."""

    status: Status
