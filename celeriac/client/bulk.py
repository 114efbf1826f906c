"""The client's requests about many jobs: creating them at once, and one verb for all that match."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack
from uuid import UUID

from celeriac.client.answers import CreatedJobs, JobResult, Operation, Operations, Preview, Results
from celeriac.client.calling import Flow, Pause, Steps, call, listing
from celeriac.client.transport import PAUSE, TOO_LATE, ApiError, Requests, given
from tracking.states import Status

Action = Literal["cancel", "retry", "delete", "reprioritize"]


class Said(TypedDict, total=False):
    """What may be said of a job that is asked for, besides its type or template and its payload."""

    priority: int | None
    max_retries: int | None
    scheduled_at: datetime | None
    depends_on: Sequence[UUID]
    project_id: str | None
    message: str | None
    metadata: Mapping[str, Any] | None
    idempotency_key: str | None


class NewJob(Said, total=False):
    """One of many; `job_type` has to be there."""

    job_type: str
    payload: Mapping[str, Any] | None


class Chosen(TypedDict, total=False):
    """Which jobs, as `jobs` takes it; without anything all that the caller sees."""

    status: Sequence[Status]
    job_type: str | None
    project_id: str | None
    user_id: str | None
    created_from: datetime | None
    created_to: datetime | None
    completed_from: datetime | None
    completed_to: datetime | None
    search: str | None
    error: str | None


class BulkRequests(Requests):
    """Requests about many jobs."""

    @call
    def create_all(
        self, jobs: Sequence[NewJob], *, mode: Literal["all", "each"] = "all", idempotency_key: str | None = None
    ) -> Steps[CreatedJobs]:
        """Have up to 10,000 jobs accepted at once, all or none of them; with "each" an answer for each.

        Repeated like `create`, and with the same key the same jobs.
        """
        body = {"mode": mode, "jobs": [_of_many(job) for job in jobs]}
        return self._create(CreatedJobs, "/v1/jobs/bulk", body, idempotency_key)

    @call
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
    ) -> Steps[Operation]:
        """Have a verb applied to the jobs of these `ids`, or to all that match now; returns before it is done.

        `priority`: of reprioritize or retry. `force`: of retry. `canary`: so many are retried first, the others only
        if all of these succeed. Repeated like `create`. "too_many_operations" when the organization has its share.
        """
        body = _asked(action, ids, chosen) | given({"priority": priority, "force": force or None, "canary": canary})
        return self._create(Operation, "/v1/bulk", body, idempotency_key)

    @call
    def preview(self, action: Action, *, ids: Sequence[UUID] | None = None, **chosen: Unpack[Chosen]) -> Steps[Preview]:
        """How many jobs `begin` would touch, and the newest of them; nothing is changed."""
        needed = {"priority": 0} if action == "reprioritize" else {}
        body = {**_asked(action, ids, chosen), **needed, "dryRun": True}
        return self._repeat(Preview, "POST", "/v1/bulk", json=body)

    @call
    def operation(self, operation_id: UUID) -> Steps[Operation]:
        """One bulk operation, and how far it is."""
        return self._get(Operation, _operation(operation_id))

    @listing
    def operations(self, *, state: Sequence[str] = ()) -> Flow[Operation]:
        """The bulk operations, newest first, each once."""
        return self._pages(
            Operations, "/v1/bulk", lambda page: page.operations, **given({"state": ",".join(state) or None})
        )

    @listing
    def results(self, operation_id: UUID, *, outcome: Sequence[str] = ()) -> Flow[JobResult]:
        """What became of the jobs of an operation, by their ids: "succeeded", "refused", "failed" or "pending"."""
        wanted = given({"outcome": ",".join(outcome) or None})
        return self._pages(Results, f"/v1/bulk/{operation_id}/jobs", lambda page: page.jobs, **wanted)

    @call
    def abort(self, operation_id: UUID) -> Steps[Operation]:
        """End a bulk operation; "operation_ended" when it has. Not repeated: the answer would be another."""
        return self._ask(Operation, "POST", f"/v1/bulk/{operation_id}/abort")

    @call
    def wait_for(self, operation_id: UUID, *, within: float, every: float = PAUSE) -> Steps[Operation]:
        """The bulk operation at its end, whichever that is: look at its `state` and `counts`.

        After `within` seconds an ApiError "too_late" is raised; the operation goes on.
        """
        deadline = time.monotonic() + within
        while True:
            operation = yield from self._get(Operation, _operation(operation_id))
            if operation.completed_at is not None:
                return operation
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                told = f"{operation_id} has done {operation.counts.done} of {operation.counts.matched} jobs"
                raise ApiError(TOO_LATE, "The operation did not end in time", told)
            yield Pause(min(every, remaining))


def new_job(job: NewJob) -> dict[str, Any]:
    """A job to create, in the words of the API."""
    return {"jobType": job["job_type"], **said_of(job.get("payload"), job)}


def said_of(payload: Mapping[str, Any] | None, job: Said | NewJob) -> dict[str, Any]:
    """The payload of a job, and what is said of it beside its type, in the words of the API."""
    scheduled_at, depends_on = job.get("scheduled_at"), job.get("depends_on", ())
    return given(
        {
            "payload": payload,
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
    """Which jobs, in the words of the API; the statuses as a list, which the API refuses when it is empty."""
    times: dict[str, datetime | None] = {
        "createdFrom": chosen.get("created_from"),
        "createdTo": chosen.get("created_to"),
        "completedFrom": chosen.get("completed_from"),
        "completedTo": chosen.get("completed_to"),
    }
    return given(
        {
            "status": [str(status) for status in chosen["status"]] if "status" in chosen else None,
            "jobType": chosen.get("job_type"),
            "projectId": chosen.get("project_id"),
            "userId": chosen.get("user_id"),
            **{name: at.isoformat() if at else None for name, at in times.items()},
            "q": chosen.get("search"),
            "error": chosen.get("error"),
        }
    )


def _of_many(job: NewJob) -> dict[str, Any]:
    return new_job(job) | given({"idempotencyKey": job.get("idempotency_key")})


def _asked(action: Action, ids: Sequence[UUID] | None, chosen: Chosen) -> dict[str, Any]:
    if ids is not None and chosen:
        raise ValueError("either ids or what else is given says which jobs")
    which = {"filter": filter_of(chosen)} if ids is None else {"ids": [str(job_id) for job_id in ids]}
    return {"action": action, **which}


def _operation(operation_id: UUID) -> str:
    return f"/v1/bulk/{operation_id}"
