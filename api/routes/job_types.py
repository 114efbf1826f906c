"""What kinds of jobs there are, and pausing them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path

from api import openapi
from api.auth import Principal, Reach, requires
from api.origins import Came
from api.permissions import MANAGE_PLATFORM, VIEW_JOBS
from api.reading import Read, Reading, Served
from api.routes.organization import Manager
from api.schemas import fields, requests
from api.schemas.job_types import JobTypes
from api.schemas.organization import Pauses
from api.strict import StrictRoute
from tasks import controls
from tasks.catalog import takers
from tracking.admission import circuits, pauses
from tracking.tenancy import confined_to

router = APIRouter(prefix="/v1/job-types", tags=["job types"], route_class=StrictRoute)

Viewer = Annotated[Principal, requires(VIEW_JOBS, reach=Reach.ONE)]
JobType = Annotated[fields.Name, Path(alias="jobType")]


@router.get("", responses=openapi.READ)
def list_job_types(principal: Viewer, platform: Served, read: Read) -> JobTypes:
    """Every type of jobs with what its handler takes, asks for, and does, and what keeps its jobs from starting."""
    organization = principal.organization
    return JobTypes.of(takers(platform), read(circuits.opened, organization), read(pauses.of, organization))


@router.post("/{jobType}/pause", responses=openapi.TYPE_MANAGED)  # noqa: FAST003 - JobType is that parameter
def pause_job_type(
    principal: Manager,
    platform: Served,
    read: Read,
    *,
    origin: Came,
    job_type: JobType,
    body: Annotated[requests.TypePauseRequest | None, Body()] = None,
) -> Pauses:
    """From now on no job of this type starts in the organization; what runs goes on. The answer is what holds now."""
    asked = body or requests.TypePauseRequest()
    whose = _whose(principal, everywhere=asked.everywhere)
    with confined_to(whose):
        controls.pause(platform, whose, job_type, actor=principal.actor, reason=asked.reason, origin=origin)
    return _pauses(principal, read, job_type)


@router.post("/{jobType}/resume", responses=openapi.TYPE_MANAGED)  # noqa: FAST003 - as above
def resume_job_type(
    principal: Manager,
    platform: Served,
    read: Read,
    *,
    origin: Came,
    job_type: JobType,
    body: Annotated[requests.TypeResumeRequest | None, Body()] = None,
) -> Pauses:
    """End that pause. The answer is what still holds, such as a pause of the organization."""
    whose = _whose(principal, everywhere=body is not None and body.everywhere)
    with confined_to(whose):
        controls.resume(platform, whose, job_type, actor=principal.actor, origin=origin)
    return _pauses(principal, read, job_type)


def _whose(principal: Principal, *, everywhere: bool) -> str | None:
    if not everywhere:
        return principal.organization
    principal.must_have(MANAGE_PLATFORM)
    return None


def _pauses(principal: Principal, read: Reading, job_type: str) -> Pauses:
    return Pauses.of(read(pauses.of, principal.organization, job_type))
