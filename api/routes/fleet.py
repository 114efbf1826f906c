"""Workers, queues and jobs of the whole platform, for its operators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query

from api import openapi
from api.origins import Came
from api.reading import Read, Served, SlowRead
from api.routes.organization import Operator
from api.schemas import fields, requests
from api.schemas.fleet import Overview, OverviewQuery, QueueHeld, Queues, Workers
from api.strict import StrictRoute
from tasks import controls
from tracking.admission import queue_pauses
from tracking.reads import fleet
from tracking.reads.overview import overview

router = APIRouter(prefix="/v1", tags=["fleet"], route_class=StrictRoute)

QueueName = Annotated[fields.Name, Path(alias="queue")]


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


@router.post("/queues/{queue}/pause", responses=openapi.QUEUE_MANAGED)
def pause_queue(
    principal: Operator,
    platform: Served,
    read: Read,
    *,
    origin: Came,
    queue: QueueName,
    body: Annotated[requests.PauseRequest | None, Body()] = None,
) -> QueueHeld:
    """From now on no job of this queue starts, of whatever organization; what runs goes on."""
    reason = None if body is None else body.reason
    controls.pause_queue(platform, queue, actor=principal.actor, reason=reason, origin=origin)
    return QueueHeld.of(queue, read(queue_pauses.of, queue))


@router.post("/queues/{queue}/resume", responses=openapi.QUEUE)
def resume_queue(principal: Operator, platform: Served, read: Read, *, origin: Came, queue: QueueName) -> QueueHeld:
    """End that pause; pauses of types and organizations stay."""
    controls.resume_queue(platform, queue, actor=principal.actor, origin=origin)
    return QueueHeld.of(queue, read(queue_pauses.of, queue))
