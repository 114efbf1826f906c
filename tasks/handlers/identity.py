"""For whom a body works, and under which id."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from uuid_utils.compat import uuid7

from tasks.attempt.job import Job
from tracking.errors import OwnerMissing
from tracking.ownership import current_owner


@dataclass(frozen=True, slots=True)
class Identity:
    """An attempt of a job, and whose the job is."""

    organization_id: str
    user_id: str
    job_id: UUID
    attempt: int


def identity_of(task: Job) -> Identity:
    """Whose job the body runs. Called as a plain function it acts for the enclosing `acting_as`, as a job of its own.

    Raises OwnerMissing when there is neither a job nor an `acting_as` block.
    """
    claimed = task.job
    owner = claimed.owner if claimed else current_owner()
    if owner is None:
        raise OwnerMissing(f"{task.name} works for an organization: call it within celeriac.acting_as(...)")
    job_id, attempt = (claimed.job_id, claimed.attempt) if claimed else (uuid7(), 0)
    return Identity(owner.organization_id, owner.user_id, job_id, attempt)
