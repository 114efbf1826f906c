"""Changing a job that waits: what it is to do, how urgent it is, and when; another payload is looked at before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from api.dashboard.asking import NotMade, made, moment, shown, whole
from api.dashboard.sheets import Sheet, difference, filled, job_with, schema_of, sheet_page, typed
from api.dashboard.site import Visit
from api.permissions import CREATE_JOBS
from api.problems import invalid_by
from api.routes import changes as routes
from api.schemas.answers import polling_headers
from api.schemas.requests import JobChange
from tasks import workflows
from tasks.catalog import handler
from tracking.models import JobRecord
from tracking.states import WAITING

BESIDE = {"priority": "priority", "scheduledAt": "scheduledAt"}  # the fields that every job has


def can_edit(visit: Visit, job: JobRecord) -> bool:
    """Whether the visitor may change this job now."""
    granted = visit.principal.permissions
    return job.status in WAITING and not job.external and CREATE_JOBS in granted and _handler(visit, job) is not None


def edit_form(visit: Visit) -> Response:
    """What can be changed of a job that waits."""
    job = job_with(visit, CREATE_JOBS)
    as_json = visit.request.query_params.get("as") == "json"
    sheet = filled(schema_of(visit, job), job.payload, lambda payload: _taken(visit, job, payload), as_json=as_json)
    said = {**sheet.said, "priority": str(job.priority), "scheduledAt": shown(job.scheduled_at)}
    return _form(visit, job, sheet, {**said, "state": polling_headers(job)["ETag"]}, {})


def edit(visit: Visit) -> Response:
    """Change it, as `PATCH /v1/jobs/{id}` does; with another payload, show first what that changes."""
    job, said = job_with(visit, CREATE_JOBS), visit.form
    sheet = typed(schema_of(visit, job), said)
    places = sheet.places | BESIDE
    try:
        change, taken = made(lambda: _asked(visit, job, sheet), places)
        if change.payload is not None and said.get("sure") != json.dumps(change.payload):
            return _form(visit, job, sheet, said, {}, lines=difference(job.payload, taken), payload=change.payload)
        if change.edits:
            made(lambda: _change(visit, job, change), places)
    except NotMade as why:
        return _form(visit, job, sheet, said, why.errors)
    return RedirectResponse(f"/jobs/{job.id}?done={'edited' if change.edits else 'as-it-was'}", 303)


def _handler(visit: Visit, job: JobRecord) -> Any:
    """None: this installation has none."""
    app = visit.platform.app
    return handler(app, job.job_type) if job.job_type in app.tasks else None


def _taken(visit: Visit, job: JobRecord, payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The payload as its handler takes it. Raises Problem for one that it does not take."""
    try:
        return workflows.edits(visit.platform, job, dict(payload)).payload or {}
    except ValidationError as error:
        raise invalid_by(error, within="payload") from None


def _asked(visit: Visit, job: JobRecord, sheet: Sheet) -> tuple[JobChange, Mapping[str, Any]]:
    """What differs from the job as it is. Raises what `made` tells."""
    said, payload = sheet.said, sheet.payload
    taken = _taken(visit, job, payload)
    values: dict[str, Any] = {}
    if taken != job.payload:
        values["payload"] = payload
    priority = whole(said.get("priority"))
    if priority not in (None, job.priority):
        values["priority"] = priority
    if moment(said.get("scheduledAt")) != moment(shown(job.scheduled_at)):
        values["scheduledAt"] = moment(said.get("scheduledAt"))
    return JobChange.model_validate(values), taken


def _change(visit: Visit, job: JobRecord, change: JobChange) -> Any:
    return routes.change_job(
        visit.principal,
        visit.platform,
        visit.read,
        job.id,
        change,
        origin=visit.origin,
        response=Response(),
        if_match=visit.form.get("state") or "*",
    )


def _form(
    visit: Visit,
    job: JobRecord,
    sheet: Sheet,
    said: Mapping[str, str],
    errors: Mapping[str, str],
    **looked_at: Any,
) -> Response:
    return sheet_page(
        visit,
        "edit_job.html",
        sheet,
        said,
        errors,
        **looked_at,
        job=job,
        why_not="" if can_edit(visit, job) else _why_not(job),
    )


def _why_not(job: JobRecord) -> str:
    if job.external:
        return "Its work is done elsewhere: whoever does it says how far it is."
    if job.status in WAITING:
        return "No handler here takes its type."
    return f"It is {job.status}: only a job that waits can be changed."
