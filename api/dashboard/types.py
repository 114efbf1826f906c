"""The page of the job types: what each does, how often it fails, what keeps it from starting; and its buttons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import Response

from api.dashboard.asking import NotMade, made
from api.dashboard.site import Visit, render
from api.dashboard.wording import trying
from api.permissions import MANAGE_JOBS
from api.routes import job_types as routes
from api.routes import organization
from api.schemas.job_types import JobType
from api.schemas.organization import Pause
from api.schemas.requests import PauseRequest
from tracking.admission import circuits, pauses
from tracking.admission.circuits import Circuit
from tracking.reads import unserved
from tracking.reads.types import TypeCounts, by_type

WINDOW = timedelta(hours=1)
DONE = {
    "paused": "What waits of this type does not start.",
    "resumed": "What waited of this type starts again.",
    "all-paused": "No job starts any more; what runs goes on.",
    "all-resumed": "Jobs start again; types that are paused themselves stay so.",
}
PLACES = {"reason": "reason"}  # the field of the form


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
    return _show(visit, {}, {})


def pause_all(visit: Visit) -> Response:
    """Let no job of the organization start, as `POST /v1/organization/pause` does."""
    visit.principal.must_have(MANAGE_JOBS)

    def make() -> Any:
        body = PauseRequest(reason=visit.form.get("reason", "").strip() or None)
        return organization.pause_organization(
            visit.principal, visit.platform, visit.read, origin=visit.origin, body=body
        )

    try:
        made(make, PLACES)
    except NotMade as why:
        return _show(visit, visit.form, why.errors)
    return _done(visit, "all-paused")


def resume_all(visit: Visit) -> Response:
    """End that pause, as `POST /v1/organization/resume` does."""
    visit.principal.must_have(MANAGE_JOBS)
    organization.resume_organization(visit.principal, visit.platform, visit.read, origin=visit.origin)
    return _done(visit, "all-resumed")


def _show(visit: Visit, said: Mapping[str, str], errors: Mapping[str, str]) -> Response:
    counts = visit.read(by_type, visit.principal.scope, window=WINDOW)
    known = {
        each.job_type: each for each in routes.list_job_types(visit.principal, visit.platform, visit.read).job_types
    }
    lease, own = visit.platform.limits.lease_timeout, visit.principal.organization
    deserted = {
        name: each.queue for each in visit.read(unserved.queues, visit.principal.scope, lease) for name in each.types
    }
    failing = {each.job_type: each for each in visit.read(circuits.opened, own) if not each.key}
    lines = [
        Line(
            name,
            known.get(name),
            counts.get(name, TypeCounts()),
            _state(known.get(name), failing.get(name), deserted.get(name)),
            any(pause.job_type == name and not pause.everywhere for pause in _pauses(known.get(name))),
        )
        for name in {*known, *counts}
    ]
    return render(
        visit.request,
        "types_body.html" if visit.request.query_params.get("part") == "body" else "types.html",
        422 if errors else 200,
        principal=visit.principal,
        last_event=visit.last_event,
        lines=sorted(lines, key=lambda line: (line.is_calm, line.name)),
        held=[each for each in visit.read(pauses.of, visit.principal.organization) if each.job_type is None],
        said=said,
        errors=errors,
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
    return visit.done(DONE[what], f"/types?done={what}")


def _pauses(described: JobType | None) -> Sequence[Pause]:
    return described.pauses if described else ()


def _state(described: JobType | None, circuit: Circuit | None, deserted: str | None) -> str:
    """What keeps its jobs from starting; empty: nothing. `deserted`: a queue without a worker in which some wait."""
    said = [
        f"paused by {pause.paused_by or 'an operator'}" + (f": {pause.reason}" if pause.reason else "")
        for pause in _pauses(described)
    ]
    if circuit is not None:
        said.append(f"keeps failing: {trying(circuit)}")
    if deserted is not None:
        said.append(f"no living worker consumes the queue {deserted}")
    return "; ".join(said)
