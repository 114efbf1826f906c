"""sync: copies the organization's exports to the directory of CELERIAC_SYNC_DIR, a mounted share for example."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from pydantic import Field

from tasks import BaseModel, Job, app
from tasks.exports.files import Export, ExportNotFound, export_of, exports, is_valid, job_of, private_directory
from tasks.handlers.identity import identity_of
from tracking.db import Database
from tracking.errors import ConfigurationError

DAY = 86_400
PARTIAL = ".partial-"
LISTED_FILES = 500


class SyncExports(BaseModel):
    """Which exports, by name; none means all of the organization."""

    exports: tuple[str, ...] = Field(default=(), max_length=1000)


class SyncedFile(BaseModel):
    """A file at the destination, and the SHA-256 of its content in hexadecimal."""

    name: str
    sha256: str


class Synced(BaseModel):
    """What became of the exports; `copied_bytes` were not there before. `files` names the first 500 copied ones."""

    copied: int
    unchanged: int
    copied_bytes: int
    files: tuple[SyncedFile, ...]


class CopyDamaged(OSError):
    """What was read back from the destination is not what was written."""


@app.task(
    bind=True,
    pydantic=True,
    name="sync",
    permission="maintenance.run_sync",
    steps=("Find", "Copy"),
    autoretry_for=(OSError,),  # a share that is not mounted, is full or breaks off, and ConnectionError
    retry_backoff=True,
    max_retries=5,
    soft_time_limit=3600,
    time_limit=3660,
    payload_errors=(ExportNotFound,),
)
def sync(self: Job, payload: SyncExports) -> Synced:
    """Copy the exports that are not at the destination yet; what is there already is compared by its checksum."""
    with self.step("Find", 1, of=2, percent=10):
        organization, platform = identity_of(self).organization_id, self.app.platform
        source = platform.database, platform.settings.exports, organization
        wanted = [export_of(*source, name) for name in payload.exports] or _all_of(*source)
        directory = _destination(platform.settings.sync_dir, organization)
    copied: list[SyncedFile] = []
    copied_bytes = 0
    with self.step("Copy", 2, of=2):
        for number, export in enumerate(wanted, start=1):
            checksum = _checksum(export.path)
            target = directory / export.name
            if not (target.is_file() and _checksum(target) == checksum):
                copied_bytes += _copy(export.path, target, checksum)
                copied.append(SyncedFile(name=export.name, sha256=checksum))
            self.progress(10 + 90 * number / len(wanted), f"Copy: {number:,} of {len(wanted):,} exports")
    return Synced(
        copied=len(copied),
        unchanged=len(wanted) - len(copied),
        copied_bytes=copied_bytes,
        files=tuple(copied[:LISTED_FILES]),
    )


def _all_of(database: Database, directory: Path, organization: str) -> list[Export]:
    owned = []
    for export in exports(directory):
        job = job_of(database, export)
        if job is not None and job.organization_id == organization and is_valid(export, job):
            owned.append(export)
    return owned


def _destination(root: Path | None, organization: str) -> Path:
    """The organization's own directory at the destination, whatever characters its id has."""
    if root is None:
        raise ConfigurationError("CELERIAC_SYNC_DIR is not set: there is nowhere to copy exports to")
    if not root.is_dir():
        raise NotADirectoryError("the directory of CELERIAC_SYNC_DIR is not there")  # made by nobody: a missing mount
    return private_directory(root / quote(organization, safe="").replace(".", "%2E"))


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
