"""Schedules, as they are asked for and answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from api.schemas.answers import Answered
from api.schemas.fields import JsonObject, Limit, Name, Payload, Place, Priority, Segment, Whole
from api.schemas.requests import Asked, Elsewhere, InAnother
from tasks.words import in_words
from tracking.clean_ups import CleanUp as CleanUpRecord
from tracking.errors import InvalidValue
from tracking.reads.lists import EPOCH
from tracking.reads.places import cursor_of
from tracking.schedules.times import LONGEST_INTERVAL, check_cron, check_zone
from tracking.schedules.values import Became, CatchUp, Overlap, Plan
from tracking.schedules.values import Outcome as OutcomeRecord
from tracking.schedules.values import Schedule as ScheduleRecord
from tracking.states import Status
from tracking.templates import Template
from tracking.values import MAX_INTEGER, Instant

UTC_ZONE = "UTC"
IN_ONE_WAY: dict[str, Any] = {
    "allOf": [
        {"oneOf": [{"required": ["jobType"]}, {"required": ["template"]}]},
        {
            "oneOf": [
                {"required": ["cron"], "not": {"required": ["everySeconds"]}},
                {"required": ["everySeconds"], "not": {"anyOf": [{"required": ["cron"]}, {"required": ["timezone"]}]}},
                {"required": ["template"], "not": {"anyOf": [{"required": ["cron"]}, {"required": ["everySeconds"]}]}},
            ]
        },
    ]
}
NOT_BOTH: dict[str, Any] = {"not": {"anyOf": [{"required": [each, "everySeconds"]} for each in ("cron", "timezone")]}}


@contextmanager
def _as_errors() -> Iterator[None]:
    """Let pydantic say at which field it is."""
    try:
        yield
    except InvalidValue as error:
        raise ValueError(str(error)) from None


def _known_zone(zone: str) -> str:
    with _as_errors():
        return check_zone(zone)


class Times(Asked):
    """When a schedule is due, and what happens then."""

    timezone: Annotated[Name, AfterValidator(_known_zone)] | None = Field(
        default=None, description="In which cron is read, of IANA; unset: UTC.", examples=["Europe/Berlin"]
    )
    cron: Name | None = Field(
        default=None,
        description="Five fields (minute, hour, day, month, weekday), or @daily and its like; due within 400 days.",
        examples=["30 6 * * 1-5"],
    )
    every_seconds: Annotated[int | None, Whole] = Field(default=None, strict=True, ge=1, le=LONGEST_INTERVAL)
    catch_up: CatchUp = Field(
        default=CatchUp.ONCE, description="Which due times make a job after all that were missed in an outage."
    )
    overlap: Overlap = Field(
        default=Overlap.ALLOW, description="What happens at a due time while an earlier job has not ended."
    )

    @field_validator("cron")
    @classmethod
    def be_due(cls, cron: str | None, info: ValidationInfo) -> str | None:
        """It can be read, and is due within 400 days; a zone that is wrong is told of instead."""
        if cron is not None and "timezone" in info.data:
            with _as_errors():
                check_cron(cron, info.data["timezone"] or UTC_ZONE, datetime.now(UTC))
        return cron


class TemplateTimes(Times):
    """What a template says of the times of its schedules."""

    model_config = ConfigDict(json_schema_extra=NOT_BOTH)

    @model_validator(mode="after")
    def be_due_in_one_way(self) -> Self:
        """By cron, at an interval, or as its schedules say: there cannot be a schedule that is due in two ways."""
        if self.every_seconds is not None and (self.cron is not None or self.timezone is not None):
            raise ValueError("say either cron, with its timezone, or everySeconds")
        return self


class _Said(Times):
    """What may be said of a schedule."""

    payload: JsonObject = Field(default={}, description="What the handler of this type takes; see /v1/job-types.")
    priority: Annotated[int | None, Whole] = Field(
        default=None, strict=True, ge=0, le=9, description="Unset: as the handler says."
    )
    max_retries: Annotated[int | None, Whole] = Field(
        default=None, strict=True, ge=0, le=100, description="Unset: as the handler says."
    )
    project_id: Segment | None = None
    metadata: JsonObject = Field(default={}, description="Kept with each job.")


class NewSchedule(_Said):
    """A schedule to create."""

    model_config = ConfigDict(
        json_schema_extra={
            **IN_ONE_WAY,
            "examples": [
                {
                    "name": "nightly report",
                    "jobType": "export_report",
                    "payload": {"reportType": "jobs"},
                    "cron": "30 2 * * *",
                    "timezone": "Europe/Berlin",
                },
            ],
        }
    )

    name: Name = Field(description="Unique in the organization.")
    job_type: Name | None = Field(default=None, description="Unset with a template, whose type it is.")
    template: Segment | None = Field(
        default=None, description="Of the organization's, by name: the payload and all else is said on top of it."
    )
    paused: bool = Field(default=False, strict=True)

    @model_validator(mode="after")
    def be_due_in_one_way(self) -> Self:
        """Either by cron or at an interval, unless its template says it; of a type or of a template."""
        if (self.job_type is None) == (self.template is None):
            raise ValueError("say either jobType or template")
        is_unsaid = self.cron is None and self.every_seconds is None
        if (self.cron is None) == (self.every_seconds is None) and not (is_unsaid and self.template is not None):
            raise ValueError("say either cron or everySeconds")
        if self.every_seconds is not None and self.timezone is not None:
            raise ValueError("timezone comes with cron")
        return self

    def plan(self, template: Template | None) -> Plan:
        """The same for `tracking`; what it leaves out of its times is as the template says. Raises InvalidValue."""
        said = {each.name: getattr(self, each.name) for each in fields(Plan)}
        if template is not None:
            below = _below(template)
            named = below.model_fields_set - self.model_fields_set
            is_due = self.cron is not None or self.every_seconds is not None
            said |= {each: getattr(below, each) for each in named if each not in DUE_BY or not is_due}
            said["job_type"] = template.job_type
        if said["cron"] is None and said["every_seconds"] is None:
            raise InvalidValue("say cron or everySeconds: the template says neither")
        return Plan(**{**said, "timezone": _zone(said["cron"], said["timezone"])})


DUE_BY = ("cron", "timezone", "every_seconds")


def _below(template: Template) -> TemplateTimes:
    """What it says of times. Raises InvalidValue for what was kept before it was refused."""
    try:
        return TemplateTimes.model_validate(template.content.schedule)
    except ValidationError as error:
        raise InvalidValue(f"the template {template.name!r}: {error.errors()[0]['msg']}") from None


class ScheduleChange(_Said):
    """What is changed of a schedule; the rest stays. null for what may be unset unsets it."""

    model_config = ConfigDict(json_schema_extra={**NOT_BOTH, "examples": [{"cron": "0 3 * * *"}, {"priority": 9}]})

    name: Name | None = None
    job_type: Name | None = None
    payload: JsonObject | None = None  # type: ignore[assignment]
    metadata: JsonObject | None = None  # type: ignore[assignment]
    catch_up: CatchUp | None = None  # type: ignore[assignment]
    overlap: Overlap | None = None  # type: ignore[assignment]

    @model_validator(mode="after")
    def be_due_in_one_way(self) -> Self:
        """What is said of cron is not said of an interval."""
        if self.every_seconds is not None and (self.cron is not None or self.timezone is not None):
            raise ValueError("say either cron or everySeconds")
        return self

    def applied(self, plan: Plan) -> Plan:
        """The plan as it is to be.

        Raises InvalidValue for a zone without cron, or that leaves cron no due time, and for the type of a template's.
        """
        if self.job_type is not None and plan.template is not None:
            raise InvalidValue("jobType is that of its template")
        said = {name: getattr(self, name) for name in self.model_fields_set}
        said = {name: value for name, value in said.items() if value is not None or name in UNSET}
        if self.cron is not None:
            said |= {"every_seconds": None, "timezone": _zone(self.cron, self.timezone or plan.timezone)}
        elif self.every_seconds is not None:
            said |= {"cron": None, "timezone": None}
        elif self.timezone is not None and plan.cron is None:
            raise InvalidValue("timezone comes with cron, and this schedule has an interval")
        changed = replace(plan, **said)
        if changed.cron is not None and changed.timezone is not None and not changed.is_due_as(plan):
            check_cron(changed.cron, changed.timezone, datetime.now(UTC))
        return changed


UNSET = ("priority", "max_retries", "project_id")


class SchedulesQuery(Elsewhere):
    """Which schedules."""

    limit: Limit = 50
    cursor: Place | None = Field(default=None, description="Those that follow this nextCursor.")


class OutcomesQuery(InAnother):
    """Which outcomes of a schedule."""

    limit: Limit = 50
    cursor: int | None = Field(default=None, ge=0, le=MAX_INTEGER, description="Those before this nextCursor.")

    @property
    def before(self) -> datetime | None:
        """The due time before which they were."""
        return None if self.cursor is None else EPOCH + timedelta(microseconds=self.cursor)


class Outcome(Answered):
    """What became of a due time, or of several in a row to which the same has happened."""

    due_at: Instant = Field(description="The first of them; of a job that somebody ran by hand, when they did.")
    last_due_at: Instant
    count: int
    outcome: Became = Field(validation_alias="became")
    job_id: UUID | None
    status: Status | None = Field(description="Of the job; null: there is none, or it was removed.")
    reason: str | None = Field(
        description="Of skipped: overlap, late (nobody has looked in time) or asked (by a person); of failed: why."
    )
    by: str | None = Field(validation_alias="actor", description="Who has asked for it; null: it was due.")
    at: Instant


class Schedule(Answered):
    """A schedule."""

    id: UUID
    organization_id: str
    user_id: str = Field(description="In whose name its jobs are made.")
    name: str
    job_type: str
    template: str | None = Field(description="By name; the payload and all else is said on top of its newest version.")
    payload: Payload
    priority: Priority | None
    max_retries: int | None
    project_id: str | None
    metadata: dict[str, Any]
    cron: str | None
    timezone: str | None
    every_seconds: int | None
    words: str = Field(description="When it is due, for people.")
    catch_up: CatchUp
    overlap: Overlap
    paused: bool
    paused_by: str | None
    paused_at: Instant | None
    next_at: Instant | None = Field(description="null: it is paused, or never due again.")
    version: int
    changed_by: str
    last_outcomes: list[Outcome] = Field(description="The newest, newest first.")
    created_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, schedule: ScheduleRecord) -> Self:
        """The schedule as clients see it."""
        plan = {each.name: getattr(schedule.plan, each.name) for each in fields(Plan)}
        kept = {name: getattr(schedule, name) for name in KEPT}
        return cls(
            organization_id=schedule.owner.organization_id,
            user_id=schedule.owner.user_id,
            words=in_words(schedule.plan),
            next_at=schedule.shown_next_at,
            last_outcomes=[Outcome.model_validate(each) for each in schedule.last],
            **{**plan, **kept},
        )


def behind(last: Any, *, everywhere: bool) -> str:
    """The cursor of a list by name that has ended with this one."""
    return cursor_of(last.organization_id, last.name) if everywhere else str(last.name)


KEPT = ("id", "paused", "paused_by", "paused_at", "version", "changed_by", "created_at", "updated_at")


class Schedules(Answered):
    """A page of schedules, by name; of all organizations, by these first."""

    schedules: list[Schedule]
    next_cursor: str | None = Field(description="Where the next page begins; null: there is none.")

    @classmethod
    def of(cls, found: Sequence[ScheduleRecord], size: int, *, everywhere: bool) -> Self:
        """At most `size` of those that were found, and where the others begin."""
        shown = [Schedule.of(each) for each in found[:size]]
        return cls(schedules=shown, next_cursor=behind(shown[-1], everywhere=everywhere) if len(found) > size else None)


class Outcomes(Answered):
    """A page of outcomes, newest first."""

    outcomes: list[Outcome]
    next_cursor: int | None = Field(description="Where the next page begins; null: there is none.")

    @classmethod
    def of(cls, found: Sequence[OutcomeRecord], size: int) -> Self:
        """At most `size` of those that were found, and where the others begin."""
        last = found[size - 1].due_at if len(found) > size else None
        return cls(
            outcomes=[Outcome.model_validate(each) for each in found[:size]],
            next_cursor=None if last is None else (last - EPOCH) // timedelta(microseconds=1),
        )


class Removed(Answered):
    """A schedule was removed."""

    message: str


class DueTimes(Answered):
    """When a schedule is due next; empty: never again, or it is paused."""

    times: list[Instant]


class CleanUp(Answered):
    """Something that the leading worker cleans up by itself, and how that last went."""

    name: str
    every_seconds: int
    words: str
    next_at: Instant
    began_at: Instant
    ended_at: Instant
    removed: int | None = Field(description="Rows; null: it has failed.")
    error: str | None

    @classmethod
    def of(cls, clean_up: CleanUpRecord) -> Self:
        """The clean-up as operators see it."""
        names = (name for name in cls.model_fields if name != "words")
        words = in_words(Plan(clean_up.name, "", every_seconds=clean_up.every_seconds))
        return cls(words=words, **{name: getattr(clean_up, name) for name in names})


class CleanUps(Answered):
    """What the platform cleans up by itself."""

    clean_ups: list[CleanUp]


def _zone(cron: str | None, zone: str | None) -> str | None:
    return None if cron is None else zone or UTC_ZONE
