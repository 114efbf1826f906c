"""docs/exports.md and docs/handlers.md: every example runs, and has the result that the page shows."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tasks import app
from tasks.catalog import handler
from tasks.exports.reporting import catalogue, rows_of
from tasks.handlers.export_report import ExportReport, export_report
from tasks.money import MONETARY_WORDS
from tests.exporting import file_of
from tests.handling import add_job, workplace
from tests.live import LivePlatform
from tests.mailing import Mailbox, mail_server
from tests.paging import Told, source
from tests.receiving import receiving
from tracking import acting_as
from tracking.db import Database

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENTED = UUID("019aa0f3-7c1e-7d5a-9f57-3a1f6a0c9d11")


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in this language."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def examples() -> list[tuple[str, dict[str, Any], dict[str, Any] | None]]:
    """The job type, the payload and the result of each example; None where the page shows none."""
    found = []
    for page in ("exports.md", "handlers.md"):
        values = [json.loads(block) for block in blocks(page, "json")]
        for value, following in zip(values, [*values[1:], {}], strict=True):
            if "jobType" in value:
                result = following if following and "jobType" not in following else None
                found.append((value["jobType"], value["payload"], result))
    return found


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    """A mail server on this machine."""
    with mail_server() as box:
        yield box


@pytest.fixture
def place(database_url: str, database: Database, mailbox: Mailbox, tmp_path: Path) -> Iterator[Path]:
    """What the examples speak of: the report `failures`, the export of the pages, a destination."""
    for name in ("reports", "mirror", "messages", "files/acme/2026"):
        (tmp_path / name).mkdir(parents=True)
    orders = gzip.compress("id,customer,zip\n1,7,01067\n2,7,K\xf6ln\n".encode("latin-1"))
    (tmp_path / "files/acme/2026/orders.csv.gz").write_bytes(orders)
    (tmp_path / "files/acme/customers.jsonl").write_text('{"id": 7, "name": "Ann"}\n')
    (tmp_path / "messages" / "export-finished.txt").write_text(blocks("handlers.md", "text")[0])
    (tmp_path / "reports" / "failures.sql").write_text(blocks("exports.md", "sql")[0])
    directories = {"REPORTS_DIR": "reports", "SYNC_DIR": "mirror", "MESSAGES_DIR": "messages", "QUERY_DIR": "files"}
    settings = {f"CELERIAC_{name}": str(tmp_path / directory) for name, directory in directories.items()}
    settings |= {"CELERIAC_SYNC_PRIVATE": "true", "CELERIAC_WEBHOOKS_PRIVATE": "true"}  # what the pages name is here
    mail = {"CELERIAC_SMTP_URL": f"smtp://127.0.0.1:{mailbox.port}", "CELERIAC_SMTP_FROM": "jobs@example.org"}
    with workplace(database_url, tmp_path, **settings, **mail) as exports:
        for outcome in ("succeeded", "failed", "failed"):
            add_job(database, "acme", outcome=outcome)
        add_job(database, "acme", job_id=DOCUMENTED)
        with acting_as("acme", "u1"):
            result = dict(export_report(ExportReport(report_type="jobs")))
        shutil.move(file_of(result), exports / f"{DOCUMENTED}-1.csv")
        yield exports


@pytest.mark.parametrize(("job_type", "payload", "shown"), examples())
def test_an_example_runs_and_gives_what_the_page_shows(
    job_type: str, payload: dict[str, Any], shown: dict[str, Any] | None, place: Path
) -> None:
    """The examples of docs/handlers.md run and give results of the shown members and types."""
    task = handler(app, job_type)
    assert task.payload_model is not None
    page = Told('{"data": [{"id": 1}], "meta": {"next": null}}')
    with receiving() as receiver, source(lambda _: page) as people, acting_as("acme", "u1"):
        here = json.dumps(payload).replace("https://hooks.example.org", f"http://127.0.0.1:{receiver.port}")
        here = here.replace("https://api.example.org/people", people.url)
        result = task(task.payload_model.model_validate_json(here))
    assert result.get("recordCount", 1) > 0
    if shown is not None:
        assert [(name, type(value)) for name, value in result.items()] == [
            (name, type(value)) for name, value in shown.items()
        ]


@pytest.mark.parametrize("block", blocks("handlers.md", "python"))
def test_a_python_example_of_the_handlers_page_runs(block: str, place: Path) -> None:
    """A Python example of docs/handlers.md runs as it is."""
    exec(block, {})  # noqa: S102 - our own page


def test_the_python_example_of_the_exports_page_submits_a_job(platform: LivePlatform) -> None:
    """The Python example of docs/exports.md submits a job for the organization and user that it names."""
    platform.run(blocks("exports.md", "python")[0])
    (job,) = platform.jobs()
    assert (job.job_type, job.organization_id, job.user_id) == ("export_report", "acme", "u1")
    assert job.payload["filters"]["status"] == "failed"


def test_the_page_lists_every_report_with_its_filters_and_columns(place: Path) -> None:
    """docs/exports.md lists every report with its filters and columns, as its file declares them."""
    page = (DOCS / "exports.md").read_text()
    for name in ("jobs", "usage"):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        _, _, filters, columns, _ = row.split("|")
        report = catalogue()[name]
        assert re.findall(r"`(\w+)`", filters) == [field.alias for field in report.filters.model_fields.values()]
        with rows_of(app.platform.settings, report, "acme", report.filters()) as rows:
            assert re.findall(r"`(\w+)`", columns) == rows.columns


def test_the_report_of_the_handlers_page_exports_a_collection(place: Path, tmp_path: Path) -> None:
    """The report of docs/handlers.md exports what the example of a pull has pulled."""
    (tmp_path / "reports" / "collection.sql").write_text(blocks("handlers.md", "sql")[0])
    catalogue.cache_clear()
    report = catalogue()["collection"]
    with rows_of(
        app.platform.settings, report, "acme", report.filters.model_validate({"collection": "people"})
    ) as rows:
        assert rows.columns == ["key", "record", "changedAt"]


def test_the_page_lists_every_permission_and_number_of_retries() -> None:
    """docs/handlers.md lists every handler's permission and retries, as it declares them."""
    page = (DOCS / "handlers.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `([\w.]+)` \| `\w+` \|.*\((\d) times\)", page, re.MULTILINE)
    assert [row[0] for row in rows] == ["export_report", "data_processing", "notification", "cleanup", "sync"]
    for name, permission, retries in rows:
        assert (handler(app, name).permission, handler(app, name).max_retries) == (permission, int(retries))


def test_the_page_names_every_monetary_word() -> None:
    """docs/handlers.md names every monetary word, but for plurals."""
    section = (DOCS / "handlers.md").read_text().partition("## No money")[2].lower()
    for word in MONETARY_WORDS:
        assert re.search(rf"\b{word.removesuffix('s').removesuffix('e')}", section)
