"""What the users of the quotes/exports jobs pattern rely on."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from itertools import groupby
from typing import Any

from standardwebhooks.webhooks import Webhook

from tasks.webhooks.messages import encoded
from tests.api.calling import Caller, problem
from tests.live import eventually
from tests.platform.contract.conftest import RIGHTS, System, created, job_of, reached, succeeded
from tests.platform.contract.promises import shows
from tests.receiving import receiving

SYSTEM = "quotes/exports jobs pattern"
NEVER = "2100-01-01T00:00:00Z"
AT_ONCE = 5
STEPS = ("Validate", "Query", "Process", "Format", "Generate", "Finalize")
PERCENTAGES = [0, 20, 40, 60, 80, 95, 100]
JOB = {
    *("id", "dispatch", "organizationId", "projectId", "userId", "jobType", "status", "hold", "priority", "attempt"),
    *("retryCount", "maxRetries", "payload", "metadata", "result", "errorMessage", "message", "progress"),
    *("totalSteps", "currentStep", "worker", "dependsOn", "scheduledAt", "nextRetryAt", "cancelRequestedAt"),
    *("startedAt", "completedAt", "durationMs", "createdAt", "updatedAt"),
}


@shows(SYSTEM, "the create, status, list, cancel and retry shapes", "total and current steps")
def test_the_shapes_are_those_that_clients_know(someone: Caller) -> None:
    """Create, status, list, cancel and retry answer with the fields and words that clients were written for."""
    answer = someone.create("export_report", payload={"reportType": "jobs"}, scheduledAt=NEVER)
    made = answer.json()
    assert (answer.status_code, made.keys()) == (202, {"jobId", "status", "message", "timestamp"})
    assert (made["status"], made["message"]) == ("queued", "Job created successfully")
    assert made["timestamp"].endswith("Z")
    path = f"/v1/jobs/{made['jobId']}"
    assert answer.headers["Location"] == path
    status = someone.get(f"{path}/status")
    assert status.json().keys() == {"job", "progress", "progressDetail", "canCancel", "canRetry"}
    assert status.json()["progressDetail"].keys() == {"current", "total", "percentage", "message", "detail"}
    assert (status.json()["canCancel"], status.json()["canRetry"], status.headers["Retry-After"]) == (True, False, "2")
    assert someone.get(f"{path}/status", headers={"If-None-Match": status.headers["ETag"]}).status_code == 304
    page = someone.get("/v1/jobs", page=1, pageSize=10, status="pending", jobType="export_report").json()
    assert {name: page[name] for name in ("total", "page", "pageSize", "totalPages")} == {
        "total": 1, "page": 1, "pageSize": 10, "totalPages": 1,
    }  # fmt: skip
    assert page["jobs"][0].keys() == JOB
    cancelled = someone.post(f"{path}/cancel")
    assert cancelled.json() == {"message": "Job cancelled successfully", "status": "cancelled"}
    assert someone.get(f"{path}/status").json()["canRetry"] is True
    retried = someone.post(f"{path}/retry", {"force": True})
    assert retried.json() == {"message": "Job retry initiated successfully", "status": "queued"}
    done = succeeded(someone, made["jobId"])
    assert (done["totalSteps"], done["currentStep"], done["progress"]) == (6, 6, 100)


@shows(SYSTEM, "organization and user isolation")
def test_nobody_sees_or_touches_what_is_anothers(system: System, someone: Caller) -> None:
    """A job is not there for another organization, nor for another user of the same one, whatever they ask."""
    job_id = created(someone, "noop", scheduledAt=NEVER)
    colleague = someone.but(user="u2", permissions=tuple(set(RIGHTS) - {"jobs.view_all"}))
    for other in (system.caller(), colleague):
        assert other.get("/v1/jobs").json()["total"] == 0
        assert other.get("/v1/jobs/recent").json()["jobs"] == []
        assert other.get("/v1/jobs/stats").json()["total"] == 0
        for path in ("", "/status", "/explain"):
            problem(other.get(f"/v1/jobs/{job_id}{path}"), 404, "job_not_found")
        for verb in ("cancel", "retry"):
            problem(other.post(f"/v1/jobs/{job_id}/{verb}"), 404, "job_not_found")
    assert job_of(someone, job_id)["status"] == "queued"
    assert someone.but(user="u2").get("/v1/jobs").json()["total"] == 1, "with jobs.view_all"


@shows(SYSTEM, "four permissions plus the handler's")
def test_each_verb_takes_its_permission_and_a_handler_its_own(someone: Caller) -> None:
    """Without one of the four permissions its verb is denied, and without the handler's a create and a retry are."""
    job_id = created(someone, "export_report", {"reportType": "jobs"}, scheduledAt=NEVER)
    path = f"/v1/jobs/{job_id}"

    def denied(without: str, method: str, path: str, body: Any = None) -> None:
        caller = someone.but(permissions=tuple(set(RIGHTS) - {without}))
        answer = caller.api.client.request(method, path, json=body, headers=caller.headers)
        assert without in problem(answer, 403, "permission_missing")["detail"]

    new = {"jobType": "export_report", "payload": {"reportType": "jobs"}}
    denied("jobs.create_jobs", "POST", "/v1/jobs", new)
    denied("reports.export_reports", "POST", "/v1/jobs", new)
    denied("jobs.view_jobs", "GET", "/v1/jobs")
    denied("jobs.cancel_jobs", "POST", f"{path}/cancel")
    someone.post(f"{path}/cancel")
    denied("jobs.retry_jobs", "POST", f"{path}/retry")
    denied("reports.export_reports", "POST", f"{path}/retry")
    assert job_of(someone, job_id)["status"] == "cancelled"


@shows(SYSTEM, "payload validation: no monetary values")
def test_a_payload_is_checked_before_the_job_is_accepted(someone: Caller) -> None:
    """A payload that its handler does not take, or with a monetary value in it, is refused with the field's name."""
    unknown = problem(someone.create("export_report", payload={"reportType": "x"}), 422, "invalid_request")
    assert unknown["errors"][0]["field"] == "payload.reportType"
    money = {"reportType": "jobs", "filters": {"totalPrice": 100}}
    assert problem(someone.create("export_report", payload=money), 422, "invalid_request")["errors"]
    note = {"channel": "log", "subject": "x", "data": {"order": {"totalPrice": 5}}}
    assert "totalPrice" in str(problem(someone.create("notification", payload=note), 422, "invalid_request"))
    assert someone.get("/v1/jobs").json()["total"] == 0


@shows(SYSTEM, "five job types", "export steps and the result of an export")
def test_the_five_types_run(someone: Caller) -> None:
    """An export goes through its six steps to a file, and the four other types do their work."""
    for _ in range(3):
        succeeded(someone, created(someone, "count_words", {"words": ["a"]}))
    export = succeeded(someone, created(someone, "export_report", {"reportType": "jobs"}))
    result = export["result"]
    assert result.keys() == {"downloadUrl", "fileSize", "recordCount", "generatedAt", "reportType", "format"}
    assert (result["recordCount"], result["reportType"], result["format"]) == (4, "jobs", "csv")
    history = someone.get(f"/v1/jobs/{export['id']}", include="history").json()["history"]
    told = [entry["detail"] for entry in history if "percentage" in entry["detail"]]
    assert [percent for percent, _ in groupby(each["percentage"] for each in told)] == PERCENTAGES
    assert {each["message"] for each in told if "message" in each} >= set(STEPS)
    file = someone.get(result["downloadUrl"])
    assert (len(file.content), len(list(csv.DictReader(io.StringIO(file.text))))) == (result["fileSize"], 4)
    name = result["downloadUrl"].rpartition("/")[2]
    others: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "data_processing": ({"export": name, "groupBy": "jobType"}, {"readCount": 4, "recordCount": 4}),
        "notification": ({"channel": "log", "subject": "Done"}, {"channel": "log"}),
        "sync": ({}, {"copied": 2, "unchanged": 0}),
        "cleanup": ({"olderThanDays": 30}, {"expiredExports": 0, "keptExports": 2}),
    }
    for job_type, (payload, expected) in others.items():
        found = succeeded(someone, created(someone, job_type, payload))["result"]
        assert {key: found[key] for key in expected} == expected, job_type


@shows(SYSTEM, "at most 5 concurrent jobs per organization")
def test_five_jobs_of_an_organization_run_at_once(system: System, someone: Caller) -> None:
    """Of seven jobs five run and two are held, though a slot is free, in which another organization's job runs."""
    ids = [created(someone, "nap", {"seconds": 60}) for _ in range(AT_ONCE + 2)]

    def running() -> int:
        return int(someone.get("/v1/jobs/stats").json()["running"])

    eventually(lambda: running() == AT_ONCE, what="five running jobs")
    succeeded(other := system.caller(), created(other, "count_words", {"words": ["a"]}))
    holds = [job_of(someone, job_id)["hold"] for job_id in ids]
    assert (running(), holds.count("organization_limit")) == (AT_ONCE, 2)
    someone.post("/v1/bulk", {"action": "cancel", "filter": {}})
    eventually(lambda: someone.get("/v1/jobs/stats").json()["totalActive"] == 0, what="the end of all")


@shows(SYSTEM, "audit of every operation")
def test_whatever_is_done_is_in_the_audit(someone: Caller) -> None:
    """A create, a cancel, a retry, and one that was denied are in the audit with who, when, from where and how."""
    job_id = created(someone, "noop", scheduledAt=NEVER)
    someone.post(f"/v1/jobs/{job_id}/cancel")
    someone.post(f"/v1/jobs/{job_id}/retry", {"force": True})
    someone.but(user="mallory", permissions=("jobs.view_jobs",)).post(f"/v1/jobs/{job_id}/cancel")
    entries = someone.get("/v1/audit", target=job_id).json()["entries"]
    assert [(each["actor"], each["action"], each["outcome"]) for each in reversed(entries)] == [
        ("u1", "job.create", "done"),
        ("u1", "job.cancel", "done"),
        ("u1", "job.retry", "done"),
        ("mallory", "job.cancel", "denied"),
    ]
    assert {(each["source"], each["address"]) for each in entries} == {("api", "127.0.0.1")}


@shows(SYSTEM, "scheduled jobs")
def test_a_scheduled_job_waits_for_its_time(someone: Caller) -> None:
    """A job with a time waits for it, and starts when it has come; a schedule makes such jobs by itself."""
    at = datetime.fromisoformat(someone.create("noop").json()["timestamp"]).timestamp() + 1
    said = datetime.fromtimestamp(at).astimezone().isoformat()
    job_id = created(someone, "count_words", {"words": ["a"]}, scheduledAt=said)
    assert (job_of(someone, job_id)["hold"], job_of(someone, job_id)["status"]) == ("schedule", "queued")
    done = succeeded(someone, job_id)
    assert datetime.fromisoformat(done["startedAt"]).timestamp() >= at - 0.001


@shows(SYSTEM, "dependencies")
def test_a_job_waits_for_what_it_depends_on(someone: Caller) -> None:
    """A job starts after those that it depends on have succeeded, and is cancelled when one of them fails."""
    first = created(someone, "nap", {"seconds": 0.3})
    then = created(someone, "count_words", {"words": ["a"]}, dependsOn=[first])
    assert job_of(someone, then)["hold"] == "dependency"
    done = succeeded(someone, then)
    assert done["startedAt"] >= job_of(someone, first)["completedAt"]
    failing = created(someone, "flaky", {"failures": 9}, maxRetries=0, scheduledAt=NEVER)
    never = created(someone, "noop", dependsOn=[failing])
    assert someone.patch(f"/v1/jobs/{failing}", {"scheduledAt": "2000-01-01T00:00:00Z"}).status_code == 200
    cancelled = reached(someone, never)
    assert (cancelled["status"], failing in cancelled["errorMessage"]) == ("cancelled", True)


@shows(SYSTEM, "back-off")
def test_a_retry_comes_later_each_time(someone: Caller) -> None:
    """After a failure the job waits until nextRetryAt, after the second for twice as long."""
    job_id = created(someone, "flaky", {"failures": 2})
    job = succeeded(someone, job_id)
    attempts = someone.get(f"/v1/jobs/{job_id}", include="attempts").json()["attempts"]
    ends = [datetime.fromisoformat(each["completedAt"]) for each in attempts]
    starts = [datetime.fromisoformat(each["startedAt"]) for each in attempts]
    waits = [(start - end).total_seconds() for end, start in zip(ends, starts[1:], strict=False)]
    assert job["retryCount"] == 2
    assert waits[0] >= 1
    assert waits[1] >= 2


@shows(SYSTEM, "breakers")
def test_a_breaker_spares_a_service_that_is_away(someone: Caller) -> None:
    """Five failures of a type in a row hold its next jobs, and no others."""
    for _ in range(5):
        reached(someone, created(someone, "broken_service"), "failed")
    held = created(someone, "broken_service")
    eventually(lambda: job_of(someone, held)["hold"] == "circuit", what="the hold")
    succeeded(someone, created(someone, "count_words", {"words": ["a"]}))
    assert job_of(someone, held)["attempt"] == 0
    someone.post(f"/v1/jobs/{held}/cancel")


@shows(SYSTEM, "templates")
def test_a_template_has_jobs_made(someone: Caller) -> None:
    """A job of a template has the template's payload with what is said on top, and names template and version."""
    template = {"name": "failures", "jobType": "count_words", "payload": {"words": ["a", "b"]}, "priority": 4}
    assert someone.post("/v1/templates", template).status_code == 201
    made = someone.post("/v1/templates/failures/jobs", {"priority": 6}).json()
    job = succeeded(someone, made["jobId"])
    assert (job["priority"], job["result"]) == (6, {"wordCount": 2})
    assert job["metadata"] == {"template": "failures", "templateVersion": 1}


@shows(SYSTEM, "webhooks on completion")
def test_a_webhook_tells_of_the_completion(someone: Caller) -> None:
    """A receiver is told of a completed job, with a signature that the standard's library verifies."""
    with receiving() as receiver:
        hook = {"url": f"http://127.0.0.1:{receiver.port}/done", "events": ["job.completed"]}
        secret = someone.post("/v1/webhooks", hook).json()["secret"]
        job_id = created(someone, "count_words", {"words": ["a"]})
        eventually(lambda: receiver.requests, what="the message")
    path, headers, body = receiver.requests[0]
    assert (path, body["type"], body["data"]["jobId"]) == ("/done", "job.completed", job_id)
    assert body["data"]["result"] == {"wordCount": 1}
    assert Webhook(secret).verify(encoded(body), headers) == body
