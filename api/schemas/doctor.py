"""What an examination of the platform has found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field

from api.schemas.answers import Answered
from tasks.doctor.findings import Finding as FindingRecord
from tasks.doctor.findings import Health


class Finding(Answered):
    """What a check has found."""

    check: str
    health: Health = Field(description="skipped: what it relies on has failed.")
    reason: str = Field(description="What was seen.")
    mend: str | None = Field(description="What to do; null: nothing.")
    took_ms: int


class Examination(Answered):
    """What all checks have found."""

    healthy: bool = Field(description="No check has failed.")
    findings: list[Finding]

    @classmethod
    def of(cls, found: Sequence[FindingRecord]) -> Self:
        """These findings as clients see them."""
        shown = [
            Finding(
                check=each.check,
                health=each.health,
                reason=each.reason,
                mend=each.mend,
                took_ms=round(each.took * 1000),
            )
            for each in found
        ]
        return cls(healthy=all(each.health is not Health.FAILED for each in found), findings=shown)
