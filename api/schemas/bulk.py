"""Many jobs in one request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from api.problems import CODES
from api.schemas.answers import Answered, FieldError
from api.schemas.fields import IdempotencyKey
from api.schemas.requests import Asked, NewJob
from tracking.states import Status

MOST_JOBS = 10_000


class BulkJob(NewJob):
    """One of many jobs to create."""

    idempotency_key: IdempotencyKey | None = Field(
        default=None, description="Of this job alone; it goes before a key of the request."
    )

    @property
    def digest(self) -> str:
        """The same as of a request for this job alone."""
        return NewJob.model_construct(**{name: value for name, value in self if name != "idempotency_key"}).digest


@dataclass(frozen=True, slots=True)
class Unfit:
    """A job that is not valid, and why."""

    error: ValidationError


def _or_unfit(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError as error:
        return Unfit(error)


class NewJobs(Asked):
    """Jobs to create at once."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "mode": "each",
                    "jobs": [
                        {"jobType": "export_report", "payload": {"reportType": "jobs"}, "idempotencyKey": "a-1"},
                        {"jobType": "export_report", "payload": {"reportType": "usage"}, "idempotencyKey": "a-2"},
                    ],
                }
            ],
        }
    )

    mode: Literal["all", "each"] = Field(
        default="all",
        description="all: every job is accepted, or none; each: each by itself, with an answer of its own.",
    )
    jobs: list[Annotated[BulkJob, WrapValidator(_or_unfit)]] = Field(min_length=1, max_length=MOST_JOBS)

    @property
    def digest(self) -> str:
        """The same for two requests that ask for the same jobs in the same order."""
        digests = (job.digest if isinstance(job, BulkJob) else "" for job in self.jobs)
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()


class Refusal(Answered):
    """Why a job was not accepted."""

    code: Literal[CODES]  # type: ignore[valid-type]  # from the data
    detail: str
    errors: list[FieldError]


class BulkAnswer(Answered):
    """What became of one of the jobs."""

    index: int = Field(description="Its place in the request, from 0.")
    job_id: UUID | None = Field(description="null: it was refused.")
    status: Status | None
    is_new: bool = Field(description="Whether this request made it; false also for one that was refused.")
    refusal: Refusal | None = Field(description="null: it was accepted.")


class CreatedJobs(Answered):
    """What became of all of them."""

    accepted: int
    refused: int
    jobs: list[BulkAnswer] = Field(description="One for each job of the request, in its order.")
