"""data_processing: check, deduplicate and count the records of an export, and keep the good ones in a new file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import BaseModel, Job, app
from tasks.exports.batches import batches
from tasks.exports.files import Draft, ExportedFile, ExportNotFound, drafting, export_of
from tasks.exports.formats import FORMATS
from tasks.exports.records import DamagedExport, Record, Records, open_records
from tasks.handlers.identity import identity_of
from tasks.money import PayloadWithoutMoney

LARGEST_GROUPS = 100


class ProcessData(PayloadWithoutMoney):
    """An export of the same organization (csv or json), by name, and what is asked of its records."""

    export: str = Field(pattern=r"\.(csv|json)$", max_length=100, description="The name of a csv or json export.")
    required: tuple[str, ...] = Field(
        default=(), max_length=100, description="Columns that must not be empty; records where one is are left out."
    )
    unique: tuple[str, ...] = Field(
        default=(), max_length=100, description="Of the records that are equal in these columns only the first is kept."
    )
    group_by: str | None = Field(default=None, description="Count the kept records for each value of this column.")
    format: Literal["csv", "json"] = "csv"


class Group(BaseModel):
    """A value of the `group_by` column, and how many kept records have it."""

    value: str
    count: int


class ProcessedData(ExportedFile):
    """The new file, and what happened to the records: read = kept (record_count) + incomplete + duplicates.

    `groups` are the largest ones, at most 100; `group_count` is how many there are.
    """

    source: str
    read_count: int
    incomplete_count: int
    duplicate_count: int
    group_count: int
    groups: tuple[Group, ...]


class UnknownColumn(Exception):
    """The export has no such column."""


@app.task(
    bind=True,
    pydantic=True,
    name="data_processing",
    permission="data.process_data",
    steps=("Find the export", "Process its records", "Publish"),
    autoretry_for=(ConnectionError,),
    retry_backoff=True,
    max_retries=3,
    soft_time_limit=3600,
    time_limit=3660,
    payload_errors=(ExportNotFound, UnknownColumn, DamagedExport),
)
def data_processing(self: Job, payload: ProcessData) -> ProcessedData:
    """Leave out incomplete and repeated records of an export, count the others by a column, and write them anew."""
    with self.step("Find the export", 1, of=3, percent=5):
        who, platform = identity_of(self), self.app.platform
        directory = platform.settings.exports
        source = export_of(platform.database, directory, who.organization_id, payload.export)
    with (
        drafting(directory, who.job_id, who.attempt, payload.format) as draft,
        closing(_Tally(draft.directory)) as tally,
    ):
        with self.step("Process its records", 2, of=3, percent=95):
            with open_records(source.path) as records:
                _check_columns(payload, records)
                _write(self, payload, records, draft, tally)
            draft.finish()
        with self.step("Publish", 3, of=3):
            size = draft.publish()
        return ProcessedData(
            download_url=draft.export.url,
            file_size=size,
            record_count=tally.kept,
            generated_at=datetime.now(UTC),
            format=payload.format,
            source=payload.export,
            read_count=tally.read,
            incomplete_count=tally.incomplete,
            duplicate_count=tally.duplicates,
            group_count=tally.group_count(),
            groups=tally.largest_groups(),
        )


def _check_columns(payload: ProcessData, records: Records) -> None:
    named = [*payload.required, *payload.unique, *([payload.group_by] if payload.group_by else [])]
    for column in named:
        if records.columns and column not in records.columns:
            raise UnknownColumn(f"the export has no column {column!r}; it has {', '.join(records.columns)}")


def _write(job: Job, payload: ProcessData, records: Records, draft: Draft, tally: _Tally) -> None:
    form = FORMATS[payload.format]
    with closing(form.writer(draft.file, records.columns, draft.directory)) as writer:
        for batch in batches(tuple(record.values()) for record in _kept(payload, records, tally)):
            writer.write([tuple(map(form.cell, row)) for row in batch])
            job.progress(5 + 90 * records.read, f"{tally.read:,} records read, {tally.kept:,} kept")
        writer.finish()


def _kept(payload: ProcessData, records: Records, tally: _Tally) -> Iterator[Record]:
    for record in records:
        tally.read += 1
        if any(_is_empty(record[column]) for column in payload.required):
            tally.incomplete += 1
        elif payload.unique and not tally.is_new([record[column] for column in payload.unique]):
            tally.duplicates += 1
        else:
            tally.kept += 1
            if payload.group_by:
                tally.count(record[payload.group_by])
            yield record


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


class _Tally:
    """What was counted; keys and groups are kept in a temporary file, so that their number does not matter."""

    def __init__(self, directory: Path) -> None:
        self.read = self.kept = self.incomplete = self.duplicates = 0
        self._notes = sqlite3.connect(directory / "tally", isolation_level=None)
        self._notes.executescript(
            """
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
            CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID;
            CREATE TABLE groups (value TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
            BEGIN"""
        )

    def is_new(self, values: Sequence[Any]) -> bool:
        """Whether these values are seen for the first time."""
        key = blake2b(json.dumps(values).encode(), digest_size=16).digest()
        return self._notes.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount == 1

    def count(self, value: Any) -> None:
        """Count one record of the group `value`."""
        text = value if isinstance(value, str) else json.dumps(value)
        self._notes.execute("INSERT INTO groups VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1", (text,))

    def group_count(self) -> int:
        return int(self._notes.execute("SELECT count(*) FROM groups").fetchone()[0])

    def largest_groups(self) -> tuple[Group, ...]:
        rows = self._notes.execute(
            "SELECT value, count FROM groups ORDER BY count DESC, value LIMIT ?", (LARGEST_GROUPS,)
        )
        return tuple(Group(value=value, count=count) for value, count in rows)

    def close(self) -> None:
        self._notes.close()
