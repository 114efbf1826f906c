"""Every operation of the API, asked by everyone: the table in authorization.csv.

`UPDATE=1 pytest tests/api/test_authorization.py` writes it anew; what has changed is then for people to judge.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.api.calling import EVERYTHING, OF_GUARDED, Api, Caller, asked
from tests.api.handlers import PERMISSION
from tests.api.subjects import delivery_of, made
from tracking.models import JobRecord

TABLE = Path(__file__).with_name("authorization.csv")
EVERYONE = (
    "own",
    "other user",
    "other user, view_all",
    "other organization",
    "no permission",
    "wrong permission",
    "not the handler's",
    "elsewhere",
    "operator elsewhere",
    "expired",
    "none",
)

# What the contract says, and nothing else does: a new operation has to be entered here and in the table.
REQUIRED = {
    "create_job": "jobs.create_jobs",
    "create_jobs": "jobs.create_jobs",
    "list_jobs": "jobs.view_jobs",
    "recent_jobs": "jobs.view_jobs",
    "job_stats": "jobs.view_jobs",
    "job_history": "jobs.view_jobs",
    "get_job": "jobs.view_jobs",
    "get_job_status": "jobs.view_jobs",
    "get_job_graph": "jobs.view_jobs",
    "explain_job": "jobs.view_jobs",
    "list_job_deliveries": "jobs.view_jobs",
    "change_job": "jobs.create_jobs",
    "cancel_job": "jobs.cancel_jobs",
    "retry_job": "jobs.retry_jobs",
    "list_project_jobs": "jobs.view_jobs",
    "project_job_stats": "jobs.view_jobs",
    "list_job_types": "jobs.view_jobs",
    "pause_job_type": "jobs.manage_jobs",
    "resume_job_type": "jobs.manage_jobs",
    "get_organization": "jobs.manage_jobs",
    "pause_organization": "jobs.manage_jobs",
    "resume_organization": "jobs.manage_jobs",
    "set_organization_limit": "jobs.manage_platform",
    "set_waiting_limit": "jobs.manage_platform",
    "set_weight": "jobs.manage_platform",
    "pause_queue": "jobs.manage_platform",
    "resume_queue": "jobs.manage_platform",
    "list_limits": "jobs.manage_platform",
    "put_limit": "jobs.manage_platform",
    "remove_limit": "jobs.manage_platform",
    "list_denied_tokens": "jobs.manage_platform",
    "deny_tokens": "jobs.manage_platform",
    "allow_tokens": "jobs.manage_platform",
    "list_errors": "jobs.view_jobs",
    "mark_error": "jobs.manage_jobs",
    "create_operation": "jobs.cancel_jobs",
    "list_operations": "jobs.view_jobs",
    "get_operation": "jobs.view_jobs",
    "list_operation_jobs": "jobs.view_jobs",
    "abort_operation": "jobs.cancel_jobs",
    "list_audit": "jobs.view_audit",
    "export_audit": "jobs.view_audit",
    "get_export": PERMISSION,
    "create_file": "data.process_data",
    "list_files": "data.process_data",
    "get_file": "data.process_data",
    "remove_file": "data.process_data",
    "create_view": "jobs.view_jobs",
    "list_views": "jobs.view_jobs",
    "get_view": "jobs.view_jobs",
    "change_view": "jobs.view_jobs",
    "remove_view": "jobs.view_jobs",
    "create_schedule": "jobs.manage_schedules",
    "list_schedules": "jobs.view_jobs",
    "list_clean_ups": "jobs.manage_platform",
    "get_schedule": "jobs.view_jobs",
    "change_schedule": "jobs.manage_schedules",
    "remove_schedule": "jobs.manage_schedules",
    "pause_schedule": "jobs.manage_schedules",
    "resume_schedule": "jobs.manage_schedules",
    "skip_next": "jobs.manage_schedules",
    "run_schedule": "jobs.manage_schedules",
    "next_due_times": "jobs.view_jobs",
    "schedule_outcomes": "jobs.view_jobs",
    "list_schedule_deliveries": "jobs.view_jobs",
    "create_template": "jobs.manage_templates",
    "list_templates": "jobs.view_jobs",
    "get_template": "jobs.view_jobs",
    "list_template_versions": "jobs.view_jobs",
    "change_template": "jobs.manage_templates",
    "remove_template": "jobs.manage_templates",
    "create_template_job": "jobs.create_jobs",
    "create_workflow": "jobs.create_jobs",
    "list_workflows": "jobs.view_jobs",
    "get_workflow": "jobs.view_jobs",
    "list_workflow_deliveries": "jobs.view_jobs",
    "cancel_workflow": "jobs.cancel_jobs",
    "retry_workflow": "jobs.retry_jobs",
    "create_webhook": "jobs.manage_webhooks",
    "list_webhooks": "jobs.manage_webhooks",
    "get_webhook": "jobs.manage_webhooks",
    "change_webhook": "jobs.manage_webhooks",
    "remove_webhook": "jobs.manage_webhooks",
    "rotate_webhook_secret": "jobs.manage_webhooks",
    "test_webhook": "jobs.manage_webhooks",
    "list_deliveries": "jobs.manage_webhooks",
    "get_delivery": "jobs.manage_webhooks",
    "redeliver": "jobs.manage_webhooks",
    "get_overview": "jobs.manage_platform",
    "list_workers": "jobs.manage_platform",
    "list_queues": "jobs.manage_platform",
    "get_examination": "jobs.manage_platform",
    "create_ticket": "jobs.view_jobs",
    "stream_events": "jobs.view_jobs",
    "livez": None,
    "metrics": None,
    "healthz": None,
    "readyz": None,
}
ABOUT_ONE_SCHEDULE = (
    *("get_schedule", "change_schedule", "remove_schedule", "pause_schedule", "resume_schedule", "skip_next"),
    *("run_schedule", "next_due_times", "schedule_outcomes", "list_schedule_deliveries"),
)
ABOUT_ONE_TEMPLATE = (
    *("get_template", "list_template_versions", "change_template", "remove_template", "create_template_job"),
)
ABOUT_ONE_WEBHOOK = (
    *("get_webhook", "change_webhook", "remove_webhook", "rotate_webhook_secret", "test_webhook", "list_deliveries"),
    *("get_delivery", "redeliver"),
)
ABOUT_ONE_WORKFLOW = ("get_workflow", "list_workflow_deliveries", "cancel_workflow", "retry_workflow")
ABOUT_ONE_JOB = (
    *ABOUT_ONE_TEMPLATE,
    *(
        "get_job",
        "get_job_status",
        "list_job_deliveries",
        "explain_job",
        "get_job_graph",
        "change_job",
        "cancel_job",
        "retry_job",
        "get_export",
    ),
    *("stream_events", "get_operation", "list_operation_jobs", "abort_operation", *ABOUT_ONE_SCHEDULE),
    *ABOUT_ONE_WEBHOOK,
    *ABOUT_ONE_WORKFLOW,
    *("get_file", "remove_file", "mark_error", "get_view", "change_view", "remove_view"),
)
# Whoever may read them reads of all its users; jobs.manage_schedules shows all schedules.
OF_THE_ORGANIZATION = (
    *("list_audit", "export_audit", "list_schedules", "list_templates", "list_webhooks"),
    *(*ABOUT_ONE_SCHEDULE, *ABOUT_ONE_TEMPLATE, *ABOUT_ONE_WEBHOOK, "mark_error", "get_view"),
)
# Limits are the operators', whichever organization they come from.
OF_THE_PLATFORM = ("list_limits", "remove_limit", "list_denied_tokens", "allow_tokens")
# With jobs.manage_platform, and only with it, in every organization: all of them that look, and these that act.
REACHING = (
    *("list_jobs", "recent_jobs", "job_stats", "job_history", "get_job", "get_job_status", "list_job_deliveries"),
    *("get_job_graph", "list_errors", "mark_error"),
    *("explain_job", "cancel_job", "retry_job", "list_project_jobs", "project_job_stats", "list_audit", "export_audit"),
    *("create_operation", "list_operations", "get_operation", "list_operation_jobs", "abort_operation"),
    *("list_job_types", "pause_job_type", "resume_job_type", "get_organization", "pause_organization"),
    *("resume_organization", "create_schedule", "list_schedules", *ABOUT_ONE_SCHEDULE),
    *("create_template", "list_templates", "get_template", "list_template_versions", "change_template"),
    *("remove_template", "create_webhook", "list_webhooks", *ABOUT_ONE_WEBHOOK),
    *("list_workflows", *ABOUT_ONE_WORKFLOW, "list_files"),
)
WIDER = {
    "change_job": "403",  # jobs.view_all shows it, and jobs.track_jobs is needed
    "list_views": "200",  # each user's menu is their own
}
NEEDS_THE_HANDLERS = (
    *("create_job", "create_jobs", "retry_job", "get_export", "create_schedule", "change_schedule", "run_schedule"),
    *("create_template", "change_template", "create_template_job", "create_workflow", "retry_workflow"),
)
BODIES: dict[str, Any] = {
    "create_job": {"jobType": "guarded", "payload": {"kind": "small"}},
    "create_jobs": {"jobs": [{"jobType": "guarded", "payload": {"kind": "small"}}]},
    "create_operation": {"action": "cancel", "filter": {}},
    "set_organization_limit": {"limit": 3},
    "set_waiting_limit": {"limit": 3},
    "set_weight": {"weight": 3},
    "mark_error": {"state": "resolved"},
    "put_limit": {"per": "organization", "organization": "elsewhere", "jobType": "guarded", "concurrency": 3},
    "deny_tokens": {"user": "nobody", "organization": "elsewhere"},
    "change_job": {"progress": 40},
    "create_schedule": {"name": "n", "jobType": "guarded", "payload": {"kind": "small"}, "everySeconds": 60},
    "change_schedule": {"priority": 3},
    "create_template": {"name": "n", "jobType": "guarded", "payload": {"kind": "small"}},
    "change_template": {"priority": 3},
    "create_template_job": {},
    "create_workflow": {"name": "n", "jobs": {"a": {"jobType": "guarded", "payload": {"kind": "small"}}}},
    "create_view": {"name": "n", "search": "status:failed"},
    "change_view": {"name": "n"},
    "create_webhook": {"url": "https://hooks.example.com/"},
    "change_webhook": {"enabled": False},
}


@dataclass(frozen=True)
class Operation:
    """One operation of the description of the API."""

    name: str
    method: str
    path: str


@cache
def operations(api: Api) -> list[Operation]:
    """All of them, in the order of the description."""
    paths = _paths(api)
    return [
        Operation(described["operationId"], method.upper(), path)
        for path, methods in paths.items()
        for method, described in methods.items()
    ]


def test_the_table_is_the_truth(api: Api) -> None:
    """Every operation asked by everyone answers what the table says, and the table has no other rows."""
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(["operation", "method", "path", *EVERYONE])
    for operation in operations(api):
        answers = outcomes(api, operation, EVERYONE)
        rows.writerow([operation.name, operation.method, operation.path, *answers])
    if os.environ.get("UPDATE"):
        TABLE.write_text(written.getvalue())
    assert written.getvalue() == TABLE.read_text()


def test_every_operation_is_known(api: Api) -> None:
    """Every operation of the API is in the table of who may call it."""
    assert [operation.name for operation in operations(api)] == [row["operation"] for row in _table()]
    assert REQUIRED.keys() == {row["operation"] for row in _table()}


@pytest.mark.parametrize("name", [name for name, permission in REQUIRED.items() if permission])
def test_the_table_is_what_was_promised(name: str) -> None:
    """In the table no call passes without a token, a permission, or across users and organizations."""
    row = next(row for row in _table() if row["operation"] == name)
    assert row["own"].startswith("20")
    assert row["none"] == row["expired"] == "401"
    assert row["no permission"] == row["wrong permission"] == "403"
    assert row["not the handler's"] == ("403" if name in NEEDS_THE_HANDLERS else row["own"])
    assert row["other user, view_all"] == WIDER.get(name, row["own"])
    if name in REACHING:
        assert (row["elsewhere"], row["operator elsewhere"]) == ("403", row["own"])
    strangers = ("other organization",) if name in OF_THE_ORGANIZATION else ("other user", "other organization")
    for stranger in strangers if name not in OF_THE_PLATFORM else ():
        assert "shown" not in row[stranger]
        assert (row[stranger] == "404") == (name in ABOUT_ONE_JOB)


def _table() -> list[dict[str, str]]:
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def outcomes(api: Api, operation: Operation, callers: Iterable[str]) -> list[str]:
    """For each of some of EVERYONE the status, and whether the answer shows the job that was there."""
    found: list[str] = []
    there: tuple[Caller, JobRecord] | None = None
    for who in callers:
        owner, job = there or made(api, operation.name)
        found.append(_outcome(operation, owner, job, who))
        there = (owner, job) if operation.method == "GET" else None  # which leaves it as it was
    return found


def _outcome(operation: Operation, owner: Caller, job: JobRecord, who: str) -> str:
    response = _ask(_as(owner, who, operation), operation, job, who)
    if not operation.path.startswith("/v1/"):
        return "refused" if response.status_code in (401, 403) else "open"
    shown = response.status_code == 200 and _shows(response, job)
    return f"{response.status_code} shown" if shown else str(response.status_code)


def _as(owner: Caller, who: str, operation: Operation) -> Caller:
    needed = REQUIRED.get(operation.name)
    others = {
        "other user": replace(owner, user="u2"),
        "other user, view_all": replace(owner, user="u2", permissions=(*EVERYTHING, "jobs.view_all")),
        "other organization": replace(
            owner, organization=f"{owner.organization}-other", permissions=(*EVERYTHING, "jobs.view_all")
        ),
        "elsewhere": replace(
            owner,
            organization=f"{owner.organization}-other",
            permissions=(*(name for name in EVERYTHING if name != "jobs.manage_platform"), "jobs.view_all"),
        ),
        "operator elsewhere": replace(owner, organization=f"{owner.organization}-other"),
        "no permission": replace(owner, permissions=()),
        "wrong permission": replace(
            owner, permissions=(*(name for name in EVERYTHING if name != needed), "jobs.view_all", "*", "jobs")
        ),
        "not the handler's": replace(owner, permissions=tuple(name for name in EVERYTHING if name != PERMISSION)),
    }
    return others.get(who, owner)


def _ask(caller: Caller, operation: Operation, job: JobRecord, who: str) -> httpx2.Response:
    names = {"id": job.id, "deliveryId": delivery_of(job.id), "projectId": job.project_id, "name": f"{job.id}-1.csv"}
    path = operation.path.format(
        **names, jobType=job.job_type, queue=job.queue, organization=job.organization_id, fingerprint=OF_GUARDED
    )
    headers: dict[str, str] = {} if who == "none" else caller.headers
    if who == "expired":
        token = caller.api.token(org=caller.organization, exp=int(time.time()) - 60)
        headers = {"Authorization": f"Bearer {token}"}
    params = {"jobId": str(job.id), "lastEventId": 0} if operation.name == "stream_events" else {}
    if who.endswith("elsewhere") and _reaches(caller.api, operation):
        params["organization"] = job.organization_id
    body, client = BODIES.get(operation.name), caller.api.client
    return asked(client, operation.method, path, until=b"event:", headers=headers, params=params, json=body)


def _reaches(api: Api, operation: Operation) -> bool:
    """Whether operators may ask for it in other organizations."""
    described = _paths(api)[operation.path][operation.method.lower()]
    return any(each["name"] == "organization" and each["in"] == "query" for each in described.get("parameters", ()))


@cache
def _paths(api: Api) -> dict[str, Any]:
    return dict(api.client.get("/openapi.json").json()["paths"])


def _shows(response: httpx2.Response, job: JobRecord) -> bool:
    if str(job.id) in response.text:
        return True
    if "json" not in response.headers["content-type"]:
        return False
    counts = response.json()
    return bool(isinstance(counts, dict) and counts.get("pending"))
