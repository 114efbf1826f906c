"""The files that a query reads: exports, uploads, and what lies in the organization's part of an allowed directory."""

from __future__ import annotations

import codecs
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator

from tasks import BaseModel
from tasks.exports.files import export_of
from tasks.exports.keeping import export_store, upload_store
from tasks.exports.stores import directory_name
from tasks.outages import told_as_connection_errors
from tracking import uploads
from tracking.db import Database
from tracking.errors import FileMissing
from tracking.models import Scope
from tracking.settings import Settings

PLACES = 3  # where a source may be
Kind = Literal["csv", "jsonl", "parquet"]

KINDS: Mapping[str, Kind] = {
    "csv": "csv",
    "txt": "csv",
    "tsv": "csv",
    "json": "jsonl",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
}
TYPES = {
    "text": "VARCHAR",
    "boolean": "BOOLEAN",
    "integer": "BIGINT",
    "double": "DOUBLE",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
}
DECIMAL = re.compile(r"decimal\(([1-9]|[12][0-9]|3[0-8]),([0-9]|[12][0-9]|3[0-7])\)")


class SourceNotFound(Exception):
    """There is no such file for this organization."""


def _encoding(name: str) -> str:
    try:
        found = codecs.lookup(name)
    except LookupError:
        raise ValueError("there is no such encoding") from None
    if not found._is_text_encoding:  # noqa: SLF001 - as io.TextIOWrapper asks it
        raise ValueError("it is no encoding of texts")
    try:
        b"a".decode(found.name)
    except UnicodeDecodeError:
        pass  # one byte may be too few
    except UnicodeError:
        raise ValueError("nothing is in that encoding") from None
    return found.name


def _type(name: str) -> str:
    declared = DECIMAL.fullmatch(name)
    if name not in TYPES and (declared is None or int(declared[2]) > int(declared[1])):
        raise ValueError(f"unknown type; known: {', '.join(TYPES)}, decimal(digits,digits after the point)")
    return name


class ColumnType(BaseModel):
    """Of which type a column is; as a pair, since a payload has no keys that are called after money."""

    column: str = Field(max_length=500)
    type: Annotated[str, AfterValidator(_type)]


class Source(BaseModel):
    """A file, by one of `export`, `file` and `path`, and how it is to be read. Parquet says all of that by itself."""

    export: str | None = Field(default=None, max_length=100, description="The name or the downloadUrl of an export.")
    file: UUID | None = Field(default=None, description="The id of an uploaded file.")
    path: str | None = Field(default=None, min_length=1, max_length=500, description="Below CELERIAC_QUERY_DIR.")
    format: Kind | None = Field(default=None, description="By the end of the name, unless it is said.")
    encoding: Annotated[str, AfterValidator(_encoding)] | None = Field(
        default=None, max_length=40, description="UTF-8, or that of its byte order mark, unless it is said."
    )
    delimiter: str | None = Field(
        default=None, pattern=r'^[^"\r\n\\\x00]$', description="Found out, unless it is said."
    )
    header: bool = Field(default=True, description="Whether the first line names the columns.")
    ragged: Literal["report", "fail"] = Field(
        default="report", description="Rows of another length are left out and counted, or fail the job."
    )
    types: tuple[ColumnType, ...] = Field(
        default=(), max_length=2000, description="Types of columns; the others are found out."
    )

    @model_validator(mode="after")
    def check_place(self) -> Source:
        if (self.export, self.file, self.path).count(None) != PLACES - 1:
            raise ValueError("a source is an export, an uploaded file or a path")
        return self

    def kind(self, name: str) -> Kind:
        """How a file of this name is read. Raises SourceNotFound when nothing says it."""
        suffix = PurePosixPath(name.lower().removesuffix(".gz")).suffix.lstrip(".")
        kind = self.format or KINDS.get(suffix)
        if kind is None:
            raise SourceNotFound(f"{name!r} does not say what is in it; `format` may: csv, jsonl or parquet")
        return kind


@contextmanager
def opened(
    sources: Mapping[str, Source], settings: Settings, database: Database, organization: str
) -> Iterator[list[dict[str, Any]]]:
    """What the process of a query is told of the sources, by the names of their tables; they are there in the block.

    Raises SourceNotFound or ExportNotFound, also for what is another organization's.
    """
    with ExitStack() as stack:
        told = []
        for table, source in sources.items():
            if source.export is not None:
                store = export_store(settings, organization)
                name = export_of(database, store, organization, source.export).name
                path = stack.enter_context(store.reading(name))
            elif source.file is not None:
                name = _uploaded(database, organization, source.file)
                path = stack.enter_context(_kept(settings, organization, source.file))
            else:
                name = str(source.path)
                path = _allowed(settings, organization, name)
            told.append(_told(table, source, source.kind(name), path))
        yield told


def _uploaded(database: Database, organization: str, file_id: UUID) -> str:
    """What the owner of an uploaded file calls it."""
    with told_as_connection_errors(), database.autocommit() as connection:
        try:
            return uploads.get(connection, file_id, Scope(organization, None)).name
        except FileMissing:
            raise SourceNotFound(f"there is no uploaded file {file_id}") from None


@contextmanager
def _kept(settings: Settings, organization: str, file_id: UUID) -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            path = stack.enter_context(upload_store(settings, organization).reading(str(file_id)))
        except FileNotFoundError:
            raise SourceNotFound(f"the content of the uploaded file {file_id} is not there any more") from None
        yield path


def _told(table: str, source: Source, kind: Kind, path: Path) -> dict[str, Any]:
    types = {each.column: TYPES.get(each.type) or each.type.upper() for each in source.types}
    return {
        "table": table,
        "path": str(path),
        "kind": kind,
        "is_export": source.export is not None,
        "types": types,
        **source.model_dump(include={"encoding", "delimiter", "header", "ragged"}),
    }


def _allowed(settings: Settings, organization: str, name: str) -> Path:
    """A file of the organization's part of the allowed directory; no link leads to it, and none out of it."""
    missing = SourceNotFound(f"there is no file {name!r}")
    if settings.query_dir is None:
        raise SourceNotFound("CELERIAC_QUERY_DIR is not set: no directory is allowed")
    parts = name.split("/")
    if "\x00" in name or any(part in ("", ".", "..") for part in parts):
        raise missing
    path = settings.query_dir / directory_name(organization)
    try:
        for part in parts:
            if not stat.S_ISDIR(path.lstat().st_mode):
                raise missing
            path /= part
        if not stat.S_ISREG(path.lstat().st_mode):
            raise missing
    except OSError:
        raise missing from None
    return path.absolute()
