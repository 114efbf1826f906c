"""Saved views: searches of the page of the jobs that somebody keeps under a name, and their addresses for others."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response

from api.dashboard.asking import NotMade, made
from api.dashboard.site import Visit, render
from api.routes import views as routes
from api.schemas.views import NewView, ViewChange
from tracking.views import MOST_VIEWS

PLACES = {"name": "name", "search": "search"}  # the fields of the forms
DONE = {"saved": "The view was saved.", "changed": "The view was changed.", "removed": "The view was removed."}


def views_page(visit: Visit) -> Response:
    """The views of who looks, with what can be done with each."""
    return _show(visit, {}, {})


def open_view(visit: Visit) -> Response:
    """What a view finds: its address can be given to anybody of the organization, who sees what they may see of it."""
    found = routes.get_view(visit.principal, visit.read, visit.request.path_params["id"])
    return RedirectResponse(_address(found.search), 303)


def save_view(visit: Visit) -> Response:
    """Keep a search, as `POST /v1/views` does, and show it."""
    said = visit.form

    def make() -> Any:
        new = NewView.model_validate({"name": said.get("name", "").strip(), "search": said.get("search", "")})
        return routes.create_view(visit.principal, visit.platform, new, origin=visit.origin, response=Response())

    try:
        saved = made(make, PLACES)
    except NotMade as why:
        return _show(visit, said, why.errors)
    return RedirectResponse(f"{_address(saved.search)}&done=saved", 303)


def change_view(visit: Visit) -> Response:
    """Rename a view, or have it find something else, as `PATCH /v1/views/{id}` does."""
    view_id = visit.request.path_params["id"]

    def make() -> Any:
        said = ViewChange.model_validate({name: visit.form[name].strip() for name in PLACES if name in visit.form})
        return routes.change_view(visit.principal, visit.platform, view_id, said, origin=visit.origin)

    try:
        made(make, PLACES)
    except NotMade as why:
        return _show(visit, {}, why.errors)
    return RedirectResponse("/views?done=changed", 303)


def remove_view(visit: Visit) -> Response:
    """Forget a view, as `DELETE /v1/views/{id}` does."""
    routes.remove_view(visit.principal, visit.platform, visit.request.path_params["id"], origin=visit.origin)
    return RedirectResponse("/views?done=removed", 303)


def _address(search: str) -> str:
    return f"/?q={quote(search)}"


def _show(visit: Visit, said: Mapping[str, str], errors: Mapping[str, str]) -> Response:
    return render(
        visit.request,
        "views.html",
        422 if errors else 200,
        principal=visit.principal,
        views=routes.list_views(visit.principal, visit.read).views,
        most=MOST_VIEWS,
        said=said,
        why_not=" ".join(errors.values()),
        notice=DONE.get(visit.request.query_params.get("done", "")),
        origin=str(visit.request.base_url).rstrip("/"),
        now=datetime.now(UTC),
    )
