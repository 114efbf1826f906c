"""The page that makes a job: a form by the schema of its type, or JSON, with priority and time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from starlette.responses import RedirectResponse, Response

from api.dashboard.asking import NotMade, made, moment, whole
from api.dashboard.sheets import Sheet, typed
from api.dashboard.site import Visit, render
from api.permissions import CREATE_JOBS
from api.routes import jobs as routes
from api.schemas.answers import Created
from api.schemas.requests import NewJob
from tasks.attempt.job import Job
from tasks.catalog import takers
from tasks.external import External

BESIDE = ("priority", "scheduledAt", "projectId")  # the fields that every type has


def new_job_page(visit: Visit) -> Response:
    """The types that the visitor may create, and the form of the chosen one."""
    visit.principal.must_have(CREATE_JOBS)
    asked = visit.request.query_params
    return _show(visit, {"jobType": asked.get("type", ""), "as": asked.get("as", "")}, {})


def create_job(visit: Visit) -> Response:
    """Accept a job, as `POST /v1/jobs` does; what is wrong is said at its field."""
    visit.principal.must_have(CREATE_JOBS)
    said = visit.form
    taker = _offered(visit).get(said.get("jobType", ""))
    sheet = typed(taker.payload_schema() if taker else {}, said)
    places = sheet.places | {name: name for name in BESIDE}

    def make() -> Created:
        return routes.create_job(
            visit.principal,
            visit.platform,
            NewJob.model_validate(_asked(said, sheet)),
            origin=visit.origin,
            response=Response(),
            idempotency_key=said.get("key") or None,
        )

    try:
        answer = made(make, places)
    except NotMade as why:
        return _show(visit, why.kept(said), why.errors)
    return RedirectResponse(f"/jobs/{answer.job_id}?done=created", 303)


def _asked(said: Mapping[str, str], sheet: Sheet) -> dict[str, Any]:
    values: dict[str, Any] = {
        "jobType": said.get("jobType", ""),
        "payload": sheet.payload,
        "priority": whole(said.get("priority")),
        "scheduledAt": moment(said.get("scheduledAt")),
        "projectId": said.get("projectId") or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _offered(visit: Visit) -> dict[str, Job | External]:
    """The types of which the visitor may create jobs."""
    granted = visit.principal.permissions
    known = takers(visit.platform).items()
    return {name: taker for name, taker in known if taker.permission is None or taker.permission in granted}


def _show(visit: Visit, said: Mapping[str, str], errors: Mapping[str, str]) -> Response:
    offered, chosen = _offered(visit), said.get("jobType", "")
    taker = offered.get(chosen)
    if chosen and taker is None:
        errors = {"": f"There is no type {chosen} that you may create jobs of."}
    return render(
        visit.request,
        "new_job.html",
        422 if errors else 200,
        principal=visit.principal,
        run_here=[name for name, each in offered.items() if not each.external],
        done_elsewhere=[name for name, each in offered.items() if each.external],
        chosen=chosen if taker else None,
        sheet=typed(taker.payload_schema() if taker else {}, said),
        said=said,
        errors=errors,
        key=said.get("key") or str(uuid4()),
    )
