"""What the tests of the API call it with: tokens, callers, and jobs brought into any state."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import Any
from uuid import UUID, uuid4

import httpx2
import jwt
import psutil

from tests.api.handlers import PERMISSION
from tests.workflowing import begin as begin_workflow
from tracking import denied_tokens, jobs, templates, uploads, views, webhooks
from tracking.admission import job_limits
from tracking.admission.job_limits import JobLimit, Per
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.denied_tokens import Denial, NewDenial
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
from tracking.uploads import File, NewFile
from tracking.views import View
from tracking.webhooks import Wanted, Webhook, delivering
from tracking.workflows.values import Node

ORDINARY = ("jobs.create_jobs", "jobs.view_jobs", "jobs.cancel_jobs", "jobs.retry_jobs")
MANAGING = (
    *("jobs.manage_jobs", "jobs.manage_schedules", "jobs.manage_templates", "jobs.manage_webhooks"),
    *("jobs.manage_platform", "jobs.view_audit"),
)
EVERYTHING = (*ORDINARY, *MANAGING, "reports.export_reports", "data.process_data", PERMISSION)
LEASE = UUID(int=1)
# What a client trusts that speaks no TLS: nobody. To read who is to be trusted takes ten times what a request does.
PLAIN = SSLContext(PROTOCOL_TLS_CLIENT)
# The fingerprint of a job of the type `guarded` that was made as failed here.
OF_GUARDED = hashlib.md5(b"guarded\x1fValueError\x1fbroken", usedforsecurity=False).hexdigest()[:16]


@dataclass(frozen=True)
class Api:
    """A running server and the database behind it."""

    url: str
    secret: str
    client: httpx2.Client
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
        token = self.api.token(sub=self.user, org=self.organization, permissions=list(self.permissions))
        return {"Authorization": f"Bearer {token}"}

    def get(self, path: str, *, headers: dict[str, str] | None = None, **params: Any) -> httpx2.Response:
        return self.api.client.get(path, params=params or None, headers={**self.headers, **(headers or {})})

    def post(self, path: str, body: Any = None, *, headers: dict[str, str] | None = None) -> httpx2.Response:
        return self.api.client.post(path, json=body, headers={**self.headers, **(headers or {})})

    def patch(self, path: str, body: Any, *, headers: dict[str, str] | None = None) -> httpx2.Response:
        return self.api.client.patch(path, json=body, headers={**self.headers, **(headers or {})})

    def delete(self, path: str) -> httpx2.Response:
        return self.api.client.delete(path, headers=self.headers)

    def put(self, path: str, body: Any) -> httpx2.Response:
        return self.api.client.put(path, json=body, headers=self.headers)

    def send(self, body: bytes | Iterable[bytes], **headers: str) -> httpx2.Response:
        """POST these bytes to /v1/jobs as JSON."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {**self.headers, "Content-Type": "application/json", **given}
        return self.api.client.post("/v1/jobs", content=body, headers=sent)

    def create(self, job_type: str = "open", *, key: str | None = None, **fields: Any) -> httpx2.Response:
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

    def file(self, file_id: UUID, content: bytes = b"a\n1\n", name: str = "x.csv") -> File:
        """A file that this caller has uploaded; only its row."""
        new = NewFile(file_id, name, len(content), hashlib.sha256(content).hexdigest())
        owner, by = Owner(self.organization, self.user), By(self.user, None)
        with self.api.database.begin() as connection:
            return uploads.add(connection, owner, new, most=1000, lifetime=timedelta(days=1), by=by)

    def view(self, view_id: UUID, name: str, search: str = "status:failed") -> View:
        """A search that this caller has saved."""
        owner, by = Owner(self.organization, self.user), By(self.user, None)
        with self.api.database.begin() as connection:
            return views.save(connection, owner, view_id=view_id, name=name, search=search, by=by)

    def job_limit(self, limit_id: UUID) -> JobLimit:
        """A limit of the caller's organization."""
        limit = job_limits.Wanted(
            self.organization, "open", Per.ORGANIZATION, None, concurrency=9, rate=None, period=None
        )
        with self.api.database.begin() as connection:
            return job_limits.put(connection, limit_id, limit, actor=self.user, origin=None)

    def denial(self, denial_id: UUID) -> Denial:
        """Tokens of somebody in the caller's organization that are taken no more."""
        new = NewDenial(self.organization, None, "nobody", None, denial_id, None)
        with self.api.database.begin() as connection:
            return denied_tokens.put(connection, new, timedelta(days=1), By(self.user))

    def webhook(self, webhook_id: UUID, url: str = "https://hooks.example.com/", **said: Any) -> Webhook:
        """A webhook of the caller's organization."""
        wanted, by = Wanted(url, **{"events": ("job.completed",), **said}), By(self.user, None)
        with self.api.database.begin() as connection:
            return webhooks.create(connection, webhook_id, self.organization, wanted, by)

    def delivery(
        self, webhook_id: UUID, state: str, job_id: UUID | None = None, *, about: UUID | None = None, what: str = "job"
    ) -> JobRecord:
        """A delivery of that webhook in this state, of that id; `about`: the job, or `what` else, that it tells of."""
        subject = str(about or uuid4())
        told = {"type": "job.completed", "timestamp": "2026-01-01T00:00:00.000Z", "data": {f"{what}Id": subject}}
        return self.but(organization=delivering(self.organization), user=subject).job(
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


def asked(client: httpx2.Client, method: str, path: str, *, until: bytes = b"", **options: Any) -> httpx2.Response:
    """The answer to a request; of a stream of events, which does not end, its beginning, in which `until` has come."""
    with client.stream(method, path, **options) as response:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            response.read()
            return response
        content, parts = b"", response.iter_bytes()
        while not content or until not in content:
            content += next(parts)
        return httpx2.Response(response.status_code, headers=response.headers, content=content)


def as_bytes(headers: Mapping[str, str | bytes]) -> list[tuple[bytes, bytes]]:
    """Headers that hold whatever they hold."""
    return [(name.encode(), value.encode() if isinstance(value, str) else value) for name, value in headers.items()]


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The body of a response that must be this problem."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code), body
    return body
