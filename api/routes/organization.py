"""The caller's organization: its limit, and pausing its jobs; for operators, the limit of any organization."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path

from api import openapi
from api.auth import Principal, Reach, requires
from api.origins import Came
from api.permissions import MANAGE_JOBS, MANAGE_PLATFORM
from api.reading import Read, Reading, Served
from api.schemas import fields, requests
from api.schemas.limits import LimitRequest, WaitingLimitRequest, WeightRequest
from api.schemas.organization import Organization
from api.strict import StrictRoute
from tasks import controls
from tasks.platform import Platform
from tracking.admission import organizations, pauses, waiting, weights

router = APIRouter(prefix="/v1", tags=["organization"], route_class=StrictRoute)

Manager = Annotated[Principal, requires(MANAGE_JOBS, reach=Reach.ONE)]
Operator = Annotated[Principal, requires(MANAGE_PLATFORM)]


@router.get("/organization", responses=openapi.READ)
def get_organization(principal: Manager, platform: Served, read: Read) -> Organization:
    """How many jobs of the organization may execute at once, how many do, and what is paused."""
    return _organization(platform, read, principal.organization)


@router.post("/organization/pause", responses=openapi.MANAGED)
def pause_organization(
    principal: Manager,
    platform: Served,
    read: Read,
    origin: Came,
    body: Annotated[requests.PauseRequest | None, Body()] = None,
) -> Organization:
    """From now on no job of the organization starts; what runs goes on."""
    reason = body.reason if body else None
    controls.pause(platform, principal.organization, None, actor=principal.actor, reason=reason, origin=origin)
    return _organization(platform, read, principal.organization)


@router.post("/organization/resume", responses=openapi.READ)
def resume_organization(principal: Manager, platform: Served, read: Read, origin: Came) -> Organization:
    """End that pause; pauses of single types stay."""
    controls.resume(platform, principal.organization, None, actor=principal.actor, origin=origin)
    return _organization(platform, read, principal.organization)


@router.put("/organizations/{organization}/limit", responses=openapi.MANAGED)
def set_organization_limit(
    principal: Operator,
    platform: Served,
    read: Read,
    *,
    origin: Came,
    organization: Annotated[fields.OneName, Path()],
    body: LimitRequest,
) -> Organization:
    """Let this many jobs of an organization execute at once; what runs beyond it goes on."""
    controls.set_limit(platform, organization, body.limit, actor=principal.actor, origin=origin)
    return _organization(platform, read, organization)


@router.put("/organizations/{organization}/waiting-limit", responses=openapi.MANAGED)
def set_waiting_limit(
    principal: Operator,
    platform: Served,
    read: Read,
    *,
    origin: Came,
    organization: Annotated[fields.OneName, Path()],
    body: WaitingLimitRequest,
) -> Organization:
    """Let this many jobs of an organization wait at once; one more is refused, and what waits stays."""
    controls.set_waiting_limit(platform, organization, body.limit, actor=principal.actor, origin=origin)
    return _organization(platform, read, organization)


@router.put("/organizations/{organization}/weight", responses=openapi.MANAGED)
def set_weight(
    principal: Operator,
    platform: Served,
    read: Read,
    *,
    origin: Came,
    organization: Annotated[fields.OneName, Path()],
    body: WeightRequest,
) -> Organization:
    """Serve so many jobs of an organization while one of another is, as long as workers are busy."""
    controls.set_weight(platform, organization, body.weight, actor=principal.actor, origin=origin)
    return _organization(platform, read, organization)


def _organization(platform: Platform, read: Reading, organization_id: str) -> Organization:
    found, most = read(organizations.get, organization_id, platform.limits), read(waiting.own_limit, organization_id)
    allowed = platform.settings.waiting_limit if most is None else most
    weight = read(weights.weight, organization_id)
    return Organization.of(found, read(pauses.of, organization_id), waiting_limit=allowed, weight=weight)
