"""Limits of types, of keys and of rates, for operators."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path

from api import openapi
from api.auth import Principal, requires
from api.origins import Came
from api.permissions import MANAGE_PLATFORM
from api.reading import Read, Served
from api.schemas.limits import JobLimit, JobLimits, LimitPut
from api.strict import StrictRoute
from tasks import controls
from tracking.admission import job_limits

router = APIRouter(prefix="/v1/limits", tags=["limits"], route_class=StrictRoute)

Operator = Annotated[Principal, requires(MANAGE_PLATFORM)]
LimitId = Annotated[UUID, Path(alias="id")]


@router.get("", responses=openapi.READ)
def list_limits(principal: Operator, read: Read) -> JobLimits:  # noqa: ARG001 - its permission counts
    """All limits of types, of keys and of rates."""
    return JobLimits.of(read(job_limits.listed_limits))


@router.put("", responses=openapi.LIMIT_PUT)
def put_limit(principal: Operator, platform: Served, *, origin: Came, body: LimitPut) -> JobLimit:
    """Set a limit, in the place of the one for the same organization, type and `per`.

    What runs goes on and counts; what was sent and has not started waits until there is room.
    """
    return JobLimit.of(controls.put_job_limit(platform, body.wanted, actor=principal.actor, origin=origin))


@router.delete("/{id}", responses=openapi.LIMIT)  # noqa: FAST003 - LimitId is that parameter
def remove_limit(principal: Operator, platform: Served, *, origin: Came, limit_id: LimitId) -> JobLimit:
    """Take a limit away; what waited for it is let through. The answer is what it was."""
    return JobLimit.of(controls.remove_job_limit(platform, limit_id, actor=principal.actor, origin=origin))
