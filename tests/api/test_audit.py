"""The audit over HTTP: every operation that changes something is in it, denied and refused ones too."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest

from api.origins import ACTIONS
from tests.api.calling import EVERYTHING, OF_GUARDED, Api, Caller, problem
from tracking.audited import Action
from tracking.models import JobRecord

AUDITING = EVERYTHING
NOT_AUDITED = {"create_ticket"}  # it changes nothing of anybody's
JOB = "/v1/jobs/{id}"
SCHEDULE = "/v1/schedules/{id}"
TEMPLATE = "/v1/templates/{id}"
WORKFLOW = "/v1/workflows/{id}"
WEBHOOK = "/v1/webhooks/{id}"
LIMITS = "/v1/limits/{id}"
DENIED = "/v1/denied-tokens/{id}"
FILE = "/v1/files/{id}"
VIEW = "/v1/views/{id}"
LIMIT = "/v1/organizations/{organization}/limit"

# Each operation that is audited: method, path, body, and the status of the job that it is about.
DEEDS: dict[str, tuple[str, str, Any, str]] = {
    "create_job": ("POST", "/v1/jobs", {"jobType": "guarded", "payload": {"kind": "small"}}, "queued"),
    "create_jobs": ("POST", "/v1/jobs/bulk", {"jobs": [{"jobType": "open"}]}, "queued"),
    "change_job": ("PATCH", JOB, {"status": "running"}, "queued"),
    "cancel_job": ("POST", f"{JOB}/cancel", None, "queued"),
    "create_operation": ("POST", "/v1/bulk", {"action": "cancel", "filter": {}}, "queued"),
    "abort_operation": ("POST", "/v1/bulk/{id}/abort", None, "queued"),
    "retry_job": ("POST", f"{JOB}/retry", None, "failed"),
    "pause_job_type": ("POST", "/v1/job-types/open/pause", None, "queued"),
    "resume_job_type": ("POST", "/v1/job-types/open/resume", None, "queued"),
    "pause_organization": ("POST", "/v1/organization/pause", None, "queued"),
    "resume_organization": ("POST", "/v1/organization/resume", None, "queued"),
    "pause_queue": ("POST", "/v1/queues/aside/pause", None, "queued"),
    "resume_queue": ("POST", "/v1/queues/aside/resume", None, "queued"),
    "set_organization_limit": ("PUT", LIMIT, {"limit": 3}, "queued"),
    "set_waiting_limit": ("PUT", "/v1/organizations/{organization}/waiting-limit", {"limit": 9}, "queued"),
    "set_weight": ("PUT", "/v1/organizations/{organization}/weight", {"weight": 9}, "queued"),
    "mark_error": ("PUT", f"/v1/errors/{OF_GUARDED}", {"state": "ignored"}, "failed"),
    "put_limit": ("PUT", "/v1/limits", {"per": "organization", "jobType": "open", "concurrency": 3}, "queued"),
    "remove_limit": ("DELETE", LIMITS, None, "queued"),
    "deny_tokens": ("PUT", "/v1/denied-tokens", {"user": "nobody"}, "queued"),
    "allow_tokens": ("DELETE", DENIED, None, "queued"),
    "create_schedule": ("POST", "/v1/schedules", {"name": "n", "jobType": "open", "everySeconds": 60}, "queued"),
    "change_schedule": ("PATCH", SCHEDULE, {"priority": 3}, "queued"),
    "remove_schedule": ("DELETE", SCHEDULE, None, "queued"),
    "pause_schedule": ("POST", f"{SCHEDULE}/pause", None, "queued"),
    "resume_schedule": ("POST", f"{SCHEDULE}/resume", None, "queued"),
    "run_schedule": ("POST", f"{SCHEDULE}/run", None, "queued"),
    "skip_next": ("POST", f"{SCHEDULE}/skip-next", None, "queued"),
    "create_template": ("POST", "/v1/templates", {"name": "n", "jobType": "open"}, "queued"),
    "change_template": ("PATCH", TEMPLATE, {"priority": 3}, "queued"),
    "remove_template": ("DELETE", TEMPLATE, None, "queued"),
    "create_template_job": ("POST", f"{TEMPLATE}/jobs", {}, "queued"),
    "create_workflow": ("POST", "/v1/workflows", {"name": "n", "jobs": {"a": {"jobType": "open"}}}, "queued"),
    "cancel_workflow": ("POST", f"{WORKFLOW}/cancel", None, "queued"),
    "retry_workflow": ("POST", f"{WORKFLOW}/retry", None, "queued"),
    "create_view": ("POST", "/v1/views", {"name": "n", "search": "status:failed"}, "queued"),
    "change_view": ("PATCH", VIEW, {"name": "n"}, "queued"),
    "remove_view": ("DELETE", VIEW, None, "queued"),
    "create_file": ("POST", "/v1/files", None, "queued"),
    "remove_file": ("DELETE", FILE, None, "queued"),
    "create_webhook": ("POST", "/v1/webhooks", {"url": "https://hooks.example.com/"}, "queued"),
    "change_webhook": ("PATCH", WEBHOOK, {"enabled": False}, "queued"),
    "remove_webhook": ("DELETE", WEBHOOK, None, "queued"),
    "rotate_webhook_secret": ("POST", f"{WEBHOOK}/rotate-secret", None, "queued"),
    "test_webhook": ("POST", f"{WEBHOOK}/test", None, "queued"),
    "redeliver": ("POST", f"{WEBHOOK}/deliveries/{{delivery}}/redeliver", None, "queued"),
}


def queue_of(caller: Caller, _: UUID) -> None:
    """A queue with a job, which no earlier test has left paused."""
    caller.job(queue="aside")
    caller.post("/v1/queues/aside/resume")


def paused_queue_of(caller: Caller, job_id: UUID) -> None:
    """The same, and it is paused."""
    queue_of(caller, job_id)
    caller.post("/v1/queues/aside/pause")


# What these are about, beside a job.
ALONE: dict[str, Callable[..., object]] = {
    LIMITS: Caller.job_limit,
    DENIED: Caller.denial,
    FILE: Caller.file,
    "/v1/queues/aside/pause": queue_of,
    "/v1/queues/aside/resume": paused_queue_of,
}


def audit(caller: Caller, **query: Any) -> list[dict[str, Any]]:
    """The entries that the caller's organization has, the oldest first."""
    response = caller.but(permissions=AUDITING).get("/v1/audit", **query)
    assert response.status_code == 200, response.text
    return list(reversed(response.json()["entries"]))


def ask(caller: Caller, name: str, job: JobRecord, **headers: str) -> Any:
    """The answer to one of the DEEDS."""
    method, path, body, _ = DEEDS[name]
    body = {**body, "organization": caller.organization} if name in ("put_limit", "deny_tokens") else body
    path = path.format(id=job.id, organization=caller.organization, delivery=uuid5(job.id, "delivery"))
    return caller.api.client.request(method, path, json=body, headers={**caller.headers, **headers})


def prepared(caller: Caller, name: str) -> JobRecord:
    """A job for one of the DEEDS, a pause for those that end one, and a schedule and its like of the id of that job."""
    if DEEDS[name][1].startswith(TEMPLATE):
        job = caller.job(job_type="guarded")
        caller.template(uuid4(), str(job.id))
        return job
    if DEEDS[name][1] == VIEW:
        job = caller.job(job_type="guarded")
        caller.view(job.id, "saved")
        return job
    if (make := ALONE.get(DEEDS[name][1])) is not None:
        job = caller.job(job_type="guarded")
        make(caller, job.id)
        return job
    if DEEDS[name][1].startswith(WEBHOOK):
        job = caller.job(job_type="guarded")
        caller.webhook(job.id)
        caller.delivery(job.id, "failed", uuid5(job.id, "delivery"))
        return job
    if DEEDS[name][1].startswith(SCHEDULE):
        job = caller.job(job_type="guarded")
        caller.schedule(job.id, name)
        if name == "resume_schedule":
            ask(caller, "pause_schedule", job)
        return job
    if name.startswith("resume"):
        ask(caller, name.replace("resume", "pause"), caller.job())
    job = caller.job(DEEDS[name][3], external=name == "change_job", job_type="guarded")
    if DEEDS[name][1].startswith(WORKFLOW):
        caller.workflow(job.id, "cancelled" if name == "retry_workflow" else "queued")
    if name == "abort_operation":
        caller.operation(job.id)
    return job


def test_every_operation_that_changes_something_is_audited(api: Api) -> None:
    """Each operation of the description that is no read is among those that are audited, or is exempt by its name."""
    paths = api.client.get("/openapi.json").json()["paths"]
    changing = {
        described["operationId"]
        for methods in paths.values()
        for method, described in methods.items()
        if method != "get"
    }
    assert changing == ACTIONS.keys() | NOT_AUDITED
    assert ACTIONS.keys() == DEEDS.keys()


@pytest.mark.parametrize("name", DEEDS)
def test_what_was_done_says_who_did_it_from_where(caller: Caller, name: str) -> None:
    """An operation that was done is in the audit with its actor, address, request and target."""
    job = prepared(caller, name)
    request_id = uuid4().hex
    response = ask(caller, name, job, **{"X-Request-Id": request_id})
    assert response.is_success, response.text
    of_all = {"organization": "*", "target": "aside"} if name.endswith("_queue") else {}  # a queue is no tenant's
    entry = audit(caller, **of_all)[-1]
    assert (entry["action"], entry["actor"], entry["outcome"]) == (ACTIONS[name], caller.user, "done")
    assert (entry["source"], entry["address"], entry["requestId"]) == ("api", "127.0.0.1", request_id)
    made = response.json()["jobs"][0]["jobId"] if name == "create_jobs" else None
    about = {
        "create_jobs": made,
        "create_job": response.json().get("jobId"),
        "create_operation": response.json().get("id"),
        "create_schedule": response.json().get("id"),
        "create_template": "n",
        "create_template_job": response.json().get("jobId"),
        "create_workflow": response.json().get("workflowId"),
        "create_webhook": response.json().get("id"),
        "deny_tokens": response.json().get("id"),
        "create_file": response.json().get("id"),
        "create_view": response.json().get("id"),
        "set_organization_limit": caller.organization,
        "set_waiting_limit": caller.organization,
        "set_weight": caller.organization,
        **dict.fromkeys(("pause_queue", "resume_queue"), "aside"),
        "put_limit": "open",
        "mark_error": OF_GUARDED,
        "remove_limit": "open",
    }
    is_of_all = name.endswith("_organization")
    expected = None if is_of_all else "open" if name.endswith("job_type") else about.get(name, str(job.id))
    assert entry["target"] == expected


@pytest.mark.parametrize("name", DEEDS)
def test_what_was_denied_is_kept(caller: Caller, name: str) -> None:
    """An operation without its permission changes nothing, and is in the audit as denied, with who tried."""
    job = prepared(caller, name)
    problem(ask(caller.but(user="mallory", permissions=()), name, job), 403, "permission_missing")
    entry = audit(caller)[-1]
    assert (entry["action"], entry["actor"], entry["outcome"], entry["code"]) == (
        *(ACTIONS[name], "mallory"),
        *("denied", "permission_missing"),
    )
    assert entry["address"] == "127.0.0.1"
    assert caller.find(job.id) == job


def test_what_was_refused_is_kept(caller: Caller) -> None:
    """A cancel of a finished job or of somebody else's, and a repeated key with another body are kept as refused."""
    finished, other = caller.job("succeeded"), caller.but(user="u2").job()
    caller.post(f"/v1/jobs/{finished.id}/cancel")
    caller.post(f"/v1/jobs/{other.id}/cancel")
    caller.create(key="k", payload={"a": 1})
    caller.create(key="k", payload={"a": 2})
    found = [(each["action"], each["code"], each["target"]) for each in audit(caller, outcome="refused")]
    assert found == [
        ("job.cancel", "illegal_move", str(finished.id)),
        ("job.cancel", "job_not_found", str(other.id)),
        ("job.create", "idempotency_conflict", None),
    ]


def test_a_request_that_cannot_be_read_is_nobodys_deed(caller: Caller) -> None:
    """What is no valid request, and what has no valid token, is not in the audit."""
    problem(caller.create(priority=77), 422, "invalid_request")
    problem(caller.post("/v1/jobs/x/cancel"), 422, "invalid_request")
    assert caller.api.client.post("/v1/jobs", json={}).status_code == 401
    assert audit(caller) == []


def test_nobody_reads_the_audit_of_another_organization(caller: Caller, api: Api) -> None:
    """The audit shows the own organization alone, whatever is asked, and another one only to operators."""
    stranger = api.caller()
    job = caller.create().json()["jobId"]
    caller.post(f"/v1/jobs/{job}/cancel")
    assert audit(stranger) == audit(stranger, target=job) == audit(stranger, actor=caller.user) == []
    limited = stranger.but(permissions=("jobs.view_audit",))
    for asked in (caller.organization, "*"):
        for path in ("/v1/audit", "/v1/audit/export"):
            problem(limited.get(path, organization=asked), 403, "permission_missing")
    assert limited.get("/v1/audit", organization=stranger.organization).status_code == 200
    operator = stranger.but(permissions=AUDITING)
    for asked in (caller.organization, "*"):
        found = operator.get("/v1/audit", organization=asked, target=job).json()["entries"]
        assert [each["action"] for each in found] == ["job.cancel", "job.create"]


def test_who_an_operator_is_shows_to_operators_alone(caller: Caller, api: Api) -> None:
    """What an operator of another organization did is in the audit of whom it concerns, without their name."""
    operator = api.caller(user="olga")
    operator.put(f"/v1/organizations/{caller.organization}/limit", {"limit": 3})
    auditor = caller.but(permissions=("jobs.view_audit",))
    (entry,) = auditor.get("/v1/audit").json()["entries"]
    assert (entry["action"], entry["detail"]) == ("organization.limit", {"limit": 3})
    assert (entry["actor"], entry["address"], entry["requestId"]) == (None, None, None)
    assert "olga" not in auditor.get("/v1/audit/export").text
    assert auditor.get("/v1/audit", actor="olga").json()["entries"] == []  # who guesses the name learns nothing
    assert audit(caller)[0]["actor"] == "olga"


def test_the_audit_is_read_page_by_page(caller: Caller) -> None:
    """Pages that follow a cursor are all entries, newest first, without gap or repeat."""
    for _ in range(5):
        caller.create()
    auditor, found, cursor = caller.but(permissions=AUDITING), [], None
    while True:
        page = auditor.get("/v1/audit", limit=2, **({"cursor": cursor} if cursor else {})).json()
        found += page["entries"]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert list(reversed(found)) == audit(caller)
    assert len(found) == 5


def test_it_is_exported_as_csv_and_as_json_lines(caller: Caller) -> None:
    """Both exports hold what the list holds; in CSV a text that is a formula begins with an apostrophe."""
    evil = caller.but(user="=1+1")
    evil.create()
    caller.create()
    auditor, entries = caller.but(permissions=AUDITING), list(reversed(audit(caller)))
    lines = auditor.get("/v1/audit/export", format="jsonl")
    assert [json.loads(line) for line in lines.text.splitlines()] == entries
    exported = auditor.get("/v1/audit/export")
    assert exported.headers["Content-Disposition"] == 'attachment; filename="audit.csv"'
    rows = list(csv.DictReader(io.StringIO(exported.text)))
    assert [row["actor"] for row in rows] == ["u1", "'=1+1"]
    assert [(row["id"], row["target"], json.loads(row["detail"])) for row in rows] == [
        (str(each["id"]), each["target"], each["detail"]) for each in entries
    ]
    first = auditor.get("/v1/audit/export", limit=1)
    rest = auditor.get("/v1/audit/export", cursor=first.headers["Next-Cursor"])
    assert "Next-Cursor" not in rest.headers
    assert first.text.splitlines() + rest.text.splitlines()[1:] == exported.text.splitlines()


def test_an_entry_is_one_line_for_every_reader(caller: Caller) -> None:
    """What Python and others take for the end of a line stands in no JSON line, and comes back as it was."""
    name = "a\u2028b\u2029c\x85d\x1ce\nf"
    assert caller.post("/v1/templates", {"name": name, "jobType": "open", "payload": {}}).status_code == 201
    lines = caller.but(permissions=AUDITING).get("/v1/audit/export", format="jsonl").text.splitlines()
    assert [json.loads(line)["target"] for line in lines] == [name]


@pytest.mark.parametrize(
    "query",
    [
        {"action": "job.eat"},
        {"outcome": "maybe"},
        {"source": "tv"},
        {"limit": 101},
        {"cursor": "x"},
        {"cursor": 0},
        {"from": "yesterday"},
        {"whose": "mine"},
    ],
    ids=str,
)
def test_a_filter_that_makes_no_sense_is_refused(caller: Caller, query: dict[str, Any]) -> None:
    """An unknown filter, or a value that none can have, is 422."""
    problem(caller.but(permissions=AUDITING).get("/v1/audit", **query), 422, "invalid_request")


def test_filters_narrow_the_list(caller: Caller) -> None:
    """Action, actor, outcome and time narrow the list; several actions are separated by commas."""
    job = caller.create().json()["jobId"]
    caller.post(f"/v1/jobs/{job}/cancel")
    caller.but(user="u2").create()
    assert [each["action"] for each in audit(caller, action="job.cancel,job.retry")] == ["job.cancel"]
    assert [each["actor"] for each in audit(caller, actor="u2")] == ["u2"]
    second = audit(caller)[1]["at"]
    assert len(audit(caller, to=second)) == 1
    assert len(audit(caller, **{"from": second})) >= 2


def test_each_action_is_described() -> None:
    """The page about the audit says of each action what somebody has done, and of no other."""
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`([a-z]+\.[a-z_]+)`", row)) == sorted(Action)
