"""Changing a job: whoever does its work elsewhere says how far it is, and one that waits can be made another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Response
from pydantic import ValidationError

from api import openapi
from api.auth import Principal, requires
from api.origins import Came
from api.permissions import CREATE_JOBS, TRACK_JOBS
from api.problems import invalid_by
from api.reading import Read, Reading, Served
from api.routes.jobs import JobId
from api.schemas import answers, requests
from api.strict import StrictRoute
from tasks import verbs, workflows
from tasks.catalog import permission_for
from tasks.platform import Platform
from tracking.errors import JobChanged, JobNotFound
from tracking.models import Changes, JobRecord
from tracking.origins import Origin
from tracking.reads import lists

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)

Reporter = Annotated[Principal, requires(CREATE_JOBS, TRACK_JOBS)]


@router.patch("/{id}", response_model=answers.JobStatus, responses=openapi.CHANGED)  # noqa: FAST003 - JobId is it
def change_job(
    principal: Reporter,
    platform: Served,
    read: Read,
    job_id: JobId,
    said: requests.JobChange,
    *,
    origin: Came,
    response: Response,
    if_match: Annotated[str, Header()] = "*",
) -> Any:
    """Say how far a job is whose work is done elsewhere, or how it has ended; or change one that waits for a worker."""
    change = Change(principal, platform, read, job_id, said, origin, _condition(if_match, job_id))
    job = change.edit() if said.edits else change.report()
    response.headers.update(answers.polling_headers(job))
    return answers.JobStatus.of(job)


@dataclass(frozen=True, slots=True)
class Change:
    """A change that somebody asks for; `since`: only if the job's last change was then."""

    principal: Principal
    platform: Platform
    read: Reading
    job_id: UUID
    said: requests.JobChange
    origin: Origin
    since: datetime | None

    def report(self) -> JobRecord:
        """Write what is said of work that is done elsewhere."""
        try:
            return verbs.track(
                self.platform,
                self.job_id,
                self.principal.reporting_scope,
                self.said.report,
                actor=self.principal.actor,
                unchanged_since=self.since,
                origin=self.origin,
            )
        except JobNotFound:
            _refuse_if_seen(self.principal, self.read, self.job_id)
            raise

    def edit(self) -> JobRecord:
        """Change a job that waits, as whoever may create such a job."""
        self.principal.must_have(CREATE_JOBS)
        job = self.read(lists.get, self.job_id, self.principal.scope)
        self.principal.must_have(permission_for(self.platform, job))
        return verbs.edit(
            self.platform,
            self.job_id,
            self.principal.scope,
            replace(self._payload(job), priority=self.said.priority),
            actor=self.principal.actor,
            scheduled_at=self.said.scheduled_at,
            at_once=self.said.at_once,
            unchanged_since=self.since,
            origin=self.origin,
        )

    def _payload(self, job: JobRecord) -> Changes:
        """What another payload changes; of a job without a handler nothing can be edited anyway."""
        if self.said.payload is None or job.external:
            return Changes()
        try:
            return workflows.edits(self.platform, job, self.said.payload)
        except ValidationError as error:
            raise invalid_by(error, within="payload") from None


def _condition(if_match: str, job_id: UUID) -> datetime | None:
    if if_match.strip() == "*":
        return None
    since = answers.changed_at(if_match, job_id)
    if since is None:
        raise JobChanged(f"If-Match names no state of the job {job_id}")
    return since


def _refuse_if_seen(principal: Principal, read: Reading, job_id: UUID) -> None:
    """Whoever sees the job of another may know why they cannot report on it."""
    read(lists.get, job_id, principal.scope)
    principal.must_have(TRACK_JOBS)
