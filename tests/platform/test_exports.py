"""export_report in a worker: its file, its history, and a cancel in the middle of a query."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

from tasks import app
from tasks.catalog import handler
from tests.exporting import NUMBERS, everything_in
from tests.live import LivePlatform, eventually


def write_report(directory: Path, name: str, content: str) -> dict[str, str]:
    """The environment of a worker that knows this report."""
    (directory / f"{name}.sql").write_text(content)
    return {"CELERIAC_REPORTS_DIR": str(directory)}


CANCEL = """
from uuid import UUID
from tasks import app, verbs
from tracking.models import Scope
verbs.cancel(app.platform, UUID(stdin), Scope("acme", None), actor="u1")
"""


def test_a_worker_exports_and_its_row_tells_the_result(platform: LivePlatform, tmp_path: Path) -> None:
    """A worker makes an export on each broker, and the row has its result."""
    platform.environment |= write_report(tmp_path, "numbers", NUMBERS)
    platform.start_worker()
    payload = {"reportType": "numbers", "format": "json", "filters": {"rows": 700}}
    job = platform.wait_for(platform.submit("export_report", payload=payload, organization="acme", user="u1"))
    assert (job.status, job.error_message) == ("succeeded", None)
    assert (job.progress, job.current_step, job.total_steps, job.result["recordCount"]) == (100, 6, 6, 700)
    assert job.result["downloadUrl"] == f"/v1/exports/{job.id}-1.json"
    path = tmp_path / "data" / "exports" / f"{job.id}-1.json"
    assert len(json.loads(path.read_bytes())) == 700


def test_every_step_of_a_quick_export_is_in_its_history(platform: LivePlatform) -> None:
    """History has the start and end of every step of a quick export, each with its own time."""
    platform.start_worker()
    job_id = platform.submit("export_report", payload={"reportType": "jobs"}, organization="acme", user="u1")
    job = platform.wait_for(job_id)
    told = [entry for entry in platform.history(job_id) if "percentage" in entry.detail]
    assert [p for p, _ in groupby(entry.detail["percentage"] for entry in told)] == [0, 20, 40, 60, 80, 95, 100]
    steps = {(entry.detail.get("current"), entry.detail.get("message")) for entry in told[:-1]}
    assert steps >= set(enumerate(handler(app, "export_report").steps, start=1))
    times = [entry.at for entry in told]
    assert times == sorted(times)
    assert job.started_at is not None
    assert job.started_at <= times[0]
    assert len(set(times)) == len(times)


def test_a_running_export_is_cancelled_within_two_seconds(platform: LivePlatform, tmp_path: Path) -> None:
    """A cancel ends an export while the database works on it, and leaves nothing on the disk."""
    platform.environment |= write_report(tmp_path, "slow", "--: report Slow.\nSELECT pg_sleep(60), :organization")
    platform.start_worker()
    job_id = platform.submit("export_report", payload={"reportType": "slow"}, organization="acme", user="u1")
    eventually(lambda: platform.job(job_id).current_step == 2, what="the query")
    platform.run(CANCEL, str(job_id))
    eventually(lambda: not platform.job(job_id).stopping, within=20, what="the end of the body")
    stopped = platform.history(job_id)[-1]
    assert (platform.job(job_id).status, stopped.event) == ("cancelled", "stopped")
    assert stopped.detail["after"] < 2000
    assert everything_in(tmp_path / "data" / "exports") == []
