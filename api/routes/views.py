"""Saved views: searches of the list of jobs that a user keeps under a name."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Response
from uuid_utils.compat import uuid7

from api import openapi
from api.auth import Principal, requires
from api.origins import Came
from api.permissions import VIEW_JOBS
from api.reading import Read, Served
from api.schemas.views import NewView, RemovedView, View, ViewChange, Views
from api.strict import StrictRoute
from tracking import views
from tracking.origins import By

router = APIRouter(prefix="/v1/views", tags=["views"], route_class=StrictRoute)

Viewer = Annotated[Principal, requires(VIEW_JOBS)]
ViewId = Annotated[UUID, Path(alias="id")]


@router.post("", status_code=201, responses=openapi.VIEW_CREATED)
def create_view(principal: Viewer, platform: Served, new: NewView, *, origin: Came, response: Response) -> View:
    """Keep a search under a name."""
    with platform.database.begin() as connection:
        by = By(principal.actor, origin)
        saved = views.save(connection, principal.owner, view_id=uuid7(), name=new.name, search=new.search, by=by)
    response.headers["Location"] = f"/v1/views/{saved.id}"
    return View.model_validate(saved)


@router.get("", responses=openapi.READ)
def list_views(principal: Viewer, read: Read) -> Views:
    """The caller's own views, by name."""
    return Views(views=[View.model_validate(each) for each in read(views.every, principal.owner)])


@router.get("/{id}", responses=openapi.VIEW)  # noqa: FAST003 - ViewId is that parameter
def get_view(principal: Viewer, read: Read, view_id: ViewId) -> View:
    """A view of anybody of the organization, by its id: so it is shared. It finds what its reader may see."""
    return View.model_validate(read(views.get, view_id, principal.organization))


@router.patch("/{id}", responses=openapi.VIEW_CHANGED)  # noqa: FAST003 - as above
def change_view(principal: Viewer, platform: Served, view_id: ViewId, said: ViewChange, origin: Came) -> View:
    """Rename a view, or have it find something else."""
    with platform.database.begin() as connection:
        by = By(principal.actor, origin)
        changed = views.change(connection, view_id, principal.scope, name=said.name, search=said.search, by=by)
    return View.model_validate(changed)


@router.delete("/{id}", responses=openapi.VIEW)  # noqa: FAST003 - as above
def remove_view(principal: Viewer, platform: Served, view_id: ViewId, origin: Came) -> RemovedView:
    """Forget a view."""
    with platform.database.begin() as connection:
        views.remove(connection, view_id, principal.scope, By(principal.actor, origin))
    return RemovedView(message="View removed successfully")
