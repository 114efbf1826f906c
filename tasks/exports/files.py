"""Export files: drafts that become files all at once, and names that only the server makes.

A name is `<job id>-<attempt>.<format>`, and `.gz` after it when the file is compressed. A draft lives in a directory of
its own until it is kept by the store in one step, so that a file with a name is always complete.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from gzip import GzipFile
from pathlib import Path
from typing import BinaryIO, cast
from uuid import UUID

from tasks.exports.formats import COMPRESSED, FORMATS, GZIP, FormatName
from tasks.exports.stores import Store, Stored, private_file
from tasks.outages import told_as_connection_errors
from tasks.payloads import BaseModel
from tracking.db import Database
from tracking.models import JobRecord
from tracking.reads import lists
from tracking.states import Status
from tracking.values import Instant

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

    name: str
    job_id: UUID
    attempt: int

    @property
    def url(self) -> str:
        """Where it is downloaded, below the API's address."""
        return f"{DOWNLOADS}/{self.name}"

    @property
    def media_type(self) -> str:
        """What is in the file."""
        return media_type(self.name)


@dataclass(frozen=True, slots=True)
class Draft:
    """An export that is being written: `file` is binary, and seekable unless it is compressed on the way.

    `directory` is for temporary files.
    """

    export: Export
    directory: Path
    file: BinaryIO
    store: Store
    _written: BinaryIO

    def finish(self) -> None:
        """Bring all that was written to the disk."""
        if self.file is not self._written:
            self.file.close()  # the end of what is compressed
        self._written.flush()
        os.fsync(self._written.fileno())

    def publish(self) -> int:
        """Make it the file of its name, in place of those of earlier attempts. Returns its size in bytes."""
        size = os.fstat(self._written.fileno()).st_size
        self.store.keep(Path(self._written.name), self.export.name, self.export.media_type)
        for stored in self.store.every(f"{self.export.job_id}-"):
            other = export_named(stored.name)
            if other is not None and other.attempt < self.export.attempt:
                with suppress(FileNotFoundError):
                    self.store.remove(other.name)
        return size


@contextmanager
def drafting(store: Store, job_id: UUID, attempt: int, suffix: str) -> Iterator[Draft]:
    """A draft for an attempt's export; nothing of it stays after the block unless it was published.

    Drafts that a lost worker left behind for the same job are removed first.
    """
    name = f"{job_id}-{attempt}.{suffix}"
    drafts = store.drafts
    for abandoned in drafts.glob(f"{job_id}-*"):
        shutil.rmtree(abandoned, ignore_errors=True)  # its writer may be removing it too
    directory = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=drafts))
    try:
        with private_file(directory / name) as written, _compressing(written, suffix) as file:
            yield Draft(Export(name, job_id, attempt), directory, file, store, written)
    finally:
        shutil.rmtree(directory, ignore_errors=True)  # the next attempt or a cleanup job removes what is left


@contextmanager
def _compressing(written: BinaryIO, suffix: str) -> Iterator[BinaryIO]:
    """The file itself, or what compresses into it; without a name and a time, so that equal reports are equal files."""
    if not suffix.endswith(GZIP):
        yield written
        return
    with GzipFile(filename="", mode="wb", fileobj=written, mtime=0) as file:
        yield cast("BinaryIO", file)


def export_named(name: str) -> Export | None:
    """The export of this name, which may be gone; None when the name is not one of the server's."""
    found = _NAME.fullmatch(name)  # nothing else reaches a store: no separator, no dots, no NUL
    return Export(name, UUID(found["job"]), int(found["attempt"])) if found else None


def find_export(store: Store, name: str) -> Export | None:
    """The export of this name in the store; None when there is none, whatever the name says.

    The caller checks whose job it is.
    """
    export = export_named(name)
    return export if export is not None and store.find(name) is not None else None


def export_of(database: Database, store: Store, organization: str, name: str) -> Export:
    """An organization's export by its name or its `downloadUrl`.

    Raises ExportNotFound, also for another organization's.
    """
    export = find_export(store, name.removeprefix(f"{DOWNLOADS}/"))
    job = job_of(database, export) if export else None
    if export is None or job is None or job.organization_id != organization or not is_valid(export, job):
        raise ExportNotFound(f"there is no export {name!r}")
    return export


def exports(store: Store) -> Iterator[tuple[Export, Stored]]:
    """All exports in a store, sorted by name."""
    for stored in store.every():
        export = export_named(stored.name)
        if export is not None:
            yield export, stored


def job_of(database: Database, export: Export) -> JobRecord | None:
    """The job that made an export; None when its row is gone. Raises ConnectionError when the database is away."""
    with told_as_connection_errors(), database.autocommit() as connection:
        return lists.find(connection, export.job_id)


def is_valid(export: Export, job: JobRecord) -> bool:
    """Whether the export is its job's accepted result, and not what a failed or overtaken attempt left behind."""
    return job.status is Status.SUCCEEDED and job.attempt == export.attempt


def media_type(name: str) -> str:
    """What is in an export of this name, or in one that ends like this."""
    suffix = name.rpartition(".")[2]
    return COMPRESSED if f".{suffix}" == GZIP else FORMATS[suffix].media_type


def abandoned_drafts(drafts: Path, older_than: float) -> list[Path]:
    """The drafts that nobody has written to for so many seconds."""
    return [draft for draft in drafts.glob("*") if time.time() - _last_write(draft) > older_than]


_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_NAME = re.compile(
    rf"(?P<job>{_UUID})-(?P<attempt>[0-9]{{1,9}})\.(?:{'|'.join(FORMATS)})(?:{re.escape(GZIP)})?", re.ASCII
)


def _last_write(draft: Path) -> float:
    times = [0.0]
    for path in (draft, *draft.glob("*")):
        try:
            times.append(path.lstat().st_mtime)
        except FileNotFoundError:
            continue
    return max(times)
