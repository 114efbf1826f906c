"""Groups of jobs that failed alike, and what people say of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from api import openapi
from api.auth import Principal, Reach, requires
from api.origins import Came
from api.permissions import MANAGE_JOBS, VIEW_JOBS
from api.reading import ListRead, Served
from api.schemas.errors import ErrorChange, ErrorGroups, ErrorMark, ErrorsQuery
from api.schemas.fields import Fingerprint
from api.strict import StrictRoute
from tracking import marks
from tracking.reads import failures

router = APIRouter(prefix="/v1/errors", tags=["errors"], route_class=StrictRoute)

Viewer = Annotated[Principal, requires(VIEW_JOBS, reach=Reach.ALL)]
Manager = Annotated[Principal, requires(MANAGE_JOBS, reach=Reach.ONE)]


@router.get("", responses=openapi.SLOW)
def list_errors(principal: Viewer, read: ListRead, query: Annotated[ErrorsQuery, Query()]) -> ErrorGroups:
    """What failed, grouped by type, kind of error and shape of message: the groups with most failures first."""
    found = read(
        failures.groups,
        principal.scope,
        window=query.window,
        standing=query.state,
        size=query.limit,
        job_type=query.job_type,
        project_id=query.project_id,
    )
    return ErrorGroups.of(found)


@router.put("/{fingerprint}", responses=openapi.ERROR_MARKED)
def mark_error(
    principal: Manager,
    platform: Served,
    *,
    origin: Came,
    fingerprint: Annotated[Fingerprint, Path()],
    body: ErrorChange,
) -> ErrorMark:
    """Say that the failures of a group are resolved, or to be ignored; or open it again. The jobs stay as they are."""
    with platform.database.begin() as connection:
        mark = marks.mark(
            connection, principal.organization, fingerprint, body.marked, actor=principal.actor, origin=origin
        )
    return ErrorMark.of(mark)
