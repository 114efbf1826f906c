"""data_processing: a query on files, or the good records of an export, as a new file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from tasks import BaseModel, Job, app
from tasks.exports.batches import batches
from tasks.exports.cells import CellTooLong
from tasks.exports.files import Draft, ExportedFile, ExportNotFound, drafting, export_of
from tasks.exports.formats import FORMATS, FormatName
from tasks.exports.keeping import export_store
from tasks.exports.records import DamagedExport, Record, Records, open_records
from tasks.exports.stores import StoreRefused
from tasks.exports.writing import FileTooLarge
from tasks.handlers.identity import identity_of
from tasks.handlers.sources import Source, SourceNotFound, opened
from tasks.money import PayloadWithoutMoney
from tasks.querying.running import Limits, QueryFailed, run

LARGEST_GROUPS = 100
MOST_SOURCES = 20
DATA = "data"  # the table of `export`


class ProcessData(PayloadWithoutMoney):
    """An export of the same organization (csv or json), by name, and what is asked of its records.

    With `sql` a query reads the export as the table `data`, and `sources` by their names.
    """

    export: str | None = Field(
        default=None,
        pattern=r"\.((csv|json)(\.gz)?|parquet)$",
        max_length=100,
        description="The name or the downloadUrl of a csv or json export.",
    )
    required: tuple[str, ...] = Field(
        default=(), max_length=100, description="Columns that must not be empty; records where one is are left out."
    )
    unique: tuple[str, ...] = Field(
        default=(), max_length=100, description="Of the records that are equal in these columns only the first is kept."
    )
    group_by: str | None = Field(default=None, description="Count the kept records for each value of this column.")
    sql: str | None = Field(default=None, min_length=1, max_length=50_000, description="One SELECT, as DuckDB has it.")
    sources: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")], Source] = Field(
        default_factory=dict, max_length=MOST_SOURCES, description="Files that the query reads, by names of tables."
    )
    format: FormatName = "csv"

    @model_validator(mode="after")
    def check_question(self) -> ProcessData:
        """It is a query, or what is asked of the records of one export."""
        if self.sql is not None:
            return self._check_query()
        if self.export is None or self.sources:
            raise ValueError("without sql it reads one export")
        if self.export.endswith(".parquet") or self.format not in ("csv", "json"):
            raise ValueError("without sql it reads and writes csv and json")
        return self

    @property
    def tables(self) -> dict[str, Source]:
        own = {} if self.export is None else {DATA: Source(export=self.export)}
        return {**own, **self.sources}

    def _check_query(self) -> ProcessData:
        if find_spec("duckdb") is None:
            raise ValueError("sql needs the extra celeriac[sql], which is not installed")
        if self.required or self.unique or self.group_by:
            raise ValueError("with sql, the query says what is required, unique and grouped")
        names = [name.lower() for name in self.sources]
        if len(set(names)) < len(names) or (self.export is not None and DATA in names):
            raise ValueError("two tables have the same name, but for its case")
        if self.format == "parquet" and find_spec("pyarrow") is None:
            raise ValueError("parquet needs the extra celeriac[parquet], which is not installed")
        return self


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


class ReadSource(BaseModel):
    """What a query had of a file: rows, those left out for having more or fewer fields, and the types of its columns.

    `ragged` are the first twenty of these rows: the line on which each ends, and its fields. `renamed` are columns
    whose name was there already, with that name.
    """

    table: str
    rows: int
    ragged_rows: int
    ragged: tuple[dict[str, int], ...]
    encoding: str | None = None
    columns: dict[str, str]
    renamed: dict[str, str]


class QueriedData(ExportedFile):
    """The file with the result of a query, and what it has read."""

    read_count: int
    sources: tuple[ReadSource, ...]


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
    payload_errors=(
        *(ExportNotFound, UnknownColumn, DamagedExport, SourceNotFound, QueryFailed),
        *(StoreRefused, CellTooLong, FileTooLarge),
    ),
)
def data_processing(self: Job, payload: ProcessData) -> ExportedFile:
    """Run a query on files, or leave out incomplete and repeated records of an export and count the others."""
    return _process(self, payload, str(payload.export)) if payload.sql is None else _query(self, payload, payload.sql)


def _query(job: Job, payload: ProcessData, sql: str) -> QueriedData:
    settings, who = job.app.platform.settings, identity_of(job)
    store = export_store(settings, who.organization_id)
    with ExitStack() as stack:
        with job.step("Find the files", 1, of=3, percent=5):
            files = opened(payload.tables, settings, job.app.platform.database, who.organization_id)
            sources = stack.enter_context(files)
            draft = stack.enter_context(drafting(store, who.job_id, who.attempt, payload.format))
        with job.step("Run the query", 2, of=3, percent=95):
            done = run(
                sql,
                sources,
                Path(draft.file.name),
                payload.format,
                directory=draft.directory,
                limits=Limits(settings.query_memory, settings.query_disk, settings.query_timeout),
                heard=lambda message, share: job.progress(5 + 60 * share, message),
            )
        with job.step("Publish", 3, of=3):
            size = draft.publish()
    read = tuple(ReadSource.model_validate(source) for source in done["sources"])
    return QueriedData(
        download_url=draft.export.url,
        file_size=size,
        record_count=done["rows"],
        generated_at=datetime.now(UTC),
        format=payload.format,
        read_count=sum(source.rows for source in read),
        sources=read,
    )


def _process(self: Job, payload: ProcessData, export: str) -> ProcessedData:
    with self.step("Find the export", 1, of=3, percent=5):
        who, platform = identity_of(self), self.app.platform
        store = export_store(platform.settings, who.organization_id)
        source = export_of(platform.database, store, who.organization_id, export)
    with (
        store.reading(source.name) as path,
        drafting(store, who.job_id, who.attempt, payload.format) as draft,
        closing(_Tally(draft.directory)) as tally,
    ):
        with self.step("Process its records", 2, of=3, percent=95):
            with open_records(path) as records:
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
            source=source.name,
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
