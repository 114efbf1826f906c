"""Workers and queues of the whole platform, for its operators."""

from __future__ import annotations

from fastapi import APIRouter

from api import openapi
from api.reading import Served, SlowRead
from api.routes.organization import Operator
from api.schemas.fleet import Queues, Workers
from api.strict import StrictRoute
from tracking.reads import fleet

router = APIRouter(prefix="/v1", tags=["fleet"], route_class=StrictRoute)


@router.get("/workers", responses=openapi.SLOW)
def list_workers(_: Operator, platform: Served, read: SlowRead) -> Workers:
    """Every worker with its queues, its slots and its last sign of life; a dead one until it is forgotten."""
    return Workers.of(read(fleet.all_workers, platform.limits.lease_timeout))


@router.get("/queues", responses=openapi.SLOW)
def list_queues(_: Operator, platform: Served, read: SlowRead) -> Queues:
    """Every queue with the workers that consume it, and the jobs of all organizations that wait and run."""
    return Queues.of(read(fleet.all_queues, platform.limits.lease_timeout))
