"""What the demo asks for: jobs of every type that needs nothing from outside, and how each of them should end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from api.permissions import CANCEL_JOBS, CREATE_JOBS, VIEW_JOBS
from celeriac.client import ApiError, Client
from tracking.states import Status

ORGANIZATION, USER, PROJECT = "acme", "demo", "demo"
PERMISSIONS = (
    CREATE_JOBS,
    VIEW_JOBS,
    CANCEL_JOBS,
    "reports.export_reports",
    "data.process_data",
    "notifications.send_notifications",
    "maintenance.run_cleanup",
)
REPORTS = (("usage", "csv"), ("jobs", "xlsx"), ("usage", "json"))
MISSING = f"{UUID(int=0)}-1.csv"  # the name of an export that nobody made


@dataclass(frozen=True)
class Request:
    """One job to ask for; `cancel`: and to be cancelled at once."""

    job_type: str
    payload: dict[str, Any] = field(default_factory=dict)
    priority: int = 0
    cancel: bool = False
    ends: Status = Status.SUCCEEDED


@dataclass(frozen=True)
class Accepted:
    """A job that the API answered for, and how it must end."""

    job_id: UUID
    ends: Status


def first_request() -> Request:
    """An export that other jobs of the demo work on."""
    return Request("export_report", {"reportType": "usage", "format": "json"}, priority=9)


def requests(count: int, export_url: str) -> Iterator[Request]:
    """So many requests of mixed types and priorities: some work on that export, a few must fail or are cancelled."""
    changed_mind = count // 50  # of the last ones, that wait behind all others
    for number in range(count - changed_mind):
        yield _request(number, export_url.rpartition("/")[2])
    for _ in range(changed_mind):
        yield Request("notification", _message("nobody will read this"), cancel=True, ends=Status.CANCELLED)


def submit(client: Client, request: Request) -> Accepted:
    """Create a job, and cancel it when that is asked for and it has not finished before."""
    created = client.create(request.job_type, request.payload, priority=request.priority, project_id=PROJECT)
    if not request.cancel:
        return Accepted(created.job_id, request.ends)
    try:
        client.cancel(created.job_id, reason="the demo changed its mind")
    except ApiError as error:
        if error.code != "illegal_move":
            raise
        return Accepted(created.job_id, Status.SUCCEEDED)  # a worker was quicker
    return Accepted(created.job_id, request.ends)


def _request(number: int, export: str) -> Request:
    priority = number * 7 % 10
    match number % 100:
        case 3:
            return Request("cleanup", {}, priority)
        case 8:
            return Request("data_processing", {"export": MISSING}, priority, ends=Status.FAILED)
        case last if last % 10 == 1:
            report, form = REPORTS[number // 10 % len(REPORTS)]
            return Request("export_report", {"reportType": report, "format": form}, priority)
        case last if last % 10 == 6:  # noqa: PLR2004 - as arbitrary as those above
            return Request("data_processing", {"export": export, "groupBy": "jobType"}, priority)
        case _:
            return Request("notification", _message(f"message {number}"), priority)


def _message(subject: str) -> dict[str, Any]:
    return {"channel": "log", "subject": subject, "message": "Written to notifications.jsonl in the data directory."}
