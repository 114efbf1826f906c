"""The jobs of one project."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from api import openapi
from api.reading import ListRead
from api.routes.jobs import Viewer, list_page, stats_of
from api.schemas import answers, fields, requests
from api.strict import StrictRoute

router = APIRouter(prefix="/v1/projects/{projectId}/jobs", tags=["projects"], route_class=StrictRoute)

ProjectId = Annotated[fields.Name, Path(alias="projectId")]


@router.get("", responses=openapi.SLOW)
def list_project_jobs(
    principal: Viewer, read: ListRead, project_id: ProjectId, query: Annotated[requests.ProjectListQuery, Query()]
) -> answers.JobList:
    """The jobs of a project that the caller sees, newest first."""
    return list_page(principal, read, query, project_id=project_id)


@router.get("/stats", responses=openapi.SLOW)
def project_job_stats(
    principal: Viewer, read: ListRead, project_id: ProjectId, query: Annotated[requests.StatsQuery, Query()]
) -> answers.JobStats:
    """Counts of a project's active jobs, and of those that finished in the window."""
    return stats_of(principal, read, query, project_id=project_id)
