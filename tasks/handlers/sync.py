"""sync: pulls a source on the web into a collection, pushes collections, and copies exports to a mounted share."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from tasks import BaseModel, Job, app
from tasks.exports.files import Export, ExportNotFound, export_of, exports, is_valid, job_of
from tasks.exports.keeping import export_store
from tasks.exports.stores import Store, StoreRefused
from tasks.handlers.identity import Identity, identity_of
from tasks.handlers.pulling import CursorExpired, Pulled, SourceAway, pull
from tasks.handlers.pushing import PARTIAL, CollectionNotFound, Push, Pushed, push, sync_directory_of
from tasks.syncing.paging import Pull, SourceUnusable
from tasks.webhooks.asking import Forbidden
from tasks.webhooks.delivery import receiver
from tracking.collections import CollectionBusy
from tracking.db import Database

DAY = 86_400
LISTED_FILES = 500


class SyncExports(BaseModel):
    """What is pulled from where, and pushed to where; with neither, which exports are copied, by name.

    No names are all exports of the organization.
    """

    exports: tuple[str, ...] = Field(default=(), max_length=1000, description="Names or downloadUrls.")
    pull: Pull | None = None
    push: Push | None = None

    @model_validator(mode="after")
    def check_work(self) -> SyncExports:
        """Exports are copied, or a collection is pulled and pushed."""
        if self.exports and (self.pull or self.push):
            raise ValueError("exports are copied by a job of their own, without pull and push")
        if self.push is not None and self.push.collection is None and self.pull is None:
            raise ValueError("a push without a pull names its collection")
        return self


class SyncResult(BaseModel):
    """What a sync job has done."""


class PulledAndPushed(SyncResult):
    """What was pulled, and the file that was pushed; None: that was not asked for."""

    pulled: Pulled | None
    pushed: Pushed | None


class SyncedFile(BaseModel):
    """A file at the destination, and the SHA-256 of its content in hexadecimal."""

    name: str
    sha256: str


class Synced(SyncResult):
    """What became of the exports; `copied_bytes` were not there before. `files` names the first 500 copied ones."""

    copied: int
    unchanged: int
    copied_bytes: int
    files: tuple[SyncedFile, ...]


class CopyDamaged(OSError):
    """What was read back from the destination is not what was written."""


def source_of(payload: dict[str, Any]) -> str | None:
    """Whose failures hold whose jobs: each source its own, and the destination all copies."""
    source = payload.get("pull")
    return None if source is None else receiver(source["url"])


@app.task(
    bind=True,
    pydantic=True,
    name="sync",
    permission="maintenance.run_sync",
    steps=("Find", "Copy"),
    autoretry_for=(OSError, CollectionBusy),  # a share that is not mounted, is full or breaks off, and ConnectionError
    retry_backoff=True,
    max_retries=5,
    soft_time_limit=3600,
    time_limit=3660,
    payload_errors=(
        *(ExportNotFound, CollectionNotFound, SourceUnusable, CursorExpired, Forbidden, StoreRefused),
        CollectionBusy,  # says nothing of the source: in the circuit, those that wait would keep the one they wait for
    ),
    circuit_key=source_of,
)
def sync(self: Job, payload: SyncExports) -> SyncResult:
    """Pull a collection page by page and push it, or copy the exports that are not at the destination yet."""
    if payload.pull is None and payload.push is None:
        return _copy_exports(self, payload)
    who = identity_of(self)
    pulled = pushed = None
    if payload.pull is not None:
        with self.step("Pull", 1, of=2, percent=60):
            pulled = _pull(self, who, payload.pull)
    if payload.push is not None:
        with self.step("Push", 2, of=2):
            collection = payload.push.collection or (payload.pull and payload.pull.collection) or ""
            pushed = push(self, who, payload.push, collection)
    return PulledAndPushed(pulled=pulled, pushed=pushed)


def _pull(job: Job, who: Identity, wanted: Pull) -> Pulled:
    try:
        return pull(job, who, wanted)
    except SourceAway as error:
        if error.wish is None:
            raise  # the back-off of the handler decides
        raise job.retry(exc=error, countdown=error.wish) from error


def _copy_exports(self: Job, payload: SyncExports) -> Synced:
    """What is at the destination already is compared by its checksum."""
    with self.step("Find", 1, of=2, percent=10):
        organization, platform = identity_of(self).organization_id, self.app.platform
        store = export_store(platform.settings, organization)
        source = platform.database, store, organization
        wanted = [export_of(*source, name) for name in payload.exports] or _all_of(*source)
        directory = sync_directory_of(platform.settings.sync_dir, organization)
    copied: list[SyncedFile] = []
    copied_bytes = 0
    with self.step("Copy", 2, of=2):
        for number, export in enumerate(wanted, start=1):
            with store.reading(export.name) as path:
                checksum = _checksum(path)
                target = directory / export.name
                if not (target.is_file() and _checksum(target) == checksum):
                    copied_bytes += _copy(path, target, checksum)
                    copied.append(SyncedFile(name=export.name, sha256=checksum))
            self.progress(10 + 90 * number / len(wanted), f"Copy: {number:,} of {len(wanted):,} exports")
    return Synced(
        copied=len(copied),
        unchanged=len(wanted) - len(copied),
        copied_bytes=copied_bytes,
        files=tuple(copied[:LISTED_FILES]),
    )


def _all_of(database: Database, store: Store, organization: str) -> list[Export]:
    owned = []
    for export, _ in exports(store):
        job = job_of(database, export)
        if job is not None and job.organization_id == organization and is_valid(export, job):
            owned.append(export)
    return owned


def _copy(source: Path, target: Path, checksum: str) -> int:
    """Copy under a temporary name, read it back, and give it its name. Returns the size in bytes."""
    _remove_abandoned(target.parent)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=PARTIAL)
    partial = Path(name)
    try:
        with source.open("rb") as reader, os.fdopen(descriptor, "wb") as writer:
            shutil.copyfileobj(reader, writer, 1024 * 1024)
            writer.flush()
            os.fsync(writer.fileno())
        if _checksum(partial) != checksum:
            raise CopyDamaged
        size = partial.stat().st_size
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return size


def _remove_abandoned(directory: Path) -> None:
    """Partial copies of workers that were killed."""
    for partial in directory.glob(f"{PARTIAL}*"):
        with suppress(FileNotFoundError):  # its writer, or another sync, was faster
            if time.time() - partial.stat().st_mtime > DAY:
                partial.unlink()


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
