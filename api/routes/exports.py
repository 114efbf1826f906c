"""The files that exports made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import FileResponse

from api import openapi
from api.auth import Principal, requires
from api.problems import Code, Problem
from api.reading import Read, Reading, Served
from api.schemas import fields
from api.strict import StrictRoute
from tasks.catalog import handler
from tasks.exports.files import DOWNLOADS, open_export
from tracking.errors import JobNotFound
from tracking.models import JobRecord
from tracking.reads import lists

router = APIRouter(prefix=DOWNLOADS, tags=["exports"], route_class=StrictRoute)


@router.get("/{name}", response_class=FileResponse, responses=openapi.EXPORT)
def get_export(
    principal: Annotated[Principal, requires(None)], platform: Served, read: Read, name: fields.Name
) -> FileResponse:
    """The file of an export that the caller sees; they need the permission of its handler."""
    job, path = _find(principal, read, open_export(platform.settings.exports, name), name)
    principal.must_have(handler(platform.app, job.job_type).permission)
    return FileResponse(path, media_type=openapi.EXPORTED[path.suffix], filename=path.name)


def _find(principal: Principal, read: Reading, found: tuple[UUID, Path] | None, name: str) -> tuple[JobRecord, Path]:
    """The job and the file; one 404 for what is not there, not theirs, or left behind by an attempt that failed."""
    try:
        job = read(lists.get, found[0], principal.scope) if found else None
    except JobNotFound:
        job = None
    if found is None or job is None or not _is_result(job, name):
        raise Problem(Code.EXPORT_NOT_FOUND, "It was never made, or it has been cleaned up.")
    return job, found[1]


def _is_result(job: JobRecord, name: str) -> bool:
    return isinstance(job.result, dict) and job.result.get("downloadUrl") == f"{DOWNLOADS}/{name}"
