"""What an organization may do at once, and what is paused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field

from api.schemas.answers import Answered
from tracking.admission import organizations
from tracking.admission.pauses import Pause as PauseRecord
from tracking.values import Instant


class Pause(Answered):
    """Jobs that do not start until somebody resumes them."""

    job_type: str | None = Field(description="null: jobs of every type.")
    everywhere: bool = Field(description="In all organizations.")
    paused_by: str | None = Field(validation_alias="shown_by", description="null: an operator of the platform.")
    reason: str | None
    paused_at: Instant


class Pauses(Answered):
    """What is paused now, by whom and why."""

    pauses: list[Pause]

    @classmethod
    def of(cls, found: Sequence[PauseRecord]) -> Self:
        """These pauses as clients see them."""
        return cls(pauses=[Pause.model_validate(pause) for pause in found])


class Organization(Answered):
    """How many jobs of an organization may execute at once, and how many do."""

    id: str
    limit: int = Field(description="0: any number.")
    is_default_limit: bool = Field(description="It has no limit of its own.")
    executing: int = Field(description="Jobs that have a slot: sent, running, or cancelled and still stopping.")
    in_line: int = Field(description="Jobs that wait for a slot.")
    weight: int = Field(description="So many of its jobs are served while one of another is, when workers are busy.")
    waiting_limit: int = Field(description="Jobs that may wait before one more is answered with 429; 0: any number.")
    pauses: list[Pause]

    @classmethod
    def of(
        cls, organization: organizations.Organization, held: Sequence[PauseRecord], *, waiting_limit: int, weight: int
    ) -> Self:
        """An organization as clients see it."""
        fields = {name: getattr(organization, name) for name in cls.model_fields if hasattr(organization, name)}
        shown = [Pause.model_validate(pause) for pause in held]
        return cls(**fields, pauses=shown, waiting_limit=waiting_limit, weight=weight)
