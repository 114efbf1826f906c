"""What the tests of the API call it with: tokens, callers, and jobs brought into any state."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import psutil

from tests.api.handlers import PERMISSION
from tests.workflowing import begin as begin_workflow
from tracking import jobs, templates, webhooks
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.models import Claim, Failure, Fence, JobRecord, NewJob, Outcome, Owner, Progress, Scope
from tracking.operated import Action
from tracking.operations.begin import begin
from tracking.operations.values import NewOperation
from tracking.origins import By
from tracking.reads import lists
from tracking.reads.answers import Filters, HistoryEntry
from tracking.schedules import keeping
from tracking.schedules.keeping import NewSchedule
from tracking.schedules.values import Plan, Schedule
from tracking.templates import Content, Template
from tracking.webhooks import Wanted, Webhook, delivering
from tracking.workflows.values import Node

ORDINARY = ("jobs.create_jobs", "jobs.view_jobs", "jobs.cancel_jobs", "jobs.retry_jobs")
MANAGING = (
    *("jobs.manage_jobs", "jobs.manage_schedules", "jobs.manage_templates", "jobs.manage_webhooks"),
    *("jobs.manage_platform", "jobs.view_audit"),
)
EVERYTHING = (*ORDINARY, *MANAGING, "reports.export_reports", PERMISSION)
LEASE = UUID(int=1)


@dataclass(frozen=True)
class Api:
    """A running server and the database behind it."""

    url: str
    secret: str
    client: httpx.Client
    database: Database
    process: psutil.Process
    log: Path
    exports: Path

    def caller(self, organization: str | None = None, user: str = "u1", **options: Any) -> Caller:
        """Somebody with every ordinary permission, in a new organization unless one is named."""
        return Caller(self, organization or f"org-{uuid4().hex[:12]}", user, **options)

    def token(self, **claims: Any) -> str:
        """A token that is valid except for the claims given here; None leaves a claim out."""
        now = int(time.time())
        valid = {
            "sub": "u1",
            "org": "acme",
            "permissions": list(EVERYTHING),
            "iat": now,
            "exp": now + 600,
            "iss": "celeriac",
            "aud": "celeriac",
        }
        merged = {name: value for name, value in {**valid, **claims}.items() if value is not None}
        return jwt.encode(merged, self.secret, "HS256")


@dataclass(frozen=True)
class Caller:
    """A client with a token."""

    api: Api
    organization: str
    user: str
    permissions: tuple[str, ...] = EVERYTHING

    def but(self, **changes: Any) -> Caller:
        """The same caller with another user, organization or permissions."""
        return replace(self, **changes)

    @property
    def headers(self) -> dict[str, str]:
        """What shows who calls."""
        token = self.api.token(sub=self.user, org=self.organization, permissions=list(self.permissions))
        return {"Authorization": f"Bearer {token}"}

    def get(self, path: str, *, headers: dict[str, str] | None = None, **params: Any) -> httpx.Response:
        """GET."""
        return self.api.client.get(path, params=params or None, headers={**self.headers, **(headers or {})})

    def post(self, path: str, body: Any = None, *, headers: dict[str, str] | None = None) -> httpx.Response:
        """POST JSON."""
        return self.api.client.post(path, json=body, headers={**self.headers, **(headers or {})})

    def patch(self, path: str, body: Any, *, headers: dict[str, str] | None = None) -> httpx.Response:
        """PATCH JSON."""
        return self.api.client.patch(path, json=body, headers={**self.headers, **(headers or {})})

    def delete(self, path: str) -> httpx.Response:
        """DELETE."""
        return self.api.client.delete(path, headers=self.headers)

    def put(self, path: str, body: Any) -> httpx.Response:
        """PUT JSON."""
        return self.api.client.put(path, json=body, headers=self.headers)

    def send(self, body: bytes | Iterable[bytes], **headers: str) -> httpx.Response:
        """POST these bytes to /v1/jobs as JSON."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {**self.headers, "Content-Type": "application/json", **given}
        return self.api.client.post("/v1/jobs", content=body, headers=sent)

    def create(self, job_type: str = "open", *, key: str | None = None, **fields: Any) -> httpx.Response:
        """Create a job."""
        headers = {"Idempotency-Key": key} if key is not None else {}
        return self.post("/v1/jobs", {"jobType": job_type, **fields}, headers=headers)

    # Straight into the database, for what takes a worker or time:

    def job(self, state: str = "queued", **fields: Any) -> JobRecord:
        """A job of this caller in this state: queued, running, retrying, succeeded, failed or cancelled."""
        job_id: UUID = fields.pop("id", None) or uuid4()
        first = Fence(job_id, 1)
        result = fields.pop("result", {"done": True})
        owner = Owner(self.organization, self.user)
        new = NewJob(**{"id": job_id, "owner": owner, "job_type": "open", "queue": "default", **fields})
        with self.api.database.autocommit() as connection:
            jobs.submit(connection, new, UNLIMITED)
            if state in ("running", "retrying", "succeeded", "failed"):
                jobs.claim(connection, [Claim(first, uuid4(), "worker-1", LEASE)])
            failure = Failure("ValueError", "broken", "Traceback ...")
            if state == "retrying":
                jobs.settle(connection, [Outcome(first, "retry", "worker-1", failure=failure)])
            elif state == "succeeded":
                jobs.settle(connection, [Outcome(first, "succeeded", "worker-1", result=result)])
            elif state == "failed":
                jobs.settle(connection, [Outcome(first, "failed", "worker-1", failure=failure)])
            elif state == "cancelled":
                jobs.cancel(connection, job_id, Scope(self.organization, None), actor=self.user)
        return self.find(job_id)

    def operation(self, number: UUID) -> None:
        """A bulk operation of this caller's, with this id: a cancel of all their jobs."""
        mine = Scope(self.organization, self.user)
        new = NewOperation(number, Action.CANCEL, mine, self.user, {"filter": {}})
        with self.api.database.begin() as connection:
            begin(connection, new, Filters(), at_once=9, judge=lambda _: {}, origin=None)

    def schedule(self, schedule_id: UUID, name: str, **said: Any) -> Schedule:
        """A schedule of this caller: of a handler that needs a permission, each minute, unless it is said."""
        plan = Plan(name, **{"job_type": "guarded", "payload": {"kind": "small"}, "every_seconds": 60, **said})
        new = NewSchedule(schedule_id, Owner(self.organization, self.user), plan, PERMISSION)
        with self.api.database.begin() as connection:
            return keeping.create(connection, new, By(self.user))

    def template(self, template_id: UUID, name: str, **content: Any) -> Template:
        """A template of this caller's organization, of a handler that needs a permission."""
        said = Content(**{"payload": {"kind": "small"}, **content})
        with self.api.database.begin() as connection:
            return templates.create(
                connection,
                said,
                template_id=template_id,
                organization_id=self.organization,
                name=name,
                job_type="guarded",
                actor=self.user,
                origin=None,
            )

    def workflow(self, workflow_id: UUID, state: str = "queued") -> UUID:
        """A workflow of this caller with one job, of a handler that needs a permission, in this state; the job."""
        job = Node("one", "guarded", {"kind": "small"})
        begun = begin_workflow(self.api.database, job, id=workflow_id, owner=Owner(self.organization, self.user))
        job_id = begun.jobs["one"].id
        if state == "cancelled":
            with self.api.database.autocommit() as connection:
                jobs.cancel(connection, job_id, Scope(self.organization, None), actor=self.user)
        return job_id

    def webhook(self, webhook_id: UUID, url: str = "https://hooks.example.com/", **said: Any) -> Webhook:
        """A webhook of the caller's organization."""
        wanted, by = Wanted(url, **{"events": ("job.completed",), **said}), By(self.user, None)
        with self.api.database.begin() as connection:
            return webhooks.create(connection, webhook_id, self.organization, wanted, by)

    def delivery(
        self, webhook_id: UUID, state: str, job_id: UUID | None = None, *, about: UUID | None = None
    ) -> JobRecord:
        """A delivery of that webhook in this state, of that id; `about`: the job that it tells of."""
        job = str(about or uuid4())
        told = {"type": "job.completed", "timestamp": "2026-01-01T00:00:00.000Z", "data": {"jobId": job}}
        return self.but(organization=delivering(self.organization), user=job).job(
            state,
            id=job_id,
            job_type="webhook_delivery",
            queue="webhooks",
            project_id=str(webhook_id),
            payload={"webhookId": str(webhook_id), "event": "job.completed", "message": told},
            result={"status": 204},
        )

    def report(self, job: JobRecord, **news: Any) -> None:
        """Progress of a running job."""
        with self.api.database.autocommit() as connection:
            assert jobs.report(connection, Progress(job.fence, job.attempt, **news))

    def find(self, job_id: UUID | str) -> JobRecord:
        """The row of a job."""
        with self.api.database.autocommit() as connection:
            found = lists.find(connection, UUID(str(job_id)))
        assert found is not None
        return found

    def timeline(self, job_id: UUID | str) -> list[HistoryEntry]:
        """The history of a job."""
        with self.api.database.autocommit() as connection:
            return list(lists.timeline(connection, UUID(str(job_id))))


def asked(client: httpx.Client, method: str, path: str, *, until: bytes = b"", **options: Any) -> httpx.Response:
    """The answer to a request; of a stream of events, which does not end, its beginning, in which `until` has come."""
    with client.stream(method, path, **options) as response:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            response.read()
            return response
        content, parts = b"", response.iter_bytes()
        while not content or until not in content:
            content += next(parts)
        return httpx.Response(response.status_code, headers=response.headers, content=content)


def as_bytes(headers: Mapping[str, str | bytes]) -> list[tuple[bytes, bytes]]:
    """Headers that hold whatever they hold."""
    return [(name.encode(), value.encode() if isinstance(value, str) else value) for name, value in headers.items()]


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of a response that must be this problem."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code), body
    return body
