"""cleanup: removes the organization's old exports and uploads, and what nobody will ask for; or says what it would."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal
from uuid import UUID

from pydantic import Field

from tasks import BaseModel, Job, app
from tasks.exports.files import DOWNLOADS, Export, abandoned_drafts, exports, is_valid, job_of
from tasks.exports.keeping import export_store, upload_store
from tasks.exports.stores import Store, Stored, StoreRefused
from tasks.handlers.identity import identity_of
from tasks.outages import told_as_connection_errors
from tracking import leftovers, uploads
from tracking.db import Database
from tracking.models import JobRecord
from tracking.states import FINISHED

DAY = 86_400
HOUR = 3_600
LISTED = 100  # of what is removed, or of results that are gone
EXPORTING = ("export_report", "data_processing")  # whose results name files


class CleanUp(BaseModel):
    """How old, in days, an export may become. With `dry_run` nothing is removed, and the result says what would be."""

    older_than_days: int = Field(default=30, ge=1, le=3650)
    keys_older_than_days: int | None = Field(
        default=None,
        ge=1,
        le=3650,
        description="Idempotency keys of jobs that ended longer ago can be used again; without it they stay.",
    )
    dry_run: bool = False


Verdict = Literal["expired", "invalid", "orphaned", "kept", "foreign"]
Kind = Literal["expired_export", "invalid_export", "orphaned_export", "draft", "expired_file", "orphaned_file"]
REMOVED: dict[Verdict, Kind] = {
    "expired": "expired_export",
    "invalid": "invalid_export",
    "orphaned": "orphaned_export",
}


class Leftover(BaseModel):
    """Something that is removed, or would be: its size in bytes."""

    kind: Kind
    name: str
    size: int


class CleanedUp(BaseModel):
    """Counts of what was removed, or with `dry_run` would be.

    `orphaned_exports`: their job is gone; `invalid_exports`: it failed or was cancelled. `expired_files` are uploads;
    `orphaned_files` contents without a row, and rows without a content. `missing_exports` are results whose file is
    gone before its time: nothing is done about them, `missing` names some of their jobs. `kept_exports` are the
    organization's own that are left; `freed_bytes` without drafts; `removed` are the first hundred.
    """

    expired_exports: int
    invalid_exports: int
    orphaned_exports: int
    drafts: int
    kept_exports: int
    freed_bytes: int
    expired_files: int
    orphaned_files: int
    kept_files: int
    missing_exports: int
    missing: tuple[UUID, ...]
    forgotten_keys: int
    dry_run: bool
    removed: tuple[Leftover, ...]


@dataclass(slots=True)
class _Removal:
    """What is removed, or only counted."""

    dry_run: bool
    counts: Counter[str] = field(default_factory=Counter)
    freed: int = 0
    listed: list[Leftover] = field(default_factory=list)

    def take(self, kind: Kind, store: Store, stored: Stored) -> None:
        """Remove a file of a store, unless somebody was faster."""
        with suppress(FileNotFoundError):
            if not self.dry_run:
                store.remove(stored.name)
            self.freed += stored.size
            self.note(kind, stored.name, stored.size)

    def note(self, kind: Kind, name: str, size: int) -> None:
        self.counts[kind] += 1
        if len(self.listed) < LISTED:
            self.listed.append(Leftover(kind=kind, name=name, size=size))


@app.task(
    bind=True,
    pydantic=True,
    name="cleanup",
    permission="maintenance.run_cleanup",
    steps=("Exports", "Files", "Results", "Keys", "Drafts"),
    autoretry_for=(ConnectionError,),
    retry_backoff=True,
    max_retries=3,
    soft_time_limit=3600,
    time_limit=3660,
    payload_errors=(StoreRefused,),
)
def cleanup(self: Job, payload: CleanUp) -> CleanedUp:
    """Remove exports of a certain age, uploads that have expired, leftovers of failed jobs, and files without a job."""
    organization, platform = identity_of(self).organization_id, self.app.platform
    database = platform.database
    store, files = export_store(platform.settings, organization), upload_store(platform.settings, organization)
    removal = _Removal(payload.dry_run)
    with self.step("Exports", 1, of=5, percent=60):
        there, kept = _clean_exports(self, store, organization, payload, removal)
    with self.step("Files", 2, of=5, percent=75):
        kept_files = _clean_files(database, files, organization, removal)
    with self.step("Results", 3, of=5, percent=85):
        missing = _missing(self, store, organization, there, payload.older_than_days)
    with self.step("Keys", 4, of=5, percent=95):
        keys = _clean_keys(self, database, organization, payload)
    with self.step("Drafts", 5, of=5):
        _clean_drafts({store.drafts_place, files.drafts_place}, removal)
    return CleanedUp(
        expired_exports=removal.counts["expired_export"],
        invalid_exports=removal.counts["invalid_export"],
        orphaned_exports=removal.counts["orphaned_export"],
        drafts=removal.counts["draft"],
        kept_exports=kept,
        freed_bytes=removal.freed,
        expired_files=removal.counts["expired_file"],
        orphaned_files=removal.counts["orphaned_file"],
        kept_files=kept_files,
        missing_exports=len(missing),
        missing=tuple(missing[:LISTED]),
        forgotten_keys=keys,
        dry_run=payload.dry_run,
        removed=tuple(removal.listed),
    )


def _clean_exports(
    job: Job, store: Store, organization: str, payload: CleanUp, removal: _Removal
) -> tuple[set[str], int]:
    """The names of all exports that were there, and how many of the organization's are kept."""
    there, kept = set(), 0
    for export, stored in exports(store):
        there.add(export.name)
        record = job_of(job.app.platform.database, export)
        verdict = _judge(export, stored, record, organization, payload.older_than_days * DAY)
        kept += verdict == "kept"
        if verdict in REMOVED:
            removal.take(REMOVED[verdict], store, stored)
        job.progress(0, f"{len(there):,} files looked at")
    return there, kept


def _judge(export: Export, stored: Stored, job: JobRecord | None, organization: str, oldest: float) -> Verdict:
    age = time.time() - stored.modified
    if job is None:
        # Another installation may share the directory, so a file whose job is unknown here is kept for that age too.
        return "orphaned" if age > oldest else "foreign"
    if job.organization_id != organization:
        return "foreign"
    if job.status in FINISHED and not is_valid(export, job) and age > HOUR:
        return "invalid"
    return "expired" if age > oldest else "kept"


def _clean_files(database: Database, store: Store, organization: str, removal: _Removal) -> int:
    """Remove uploads that have expired, contents without a row, and rows without a content; how many are kept."""
    contents = {stored.name: stored for stored in store.every()}  # first: a row is written after its content
    with told_as_connection_errors(), database.autocommit() as connection:
        known = {str(file_id): has_expired for file_id, has_expired in uploads.known(connection, organization)}
    gone = [name for name, has_expired in known.items() if has_expired or _is_missing(store, name, contents)]
    for name in gone:
        kind: Kind = "expired_file" if known[name] else "orphaned_file"
        if name in contents:
            removal.take(kind, store, contents[name])
        else:
            removal.note(kind, name, 0)
    for name, stored in contents.items():
        if name not in known and time.time() - stored.modified > HOUR:  # a younger one may be about to get its row
            removal.take("orphaned_file", store, stored)
    if gone and not removal.dry_run:
        with told_as_connection_errors(), database.autocommit() as connection:
            uploads.forget(connection, organization, [UUID(name) for name in gone])
    return len(known) - len(gone)


def _is_missing(store: Store, name: str, contents: dict[str, Stored]) -> bool:
    return name not in contents and store.find(name) is None  # it may have come since


def _missing(job: Job, store: Store, organization: str, there: set[str], days: int) -> list[UUID]:
    """The jobs whose results name files that are gone before their time."""
    missing = []
    with told_as_connection_errors(), job.app.platform.database.autocommit() as connection:
        for each in leftovers.exported(connection, organization, EXPORTING, timedelta(days=days)):
            name = each.download_url.removeprefix(f"{DOWNLOADS}/")
            # What was made since the store was read is asked for by its name.
            if name not in there and store.find(name) is None:
                missing.append(each.job_id)
            job.progress(75, "Results: looking for their files")
    return missing


def _clean_keys(job: Job, database: Database, organization: str, payload: CleanUp) -> int:
    """Forget old idempotency keys, some at a time; how many."""
    if payload.keys_older_than_days is None:
        return 0
    age, forgotten = timedelta(days=payload.keys_older_than_days), 0
    with told_as_connection_errors(), database.autocommit() as connection:
        if payload.dry_run:
            return leftovers.old_keys(connection, organization, age)
        while some := leftovers.forget_keys(connection, organization, age):
            forgotten += some
            job.progress(85, f"Keys: {forgotten:,} forgotten")
    return forgotten


def _clean_drafts(places: set[Path], removal: _Removal) -> None:
    for place in sorted(places):
        for draft in abandoned_drafts(place, older_than=DAY):
            if not removal.dry_run:
                shutil.rmtree(draft, ignore_errors=True)
            if removal.dry_run or not draft.exists():
                removal.note("draft", draft.name, 0)
