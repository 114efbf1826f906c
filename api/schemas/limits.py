"""Limits of types, of keys and of rates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from api.schemas.answers import Answered
from api.schemas.fields import END, Name, OneName, Whole
from api.schemas.requests import Asked
from tasks.controls import IN_PAYLOAD
from tracking.admission.job_limits import JobLimit as LimitRecord
from tracking.admission.job_limits import Per, Wanted
from tracking.admission.weights import HEAVIEST
from tracking.settings import MOST_AT_ONCE, MOST_WAITING
from tracking.values import Instant

Period = Literal["second", "minute", "hour"]
PERIODS: dict[str, timedelta] = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
}
MOST_IN_A_PERIOD = 100_000  # jobs; each of them is a row until its period is over
PATH = r"^[^.\x00]{1,100}(\.[^.\x00]{1,100}){0,9}"


EXAMPLES = [
    {"per": "organization", "jobType": "export_report", "concurrency": 2, "rate": {"jobs": 10, "per": "minute"}}
]


class Rate(Asked):
    """How many jobs may be sent in any such period."""

    jobs: Annotated[int, Whole] = Field(strict=True, ge=1, le=MOST_IN_A_PERIOD)
    per: Period


def _conditions() -> list[dict[str, Any]]:
    """JSON Schema: what comes with what in a LimitPut."""
    absent = {"type": "null"}
    numbers = [_said("concurrency", "integer"), _said("rate", "object")]
    named = _said("jobType", "string")
    return [
        {"if": _per("platform"), "then": {"properties": {"organization": absent}, **_merged(named)}},
        {"if": _per("key"), "then": named, "else": {"properties": {"key": absent}}},
        {"if": {"not": named}, "then": {"properties": {"concurrency": absent}}},
        {"anyOf": [_said("organization", "string"), *numbers]},
    ]


def _said(name: str, kind: str) -> dict[str, Any]:
    return {"required": [name], "properties": {name: {"type": kind}}}


def _per(word: str) -> dict[str, Any]:
    return {"required": ["per"], "properties": {"per": {"const": word}}}


def _merged(named: dict[str, Any]) -> dict[str, Any]:
    return {
        "required": named["required"],
        "properties": {"organization": {"type": "null"}, **named["properties"]},
    }


class LimitPut(Asked):
    """A limit, in the place of the one for the same organization, type and `per`."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(allOf=_conditions(), examples=EXAMPLES))

    per: Per = Field(
        description="What has a count of its own: the whole platform, each organization, or each key in one."
    )
    organization: OneName | None = Field(
        default=None, description="Only this one, instead of what holds for all; null: all of them."
    )
    job_type: Name | None = Field(
        default=None, description="null: all types together, of an organization; a rate only."
    )
    key: str | None = Field(
        default=None,
        max_length=1100,
        pattern=f"{PATH}$",
        description="Where the payload has the key, names with dots; null: where the handler's concurrency_key says.",
        json_schema_extra={"pattern": f"{PATH}{END}"},
    )
    concurrency: Annotated[int | None, Whole] = Field(
        default=None, strict=True, ge=1, le=MOST_AT_ONCE, description="How many may execute at once; null: any number."
    )
    rate: Rate | None = Field(
        default=None,
        description="null: any number. With neither, what holds for all is taken off the organization, which is said.",
    )

    @model_validator(mode="after")
    def check_fit(self) -> Self:
        if self.per is Per.PLATFORM and self.organization is not None:
            raise ValueError("A limit of the whole platform is of no organization")
        if self.per is not Per.ORGANIZATION and self.job_type is None:
            raise ValueError(f"A limit per {self.per} is of a type: say jobType")
        if self.per is not Per.KEY and self.key is not None:
            raise ValueError("Only a limit per key has a key")
        if self.job_type is None and self.concurrency is not None:
            raise ValueError("How many jobs of all types execute at once, the limit of the organization says")
        if self.organization is None and self.concurrency is None and self.rate is None:
            raise ValueError("A limit has a number: say concurrency or rate, or the organization that has none")
        return self

    @property
    def wanted(self) -> Wanted:
        return Wanted(
            organization_id=self.organization,
            job_type=self.job_type,
            per=self.per,
            key_path=self.key.removeprefix(IN_PAYLOAD) if self.key else None,
            concurrency=self.concurrency,
            rate=self.rate.jobs if self.rate else None,
            period=PERIODS[self.rate.per] if self.rate else None,
        )


class AnsweredRate(Answered):
    """How many jobs may be sent in any such period."""

    jobs: int
    per: Period


class JobLimit(Answered):
    """A limit of jobs."""

    id: UUID
    per: Per
    organization: str | None = Field(description="null: all of them, unless they have one of their own.")
    job_type: str | None = Field(description="null: all types together.")
    key: str | None = Field(description="Where the payload has the key.")
    concurrency: int | None = Field(description="null: any number.")
    rate: AnsweredRate | None = Field(description="null: any number.")
    changed_by: str
    changed_at: Instant

    @classmethod
    def of(cls, limit: LimitRecord) -> Self:
        """A limit as clients see it."""
        words = {period: word for word, period in PERIODS.items()}
        rate = None if limit.rate is None else {"jobs": limit.rate, "per": words[limit.period or PERIODS["second"]]}
        return cls.model_validate(
            {
                "id": limit.id,
                "per": limit.per,
                "organization": limit.organization_id,
                "job_type": limit.job_type,
                "key": limit.key_path,
                "concurrency": limit.concurrency,
                "rate": rate,
                "changed_by": limit.changed_by,
                "changed_at": limit.changed_at,
            }
        )


class JobLimits(Answered):
    """All limits, those of all organizations first."""

    limits: list[JobLimit]

    @classmethod
    def of(cls, found: Sequence[LimitRecord]) -> Self:
        """These limits as clients see them."""
        return cls(limits=[JobLimit.of(limit) for limit in found])


class LimitRequest(Asked):
    """How many jobs of an organization may execute at once."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"limit": 20}]})

    limit: Annotated[int | None, Whole] = Field(
        strict=True, ge=0, le=MOST_AT_ONCE, description="0: any number; null: the platform's default."
    )


class WaitingLimitRequest(Asked):
    """How many jobs of an organization may wait at once."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"limit": 10_000}]})

    limit: Annotated[int | None, Whole] = Field(
        strict=True, ge=0, le=MOST_WAITING, description="0: any number; null: the platform's default."
    )


class WeightRequest(Asked):
    """How great an organization's share is of workers that several want."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"weight": 3}]})

    weight: Annotated[int | None, Whole] = Field(
        strict=True,
        ge=1,
        le=HEAVIEST,
        description="So many of its jobs are served while one of an organization without a weight is; null: 1.",
    )
