"""The client's requests about jobs that failed alike."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal
from uuid import UUID

from celeriac.client.answers import Answer
from celeriac.client.calling import Steps, call
from celeriac.client.transport import Requests, given
from tracking.values import Instant

Standing = Literal["open", "resolved", "ignored"]


class ErrorGroup(Answer):
    """Jobs that failed alike; `counts`, `count` and `users` are of the window, `failed` of all that stand as failed."""

    fingerprint: str
    job_type: str
    error_type: str | None
    message: str | None
    count: int
    counts: tuple[int, ...]
    users: int
    organization_count: int
    organizations: tuple[str, ...]
    first_seen: Instant
    last_seen: Instant
    sample_job_id: UUID
    sample_message: str | None
    failed: int
    failed_is_capped: bool
    marked_by: str | None
    marked_at: Instant | None


class ErrorGroups(Answer):
    """Groups of failures, most failures first; `total` counts those that are not shown as well."""

    errors: tuple[ErrorGroup, ...]
    total: int
    is_capped: bool
    since: Instant
    slice_ms: int


class ErrorMark(Answer):
    """What was said of the failures of a group."""

    fingerprint: str
    state: str
    marked_by: str
    marked_at: Instant


class FailureRequests(Requests):
    """What failed alike, and what is said of it."""

    @call
    def errors(
        self,
        *,
        window: timedelta | None = None,
        state: Standing | None = None,
        job_type: str | None = None,
        project_id: str | None = None,
        limit: int | None = None,
    ) -> Steps[ErrorGroups]:
        """Groups of jobs that failed within the window, a day; those that are open.

        `jobs(error=fingerprint)` has the jobs of one, and `bulk("retry", error=fingerprint)` runs them again.
        """
        asked = {"window": f"PT{window.total_seconds():.0f}S" if window else None, "state": state, "limit": limit}
        return self._get(ErrorGroups, "/v1/errors", **given({**asked, "jobType": job_type, "projectId": project_id}))

    @call
    def mark_error(self, fingerprint: str, state: Standing) -> Steps[ErrorMark]:
        """Say that the failures of a group are resolved, or ignored, or open again. It takes jobs.manage_jobs."""
        return self._ask(ErrorMark, "PUT", f"/v1/errors/{fingerprint}", json={"state": state})
