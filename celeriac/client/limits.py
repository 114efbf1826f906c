"""The client's requests about limits of types, of keys and of rates, which operators set."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote
from uuid import UUID

from celeriac.client.answers import Answer
from celeriac.client.calling import Steps, call, picked
from celeriac.client.looking import QueueHeld
from celeriac.client.transport import Requests, given
from tracking.values import Instant

Per = Literal["platform", "organization", "key"]
Period = Literal["second", "minute", "hour"]


class Rate(Answer):
    """How many jobs may be sent in any such period."""

    jobs: int
    per: str


class JobLimit(Answer):
    """A limit. `organization` None: of all that have none of their own; `job_type` None: of all types together.

    `key`: where the payload has what each has a count by; `concurrency` and `rate` None: any number.
    """

    id: UUID
    per: str
    organization: str | None
    job_type: str | None
    key: str | None
    concurrency: int | None
    rate: Rate | None
    changed_by: str
    changed_at: Instant


class JobLimits(Answer):
    """All limits."""

    limits: tuple[JobLimit, ...]


class LimitRequests(Requests):
    """Setting limits and shares, and pausing queues; "permission_missing" without jobs.manage_platform."""

    @call
    def limits(self) -> Steps[tuple[JobLimit, ...]]:
        """All limits, those of all organizations first."""
        return picked(self._get(JobLimits, "/v1/limits"), lambda answer: answer.limits)

    @call
    def put_limit(
        self,
        per: Per,
        *,
        job_type: str | None = None,
        organization: str | None = None,
        key: str | None = None,
        concurrency: int | None = None,
        rate: tuple[int, Period] | None = None,
    ) -> Steps[JobLimit]:
        """Set a limit, in the place of the one for the same organization, type and `per`.

        `rate`: jobs, and the period in which so many may be sent.
        """
        said = given({"jobType": job_type, "organization": organization, "key": key, "concurrency": concurrency})
        if rate is not None:
            said["rate"] = {"jobs": rate[0], "per": rate[1]}
        return self._ask(JobLimit, "PUT", "/v1/limits", json={"per": per, **said})

    @call
    def remove_limit(self, limit_id: UUID) -> Steps[JobLimit]:
        """Take a limit away; the answer is what it was. "limit_not_found" when there is none."""
        return self._ask(JobLimit, "DELETE", f"/v1/limits/{limit_id}")

    @call
    def pause_queue(self, queue: str, reason: str | None = None) -> Steps[QueueHeld]:
        """From now on no job of a queue starts, of whatever organization. Repeated: a second pause changes nothing.

        "queue_not_found" for a queue that no living worker consumes and no job is in.
        """
        return self._repeat(QueueHeld, "POST", f"{_queue(queue)}/pause", json=given({"reason": reason}))

    @call
    def resume_queue(self, queue: str) -> Steps[QueueHeld]:
        """End that pause; repeated like it."""
        return self._repeat(QueueHeld, "POST", f"{_queue(queue)}/resume")

    @call
    def set_weight(self, organization: str, weight: int | None) -> Steps[None]:
        """Have so many jobs of an organization served, 1-100, while one of another is; None: 1."""
        return self._tell("PUT", f"/v1/organizations/{quote(organization, safe='')}/weight", json={"weight": weight})


def _queue(name: str) -> str:
    return f"/v1/queues/{quote(name, safe='')}"
