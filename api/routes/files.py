"""Files that people upload for their jobs to read."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path as FilePath
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from uuid_utils.compat import uuid7

from api import openapi
from api.auth import Principal, Reach, requires
from api.origins import Came
from api.permissions import PROCESS_DATA
from api.problems import Code, Problem, invalid
from api.reading import Read, Served, platform_of
from api.routes.exports import stored
from api.schemas.files import File, Files, FilesQuery, NewFileQuery, RemovedFile
from api.strict import StrictRoute
from api.turns import Turns
from tasks.exports.keeping import upload_store
from tasks.exports.stores import Store, private_file
from tracking import uploads
from tracking.origins import By
from tracking.uploads import NewFile

PATIENCE = 900  # seconds for the whole content of a file to arrive,
SILENCE = 20  # and for its next piece
WRITTEN_AT_ONCE = 1024 * 1024  # bytes
MEDIA_TYPE = "application/octet-stream"
FORM = "multipart/"  # would be kept with its boundaries, and be read as rows


@dataclass(frozen=True, slots=True)
class Arrived:
    """A file that has arrived in a directory of its own."""

    store: Store
    path: FilePath
    size: int
    sha256: str


class FileRoute(StrictRoute):
    """A route that takes a file: of whoever may upload one it is on the disk before the route begins."""

    def _arriving(self, request: Request) -> AbstractAsyncContextManager[None]:
        principal: Principal = request.state.principal
        if request.method != "POST" or PROCESS_DATA not in principal.permissions:
            return nullcontext()  # nothing of it is read
        if request.headers.get("content-type", "").strip().lower().startswith(FORM):
            raise invalid(
                [{"loc": ("body",), "msg": "The body is the file itself, not a form: curl --data-binary, not -F"}]
            )
        return _arriving(request, principal)


router = APIRouter(prefix="/v1/files", tags=["files"], route_class=FileRoute)

Processing = Annotated[Principal, requires(PROCESS_DATA)]
FileId = Annotated[UUID, Path(alias="id")]


@router.post("", status_code=201, responses=openapi.FILE_CREATED, openapi_extra=openapi.FILE_BODY)
def create_file(
    principal: Processing,
    platform: Served,
    query: Annotated[NewFileQuery, Query()],
    request: Request,
    *,
    origin: Came,
    response: Response,
) -> File:
    """Keep the body, which is no form, as a file that jobs of the organization can read until it expires."""
    arrived: Arrived = request.state.arrived
    settings = platform.settings
    new = NewFile(uuid7(), query.name, arrived.size, arrived.sha256)
    with stored():
        arrived.store.keep(arrived.path, str(new.id), MEDIA_TYPE)
    try:
        with platform.database.begin() as connection:
            lifetime = timedelta(days=settings.files_days)
            by = By(principal.actor, origin)
            file = uploads.add(connection, principal.owner, new, most=settings.files_count, lifetime=lifetime, by=by)
    except BaseException:
        # Without a row nobody finds it. What cannot be removed now, a cleanup job removes.
        with suppress(Exception):
            arrived.store.remove(str(new.id))
        raise
    response.headers["Location"] = f"/v1/files/{file.id}"
    return File.of(file)


@router.get("", responses=openapi.READ)
def list_files(
    principal: Annotated[Principal, requires(PROCESS_DATA, reach=Reach.ALL)],
    read: Read,
    query: Annotated[FilesQuery, Query()],
) -> Files:
    """The caller's files, or with `jobs.view_all` those of the organization."""
    if principal.everywhere:
        return Files.of(read(uploads.everywhere, before=query.cursor, size=query.limit + 1), query.limit)
    found = read(uploads.every, principal.scope)
    return Files.of(found, len(found))


@router.get("/{id}", responses=openapi.FILE)  # noqa: FAST003 - FileId is that parameter
def get_file(principal: Processing, read: Read, file_id: FileId) -> File:
    """One file."""
    return File.of(read(uploads.get, file_id, principal.scope))


@router.delete("/{id}", responses=openapi.FILE)  # noqa: FAST003 - as above
def remove_file(principal: Processing, platform: Served, file_id: FileId, origin: Came) -> RemovedFile:
    """Forget a file. A job that reads it meanwhile goes on."""
    with platform.database.begin() as connection:
        file = uploads.remove(connection, file_id, principal.scope, By(principal.actor, origin))
    with suppress(Exception):  # as above: the row is gone, and with it the file to everybody
        upload_store(platform.settings, file.organization_id).remove(str(file.id))
    return RemovedFile(message="File removed successfully")


@asynccontextmanager
async def _arriving(request: Request, principal: Principal) -> AsyncIterator[None]:
    turns: Turns = request.app.state.uploads
    async with turns.turn(principal.organization):
        store = await run_in_threadpool(upload_store, platform_of(request).settings, principal.organization)
        directory = FilePath(await run_in_threadpool(_directory, store))
        try:
            request.state.arrived = await _arrived(request, store, directory / "content")
            yield
        finally:
            await run_in_threadpool(shutil.rmtree, directory, ignore_errors=True)


def _directory(store: Store) -> str:
    return tempfile.mkdtemp(prefix="upload.", dir=store.drafts)


async def _arrived(request: Request, store: Store, path: FilePath) -> Arrived:
    """Write the body to the disk. Raises the 408 problem when it is too slow; the envelope counts its bytes."""
    digest, size, pieces, held = hashlib.sha256(), 0, request.stream(), bytearray()
    with await run_in_threadpool(private_file, path) as file:

        def write(content: bytes) -> None:
            digest.update(content)
            file.write(content)

        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    async with asyncio.timeout(SILENCE):
                        piece = await anext(pieces, None)
                    if piece is None:
                        break
                    size += len(piece)
                    held += piece
                    if len(held) >= WRITTEN_AT_ONCE:
                        await run_in_threadpool(write, bytes(held))
                        held.clear()
        except TimeoutError:
            raise Problem(Code.BODY_TOO_SLOW, f"Its next piece has {SILENCE} seconds, all of it {PATIENCE}.") from None
        await run_in_threadpool(write, bytes(held))
    return Arrived(store, path, size, digest.hexdigest())
