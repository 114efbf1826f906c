"""Changing a job by what is said of it: whoever does the work elsewhere says how far it is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Response

from api import openapi
from api.auth import CREATE_JOBS, TRACK_JOBS, Principal, requires
from api.origins import Came
from api.reading import Read, Reading, Served
from api.routes.jobs import JobId
from api.schemas import answers, requests
from api.strict import StrictRoute
from tasks import submission
from tracking.errors import JobChanged, JobNotFound
from tracking.models import JobRecord
from tracking.reads import lists

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)

Reporter = Annotated[Principal, requires(CREATE_JOBS, TRACK_JOBS)]


@router.patch("/{id}", response_model=answers.JobStatus, responses=openapi.TRACKED)  # noqa: FAST003 - JobId is it
def report_on_job(  # noqa: PLR0917 - each is a part of the request
    principal: Reporter,
    platform: Served,
    read: Read,
    job_id: JobId,
    said: requests.JobReport,
    origin: Came,
    response: Response,
    if_match: Annotated[str, Header()] = "*",
) -> Any:
    """Say how far a job is whose work is done elsewhere, or how it has ended: its creator, or with jobs.track_jobs."""
    try:
        job = submission.track(
            platform,
            job_id,
            principal.reporting_scope,
            said.report,
            actor=principal.user,
            unchanged_since=_condition(if_match, job_id),
            origin=origin,
        )
    except JobNotFound:
        _refuse_if_seen(principal, read, job_id)
        raise
    return _status(job, response)


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


def _status(job: JobRecord, response: Response) -> answers.JobStatus:
    response.headers.update(answers.polling_headers(job))
    return answers.JobStatus.of(job)
