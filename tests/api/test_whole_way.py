"""From POST to a file on the client's disk, over HTTP alone, with a real worker."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tests.api.calling import Api, Caller
from tests.api.conftest import serving
from tests.live import LivePlatform, eventually


def finished(caller: Caller, job_id: str) -> bool:
    """Whether a client that polls the status would stop now."""
    return "retry-after" not in caller.get(f"/v1/jobs/{job_id}/status").headers


def test_an_export_is_ordered_watched_and_downloaded(database_url: str, api_broker_url: str, tmp_path: Path) -> None:
    """The file of an export holds the jobs that the API lists, and no other organization sees it."""
    with serving(database_url, api_broker_url, tmp_path) as api:
        exports = {"CELERIAC_EXPORTS_DIR": str(api.exports)}
        with LivePlatform(database_url, api_broker_url, tmp_path, **exports) as platform:
            platform.start_worker()
            assert api.client.get("/readyz").status_code == 200
            _order_and_download(api)


def _order_and_download(api: Api) -> None:
    caller = api.caller()
    ids = {caller.create("count_words", payload={"words": ["a"]}).json()["jobId"] for _ in range(5)}
    eventually(lambda: all(finished(caller, job_id) for job_id in ids), what="the end of the jobs")
    ordered = caller.create("export_report", payload={"reportType": "jobs"}, priority=9)
    assert ordered.status_code == 202, ordered.text
    export_id = ordered.json()["jobId"]
    eventually(lambda: finished(caller, export_id), what="the end of the export")
    job = caller.get(f"/v1/jobs/{export_id}").json()
    assert (job["status"], job["progress"], job["totalSteps"]) == ("succeeded", 100, 6), job
    url = job["result"]["downloadUrl"]
    rows = list(csv.DictReader(io.StringIO(caller.get(url).text)))
    assert ids <= {value for row in rows for value in row.values()}
    assert len(rows) == job["result"]["recordCount"]
    assert api.caller().get(url).status_code == 404
