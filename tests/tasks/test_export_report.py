"""export_report: from a payload to a complete file, in six steps, in constant memory."""

from __future__ import annotations

import csv
import io
import json
import re
import stat
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import uuid4

import openpyxl
import pytest
from pydantic import ValidationError

from tasks import Job
from tasks.catalog import handler
from tasks.exports.files import DRAFTS, ExportNotFound, drafting, export_of, open_export
from tasks.exports.formats import FORMATS
from tasks.handlers.export_report import ExportReport, export_report
from tasks.progress import JobCancelled
from tests.commands import python
from tests.handling import add_job, workplace
from tests.live import Platform, eventually
from tracking import acting_as
from tracking.db import Database
from tracking.errors import OwnerMissing

NUMBERS = """--: report Numbers, and a text for each.
--: parameter rows integer = 3
--: parameter divisor integer = 1
SELECT n, -n AS negative, md5(n::text) AS text, '=' || n AS formula,
       timestamptz '2026-01-02 03:04:05Z' + n * interval '1 s' AS at, n / :divisor AS quotient
FROM generate_series(1, :rows) AS n
WHERE :organization <> ''
"""


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Iterator[Path]:
    """The directory of exports, with a report of numbers."""
    (tmp_path / "numbers.sql").write_text(NUMBERS)
    with workplace(database_url, tmp_path, CELERIAC_REPORTS_DIR=str(tmp_path)) as exports:
        yield exports


def export(report_type: str = "jobs", form: str = "csv", organization: str = "acme", **filters: Any) -> dict[str, Any]:
    """The result of the handler, called as a plain function."""
    with acting_as(organization, "u1"):
        payload = ExportReport.model_validate({"reportType": report_type, "format": form, "filters": filters})
        return dict(export_report(payload))


def file_of(result: dict[str, Any]) -> Path:
    """The file that a result speaks of."""
    found = open_export(result["downloadUrl"].removeprefix("/v1/exports/"))
    assert found is not None
    return found[1]


def records(path: Path) -> list[dict[str, Any]]:
    """The records of an export of any format; of csv every value is text."""
    if path.suffix == ".json":
        return list(json.loads(path.read_bytes()))
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    book = openpyxl.load_workbook(io.BytesIO(path.read_bytes()))
    names, *rows = book.worksheets[0].iter_rows(values_only=True)
    book.close()
    return [dict(zip(map(str, names), row, strict=True)) for row in rows]


def record_reports(monkeypatch: pytest.MonkeyPatch, cancel_at: str = "") -> list[dict[str, Any]]:
    """What the body reports from now on; it is cancelled when it says `cancel_at`."""
    news: list[dict[str, Any]] = []

    def report(_: Job, **item: Any) -> None:
        news.append(item)
        if cancel_at and item.get("message") == cancel_at:
            raise JobCancelled

    monkeypatch.setattr(Job, "_report", report)
    return news


def write_report(directory: Path, name: str, content: str) -> dict[str, str]:
    """The environment of a worker that knows this report."""
    (directory / f"{name}.sql").write_text(content)
    return {"CELERIAC_REPORTS_DIR": str(directory)}


def everything_in(directory: Path) -> list[str]:
    """The paths of all files below a directory."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_an_unknown_report_type_is_refused_with_the_known_ones(place: Path) -> None:
    """So that the caller can choose one of them."""
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
    """Unknown fields and filters, wrong types, an impossible period, monetary values."""
    with pytest.raises(ValidationError) as refused:
        ExportReport.model_validate(payload)
    assert refused.value.errors()[0]["loc"] == place_of_error


def test_a_payload_survives_the_way_through_json(place: Path) -> None:
    """What is in the row is read back as the same payload."""
    payload = ExportReport.model_validate({"reportType": "jobs", "filters": {"createdFrom": "2026-01-02"}})
    dumped = payload.model_dump(mode="json", by_alias=True)
    assert dumped["filters"]["createdFrom"] == "2026-01-02T00:00:00Z"
    assert ExportReport.model_validate_json(json.dumps(dumped)) == payload


def test_the_schema_of_the_payload_names_the_reports_and_their_filters(place: Path) -> None:
    """A form can be made from it."""
    properties = ExportReport.model_json_schema()["properties"]
    assert properties["reportType"]["enum"] == ["jobs", "usage", "numbers"]
    numbers = next(model for model in properties["filters"]["anyOf"] if model["title"] == "numbers")
    assert numbers["description"] == "Numbers, and a text for each."
    assert set(numbers["properties"]) == {"rows", "divisor"}


def test_a_call_without_an_organization_is_refused(place: Path) -> None:
    """A plain call works for the enclosing acting_as block."""
    with pytest.raises(OwnerMissing, match="acting_as"):
        export_report(ExportReport(report_type="jobs"))


@pytest.mark.parametrize("form", FORMATS)
def test_the_result_tells_of_the_file(form: str, place: Path) -> None:
    """Exactly the members of the contract, and each of them true."""
    result = export("numbers", form, rows=1234)
    assert list(result) == ["downloadUrl", "fileSize", "recordCount", "generatedAt", "format", "reportType"]
    path = file_of(result)
    assert result["fileSize"] == path.stat().st_size
    assert result["recordCount"] == len(records(path)) == 1234
    assert (result["reportType"], result["format"]) == ("numbers", form)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", result["generatedAt"])


@pytest.mark.parametrize("form", FORMATS)
def test_formulas_are_neutralised_and_negative_numbers_are_numbers(form: str, place: Path) -> None:
    """In json and xlsx a formula is only a text: a cell of xlsx has a type."""
    first = records(file_of(export("numbers", form)))[0]
    assert first["formula"] == ("'=1" if form == "csv" else "=1")
    assert first["negative"] == ("-1" if form == "csv" else -1)
    assert first["at"] == (datetime(2026, 1, 2, 3, 4, 6) if form == "xlsx" else "2026-01-02T03:04:06.000Z")  # noqa: DTZ001


def test_a_hostile_message_of_a_job_reaches_no_spreadsheet(place: Path, database: Database) -> None:
    """What a user wrote into a job is text in the report of jobs."""
    add_job(database, "acme", message="=cmd|' /C calc'!A0")
    add_job(database, "acme", message='a;=HYPERLINK("http://x.example")')
    found = [record["message"] for record in records(file_of(export("jobs")))]
    assert found == ["'=cmd|' /C calc'!A0", 'a;\'=HYPERLINK("http://x.example")']


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_holds_nothing_of_another_organization(form: str, place: Path, database: Database) -> None:
    """The organization comes from the job's owner."""
    own = add_job(database, "acme")
    add_job(database, "globex", message="canary")
    found = records(file_of(export("jobs", form)))
    assert [record["id"] for record in found] == [str(own)]


@pytest.mark.parametrize("form", FORMATS)
def test_a_report_without_rows_is_a_valid_file(form: str, place: Path) -> None:
    """With zero records."""
    result = export("numbers", form, rows=0)
    assert (result["recordCount"], records(file_of(result))) == (0, [])


def test_only_we_can_read_exports(place: Path) -> None:
    """Files 0600 in directories 0700."""
    path = file_of(export("numbers"))
    modes = [stat.S_IMODE(entry.stat().st_mode) for entry in (path, place, place / DRAFTS, place.parent)]
    assert modes == [0o600, 0o700, 0o700, 0o700]


def test_a_directory_that_is_there_keeps_its_mode(place: Path) -> None:
    """We loosen and tighten only what we make."""
    place.mkdir(parents=True)
    place.chmod(0o750)
    export("numbers")
    assert stat.S_IMODE(place.stat().st_mode) == 0o750


def test_the_six_steps_reach_their_percentages(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validate 20, Query 40, Process 60, Format 80, Generate 95, Finalize; 100 comes with the success."""
    news = record_reports(monkeypatch)
    export("numbers", rows=1200)
    steps = [(item["current_step"], item["total_steps"], item["message"]) for item in news if "current_step" in item]
    names = ("Validate", "Query", "Process", "Format", "Generate", "Finalize")
    assert steps == [(number, 6, name) for number, name in enumerate(names, start=1)]
    assert handler("export_report").steps == names
    following = [*news[1:], {"current_step": 7}]
    ends = [item["percent"] for item, after in zip(news, following, strict=True) if "current_step" in after]
    assert ends == [20, 40, 60, 80, 95, 99]


def test_progress_counts_rows_and_never_falls(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Process cannot know how many will come; Format can."""
    news = record_reports(monkeypatch)
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
    """Here the database fails in the middle of the rows."""
    with pytest.raises(Exception, match="division by zero"):
        export("numbers", form, rows=5000, divisor=0)
    assert everything_in(place) == []


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("message", ["Process: 1,000 rows", "Format: 1,000 of 1,200 rows"])
def test_a_cancelled_export_leaves_nothing_behind(
    form: str, message: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every batch of rows is a point to stop at."""
    record_reports(monkeypatch, cancel_at=message)
    with pytest.raises(JobCancelled):
        export("numbers", form, rows=1200)
    assert everything_in(place) == []
    assert list((place / DRAFTS).iterdir()) == []


def test_what_a_killed_worker_left_is_removed_by_the_next_attempt(place: Path) -> None:
    """Drafts of the same job only: another job may be writing."""
    mine, other = uuid4(), uuid4()
    for job_id in (mine, other):
        (place / DRAFTS / f"{job_id}-1.csv.x").mkdir(parents=True)
    with drafting(mine, 2, "csv"):
        assert sorted(path.name for path in (place / DRAFTS).glob("*-1.csv.x")) == [f"{other}-1.csv.x"]


def test_a_file_has_its_name_only_when_it_is_complete(place: Path) -> None:
    """Until it is published nobody can ask for it."""
    job_id = uuid4()
    with drafting(job_id, 1, "csv") as draft:
        draft.file.write(b"x")
        draft.finish()
        assert open_export(f"{job_id}-1.csv") is None
        assert draft.publish() == 1
    assert open_export(f"{job_id}-1.csv") == (job_id, place / f"{job_id}-1.csv")


def test_a_later_attempt_replaces_the_file_of_an_earlier_one(place: Path) -> None:
    """A worker may die between publishing and telling; its file is nobody's result."""
    job_id = uuid4()
    for attempt in (1, 2):
        with drafting(job_id, attempt, "csv") as draft:
            draft.publish()
    assert everything_in(place) == [f"{job_id}-2.csv"]


HOSTILE_NAMES = [
    "",
    ".",
    "..",
    ".drafts",
    "../secret",
    "../../etc/passwd",
    "/etc/passwd",
    "{id}-1.csv/",
    "./{id}-1.csv",
    "../exports/{id}-1.csv",
    "..%2fexports%2f{id}-1.csv",
    "{id}-1.csv\x00",
    "{id}-1.csv\n",
    "{id}-1.exe",
    "{id}-\u0661.csv",
    "{id}-1.CSV",
    "x{id}-1.csv",
    "{id}-1.csv.bak",
    "{id}-" + "1" * 300 + ".csv",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_only_the_servers_own_names_lead_to_a_file(name: str, place: Path) -> None:
    """No path, no other spelling, nothing beside the exports."""
    job_id = uuid4()
    with drafting(job_id, 1, "csv") as draft:
        draft.publish()
    (place.parent / "secret").write_text("secret")
    assert open_export(f"{job_id}-1.csv") is not None
    assert open_export(name.format(id=job_id)) is None


def test_a_link_is_not_an_export(place: Path, tmp_path: Path) -> None:
    """Nor is a directory of a right name."""
    place.mkdir(parents=True)
    link, directory = uuid4(), uuid4()
    (place / f"{link}-1.csv").symlink_to(tmp_path / "numbers.sql")
    (place / f"{directory}-1.csv").mkdir()
    assert [open_export(f"{name}-1.csv") for name in (link, directory, uuid4())] == [None, None, None]


@pytest.mark.parametrize(
    ("organization", "outcome", "attempt"),
    [("globex", "succeeded", 1), ("acme", "failed", 1), ("acme", "succeeded", 2)],
)
def test_only_the_accepted_file_of_ones_own_job_is_found(
    organization: str, outcome: str, attempt: int, place: Path, database: Database
) -> None:
    """Another organization's is as if it were not there; so is what a failed or overtaken attempt left."""
    job_id = add_job(database, organization, outcome=outcome)
    with drafting(job_id, attempt, "csv") as draft:
        draft.publish()
    with pytest.raises(ExportNotFound):
        export_of("acme", f"{job_id}-{attempt}.csv")


CANCEL = """
from uuid import UUID
from tasks import submission
from tracking.models import Scope
submission.cancel(UUID(stdin), Scope("acme", None), actor="u1")
"""

MEASURE = """
import sys
from tasks.handlers.export_report import ExportReport, export_report
from tests.commands import python
from tests.handling import peak_memory
from tracking import acting_as
with acting_as("acme", "u1"):
    for rows in map(int, sys.argv[2:]):
        payload = {"reportType": "numbers", "format": sys.argv[1], "filters": {"rows": rows}}
        export_report(ExportReport.model_validate(payload))
        print(peak_memory())
"""


@pytest.mark.parametrize(("form", "rows"), [("csv", 40_000), ("json", 40_000), ("xlsx", 10_000)])
def test_memory_does_not_grow_with_the_rows(form: str, rows: int, place: Path) -> None:
    """Many rows take less than 5 MB more than 2,000 do; in memory they would be 10 MB and more."""
    done = python("-c", MEASURE, form, "2000", str(rows))
    assert done.status == 0, done.err
    few, many = map(int, done.out.split())
    assert many - few < 5_000_000


def test_a_worker_exports_and_its_row_tells_the_result(platform: Platform, tmp_path: Path) -> None:
    """From the message to the file, on each broker."""
    platform.environment |= write_report(tmp_path, "numbers", NUMBERS)
    platform.start_worker()
    payload = {"reportType": "numbers", "format": "json", "filters": {"rows": 700}}
    job = platform.wait_for(platform.submit("export_report", payload=payload, organization="acme", user="u1"))
    assert (job.status, job.error_message) == ("succeeded", None)
    assert (job.progress, job.current_step, job.total_steps, job.result["recordCount"]) == (100, 6, 6, 700)
    assert job.result["downloadUrl"] == f"/v1/exports/{job.id}-1.json"
    path = tmp_path / "data" / "exports" / f"{job.id}-1.json"
    assert len(json.loads(path.read_bytes())) == 700


def test_every_step_of_a_quick_export_is_in_its_history(platform: Platform) -> None:
    """However short it was: its start and its end, each with a time of its own; 100 is the success."""
    platform.start_worker()
    job_id = platform.submit("export_report", payload={"reportType": "jobs"}, organization="acme", user="u1")
    job = platform.wait_for(job_id)
    told = [entry for entry in platform.history(job_id) if "percentage" in entry.detail]
    assert [p for p, _ in groupby(entry.detail["percentage"] for entry in told)] == [0, 20, 40, 60, 80, 95, 100]
    steps = {(entry.detail.get("current"), entry.detail.get("message")) for entry in told[:-1]}
    assert steps >= set(enumerate(handler("export_report").steps, start=1))
    times = [entry.at for entry in told]
    assert times == sorted(times)
    assert job.started_at is not None
    assert job.started_at <= times[0]
    assert len(set(times)) == len(times)


def test_a_running_export_is_cancelled_within_two_seconds(platform: Platform, tmp_path: Path) -> None:
    """While the database works on it; nothing stays on the disk."""
    platform.environment |= write_report(tmp_path, "slow", "--: report Slow.\nSELECT pg_sleep(60), :organization")
    platform.start_worker()
    job_id = platform.submit("export_report", payload={"reportType": "slow"}, organization="acme", user="u1")
    eventually(lambda: platform.job(job_id).current_step == 2, what="the query")
    platform.run(CANCEL, str(job_id))
    eventually(lambda: not platform.job(job_id).stopping, within=5, what="the end of the body")
    stopped = platform.history(job_id)[-1]
    assert (platform.job(job_id).status, stopped.event) == ("cancelled", "stopped")
    assert stopped.detail["after"] < 2000
    assert everything_in(tmp_path / "data" / "exports") == []
