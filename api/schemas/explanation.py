"""Why a job does not run, or who or what ended it."""

from __future__ import annotations

from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import ConfigDict, Field

from api.schemas.answers import Answered
from tracking.reads import explain
from tracking.reads.reasons import Reason
from tracking.states import Hold, Status

EXAMPLE: dict[str, Any] = {
    "jobId": "019aa0f3-7c1e-7d5a-9f57-3a1f6a0c9d11",
    "status": "queued",
    "hold": "organization_limit",
    "sentence": "Waiting for one of the organization's 5 slots: 5 of 5 are taken; 3rd in line.",
    "reasons": [
        {
            "kind": "organization_limit",
            "sentence": "Waiting for one of the organization's 5 slots: 5 of 5 are taken; 3rd in line.",
            "limit": 5,
            "taken": 5,
            "place": 3,
            "holders": ["019aa0f3-7b02-7c11-8a53-0c1f6a0c9d42"],
            "placeIsCapped": False,
        }
    ],
}


class Explanation(Answered):
    """Why a job is where it is: every reason that holds now, the one that matters first."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    job_id: UUID
    status: Status
    hold: Hold | None
    sentence: str
    reasons: list[Annotated[Reason, Field(discriminator="kind")]]

    @classmethod
    def of(cls, explanation: explain.Explanation) -> Self:
        """The explanation as clients see it."""
        job, reasons = explanation.job, explanation.reasons
        return cls(job_id=job.id, status=job.status, hold=job.hold, sentence=reasons[0].sentence, reasons=list(reasons))
