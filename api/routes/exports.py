"""The files that exports made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import structlog
from fastapi import APIRouter
from fastapi.responses import FileResponse, RedirectResponse, Response

from api import openapi
from api.auth import Principal, requires
from api.problems import RETRY_AFTER, Code, Problem
from api.reading import Read, Reading, Served
from api.schemas import fields
from api.strict import StrictRoute
from tasks.catalog import handler
from tasks.exports.files import DOWNLOADS, Export, export_named, media_type
from tasks.exports.keeping import export_store
from tasks.exports.stores import StoreRefused
from tracking.errors import JobNotFound
from tracking.models import JobRecord
from tracking.reads import lists

LINK_SECONDS = 60  # that an address of a bucket is good for

log = structlog.get_logger(__name__)
router = APIRouter(prefix=DOWNLOADS, tags=["exports"], route_class=StrictRoute)


@router.get("/{name}", response_class=FileResponse, responses=openapi.EXPORT, openapi_extra=openapi.HANDLERS)
def get_export(
    principal: Annotated[Principal, requires(None)], platform: Served, read: Read, name: fields.Name
) -> Response:
    """The file of an export that the caller sees; they need the permission of its handler.

    One that is in a bucket is fetched there, at an address that is good for a minute.
    """
    export = export_named(name)
    job = _find(principal, read, export) if export else None
    if export is None or job is None:
        raise _missing()
    principal.must_have(handler(platform.app, job.job_type).permission)
    store = export_store(platform.settings, job.organization_id)
    with stored():
        if store.find(name) is None:
            raise _missing()
        link = store.link(name, LINK_SECONDS)
    if link is not None:
        return RedirectResponse(link)
    return FileResponse(platform.settings.exports / name, media_type=media_type(name), filename=name)


@contextmanager
def stored() -> Iterator[None]:
    """Within it a storage is asked. Raises the 503 problem when it does not answer, or will not have us."""
    try:
        yield
    except (ConnectionError, StoreRefused) as error:
        log.warning("storage unavailable", error=str(error))
        raise Problem(Code.STORAGE_UNAVAILABLE, "Try again in a moment.", headers=RETRY_AFTER) from None


def _find(principal: Principal, read: Reading, export: Export) -> JobRecord | None:
    """The job whose result the export is; None when there is none, or it is not theirs, or another attempt's."""
    try:
        job = read(lists.get, export.job_id, principal.scope)
    except JobNotFound:
        return None
    return job if isinstance(job.result, dict) and job.result.get("downloadUrl") == export.url else None


def _missing() -> Problem:
    """One 404 for what is not there, not theirs, or left behind by an attempt that failed."""
    return Problem(Code.EXPORT_NOT_FOUND, "It was never made, or it has been cleaned up.")
