"""Files on their way through a live platform: uploaded, exported, queried and cleaned up, by API and worker."""

from __future__ import annotations

import json
from typing import Any

from tests.api.calling import Caller
from tests.live import eventually
from tests.platform.contract.conftest import created, reached, succeeded


def test_a_workflow_hands_an_export_to_a_query(someone: Caller) -> None:
    """In a workflow a query takes the export of an earlier job by its downloadUrl, and an uploaded file beside it."""
    headers = someone.headers
    answer = someone.api.client.post("/v1/files?name=words.csv", content=b"type;word\nnoop;nothing\n", headers=headers)
    upload = answer.json()["id"]
    succeeded(someone, created(someone, "noop"))
    query: dict[str, Any] = {
        "export": {"$from": "export", "path": "/result/downloadUrl"},
        "sql": "SELECT d.jobType, w.word FROM data d JOIN words w ON w.type = d.jobType",
        "sources": {"words": {"file": upload}},
        "format": "json",
    }
    jobs = {
        "export": {"jobType": "export_report", "payload": {"reportType": "jobs", "compression": "gzip"}},
        "query": {"jobType": "data_processing", "payload": query, "after": [{"key": "export", "when": "succeeded"}]},
    }
    made = someone.post("/v1/workflows", {"name": "figures", "jobs": jobs})
    assert made.status_code == 202, made.text
    path = f"/v1/workflows/{made.json()['workflowId']}"
    eventually(lambda: someone.get(path).json()["status"] in ("succeeded", "failed"), within=30, what="the workflow")
    (done,) = (job for job in someone.get("/v1/jobs", jobType="data_processing").json()["jobs"])
    assert (done["status"], done["errorMessage"]) == ("succeeded", None)
    assert json.loads(someone.get(done["result"]["downloadUrl"]).content) == [{"jobType": "noop", "word": "nothing"}]


def test_a_query_that_runs_is_cancelled(someone: Caller) -> None:
    """A cancel ends a query while the database works on it."""
    endless = "SELECT count(*) AS n FROM range(10000000) a, range(10000000) b"
    job_id = created(someone, "data_processing", {"sql": endless})
    eventually(lambda: someone.get(f"/v1/jobs/{job_id}").json()["message"] == "Running the query", what="the query")
    assert someone.post(f"/v1/jobs/{job_id}/cancel").status_code == 200

    def is_over() -> bool:
        history = someone.get(f"/v1/jobs/{job_id}", include="history").json()["history"]
        return bool(history[-1]["event"] == "stopped")

    eventually(is_over, within=20, what="the end of the body")


def test_a_wrong_query_fails_with_its_reason(someone: Caller) -> None:
    """What a query does wrong is the job's error, and is not tried again."""
    job = reached(someone, created(someone, "data_processing", {"sql": "SELECT * FROM read_text('/etc/passwd')"}))
    assert (job["status"], job["retryCount"]) == ("failed", 0)
    assert "file system operations are disabled" in job["errorMessage"]
    assert "root:" not in json.dumps(job)


def test_a_clean_up_says_what_it_would_do(someone: Caller) -> None:
    """A dry run of a clean-up over HTTP counts what is there, and changes nothing."""
    succeeded(someone, created(someone, "export_report", {"reportType": "jobs", "format": "parquet"}))
    for _ in range(2):
        done = succeeded(someone, created(someone, "cleanup", {"dryRun": True}))["result"]
        assert (done["dryRun"], done["keptExports"], done["removed"], done["missingExports"]) == (True, 1, [], 0)
