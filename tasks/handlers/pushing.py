"""The half of sync that pushes: a collection as one file, to the directory of CELERIAC_SYNC_DIR or to the bucket."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import Field

from tasks import BaseModel, Job
from tasks.exports.formulas import neutral
from tasks.exports.keeping import synced_bucket
from tasks.exports.stores import Directory, Store, directory_name, private_directory
from tasks.handlers.identity import Identity
from tasks.outages import told_as_connection_errors
from tracking import collections
from tracking.errors import ConfigurationError

PARTIAL = ".partial-"
REPORTED = 1000  # records between two reports
MEDIA_TYPES = {"jsonl": "application/jsonl", "csv": "text/csv; charset=utf-8"}


class CollectionNotFound(Exception):
    """There is no such collection."""


class Push(BaseModel):
    """A collection, and where it is written; each time in place of the file before."""

    to: Literal["directory", "bucket"] = "directory"
    format: Literal["jsonl", "csv"] = "jsonl"
    collection: str | None = Field(
        default=None, pattern=r"^[a-z][a-z0-9_-]{0,62}$", description="That of `pull`, unless it is said."
    )


class Pushed(BaseModel):
    """The file that was written: its size in bytes, and the SHA-256 of its content in hexadecimal."""

    name: str
    to: Literal["directory", "bucket"]
    record_count: int
    size: int
    sha256: str


def push(job: Job, who: Identity, wanted: Push, collection: str) -> Pushed:
    """Write a collection, as it is while it is read. Raises CollectionNotFound, and OSError when the place is away."""
    settings, name = job.app.platform.settings, f"{collection}.{wanted.format}"
    store: Store
    if wanted.to == "bucket":
        store = synced_bucket(settings, who.organization_id)
        directory = store.drafts
    else:
        directory = sync_directory_of(settings.sync_dir, who.organization_id)
        store = Directory(directory)
    descriptor, partial = tempfile.mkstemp(dir=directory, prefix=PARTIAL)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            count = _write(job, who.organization_id, collection, wanted.format, file)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            digest, size = hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
        store.keep(Path(partial), name, MEDIA_TYPES[wanted.format])
    finally:
        Path(partial).unlink(missing_ok=True)
    return Pushed(name=name, to=wanted.to, record_count=count, size=size, sha256=digest)


def sync_directory_of(root: Path | None, organization: str) -> Path:
    """The organization's own directory at the destination, whatever characters its id has."""
    if root is None:
        raise ConfigurationError("CELERIAC_SYNC_DIR is not set: there is nowhere to write to")
    if not root.is_dir():
        raise NotADirectoryError("the directory of CELERIAC_SYNC_DIR is not there")  # made by nobody: a missing mount
    return private_directory(root / directory_name(organization))


def _write(job: Job, organization: str, collection: str, form: str, file: BinaryIO) -> int:
    """Write all records; how many they are."""
    count = 0
    with told_as_connection_errors(), job.app.platform.database.autocommit() as connection:
        if not collections.exists(connection, organization, collection):
            raise CollectionNotFound(f"there is no collection {collection!r}")
        fields = collections.fields(connection, organization, collection) if form == "csv" else ()
        if fields:
            file.write((",".join(map(_field, fields)) + "\r\n").encode())
        for text, texts in collections.each(connection, organization, collection):
            line = ",".join(_field(texts.get(name)) for name in fields) + "\r\n" if fields else text + "\n"
            file.write(line.encode())
            count += 1
            if count % REPORTED == 0:
                job.progress(60, f"Push: {count:,} records written")
    return count


def _field(text: str | None) -> str:
    """As in the csv of exports: null is not quoted, and no text is a formula."""
    return "" if text is None else '"' + neutral(text).replace('"', '""') + '"'
