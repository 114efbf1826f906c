"""Exports made and read by tests: by the handler, or at once with the rows that a test wants."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import openpyxl
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no types

from tasks import app, observing
from tasks.exports.files import drafting, find_export
from tasks.exports.formats import FORMATS
from tasks.exports.stores import Directory
from tasks.handlers.export_report import ExportReport, export_report
from tasks.progress import JobCancelled
from tests.handling import add_job
from tracking import acting_as
from tracking.db import Database

DAY = 86_400


def add_export(
    pool: Database,
    rows: Sequence[Sequence[Any]] = ((1, "Bonn"),),
    *,
    form: str = "csv",
    organization: str = "acme",
    outcome: str | None = "succeeded",
    days_old: float = 0,
) -> str:
    """The name of a file that a job of this organization has made."""
    return add_file(add_job(pool, organization, outcome=outcome), rows, form=form, days_old=days_old)


def add_file(job_id: UUID, rows: Sequence[Sequence[Any]], *, form: str = "csv", days_old: float = 0) -> str:
    """The name of a file of the first attempt of this job, with the columns id and city."""
    with drafting(Directory(app.platform.settings.exports), job_id, 1, form) as draft:
        writer = FORMATS[form].writer(draft.file, ["id", "city"], draft.directory)
        writer.write([[FORMATS[form].cell(value) for value in row] for row in rows])
        writer.finish()
        writer.close()
        draft.finish()
        draft.publish()
    os.utime(app.platform.settings.exports / draft.export.name, (time.time() - days_old * DAY,) * 2)
    return draft.export.name


def content(result: dict[str, Any]) -> str:
    """What is in the file that a result speaks of."""
    return file_of(result).read_bytes().decode()


NUMBERS = """--: report Numbers, and a text for each.
--: parameter rows integer = 3
--: parameter divisor integer = 1
SELECT n, -n AS negative, md5(n::text) AS text, '=' || n AS formula,
       timestamptz '2026-01-02 03:04:05Z' + n * interval '1 s' AS at, n / :divisor AS quotient
FROM generate_series(1, :rows) AS n
WHERE :organization <> ''
"""


def export(
    report_type: str = "jobs", form: str = "csv", organization: str = "acme", compression: str = "none", **filters: Any
) -> dict[str, Any]:
    """The result of the handler, called as a plain function."""
    asked = {"reportType": report_type, "format": form, "compression": compression, "filters": filters}
    with acting_as(organization, "u1"):
        payload = ExportReport.model_validate(asked)
        return dict(export_report(payload))


def file_of(result: Any) -> Path:
    """The file that a result speaks of."""
    place, name = app.platform.settings.exports, result["downloadUrl"].removeprefix("/v1/exports/")
    assert find_export(Directory(place), name) is not None
    path: Path = place / name
    return path


def records(path: Path) -> list[dict[str, Any]]:
    """The records of an export of any format; of csv every value is text."""
    if path.suffix == ".json":
        return list(json.loads(path.read_bytes()))
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    book = openpyxl.load_workbook(io.BytesIO(path.read_bytes()))
    names, *rows = book.worksheets[0].iter_rows(values_only=True)
    book.close()
    return [dict(zip(map(str, names), row, strict=True)) for row in rows]


@contextmanager
def reports(cancel_at: str = "") -> Iterator[list[Mapping[str, Any]]]:
    """What the bodies within the block report; one is cancelled when it says `cancel_at`."""
    news: list[Mapping[str, Any]] = []

    def hear(item: Mapping[str, Any]) -> None:
        news.append(item)
        if cancel_at and item.get("message") == cancel_at:
            raise JobCancelled

    with observing.heard(hear):
        yield news


def everything_in(directory: Path) -> list[str]:
    """The paths of all files below a directory."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
