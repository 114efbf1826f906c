"""Retrying a job with another payload: its text, what that changes, and the new job."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from api.auth import RETRY_JOBS
from api.dashboard.site import Visit, render
from api.dashboard.wording import pretty
from api.problems import Problem, invalid_by
from api.routes import jobs as routes
from api.schemas.requests import RetryRequest
from tasks.calls import anew
from tasks.catalog import handler, permission_for
from tracking.errors import TrackingError
from tracking.models import JobRecord
from tracking.reads import lists

MARKS = {"+ ": "add", "- ": "take", "  ": "same"}


class Line(NamedTuple):
    """A line of a difference; `kind` add, take or same."""

    kind: str
    text: str


def retry_form(visit: Visit) -> Response:
    """The payload of a job, to be changed."""
    job = _job(visit)
    return _form(visit, job, {"payload": pretty(job.payload), "priority": str(job.priority)})


def retry_with(visit: Visit) -> Response:
    """What another payload changes, or if that was looked at, the new job, as `POST /v1/jobs/{id}/retry` makes it."""
    job, said = _job(visit), visit.form
    try:
        asked = _asked(said)
        changed = _changed(visit, job, asked)
    except ValidationError as error:
        return _form(visit, job, said, why_not=str(invalid_by(error, within="payload").detail))
    except (ValueError, TrackingError) as error:
        return _form(visit, job, said, why_not=str(error))
    if said.get("sure") != said.get("payload"):  # what was looked at is what is sent
        return _form(visit, job, said, lines=_difference(job.payload, changed))
    try:
        answer = routes.retry_job(
            visit.principal,
            visit.platform,
            visit.read,
            job.id,
            origin=visit.origin,
            body=asked,
            idempotency_key=said.get("key") or None,
        )
    except (Problem, TrackingError) as refused:
        return _form(visit, job, said, why_not=str(getattr(refused, "detail", refused)))
    return RedirectResponse(f"/jobs/{json.loads(answer.body)['jobId']}?done=repeated", 303)


def _job(visit: Visit) -> JobRecord:
    visit.principal.must_have(RETRY_JOBS)
    job = visit.read(lists.get, visit.request.path_params["id"], visit.principal.scope)
    visit.principal.must_have(permission_for(visit.platform, job))
    return job


def _asked(said: Mapping[str, str]) -> RetryRequest:
    """What a form asks for. Raises ValueError for what is no JSON, ValidationError for what is outside the limits."""
    try:
        payload = json.loads(said.get("payload", ""), parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"This is no JSON: {error.msg}, line {error.lineno}, column {error.colno}.") from None
    if not isinstance(payload, dict):
        raise ValueError("A payload is an object: { … }.")  # noqa: TRY004 - said to whoever has typed it
    priority = said.get("priority", "")
    number = int(priority) if priority.isascii() and priority.isdigit() and len(priority) == 1 else priority or None
    values: dict[str, Any] = {"payload": payload, "priority": number, "force": said.get("force") == "on"}
    return RetryRequest.model_validate(values)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON.")


def _changed(visit: Visit, job: JobRecord, asked: RetryRequest) -> Mapping[str, Any]:
    """The payload as its handler takes it. Raises its ValidationError."""
    runs_here = not job.external or job.job_type in visit.platform.app.tasks
    changes = anew(handler(visit.platform.app, job.job_type) if runs_here else None, asked.payload or {})
    return changes.payload or {}


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Line]:
    one, other = (pretty(dict(sorted(each.items()))).splitlines() for each in (before, after))
    told = (line for line in difflib.ndiff(one, other) if line[:2] in MARKS)
    return [Line(MARKS[line[:2]], line) for line in told]


def _form(
    visit: Visit,
    job: JobRecord,
    said: Mapping[str, str],
    *,
    why_not: str | None = None,
    lines: list[Line] | None = None,
) -> Response:
    app = visit.platform.app
    schema = handler(app, job.job_type).payload_schema() if job.job_type in app.tasks else {"type": "object"}
    return render(
        visit.request,
        "retry_with.html",
        200 if why_not is None else 422,
        principal=visit.principal,
        job=job,
        said=said,
        schema=schema,
        why_not=why_not,
        lines=lines,
        is_same=lines is not None and all(line.kind == "same" for line in lines),
        key=visit.form.get("key") or visit.request.scope["request_id"],
    )
