"""The page of the workers and queues, for operators of the platform."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.responses import Response

from api.auth import MANAGE_PLATFORM
from api.dashboard.site import Visit, render
from tracking.reads import fleet


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
        now=datetime.now(UTC),
    )
