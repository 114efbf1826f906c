"""What kinds of jobs there are."""

from __future__ import annotations

from fastapi import APIRouter

from api import openapi
from api.routes.jobs import Viewer
from api.schemas import answers
from api.strict import StrictRoute
from tasks.catalog import handlers

router = APIRouter(prefix="/v1/job-types", tags=["job types"], route_class=StrictRoute)


@router.get("", responses=openapi.READ)
def list_job_types(_: Viewer) -> answers.JobTypes:
    """Every type of jobs with what its handler takes, asks for, and does."""
    return answers.JobTypes.of(handlers())
