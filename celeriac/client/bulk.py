"""The client's requests about many jobs: creating them at once, and one verb for all that match."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack
from uuid import UUID, uuid4

from celeriac.client.answers import CreatedJobs, JobResult, Operation, Operations, Preview, Results
from celeriac.client.transport import PAUSE, TOO_LATE, ApiError, Transport, given, read
from tracking.states import Status

Action = Literal["cancel", "retry", "delete", "reprioritize"]


class NewJob(TypedDict, total=False):
    """What `create` takes of one job; `job_type` has to be there."""

    job_type: str
    payload: Mapping[str, Any] | None
    priority: int | None
    max_retries: int | None
    scheduled_at: datetime | None
    depends_on: Sequence[UUID]
    project_id: str | None
    message: str | None
    metadata: Mapping[str, Any] | None
    idempotency_key: str | None


class Chosen(TypedDict, total=False):
    """Which jobs, as `jobs` takes it; without anything all that the caller sees."""

    status: Sequence[Status]
    job_type: str | None
    project_id: str | None
    user_id: str | None
    created_from: datetime | None
    created_to: datetime | None
    search: str | None


class BulkRequests(Transport):
    """Requests about many jobs."""

    def create_all(
        self, jobs: Sequence[NewJob], *, mode: Literal["all", "each"] = "all", idempotency_key: str | None = None
    ) -> CreatedJobs:
        """Have up to 10,000 jobs accepted at once, all or none of them; with "each" an answer for each.

        Repeated like `create`, and with the same key the same jobs.
        """
        body = {"mode": mode, "jobs": [_of_many(job) for job in jobs]}
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return read(CreatedJobs, self._repeat("POST", "/v1/jobs/bulk", json=body, headers=headers))

    def begin(
        self,
        action: Action,
        *,
        ids: Sequence[UUID] | None = None,
        priority: int | None = None,
        force: bool = False,
        canary: int | None = None,
        idempotency_key: str | None = None,
        **chosen: Unpack[Chosen],
    ) -> Operation:
        """Have a verb applied to the jobs of these `ids`, or to all that match now; returns before it is done.

        `priority`: of reprioritize or retry. `force`: of retry. `canary`: so many are retried first, the others only
        if all of these succeed. Repeated like `create`. "too_many_operations" when the organization has its share.
        """
        body = _asked(action, ids, chosen) | given({"priority": priority, "force": force or None, "canary": canary})
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return read(Operation, self._repeat("POST", "/v1/bulk", json=body, headers=headers))

    def preview(self, action: Action, *, ids: Sequence[UUID] | None = None, **chosen: Unpack[Chosen]) -> Preview:
        """How many jobs `begin` would touch, and the newest of them; nothing is changed."""
        needed = {"priority": 0} if action == "reprioritize" else {}
        body = {**_asked(action, ids, chosen), **needed, "dryRun": True}
        return read(Preview, self._repeat("POST", "/v1/bulk", json=body))

    def operation(self, operation_id: UUID) -> Operation:
        """One bulk operation, and how far it is."""
        return self._get(Operation, f"/v1/bulk/{operation_id}")

    def operations(self, *, state: Sequence[str] = ()) -> Iterator[Operation]:
        """The bulk operations, newest first, each once."""
        for page in self._pages(Operations, "/v1/bulk", **given({"state": ",".join(state) or None})):
            yield from page.operations

    def results(self, operation_id: UUID, *, outcome: Sequence[str] = ()) -> Iterator[JobResult]:
        """What became of the jobs of an operation, by their ids: "succeeded", "refused", "failed" or "pending"."""
        wanted = given({"outcome": ",".join(outcome) or None})
        for page in self._pages(Results, f"/v1/bulk/{operation_id}/jobs", **wanted):
            yield from page.jobs

    def abort(self, operation_id: UUID) -> Operation:
        """End a bulk operation; "operation_ended" when it has. Not repeated: the answer would be another."""
        return read(Operation, self._ask("POST", f"/v1/bulk/{operation_id}/abort"))

    def wait_for(self, operation_id: UUID, *, within: float, every: float = PAUSE) -> Operation:
        """The bulk operation at its end, whichever that is: look at its `state` and `counts`.

        After `within` seconds an ApiError "too_late" is raised; the operation goes on.
        """
        deadline = time.monotonic() + within
        while True:
            operation = self.operation(operation_id)
            if operation.completed_at is not None:
                return operation
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                told = f"{operation_id} has done {operation.counts.done} of {operation.counts.matched} jobs"
                raise ApiError(TOO_LATE, "The operation did not end in time", told)
            time.sleep(min(every, remaining))


def new_job(job: NewJob) -> dict[str, Any]:
    """A job to create, in the words of the API."""
    return {"jobType": job["job_type"], **said_of(job)}


def said_of(job: NewJob) -> dict[str, Any]:
    """What is said of a job beside its type, in the words of the API."""
    scheduled_at, depends_on = job.get("scheduled_at"), job.get("depends_on", ())
    return given(
        {
            "payload": job.get("payload"),
            "priority": job.get("priority"),
            "maxRetries": job.get("max_retries"),
            "scheduledAt": scheduled_at.isoformat() if scheduled_at else None,
            "dependsOn": [str(job_id) for job_id in depends_on] or None,
            "projectId": job.get("project_id"),
            "message": job.get("message"),
            "metadata": job.get("metadata"),
        }
    )


def filter_of(chosen: Chosen) -> dict[str, Any]:
    """Which jobs, in the words of the API; the statuses as a list."""
    created_from, created_to = chosen.get("created_from"), chosen.get("created_to")
    return given(
        {
            "status": [str(status) for status in chosen.get("status", ())] or None,
            "jobType": chosen.get("job_type"),
            "projectId": chosen.get("project_id"),
            "userId": chosen.get("user_id"),
            "createdFrom": created_from.isoformat() if created_from else None,
            "createdTo": created_to.isoformat() if created_to else None,
            "q": chosen.get("search"),
        }
    )


def _of_many(job: NewJob) -> dict[str, Any]:
    return new_job(job) | given({"idempotencyKey": job.get("idempotency_key")})


def _asked(action: Action, ids: Sequence[UUID] | None, chosen: Chosen) -> dict[str, Any]:
    if ids is not None and chosen:
        raise ValueError("either ids or what else is given says which jobs")
    which = {"filter": filter_of(chosen)} if ids is None else {"ids": [str(job_id) for job_id in ids]}
    return {"action": action, **which}
