"""The pages of the templates: those there are, and one with its versions and a form that makes a job of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from api.dashboard.asking import NotMade, made, moment, object_of, whole
from api.dashboard.sheets import Line, difference
from api.dashboard.site import Visit, render
from api.permissions import CREATE_JOBS
from api.problems import invalid_by
from api.routes import templates as routes
from api.schemas.answers import Created
from api.schemas.templates import CONTENT, Template, TemplateJob, TemplateQuery, TemplatesQuery, VersionsQuery
from tracking.values import MAX_STEPS

SHOWN = 50  # on one page
PLACES = {"payload": "payload", "priority": "priority", "scheduledAt": "scheduledAt"}  # the fields of the form


def templates_page(visit: Visit) -> Response:
    """The templates of the organization, by name."""
    asked = visit.request.query_params
    try:
        query = TemplatesQuery(limit=SHOWN, cursor=asked.get("after") or None)
    except ValidationError as error:
        raise invalid_by(error, outer=False) from None
    found = routes.list_templates(visit.principal, visit.read, query)
    return render(
        visit.request,
        "templates.html",
        principal=visit.principal,
        templates=found.templates,
        further=found.next_cursor,
        now=datetime.now(UTC),
    )


def template_page(visit: Visit) -> Response:
    """One template: what it says, in a version, and what that has changed."""
    return _show(visit, {}, {})


def run_template(visit: Visit) -> Response:
    """Make a job, as `POST /v1/templates/{name}/jobs` does; what is wrong is said at its field."""
    visit.principal.must_have(CREATE_JOBS)
    said, name = visit.form, visit.request.path_params["name"]

    def make() -> Created:
        return routes.create_template_job(
            visit.principal,
            visit.platform,
            visit.read,
            name,
            body=_asked(said),
            origin=visit.origin,
            response=Response(),
            idempotency_key=said.get("key") or None,
        )

    try:
        job = made(make, PLACES)
    except NotMade as why:
        return _show(visit, why.kept(said), why.errors)
    return RedirectResponse(f"/jobs/{job.job_id}?done=created", 303)


def _asked(said: Mapping[str, str]) -> TemplateJob:
    values: dict[str, Any] = {
        "version": whole(said.get("version")),
        "payload": object_of(said, "payload"),
        "priority": whole(said.get("priority")),
        "scheduledAt": moment(said.get("scheduledAt")),
    }
    return TemplateJob.model_validate({name: value for name, value in values.items() if value is not None})


def _show(visit: Visit, said: Mapping[str, str], errors: Mapping[str, str]) -> Response:
    name, read = visit.request.path_params["name"], visit.read
    query = VersionsQuery(limit=SHOWN, cursor=_version(visit.request.query_params.get("before")))
    found = routes.list_template_versions(visit.principal, read, name, query)
    wanted = _version(said.get("version") or visit.request.query_params.get("version"))
    shown = routes.get_template(visit.principal, read, name, TemplateQuery(version=wanted), Response())
    before = next((each for each in found.versions if each.version == shown.version - 1), None)
    granted = visit.principal.permissions
    return render(
        visit.request,
        "template.html",
        422 if errors else 200,
        principal=visit.principal,
        shown=shown,
        versions=found.versions,
        further=found.next_cursor,
        address=f"/templates/{quote(shown.name, safe='')}",
        lines=_changes(before, shown),
        can_run=CREATE_JOBS in granted and (shown.permission is None or shown.permission in granted),
        said=said,
        errors=errors,
        key=said.get("key") or str(uuid4()),
        now=datetime.now(UTC),
    )


def _version(text: str | None) -> int | None:
    number = whole(text)
    return number if isinstance(number, int) and 0 < number <= MAX_STEPS else None


def _changes(before: Template | None, after: Template) -> Sequence[Line] | None:
    """What a version has changed; None: it is the first one, or the one before is on another page."""
    if before is None:
        return None
    one, other = (each.model_dump(mode="json", by_alias=True, include=set(CONTENT)) for each in (before, after))
    return difference(one, other)
