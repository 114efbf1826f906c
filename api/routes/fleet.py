"""Workers, queues and jobs of the whole platform, for its operators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api import openapi
from api.reading import Served, SlowRead
from api.routes.organization import Operator
from api.schemas.fleet import Overview, OverviewQuery, Queues, Workers
from api.strict import StrictRoute
from tracking.reads import fleet
from tracking.reads.overview import overview

router = APIRouter(prefix="/v1", tags=["fleet"], route_class=StrictRoute)


@router.get("/overview", responses=openapi.SLOW)
def get_overview(_: Operator, read: SlowRead, query: Annotated[OverviewQuery, Query()]) -> Overview:
    """What waits, runs and fails, in all and by organization, type and queue."""
    return Overview.of(read(overview, window=query.window), query.limit)


@router.get("/workers", responses=openapi.SLOW)
def list_workers(_: Operator, platform: Served, read: SlowRead) -> Workers:
    """Every worker with its queues, its slots and its last sign of life; a dead one until it is forgotten."""
    return Workers.of(read(fleet.all_workers, platform.limits.lease_timeout))


@router.get("/queues", responses=openapi.SLOW)
def list_queues(_: Operator, platform: Served, read: SlowRead) -> Queues:
    """Every queue with the workers that consume it, and the jobs of all organizations that wait and run."""
    return Queues.of(read(fleet.all_queues, platform.limits.lease_timeout))
