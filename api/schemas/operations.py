"""Bulk operations, as they are asked for and answered."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from api.problems import CODES
from api.schemas.answers import Answered, Job
from api.schemas.fields import Limit, Listed, Name, Percent, StatusWord, Whole
from api.schemas.requests import Asked, Elsewhere, JobFilter, digest_of
from tracking.models import JobRecord
from tracking.operated import PENDING, Action, Outcome, State
from tracking.operations.begin import MOST_JOBS
from tracking.operations.values import Operation as OperationRecord
from tracking.operations.values import Operations as OperationsPage
from tracking.operations.values import Results as ResultsPage
from tracking.reads.answers import Filters
from tracking.states import STATUS_WORDS
from tracking.values import Instant

MOST_IDS = 10_000
MOST_CANARIES = 100
OUTCOMES = (*map(str, Outcome), PENDING)


def _does(*actions: Action) -> dict[str, Any]:
    """JSON Schema: of a request with one of these actions."""
    return {"properties": {"action": {"enum": list(map(str, actions))}}}


class BulkFilter(JobFilter):
    """Which jobs: what `GET /v1/jobs` takes, but for the page. Empty: all that the caller sees."""

    # An empty list would be everything, which nobody means whose program has found no status or job to name.
    status: list[StatusWord] = Field(default=[], min_length=1, max_length=len(STATUS_WORDS))
    ids: list[UUID] = Field(default=[], min_length=1, max_length=100)
    project_id: Name | None = None

    def filters(self, project_id: str | None) -> Filters:
        """The filters of `tracking`; of all organizations, deliveries of webhooks only by their type or error."""
        asked = self.job_type is not None or self.error is not None or "type:" in (self.q or "")
        return replace(super().filters(project_id), deliveries=asked)


class BulkRequest(Asked):
    """What is to be done to many jobs: to those that match a filter, or that are named by their ids."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["filter"]}, {"required": ["ids"]}],
            "if": _does(Action.REPRIORITIZE),
            "then": {"required": ["priority"]},
            "dependentSchemas": {
                "priority": _does(Action.REPRIORITIZE, Action.RETRY),
                **dict.fromkeys(("force", "canary"), _does(Action.RETRY)),
                "continueIf": {"required": ["canary"], **_does(Action.RETRY)},
            },
            "examples": [
                {"action": "retry", "filter": {"status": ["failed"], "jobType": "export_report"}, "canary": 5},
                {"action": "cancel", "ids": ["019aa0f3-7c1e-7d5a-9f57-3a1f6a0c9d11"], "dryRun": True},
            ],
        }
    )

    action: Action
    filter: BulkFilter | None = None
    ids: Annotated[list[UUID], Field(min_length=1, max_length=MOST_IDS)] | None = None
    priority: Annotated[int | None, Whole] = Field(
        default=None, strict=True, ge=0, le=9, description="Of reprioritize, which needs it, or of retry."
    )
    force: bool = Field(default=False, strict=True, description="Of retry: also when no retry is left.")
    dry_run: bool = Field(default=False, strict=True, description="Only say what matches, and change nothing.")
    canary: Annotated[int | None, Whole] = Field(
        default=None, strict=True, ge=1, le=MOST_CANARIES, description="Of retry: so many first."
    )
    continue_if: Literal["all_succeeded"] | None = Field(
        default=None, description="Of a canary: the others are retried only if all of the first succeed."
    )

    @model_validator(mode="after")
    def say_what_fits(self) -> Self:
        """One way to name the jobs, and nothing that another action has."""
        if (self.filter is None) == (self.ids is None):
            raise ValueError("either filter or ids says which jobs")
        if (self.action is Action.REPRIORITIZE) != (self.priority is not None) and self.action is not Action.RETRY:
            raise ValueError("priority comes with reprioritize, which needs it, or with retry")
        if self.action is not Action.RETRY and (self.force or self.canary or self.continue_if):
            raise ValueError("force, canary and continueIf come with retry")
        if self.continue_if is not None and self.canary is None:
            raise ValueError("continueIf comes with canary")
        return self

    @property
    def filters(self) -> Filters:
        return self.filter.filters(self.filter.project_id) if self.filter is not None else Filters(ids=self.ids or ())

    @property
    def asked(self) -> dict[str, Any]:
        """The same as it was said, to be kept; of ids only how many there are."""
        if self.filter is None:
            return {"ids": len(self.ids or ())}
        return {"filter": self.filter.model_dump(mode="json", by_alias=True, exclude_defaults=True)}

    @property
    def digest(self) -> str:
        """The same for two requests that ask for the same."""
        return digest_of(self)


class Counts(Answered):
    """How many jobs; those that are in none of the others have no outcome yet."""

    matched: int
    done: int
    succeeded: int
    refused: int
    failed: int


class Operation(Answered):
    """A bulk operation."""

    id: UUID
    organization_id: str
    user_id: str
    action: Action
    state: State = Field(
        description="canary: some of its jobs are retried first, and the others wait for their ends. stopped: these did"
        " not all succeed in time."
    )
    reason: str | None = Field(description="Why it has stopped.")
    filter: dict[str, Any] | None = Field(description="As it was given; null: there were ids.")
    ids: int | None = Field(description="How many ids were given; null: there was a filter.")
    priority: int | None
    force: bool
    canary: int | None
    canary_until: Instant | None = Field(description="When the jobs that were retried first must have ended.")
    counts: Counts
    progress: Percent
    created_at: Instant
    updated_at: Instant
    completed_at: Instant | None

    @classmethod
    def of(cls, operation: OperationRecord) -> Self:
        """The operation as clients see it."""
        fields = {name: getattr(operation, name) for name in cls.model_fields if hasattr(operation, name)}
        asked = {name: operation.asked.get(name) for name in ("filter", "ids")}
        return cls(**{**fields, **asked, "counts": Counts.model_validate(operation)})


class Operations(Answered):
    """Bulk operations, newest first."""

    operations: list[Operation]
    next_cursor: UUID | None

    @classmethod
    def of(cls, page: OperationsPage) -> Self:
        """The page as clients see it."""
        return cls(operations=[Operation.of(each) for each in page.operations], next_cursor=page.next_cursor)


class Preview(Answered):
    """What an operation would touch."""

    matched: int
    too_many: bool = Field(description=f"More than {MOST_JOBS:,} match, which is more than an operation takes.")
    sample: list[Job] = Field(description="The newest of them.")

    @classmethod
    def of(cls, matched: int, sample: list[JobRecord]) -> Self:
        """The answer for so many jobs."""
        return cls(
            matched=min(matched, MOST_JOBS), too_many=matched > MOST_JOBS, sample=[Job.of(job) for job in sample]
        )


class JobResult(Answered):
    """What became of one job of a bulk operation."""

    job_id: UUID
    outcome: Literal[OUTCOMES]  # type: ignore[valid-type]  # from the data
    code: Literal[CODES] | None = Field(description="Why it was refused, or has failed.")  # type: ignore[valid-type]
    detail: str | None
    is_canary: bool
    at: Instant | None


class Results(Answered):
    """What became of the jobs of a bulk operation, by their ids."""

    jobs: list[JobResult]
    next_cursor: UUID | None

    @classmethod
    def of(cls, page: ResultsPage) -> Self:
        """The page as clients see it."""
        jobs = [
            JobResult(
                job_id=each.job_id,
                outcome=each.outcome or PENDING,
                code=each.code,
                detail=each.detail,
                is_canary=each.is_canary,
                at=each.at,
            )
            for each in page.results
        ]
        return cls(jobs=jobs, next_cursor=page.next_cursor)


class OperationsQuery(Elsewhere):
    """Which bulk operations."""

    state: Annotated[list[State], Listed] = Field(default=[], max_length=len(State))
    limit: Limit = 50
    cursor: UUID | None = None


class ResultsQuery(Elsewhere):
    """Which jobs of a bulk operation."""

    outcome: Annotated[list[Literal[OUTCOMES]], Listed] = Field(  # type: ignore[valid-type]  # from the data
        default=[], max_length=len(OUTCOMES)
    )
    limit: Limit = 100
    cursor: UUID | None = None
