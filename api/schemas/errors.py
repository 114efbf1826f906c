"""Groups of jobs that failed alike."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Self
from uuid import UUID

from pydantic import ConfigDict, Field, WithJsonSchema

from api.schemas.answers import Answered
from api.schemas.fields import END, Limit, Milliseconds, Name
from api.schemas.requests import Asked, Elsewhere
from tracking.error_tables import Marked
from tracking.marks import Mark
from tracking.reads import failures
from tracking.reads.failures import MOST_KEPT, MOST_READ, SHOWN, SLICES, Standing
from tracking.values import Instant

LONGEST = timedelta(days=30)
DAYS = r"^(P([1-9]|[12][0-9]|30)D|PT[1-9][0-9]{0,1}H|PT[1-9][0-9]{0,3}M|PT[1-9][0-9]{0,5}S)" + END

ErrorWindow = Annotated[
    timedelta,
    Field(ge=timedelta(seconds=1), le=LONGEST),
    WithJsonSchema({"type": "string", "pattern": DAYS, "examples": ["PT1H", "P7D"]}),
]


class ErrorsQuery(Elsewhere):
    """Which failures, and of what time."""

    window: ErrorWindow = Field(default=timedelta(days=1), description="ISO 8601, at most 30 days: failed since then.")
    state: Standing = Field(
        default=Standing.OPEN,
        description="`open`: those that nobody has marked, or that came after they were resolved.",
    )
    job_type: Name | None = None
    project_id: Name | None = None
    limit: Limit = 50


class ErrorGroup(Answered):
    """Jobs that failed alike: of one type, with one type of error, and messages of the same shape."""

    fingerprint: str = Field(description="`GET /v1/jobs?error=` lists these jobs, and bulk operations take it.")
    job_type: str
    error_type: str | None
    message: str | None = Field(description="The shape: `#` stands where their messages differ.")
    count: int = Field(description="Failures in the window.")
    counts: list[int] = Field(description=f"The same in {SLICES} parts of the window, the oldest first.")
    users: int = Field(description="Whose jobs these are, within the window.")
    organization_count: int = Field(validation_alias="of_organizations")
    organizations: list[str] = Field(description=f"The first {SHOWN} of them.")
    first_seen: Instant = Field(description="Of all that stand as failed now.")
    last_seen: Instant
    sample_job_id: UUID = Field(validation_alias="sample", description="The latest of them.")
    sample_message: str | None
    failed: int = Field(description="Jobs that stand as failed now, whenever they failed: what a retry of all takes.")
    failed_is_capped: bool = Field(description=f"There are more than {MOST_KEPT:,}, everywhere than 1,000 of each.")
    marked_by: str | None
    marked_at: Instant | None = Field(description="Of an open group: since when it was resolved, before it came back.")


class ErrorGroups(Answered):
    """Groups of failures, most failures first."""

    errors: list[ErrorGroup] = Field(validation_alias="groups")
    total: int = Field(description="Groups, with those that are not shown.")
    is_capped: bool = Field(description=f"More than {MOST_READ:,} jobs failed in the window: the latest are counted.")
    since: Instant = Field(description="When the window begins: the first of the counts.")
    slice_ms: Milliseconds = Field(validation_alias="width", description="How long each part of the window is.")

    @classmethod
    def of(cls, found: failures.Groups) -> Self:
        """These groups as clients see them."""
        return cls.model_validate(found)


class ErrorChange(Asked):
    """What is said of the failures with one fingerprint, in the whole organization."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"state": "resolved"}]})

    state: Standing = Field(
        description="`resolved`: those until now, one that comes later is open again; `ignored`: later ones as well."
    )

    @property
    def marked(self) -> Marked | None:
        return None if self.state is Standing.OPEN else Marked(str(self.state))


class ErrorMark(Answered):
    """What was said of the failures with one fingerprint."""

    fingerprint: str
    state: Standing
    marked_by: str
    marked_at: Instant

    @classmethod
    def of(cls, mark: Mark) -> Self:
        """The mark as clients see it."""
        state = Standing(str(mark.state or Standing.OPEN))
        return cls(fingerprint=mark.fingerprint, state=state, marked_by=mark.marked_by, marked_at=mark.marked_at)
