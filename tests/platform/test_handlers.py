"""The handlers that come with the platform, in a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.live import LivePlatform


def test_the_handlers_run_in_a_worker(platform: LivePlatform, tmp_path: Path) -> None:
    """The five built-in handlers run in a worker, on their queues."""
    (tmp_path / "mirror").mkdir()
    platform.environment["CELERIAC_SYNC_DIR"] = str(tmp_path / "mirror")
    platform.start_worker()
    owner = {"organization": "acme", "user": "u1"}

    def run(name: str, payload: dict[str, Any], queue: str = "default") -> dict[str, Any]:
        job = platform.wait_for(platform.submit(name, payload=payload, **owner))
        assert (job.status, job.error_message, job.queue) == ("succeeded", None, queue)
        return dict(job.result)

    exported = run("export_report", {"reportType": "jobs"})
    name = exported["downloadUrl"].removeprefix("/v1/exports/")
    processed = run("data_processing", {"export": name, "unique": ["jobType"], "groupBy": "status"})
    assert (processed["readCount"], processed["groups"]) == (1, [{"value": "running", "count": 1}])
    assert run("sync", {}, "maintenance")["copied"] == 2
    assert run("notification", {"channel": "log", "subject": "Done"})["receiver"] == "notifications.jsonl"
    assert run("cleanup", {}, "maintenance")["keptExports"] == 2
