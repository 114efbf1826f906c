"""export_report: a report of the organization's data as a csv, json, xlsx or parquet file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from tasks import Job, app
from tasks.exports.cells import CellTooLong
from tasks.exports.files import ExportedFile, drafting
from tasks.exports.formats import FORMATS, GZIP, Format, FormatName
from tasks.exports.keeping import export_store
from tasks.exports.offering import unavailable
from tasks.exports.reportfile import ReportFilters
from tasks.exports.reporting import Row, Rows, catalogue, rows_of
from tasks.exports.spool import Spool
from tasks.exports.stores import StoreRefused
from tasks.exports.writing import FileTooLarge, Writer
from tasks.handlers.identity import identity_of
from tasks.money import PayloadWithoutMoney

catalogue()  # a wrong report file stops the start, not the first job


def _known(name: str) -> str:
    if name not in catalogue():
        raise ValueError(f"unknown report type; known: {', '.join(_offered())}")
    if name in unavailable():
        raise ValueError(unavailable()[name])
    return name


def _offered() -> list[str]:
    missing = unavailable()
    return [name for name in catalogue() if name not in missing]


def _describe(schema: dict[str, Any]) -> None:
    _name(schema, catalogue())


def _name(schema: dict[str, Any], reports: Iterable[str]) -> None:
    """Say which reports there are, and what each is narrowed by."""
    models = {name: json.loads(_schema_of(catalogue()[name].filters)) for name in reports}
    schema["properties"]["reportType"] |= {"enum": list(models)}
    schema["properties"]["filters"] = {"anyOf": [{**model, "title": name} for name, model in models.items()]}


@cache
def _schema_of(filters: type[ReportFilters]) -> str:
    """As JSON, which nobody who changes what is made of it can spoil."""
    return json.dumps(filters.model_json_schema())


def _written(form: str) -> str:
    if form == "parquet" and find_spec("pyarrow") is None:
        raise ValueError("parquet needs the extra celeriac[parquet], which is not installed")
    return form


ReportType = Annotated[str, AfterValidator(_known)]


class ExportReport(PayloadWithoutMoney):
    """Which report, in which format, narrowed to what. `filters` are the parameters of the report, camelCase."""

    model_config = pydantic.ConfigDict(json_schema_extra=_describe)

    report_type: ReportType
    format: Annotated[FormatName, AfterValidator(_written)] = "csv"
    compression: Literal["none", "gzip"] = Field(
        default="none", description="gzip: csv or json, and `.gz` in the name."
    )
    filters: SerializeAsAny[ReportFilters] = Field(default_factory=ReportFilters, validate_default=True)

    @field_validator("filters", mode="plain")
    @classmethod
    def take_filters_of_report(cls, value: Any, info: ValidationInfo) -> ReportFilters:
        """The filters as the report declares them; an unknown or missing one is an error that names it."""
        report = catalogue().get(info.data.get("report_type", ""))
        if report is None:
            return ReportFilters()  # the unknown report type has been complained of
        return report.filters.model_validate(value.model_dump() if isinstance(value, ReportFilters) else value)

    @model_validator(mode="after")
    def check_compression(self) -> ExportReport:
        """What is compressed already does not get smaller."""
        if self.compression == "gzip" and not FORMATS[self.format].gzip:
            raise ValueError(f"{self.format} is compressed by itself; gzip is for csv and json")
        return self

    @property
    def suffix(self) -> str:
        """What the name of the file ends with."""
        return self.format + GZIP if self.compression == "gzip" else self.format


class Offer(Job):
    """A handler of reports; which of them their database can serve is asked at the first need."""

    abstract = True

    def payload_schema(self) -> dict[str, Any]:
        """The JSON Schema of the payload, with the reports that can be had now."""
        schema = super().payload_schema()
        _name(schema, _offered())
        schema["description"] += "".join(f" {reason[0].upper()}{reason[1:]}." for reason in unavailable().values())
        return schema


class ExportResult(ExportedFile):
    """The file that holds the report."""

    report_type: str


@app.task(
    base=Offer,
    bind=True,
    pydantic=True,
    name="export_report",
    permission="reports.export_reports",
    steps=("Validate", "Query", "Process", "Format", "Generate", "Finalize"),
    autoretry_for=(ConnectionError,),
    retry_backoff=True,
    max_retries=3,
    soft_time_limit=3600,
    time_limit=3660,
    payload_errors=(CellTooLong, FileTooLarge, StoreRefused),  # another format takes them, another bucket
    circuit_key=lambda payload: payload["reportType"],
)
def export_report(self: Job, payload: ExportReport) -> ExportResult:
    """Run a report for the job's organization and write it to a file; the number of rows does not matter.

    The database is let go after Process, when all rows are on the disk; only then the slower formats are written.
    """
    with self.step("Validate", 1, of=6, percent=20):
        who, settings = identity_of(self), self.app.platform.settings
        report, form = catalogue()[payload.report_type], FORMATS[payload.format]
        store = export_store(settings, who.organization_id)
    with drafting(store, who.job_id, who.attempt, payload.suffix) as draft, Spool(draft.directory) as spool:
        with ExitStack() as database:
            with self.step("Query", 2, of=6, percent=40):
                rows = database.enter_context(rows_of(settings, report, who.organization_id, payload.filters))
            with self.step("Process", 3, of=6, percent=60):
                _process(self, rows, form, spool)
        with closing(form.writer(draft.file, rows.columns, draft.directory, rows.types)) as writer:
            with self.step("Format", 4, of=6, percent=80):
                _write(self, spool, writer)
            with self.step("Generate", 5, of=6, percent=95):
                writer.finish()
                draft.finish()
        with self.step("Finalize", 6, of=6, percent=100):
            size = draft.publish()
    return ExportResult(
        report_type=payload.report_type,
        format=payload.format,
        download_url=draft.export.url,
        file_size=size,
        record_count=spool.rows,
        generated_at=datetime.now(UTC),
    )


def _process(job: Job, rows: Rows, form: Format, spool: Spool) -> None:
    """Make every value a cell of the format. How many rows there will be is not known yet: the percentage stays."""
    for batch in rows:
        spool.write([_cells(form, rows.columns, row, spool.rows + number) for number, row in enumerate(batch, start=1)])
        job.progress(40, f"Process: {spool.rows:,} rows", detail={"rows": spool.rows})


def _cells(form: Format, columns: Sequence[str], row: Row, number: int) -> tuple[Any, ...]:
    try:
        return tuple(map(form.cell, row))
    except CellTooLong as error:
        column = next(name for name, value in zip(columns, row, strict=True) if _is_too_long(form, value))
        raise CellTooLong(f"row {number:,}, column {column}: {error}") from None


def _is_too_long(form: Format, value: Any) -> bool:
    try:
        form.cell(value)
    except CellTooLong:
        return True
    return False


def _write(job: Job, spool: Spool, writer: Writer) -> None:
    written = 0
    for batch in spool.batches():
        writer.write(batch)
        written += len(batch)
        message = f"Format: {written:,} of {spool.rows:,} rows"
        job.progress(60 + 20 * written / spool.rows, message, detail={"rows": written, "of": spool.rows})
