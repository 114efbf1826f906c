"""The page of the workers and queues, for operators of the platform."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.responses import Response

from api.dashboard.site import Visit, render
from api.permissions import MANAGE_PLATFORM
from api.routes import fleet as routes
from tracking.reads import fleet

DONE = {
    "paused": "What waits in the queue does not start; what runs goes on.",
    "resumed": "What waited in the queue starts again.",
}


def workers_page(visit: Visit) -> Response:
    """Who works, and what there is to do."""
    visit.principal.must_have(MANAGE_PLATFORM)
    patience = visit.platform.limits.lease_timeout
    return render(
        visit.request,
        "workers_body.html" if visit.request.query_params.get("part") == "body" else "workers.html",
        principal=visit.principal,
        workers=visit.read(fleet.all_workers, patience),
        queues=visit.read(fleet.all_queues, patience),
        notice=DONE.get(visit.request.query_params.get("done", "")),
        now=datetime.now(UTC),
    )


def pause_queue(visit: Visit) -> Response:
    """Let nothing of the queue start, as `POST /v1/queues/{queue}/pause` does."""
    visit.principal.must_have(MANAGE_PLATFORM)
    queue = visit.request.path_params["queue"]
    routes.pause_queue(visit.principal, visit.platform, visit.read, origin=visit.origin, queue=queue)
    return _done(visit, "paused")


def resume_queue(visit: Visit) -> Response:
    """End that pause, as `POST /v1/queues/{queue}/resume` does."""
    visit.principal.must_have(MANAGE_PLATFORM)
    queue = visit.request.path_params["queue"]
    routes.resume_queue(visit.principal, visit.platform, visit.read, origin=visit.origin, queue=queue)
    return _done(visit, "resumed")


def _done(visit: Visit, what: str) -> Response:
    return visit.done(DONE[what], f"/workers?done={what}")
