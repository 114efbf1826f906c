"""What requests may say."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, Literal, Self, cast
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from api.schemas.fields import (
    ELSEWHERE,
    EVERYWHERE_TOO,
    Cursor,
    Fingerprint,
    GivenInstant,
    JsonObject,
    KeptInstant,
    Limit,
    Listed,
    Name,
    OneName,
    PastInstant,
    Segment,
    StatusWord,
    Text,
    Whole,
    Window,
    Words,
)
from tracking.external_types import BUILT_IN
from tracking.jobs.track import REPORTED
from tracking.models import Report, Wishes
from tracking.reads.answers import Filters
from tracking.reads.lists import MOST_COUNTED, MOST_FOUND
from tracking.reads.matching import LOOKED_AT
from tracking.reads.search import QUALIFIERS, UNINDEXED
from tracking.reads.tail import Narrowed
from tracking.states import STATUS_WORDS, Status, status_of
from tracking.values import MAX_INTEGER, MOST_DEPENDENCIES

LAST_PAGE = MOST_COUNTED  # of one job each
COMES_WITH = {"result": (Status.SUCCEEDED,), "error": (Status.FAILED, Status.CANCELLED)}
REPORTS = ("status", "progress", "message", "detail", "result", "error")
EDITS = {"payload": "payload", "priority": "priority", "scheduled_at": "scheduledAt"}
REPORTED_WORDS = tuple(word for word in STATUS_WORDS if status_of(word) in REPORTED)


def _dependent() -> dict[str, Any]:
    """JSON Schema: what comes with what in a JobChange."""
    ends = {field: _only_with(*statuses) for field, statuses in COMES_WITH.items()}
    without: dict[str, Any] = {"not": {"anyOf": [{"required": [each]} for each in REPORTS]}}
    return ends | dict.fromkeys(EDITS.values(), without)


def _only_with(*statuses: Status) -> dict[str, Any]:
    """JSON Schema: of an object whose status is one of these."""
    words = [word for word in STATUS_WORDS if status_of(word) in statuses]
    return {"required": ["status"], "properties": {"status": {"enum": words}}}


class Asked(BaseModel):
    """The base of what clients send: camelCase, and nothing that we do not know."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


class Elsewhere(Asked):
    """The base of queries that operators may ask about other organizations."""

    organization: Name | None = Field(default=None, description=f"{ELSEWHERE} {EVERYWHERE_TOO}")


class InAnother(Asked):
    """The base of queries that operators may ask about one other organization."""

    organization: OneName | None = Field(default=None, description=ELSEWHERE)


def digest_of(asked: Asked) -> str:
    """The same for two requests that ask for the same."""
    canonical = asked.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return hashlib.sha256(json.dumps(canonical, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class NewJob(Asked):
    """A job to create."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"jobType": "export_report", "payload": {"reportType": "jobs"}, "priority": 5}],
        }
    )

    job_type: Name = Field(default=BUILT_IN[0], description="Unset: a job whose work is done elsewhere.")
    payload: JsonObject = Field(default={}, description="What the handler of this type takes; see /v1/job-types.")
    priority: Annotated[int | None, Whole] = Field(
        default=None, strict=True, ge=0, le=9, description="Higher is more urgent; unset = 0."
    )
    max_retries: Annotated[int | None, Whole] = Field(
        default=None, strict=True, ge=0, le=100, description="Unset: what the handler says, see /v1/job-types."
    )
    scheduled_at: KeptInstant | None = Field(default=None, description="Not to be started earlier.")
    depends_on: list[UUID] = Field(
        default=[],
        max_length=MOST_DEPENDENCIES,
        description="Jobs that have to succeed first; when one of them fails or is cancelled, so is this one.",
        examples=[["019aa0f3-7c1e-7d5a-9f57-3a1f6a0c9d11"]],
    )
    project_id: Segment | None = None
    message: Text | None = Field(default=None, description="Shown until the handler reports its own.")
    metadata: JsonObject = Field(default={}, description="Kept with the job, not seen by the handler.")

    def wishes(self, idempotency_key: str | None) -> Wishes:
        """What it says beside the type and the payload, as a handler takes it; the key comes in a header."""
        said = {name: value for name, value in self if name not in ("job_type", "payload", "idempotency_key")}
        digest = None if idempotency_key is None else self.digest
        return cast("Wishes", {**said, "idempotency_key": idempotency_key, "request_hash": digest})

    @property
    def digest(self) -> str:
        """The same for two requests that ask for the same."""
        return digest_of(self)


class CancelRequest(Asked):
    """Why a job is cancelled."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "wrong month"}]})

    reason: Text | None = None


class RetryRequest(Asked):
    """How a job is retried."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"payload": {"reportType": "usage"}}]})

    payload: JsonObject | None = Field(
        default=None, description="What its handler takes instead, in a new job; the old one stays as it ended."
    )
    priority: Annotated[int | None, Whole] = Field(
        default=None, strict=True, ge=0, le=9, description="Unset: as before."
    )
    force: bool = Field(default=False, strict=True, description="Retry even when no retry is left.")

    @property
    def digest(self) -> str:
        """The same for two requests that ask for the same."""
        return digest_of(self)


class JobChange(Asked):
    """What is said of a job whose work is done elsewhere, or what is changed of one that waits; the rest stays.

    Nothing at all: the work that is done elsewhere goes on.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "dependentSchemas": _dependent(),
            "examples": [
                {"progress": 40, "message": "Page 4 of 10"},
                {"status": "succeeded", "result": {"documentId": "d-17"}},
                {"status": "failed", "error": "The document cannot be read"},
                {"priority": 9, "scheduledAt": "2026-12-01T06:00:00Z"},
            ],
        }
    )

    status: Annotated[Literal[REPORTED_WORDS], AfterValidator(status_of)] | None = Field(  # type: ignore[valid-type]
        default=None, description="Unset with a progress: a job that waits has begun."
    )
    progress: Annotated[int | None, Whole] = Field(
        default=None, strict=True, ge=0, le=100, description="It never falls, and is 100 only with success."
    )
    message: Text | None = None
    detail: JsonObject | None = Field(default=None, description="Shown as progressDetail.detail.")
    result: JsonObject | None = Field(default=None, description="Of a job that has succeeded, such as a documentId.")
    error: Text | None = Field(default=None, description="Why a job has failed, or was cancelled.")
    payload: JsonObject | None = Field(default=None, description="Of a job that waits: what its handler takes instead.")
    priority: Annotated[int | None, Whole] = Field(
        default=None, strict=True, ge=0, le=9, description="Of a job that waits."
    )
    scheduled_at: KeptInstant | None = Field(
        default=None,
        description="Of a job that waits: not to be started earlier. null, or a time that is over: at once.",
    )

    @model_validator(mode="after")
    def say_something_that_fits(self) -> Self:
        """What comes with an end comes with that end, and a report is no edit."""
        if self.edits and any(getattr(self, field) is not None for field in REPORTS):
            raise ValueError(f"{' and '.join(EDITS.values())} are of a job that waits, and nothing is reported of it")
        for field, statuses in COMES_WITH.items():
            if getattr(self, field) is not None and self.status not in statuses:
                raise ValueError(f"{field} comes with the status {' or '.join(statuses)}")
        return self

    @property
    def edits(self) -> bool:
        """Whether it changes a job that waits."""
        return self.at_once or any(getattr(self, field) is not None for field in EDITS)

    @property
    def at_once(self) -> bool:
        """Whether it takes the time of a job away; not by the null of a client that sends all fields with a report."""
        said = self.model_fields_set
        return self.scheduled_at is None and "scheduled_at" in said and said.isdisjoint(REPORTS)

    @property
    def report(self) -> Report:
        return Report(self.status, self.progress, self.message, self.detail, self.result, self.error)


class PauseRequest(Asked):
    """Why jobs are paused."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "the books are closed"}]})

    reason: Text | None = None


class TypePauseRequest(PauseRequest):
    """Why jobs of a type are paused, and whose."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "the bank is away"}]})

    everywhere: bool = Field(
        default=False, strict=True, description="In all organizations; that takes jobs.manage_platform."
    )


class TypeResumeRequest(Asked):
    """Whose jobs of a type are resumed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"everywhere": True}]})

    everywhere: bool = Field(default=False, strict=True, description="Ends the pause of all organizations instead.")


class JobFilter(Asked):
    """Which jobs."""

    status: Annotated[list[StatusWord], Listed, Field(max_length=len(STATUS_WORDS))] = []
    job_type: Name | None = None
    user_id: Name | None = None
    created_from: GivenInstant | None = None
    created_to: GivenInstant | None = Field(default=None, description="Not included.")
    completed_from: GivenInstant | None = Field(default=None, description="Jobs that ended at that time or later.")
    completed_to: GivenInstant | None = Field(default=None, description="Not included.")
    q: Words | None = Field(
        default=None,
        description=(
            "Words that stand in the type or in the error, in any case, or at least the first eight digits of an id."
            f" Qualifiers narrow it: {', '.join(f'`{name}:`' for name in QUALIFIERS)}, such as"
            ' `status:failed error:"timed out"`, `error:` and the fingerprint of a group, `priority:>=7` or'
            f" `payload.customer.id:42`. {', '.join(f'`{name}:`' for name in UNINDEXED)} and `payload.path:` are looked"
            f" for in the newest {LOOKED_AT:,} jobs that match all else: a page may have fewer jobs than asked for, or"
            " none, and a `nextCursor` that goes on."
        ),
        examples=["timed out", 'type:export_report status:failed error:"no space"', "payload.customer.id:42"],
    )
    ids: Annotated[list[UUID], Listed, Field(max_length=100)] = []
    schedule_id: UUID | None = Field(default=None, description="Jobs that this schedule has made.")
    error: Fingerprint | None = Field(default=None, description="Jobs that failed alike, see `GET /v1/errors`.")

    def filters(self, project_id: str | None) -> Filters:
        return Filters(
            statuses=self.status,
            job_type=self.job_type,
            project_id=project_id,
            user_id=self.user_id,
            created_from=self.created_from,
            created_to=self.created_to,
            completed_from=self.completed_from,
            completed_to=self.completed_to,
            search=self.q,
            ids=self.ids,
            schedule_id=self.schedule_id,
            error=self.error,
        )


class AsOf(Asked):
    """The base of queries that may ask how it was."""

    as_of: PastInstant | None = Field(
        default=None, description="As it was then, by the history of the jobs that are still kept; no time to come."
    )


class ProjectListQuery(JobFilter, AsOf, Elsewhere):
    """Which jobs of a project, and which page of them. With asOf, status is that of then; the rest is as now."""

    page: int = Field(
        default=1,
        ge=1,
        le=LAST_PAGE,
        description=f"Pages end at {MOST_COUNTED:,} jobs, those of a search at {MOST_FOUND:,}; a cursor goes on."
        " Not looked at when there is a cursor.",
    )
    cursor: Cursor | None = Field(default=None, description="Instead of page: what follows; empty: the first ones.")
    page_size: Limit = Field(default=50, description="Of ids that are known, unset: all of them.")

    def filters(self, project_id: str | None) -> Filters:
        """The filters of `tracking`, at the time that is asked for."""
        return replace(super().filters(project_id), as_of=self.as_of)


class ListQuery(ProjectListQuery):
    """Which jobs, and which page of them."""

    project_id: Name | None = None


class EventsQuery(Asked):
    """What `GET /v1/events` and `/v1/ws` take."""

    type: Name | None = Field(
        default=None, description="Events of jobs of this type only, and of schedules that make them."
    )
    project_id: Name | None = Field(
        default=None, description="Events of jobs, workflows and schedules of this project only."
    )
    job_id: UUID | None = Field(default=None, description="Events of this job only.")
    last_event_id: int | None = Field(
        default=None,
        ge=0,
        le=MAX_INTEGER,
        description="Begin behind this event, as the header Last-Event-ID says it, which counts before this.",
    )
    ticket: Name | None = Field(
        default=None, description="Instead of a token, of `POST /v1/events/ticket`: good for one stream."
    )

    @property
    def narrowed(self) -> Narrowed:
        """What it narrows the stream to."""
        return Narrowed(self.type, self.project_id, self.job_id)


class JobQuery(AsOf, Elsewhere):
    """What to include in a job."""

    include: Annotated[list[Literal["attempts", "history", "retries"]], Listed, Field(max_length=3)] = []


class RecentQuery(Elsewhere):
    """Which recent jobs."""

    limit: Limit = 100
    type: Name | None = None
    status: StatusWord | None = None


class StatsQuery(AsOf, Elsewhere):
    """Over which time finished jobs are counted."""

    window: Window = Field(
        default=timedelta(hours=1), description="ISO 8601, at most 90 days; all: as far back as jobs are kept."
    )


class HistoryQuery(Elsewhere):
    """Which finished jobs."""

    limit: Limit = 100
    type: Name | None = None
    status: StatusWord | None = None
    from_: GivenInstant | None = Field(default=None, alias="from", description="Finished at or after it.")
    to: GivenInstant | None = Field(default=None, description="Finished before it.")
    cursor: Cursor | None = None

    @property
    def filters(self) -> Filters:
        return Filters(
            statuses=(self.status,) if self.status else (),
            job_type=self.type,
            completed_from=self.from_,
            completed_to=self.to,
        )
