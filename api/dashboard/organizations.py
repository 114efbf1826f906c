"""The pages of the organizations, for operators: what each may do and does, and the limits of types, keys and rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError
from starlette.responses import RedirectResponse, Response

from api.dashboard.asking import whole, wrong
from api.dashboard.site import Visit, render
from api.permissions import MANAGE_PLATFORM
from api.problems import Problem, invalid_by, problem_of
from api.routes import limits as limit_routes
from api.routes import organization as routes
from api.schemas.fields import Name
from api.schemas.limits import LimitPut, LimitRequest, WaitingLimitRequest, WeightRequest
from tasks.catalog import takers
from tracking.admission import pauses
from tracking.admission.job_limits import Per
from tracking.errors import TrackingError
from tracking.reads import organizations as reads

SHOWN = 50  # on one page
WINDOW = timedelta(hours=1)
PLACES = {name: name for name in ("per", "organization", "jobType", "key", "concurrency", "rate")}
DONE = {
    "limit": "So many of its jobs may execute at once.",
    "waiting-limit": "So many of its jobs may wait at once.",
    "weight": "So many of its jobs are served while one of another is.",
    "put": "The limit holds from now on.",
    "removed": "The limit was taken away, and what waited for it is let through.",
}
NAME: TypeAdapter[str] = TypeAdapter(Name)


def organizations_page(visit: Visit) -> Response:
    """All organizations by name, and all limits of types, keys and rates."""
    return _listed(visit, {}, {})


def organization_page(visit: Visit) -> Response:
    """One organization: what it may do, what it does, and forms that change what it may."""
    return _one(visit, {}, {})


def set_limit(visit: Visit) -> Response:
    """How many of its jobs may execute at once, as `PUT /v1/organizations/{organization}/limit` says."""
    return _set(visit, "limit", routes.set_organization_limit, LimitRequest, "limit")


def set_waiting_limit(visit: Visit) -> Response:
    """How many of its jobs may wait, as `PUT /v1/organizations/{organization}/waiting-limit` says."""
    return _set(visit, "waiting-limit", routes.set_waiting_limit, WaitingLimitRequest, "limit")


def set_weight(visit: Visit) -> Response:
    """How great its share of busy workers is, as `PUT /v1/organizations/{organization}/weight` says."""
    return _set(visit, "weight", routes.set_weight, WeightRequest, "weight")


def put_limit(visit: Visit) -> Response:
    """Set a limit, as `PUT /v1/limits` does; what does not fit is said at its field."""
    visit.principal.must_have(MANAGE_PLATFORM)
    said = visit.form
    values: dict[str, Any] = {name: said.get(name) or None for name in ("organization", "jobType", "key")}
    values |= {"per": said.get("per", ""), "concurrency": whole(said.get("concurrency"))}
    if said.get("jobs"):
        values["rate"] = {"jobs": whole(said["jobs"]), "per": said.get("period", "")}
    try:
        wanted = LimitPut.model_validate(values)
        limit_routes.put_limit(visit.principal, visit.platform, origin=visit.origin, body=wanted)
    except ValidationError as error:
        return _listed(visit, said, wrong(invalid_by(error, outer=False), PLACES))
    except (Problem, TrackingError) as error:
        return _listed(visit, said, wrong(problem_of(error), PLACES))
    return RedirectResponse("/organizations?done=put", 303)


def remove_limit(visit: Visit) -> Response:
    """Take a limit away, as `DELETE /v1/limits/{id}` does."""
    visit.principal.must_have(MANAGE_PLATFORM)
    limit_id = visit.request.path_params["id"]
    limit_routes.remove_limit(visit.principal, visit.platform, origin=visit.origin, limit_id=limit_id)
    return RedirectResponse("/organizations?done=removed", 303)


def _set(visit: Visit, what: str, route: Callable[..., Any], request: Callable[..., Any], field: str) -> Response:
    visit.principal.must_have(MANAGE_PLATFORM)
    name = _name(visit)
    try:
        body = request(**{field: whole(visit.form.get(what))})
    except ValidationError as error:
        return _one(visit, visit.form, wrong(invalid_by(error, outer=False), {field: what}))
    route(visit.principal, visit.platform, visit.read, origin=visit.origin, organization=name, body=body)
    return RedirectResponse(f"/organizations/{quote(name)}?done={what}", 303)


def _name(visit: Visit) -> str:
    """The organization of the address. Raises Problem for what is no name of one."""
    try:
        return NAME.validate_python(visit.request.path_params["organization"])
    except ValidationError as error:
        raise invalid_by(error, within="organization", outer=False) from None


def _listed(visit: Visit, said: Mapping[str, str], errors: Mapping[str, str]) -> Response:
    visit.principal.must_have(MANAGE_PLATFORM)
    after = visit.request.query_params.get("after", "")
    found = visit.read(reads.page, visit.platform.limits, window=WINDOW, after=after, size=SHOWN + 1)
    return _render(
        visit,
        "organizations.html",
        errors,
        organizations=found[:SHOWN],
        further=found[SHOWN - 1].id if len(found) > SHOWN else None,
        limits=limit_routes.list_limits(visit.principal, visit.read).limits,
        types=list(takers(visit.platform)),
        pers=list(Per),
        said=said,
    )


def _one(visit: Visit, said: Mapping[str, str], errors: Mapping[str, str]) -> Response:
    visit.principal.must_have(MANAGE_PLATFORM)
    name = _name(visit)
    limits = limit_routes.list_limits(visit.principal, visit.read).limits
    return _render(
        visit,
        "organization.html",
        errors,
        organization=visit.read(reads.one, name, visit.platform.limits, window=WINDOW),
        neighbours=visit.read(reads.neighbours, name),
        limits=[each for each in limits if each.organization in (None, name)],
        pauses=visit.read(pauses.of, name),
        said=said,
    )


def _render(visit: Visit, template: str, errors: Mapping[str, str], **values: Any) -> Response:
    return render(
        visit.request,
        template,
        422 if errors else 200,
        principal=visit.principal,
        errors=errors,
        default_limit=visit.platform.limits.concurrency,
        default_waiting=visit.platform.settings.waiting_limit,
        notice=DONE.get(visit.request.query_params.get("done", "")),
        now=datetime.now(UTC),
        **values,
    )
