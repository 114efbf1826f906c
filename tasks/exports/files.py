"""The directory of export files: drafts that become files all at once, and names that only the server makes.

A name is `<job id>-<attempt>.<format>`. A draft lives in a directory of its own below `.drafts` until it is published
by a rename, so that a file with a name is always complete.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from tasks.exports.formats import FORMATS, FormatName
from tasks.payloads import BaseModel
from tracking.db import Database, DBAPIError, PoolTimeoutError, outage
from tracking.models import JobRecord
from tracking.reads import lists
from tracking.states import Status
from tracking.values import Instant

DRAFTS = ".drafts"
DOWNLOADS = "/v1/exports"


class ExportNotFound(Exception):
    """There is no such export."""


class ExportedFile(BaseModel):
    """What a job says of the file that it made: `file_size` in bytes, `download_url` below the API's address."""

    download_url: str
    file_size: int
    record_count: int
    generated_at: Instant
    format: FormatName


@dataclass(frozen=True, slots=True)
class Export:
    """A finished file, whose name says which job's attempt made it."""

    path: Path
    job_id: UUID
    attempt: int

    @property
    def name(self) -> str:
        """Its file name, which is how people ask for it."""
        return self.path.name

    @property
    def url(self) -> str:
        """Where it is downloaded, below the API's address."""
        return f"{DOWNLOADS}/{self.name}"


@dataclass(frozen=True, slots=True)
class Draft:
    """An export that is being written: `file` is binary and seekable, `directory` is for temporary files."""

    export: Export
    directory: Path
    file: BinaryIO

    def finish(self) -> None:
        """Bring all that was written to the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def publish(self) -> int:
        """Make it the file of its name, in place of those of earlier attempts. Returns its size in bytes."""
        size = os.fstat(self.file.fileno()).st_size
        Path(self.file.name).replace(self.export.path)
        _sync_directory(self.export.path.parent)
        for path in self.export.path.parent.glob(f"{self.export.job_id}-*"):
            other = _find(path.parent, path.name)
            if other is not None and other.attempt < self.export.attempt:
                other.path.unlink(missing_ok=True)
        return size


@contextmanager
def drafting(exports: Path, job_id: UUID, attempt: int, suffix: str) -> Iterator[Draft]:
    """A draft for an attempt's export; nothing of it stays after the block unless it was published.

    Drafts that a lost worker left behind for the same job are removed first.
    """
    name = f"{job_id}-{attempt}.{suffix}"
    drafts = private_directory(exports / DRAFTS)
    for abandoned in drafts.glob(f"{job_id}-*"):
        shutil.rmtree(abandoned, ignore_errors=True)  # its writer may be removing it too
    directory = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=drafts))
    try:
        with _private_file(directory / name) as file:
            yield Draft(Export(exports / name, job_id, attempt), directory, file)
    finally:
        shutil.rmtree(directory, ignore_errors=True)  # the next attempt or a cleanup job removes what is left


def open_export(directory: Path, name: str) -> tuple[UUID, Path] | None:
    """The job that made the export of this name, and its file; None when there is none, whatever the name says.

    The caller checks whose job it is.
    """
    export = _find(directory, name)
    return (export.job_id, export.path) if export else None


def export_of(database: Database, directory: Path, organization: str, name: str) -> Export:
    """An organization's export by its name. Raises ExportNotFound, also for another organization's."""
    export = _find(directory, name)
    job = job_of(database, export) if export else None
    if export is None or job is None or job.organization_id != organization or not is_valid(export, job):
        raise ExportNotFound(f"there is no export {name!r}")
    return export


def exports(directory: Path) -> Iterator[Export]:
    """All export files of all organizations, sorted by name."""
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        export = _find(directory, path.name)
        if export is not None:
            yield export


def job_of(database: Database, export: Export) -> JobRecord | None:
    """The job that made an export; None when its row is gone. Raises ConnectionError when the database is away."""
    try:
        with database.autocommit() as connection:
            return lists.find(connection, export.job_id)
    except (DBAPIError, PoolTimeoutError) as error:
        if outage(error) is None:
            raise
        raise ConnectionError("the tracking database cannot be used now") from error


def is_valid(export: Export, job: JobRecord) -> bool:
    """Whether the export is its job's accepted result, and not what a failed or overtaken attempt left behind."""
    return job.status is Status.SUCCEEDED and job.attempt == export.attempt


def remove_drafts(directory: Path, older_than: float) -> int:
    """Remove the drafts that nobody has written to for so many seconds. Returns how many."""
    removed = 0
    for draft in (directory / DRAFTS).glob("*"):
        if time.time() - _last_write(draft) > older_than:
            shutil.rmtree(draft, ignore_errors=True)
            removed += not draft.exists()
    return removed


_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_NAME = re.compile(rf"(?P<job>{_UUID})-(?P<attempt>[0-9]{{1,9}})\.(?:{'|'.join(FORMATS)})", re.ASCII)


def _find(directory: Path, name: str) -> Export | None:
    found = _NAME.fullmatch(name)  # nothing else reaches the file system: no separator, no dots, no NUL
    if found is None:
        return None
    path = directory / name
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    # A link is never followed, wherever it leads.
    return Export(path, UUID(found["job"]), int(found["attempt"])) if stat.S_ISREG(mode) else None


def private_directory(path: Path) -> Path:
    """Make a directory that only we can read, with its parents; one that is there keeps its mode."""
    for directory in (*reversed(path.parents), path):
        directory.mkdir(mode=0o700, exist_ok=True)
    return path


def _private_file(path: Path) -> BinaryIO:
    return open(path, "x+b", opener=lambda name, flags: os.open(name, flags, 0o600))


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _last_write(draft: Path) -> float:
    times = [0.0]
    for path in (draft, *draft.glob("*")):
        try:
            times.append(path.lstat().st_mtime)
        except FileNotFoundError:
            continue
    return max(times)
