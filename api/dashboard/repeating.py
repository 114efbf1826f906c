"""Retrying a job with another payload: a form or JSON, what that changes, and the new job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from api.dashboard.asking import NotMade, made, whole
from api.dashboard.sheets import Sheet, difference, filled, job_with, schema_of, sheet_page, typed
from api.dashboard.site import Visit
from api.permissions import RETRY_JOBS
from api.problems import invalid_by
from api.routes import jobs as routes
from api.schemas.requests import RetryRequest
from tasks import workflows
from tracking.models import JobRecord


def retry_form(visit: Visit) -> Response:
    """The payload of a job, to be changed."""
    job = job_with(visit, RETRY_JOBS)
    as_json = visit.request.query_params.get("as") == "json"
    sheet = filled(schema_of(visit, job), job.payload, lambda payload: _taken(visit, job, payload), as_json=as_json)
    return _form(visit, job, sheet, {**sheet.said, "priority": str(job.priority)}, {})


def retry_with(visit: Visit) -> Response:
    """What another payload changes, or if that was looked at, the new job, as `POST /v1/jobs/{id}/retry` makes it."""
    job, said = job_with(visit, RETRY_JOBS), visit.form
    sheet = typed(schema_of(visit, job), said)
    places = sheet.places | {"priority": "priority"}
    try:
        asked, taken = made(lambda: _asked(visit, job, sheet), places)
        if said.get("sure") != json.dumps(asked.payload):  # what was looked at is what is sent
            return _form(visit, job, sheet, said, {}, lines=difference(job.payload, taken), payload=asked.payload)
        answer = made(lambda: _retried(visit, job, asked), places)
    except NotMade as why:
        return _form(visit, job, sheet, why.kept(said), why.errors)
    return RedirectResponse(f"/jobs/{json.loads(answer.body)['jobId']}?done=repeated", 303)


def _asked(visit: Visit, job: JobRecord, sheet: Sheet) -> tuple[RetryRequest, Mapping[str, Any]]:
    """What a form asks for, and the payload as its handler takes it. Raises what `made` tells."""
    said = sheet.said
    values = {"payload": sheet.payload, "priority": whole(said.get("priority")), "force": said.get("force") == "on"}
    asked = RetryRequest.model_validate(values)
    return asked, _taken(visit, job, asked.payload or {})


def _retried(visit: Visit, job: JobRecord, asked: RetryRequest) -> Any:
    key, origin = visit.form.get("key") or None, visit.origin
    return routes.retry_job(
        visit.principal, visit.platform, visit.read, job.id, origin=origin, body=asked, idempotency_key=key
    )


def _taken(visit: Visit, job: JobRecord, payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The payload as its handler takes it. Raises Problem for one that it does not take."""
    try:
        return workflows.anew(visit.platform, job, dict(payload)).payload or {}
    except ValidationError as error:
        raise invalid_by(error, within="payload") from None


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
        "retry_with.html",
        sheet,
        said,
        errors,
        **looked_at,
        job=job,
        key=said.get("key") or visit.request.scope["request_id"],
    )
