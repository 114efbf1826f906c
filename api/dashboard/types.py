"""The page of the job types: what each does, how often it fails, what keeps it from starting; and its two buttons."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.responses import JSONResponse, RedirectResponse, Response

from api.auth import MANAGE_JOBS
from api.dashboard.site import Visit, render
from api.routes import job_types as routes
from api.schemas.job_types import JobType
from tracking.reads.types import TypeCounts, by_type

WINDOW = timedelta(hours=1)
DONE = {"paused": "What waits of this type does not start.", "resumed": "What waited of this type starts again."}


@dataclass(frozen=True, slots=True)
class Line:
    """A type, known to this installation (`described`) or not, and its jobs."""

    name: str
    described: JobType | None
    counts: TypeCounts
    state: str
    is_paused_here: bool

    @property
    def is_calm(self) -> bool:
        """Whether nothing keeps its jobs from starting."""
        return not self.state


def types_page(visit: Visit) -> Response:
    """All types, those first of which something has to be said."""
    counts = visit.read(by_type, visit.principal.scope, window=WINDOW)
    known = {
        each.job_type: each for each in routes.list_job_types(visit.principal, visit.platform, visit.read).job_types
    }
    lines = [_line(name, known.get(name), counts.get(name, TypeCounts())) for name in {*known, *counts}]
    return render(
        visit.request,
        "types_body.html" if visit.request.query_params.get("part") == "body" else "types.html",
        principal=visit.principal,
        last_event=visit.last_event,
        lines=sorted(lines, key=lambda line: (line.is_calm, line.name)),
        can_manage=MANAGE_JOBS in visit.principal.permissions,
        notice=DONE.get(visit.request.query_params.get("done", "")),
        now=datetime.now(UTC),
    )


def pause_type(visit: Visit) -> Response:
    """Let no job of the type start in the organization, as `POST /v1/job-types/{jobType}/pause` does."""
    visit.principal.must_have(MANAGE_JOBS)
    name = visit.request.path_params["jobType"]
    routes.pause_job_type(visit.principal, visit.platform, visit.read, origin=visit.origin, job_type=name)
    return _done(visit, "paused")


def resume_type(visit: Visit) -> Response:
    """End that pause, as `POST /v1/job-types/{jobType}/resume` does."""
    visit.principal.must_have(MANAGE_JOBS)
    name = visit.request.path_params["jobType"]
    routes.resume_job_type(visit.principal, visit.platform, visit.read, origin=visit.origin, job_type=name)
    return _done(visit, "resumed")


def _done(visit: Visit, what: str) -> Response:
    if "text/html" not in visit.request.headers.get("accept", ""):
        return JSONResponse({"message": DONE[what]})
    return RedirectResponse(f"/types?done={what}", 303)


def _line(name: str, described: JobType | None, counts: TypeCounts) -> Line:
    held = [pause for pause in described.pauses if pause.job_type == name] if described else []
    return Line(name, described, counts, _state(described), any(not pause.everywhere for pause in held))


def _state(described: JobType | None) -> str:
    """What keeps its jobs from starting; empty: nothing."""
    if described is None:
        return ""
    said = [
        f"paused by {pause.paused_by or 'an operator'}" + (f": {pause.reason}" if pause.reason else "")
        for pause in described.pauses
    ]
    if described.circuit.state != "closed":
        said.append("keeps failing: one job tries, the others wait")
    return "; ".join(said)
