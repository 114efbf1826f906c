"""export_report: from a payload to a complete file, in six steps, in constant memory."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks import app
from tasks.catalog import handler
from tasks.exports.formats import FORMATS
from tasks.exports.stores import DRAFTS
from tasks.handlers.export_report import ExportReport, export_report
from tasks.progress import JobCancelled
from tests.exporting import everything_in, export, file_of, records, reports
from tests.handling import add_job
from tracking.db import Database
from tracking.errors import OwnerMissing


def test_an_unknown_report_type_is_refused_with_the_known_ones(place: Path) -> None:
    """An unknown report type is refused with the known ones."""
    with pytest.raises(ValidationError, match="unknown report type; known: jobs, usage, numbers"):
        ExportReport(report_type="profit")


@pytest.mark.parametrize(
    ("payload", "place_of_error"),
    [
        ({"reportType": "jobs", "format": "pdf"}, ("format",)),
        ({"reportType": "jobs", "colour": 1}, ("colour",)),
        ({"reportType": "jobs", "filters": {"colour": 1}}, ("filters", "colour")),
        ({"reportType": "jobs", "filters": {"organization": "globex"}}, ("filters", "organization")),
        ({"reportType": "jobs", "filters": {"createdFrom": "soon"}}, ("filters", "createdFrom")),
        ({"reportType": "jobs", "filters": {"createdFrom": "2026-02-01", "createdTo": "2026-01-01"}}, ("filters",)),
        ({"reportType": "jobs", "filters": []}, ("filters",)),
        ({"reportType": ["jobs"]}, ("reportType",)),
        ({"reportType": "jobs", "filters": {"totalAmount": 5}}, ()),
        ({"reportType": "jobs", "filters": {"jobType": "5 EUR"}}, ()),
    ],
)
def test_a_wrong_payload_is_refused_with_the_place(
    payload: dict[str, Any], place_of_error: tuple[str, ...], place: Path
) -> None:
    """A wrong field, filter, type, period or a monetary value is refused with its place."""
    with pytest.raises(ValidationError) as refused:
        ExportReport.model_validate(payload)
    assert refused.value.errors()[0]["loc"] == place_of_error


def test_a_payload_survives_the_way_through_json(place: Path) -> None:
    """A payload of export_report is read back from its JSON as the same payload."""
    payload = ExportReport.model_validate({"reportType": "jobs", "filters": {"createdFrom": "2026-01-02"}})
    dumped = payload.model_dump(mode="json", by_alias=True)
    assert dumped["filters"]["createdFrom"] == "2026-01-02T00:00:00Z"
    assert ExportReport.model_validate_json(json.dumps(dumped)) == payload


def test_the_schema_of_the_payload_names_the_reports_and_their_filters(place: Path) -> None:
    """The schema of export_report names the reports and their filters."""
    properties = ExportReport.model_json_schema()["properties"]
    assert properties["reportType"]["enum"] == ["jobs", "usage", "numbers"]
    numbers = next(model for model in properties["filters"]["anyOf"] if model["title"] == "numbers")
    assert numbers["description"] == "Numbers, and a text for each."
    assert set(numbers["properties"]) == {"rows", "divisor"}


def test_a_call_without_an_organization_is_refused(place: Path) -> None:
    """A plain call of export_report needs an enclosing acting_as."""
    with pytest.raises(OwnerMissing, match="acting_as"):
        export_report(ExportReport(report_type="jobs"))


@pytest.mark.parametrize("form", FORMATS)
def test_the_result_tells_of_the_file(form: str, place: Path) -> None:
    """The result of an export has the members of the contract, and each is true of its file."""
    result = export("numbers", form, rows=1234)
    assert list(result) == ["downloadUrl", "fileSize", "recordCount", "generatedAt", "format", "reportType"]
    path = file_of(result)
    assert result["fileSize"] == path.stat().st_size
    assert result["recordCount"] == len(records(path)) == 1234
    assert (result["reportType"], result["format"]) == ("numbers", form)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", result["generatedAt"])


@pytest.mark.parametrize("form", FORMATS)
def test_formulas_are_neutralised_and_negative_numbers_are_numbers(form: str, place: Path) -> None:
    """Formulas are neutralised in csv and are texts in json and xlsx; negative numbers stay numbers."""
    first = records(file_of(export("numbers", form)))[0]
    assert first["formula"] == ("'=1" if form == "csv" else "=1")
    assert first["negative"] == ("-1" if form == "csv" else -1)
    moment = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
    expected = {"xlsx": moment.replace(tzinfo=None), "parquet": moment}
    assert first["at"] == expected.get(form, "2026-01-02T03:04:06.000Z")


def test_a_hostile_message_of_a_job_reaches_no_spreadsheet(place: Path, database: Database) -> None:
    """A formula in a job's message is a text in the report of jobs."""
    add_job(database, "acme", message="=cmd|' /C calc'!A0")
    add_job(database, "acme", message='a;=HYPERLINK("http://x.example")')
    found = [record["message"] for record in records(file_of(export("jobs")))]
    assert found == ["'=cmd|' /C calc'!A0", 'a;\'=HYPERLINK("http://x.example")']


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_holds_nothing_of_another_organization(form: str, place: Path, database: Database) -> None:
    """An export holds rows of its owner's organization only."""
    own = add_job(database, "acme")
    add_job(database, "globex", message="canary")
    found = records(file_of(export("jobs", form)))
    assert [record["id"] for record in found] == [str(own)]


@pytest.mark.parametrize("form", FORMATS)
def test_a_report_without_rows_is_a_valid_file(form: str, place: Path) -> None:
    """A report without rows is a valid file in every format."""
    result = export("numbers", form, rows=0)
    assert (result["recordCount"], records(file_of(result))) == (0, [])


def test_the_six_steps_reach_their_percentages(place: Path) -> None:
    """The steps of an export reach 20, 40, 60, 80 and 95, and the success 100."""
    with reports() as news:
        export("numbers", rows=1200)
    steps = [(item["current_step"], item["total_steps"], item["message"]) for item in news if "current_step" in item]
    names = ("Validate", "Query", "Process", "Format", "Generate", "Finalize")
    assert steps == [(number, 6, name) for number, name in enumerate(names, start=1)]
    assert handler(app, "export_report").steps == names
    following = [*news[1:], {"current_step": 7}]
    ends = [item["percent"] for item, after in zip(news, following, strict=True) if "current_step" in after]
    assert ends == [20, 40, 60, 80, 95, 99]


def test_progress_counts_rows_and_never_falls(place: Path) -> None:
    """The progress of an export counts rows and never falls."""
    with reports() as news:
        export("numbers", rows=1200)
    percents = [item["percent"] for item in news if "percent" in item]
    assert percents == sorted(percents)
    messages = [item["message"] for item in news if item.get("detail")]
    assert messages == [
        "Process: 500 rows",
        "Process: 1,000 rows",
        "Process: 1,200 rows",
        "Format: 500 of 1,200 rows",
        "Format: 1,000 of 1,200 rows",
        "Format: 1,200 of 1,200 rows",
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_a_failed_export_leaves_nothing_behind(form: str, place: Path) -> None:
    """An export whose database fails between rows leaves no file."""
    with pytest.raises(Exception, match="division by zero"):
        export("numbers", form, rows=5000, divisor=0)
    assert everything_in(place) == []


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("message", ["Process: 1,000 rows", "Format: 1,000 of 1,200 rows"])
def test_a_cancelled_export_leaves_nothing_behind(form: str, message: str, place: Path) -> None:
    """An export that is cancelled between batches leaves no file."""
    with reports(cancel_at=message), pytest.raises(JobCancelled):
        export("numbers", form, rows=1200)
    assert everything_in(place) == []
    assert list((place / DRAFTS).iterdir()) == []
