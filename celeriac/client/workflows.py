"""The client's requests about workflows, and what they are answered."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from celeriac.client.answers import Answer, Paged
from celeriac.client.calling import Flow, Pause, Steps, call, listing
from celeriac.client.transport import PAUSE, TOO_LATE, ApiError, Requests, given
from tracking.states import Hold
from tracking.values import Instant

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ENDED = ("succeeded", "failed", "cancelled")


class WorkflowCounts(Answer):
    """How many jobs of a workflow are so. `skipped`: cancelled, because what they wait for cannot come."""

    total: int
    queued: int
    running: int
    retrying: int
    succeeded: int
    failed: int
    cancelled: int
    skipped: int


class Workflow(Answer):
    """A workflow. `run` grows with each retry; `worker_seconds`: for which workers were busy with it."""

    id: UUID
    organization_id: str
    user_id: str
    name: str
    project_id: str | None
    run: int
    status: Status
    progress: int
    counts: WorkflowCounts
    worker_seconds: float
    cancelled_by: str | None
    reason: str | None
    created_at: Instant
    started_at: Instant | None
    completed_at: Instant | None


class WorkflowAfter(Answer):
    """What a job of a workflow waits for: that the one with this key ends so."""

    key: str
    when: Literal["succeeded", "failed", "finished"]


class WorkflowJob(Answer):
    """A job of a workflow. `job_id` None: it was removed."""

    key: str
    job_id: UUID | None
    job_type: str
    status: Literal["queued", "running", "retrying", "succeeded", "failed", "cancelled", "skipped"]
    hold: Hold | None
    progress: int
    run: int
    after: tuple[WorkflowAfter, ...]
    payload: dict[str, Any]
    error_message: str | None
    started_at: Instant | None
    completed_at: Instant | None


class WorkflowWithJobs(Workflow):
    """A workflow with its jobs, each after all that it waits for."""

    jobs: tuple[WorkflowJob, ...]


class CreatedWorkflow(Answer):
    """An accepted workflow, and the ids of its jobs by their keys."""

    workflow_id: UUID
    message: str
    jobs: dict[str, UUID]


class MovedWorkflow(Answer):
    """A workflow that was cancelled or retried; `jobs`: those that a retry has made, by their keys."""

    message: str
    status: Status
    jobs: dict[str, UUID]


class Workflows(Paged):
    """A page of workflows."""

    workflows: tuple[Workflow, ...]


class WorkflowRequests(Requests):
    """Requests about workflows."""

    @call
    def create_workflow(
        self,
        name: str,
        jobs: Mapping[str, Mapping[str, Any]],
        *,
        project_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Steps[CreatedWorkflow]:
        """Have a workflow accepted, all of it or nothing; `jobs`: in the words of the API, by their keys.

        Repeated like `create`, and with the same key the same workflow.
        """
        body = given({"name": name, "jobs": {key: _job(job) for key, job in jobs.items()}, "projectId": project_id})
        return self._create(CreatedWorkflow, "/v1/workflows", body, idempotency_key)

    @call
    def workflow(self, workflow_id: UUID) -> Steps[WorkflowWithJobs]:
        """One workflow with its jobs."""
        return self._get(WorkflowWithJobs, _workflow(workflow_id))

    @listing
    def workflows(self, *, status: Sequence[Status] = (), name: str | None = None) -> Flow[Workflow]:
        """The workflows that the caller sees, newest first, each once."""
        wanted = given({"status": ",".join(status) or None, "name": name})
        return self._pages(Workflows, "/v1/workflows", lambda page: page.workflows, **wanted)

    @call
    def cancel_workflow(self, workflow_id: UUID, *, reason: str | None = None) -> Steps[MovedWorkflow]:
        """End all that has not ended; "illegal_workflow_move" when it is over. Not repeated."""
        body = given({"reason": reason})
        return self._ask(MovedWorkflow, "POST", f"/v1/workflows/{workflow_id}/cancel", json=body)

    @call
    def retry_workflow(self, workflow_id: UUID, *, part: Literal["failed", "whole"] = "failed") -> Steps[MovedWorkflow]:
        """Run it again: what has failed and all that follows it, or the whole. Not repeated."""
        return self._ask(MovedWorkflow, "POST", f"/v1/workflows/{workflow_id}/retry", json={"part": part})

    @call
    def wait_for_workflow(self, workflow_id: UUID, *, within: float, every: float = PAUSE) -> Steps[WorkflowWithJobs]:
        """The workflow at its end, whichever that is. After `within` seconds raises an ApiError "too_late"."""
        deadline = time.monotonic() + within
        while True:
            found = yield from self._get(WorkflowWithJobs, _workflow(workflow_id))
            if found.status in ENDED:
                return found
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                told = f"{workflow_id} is {found.status} at {found.progress} %"
                raise ApiError(TOO_LATE, "The workflow did not end in time", told)
            yield Pause(min(every, remaining))


def _workflow(workflow_id: UUID) -> str:
    return f"/v1/workflows/{workflow_id}"


def _job(said: Any) -> Any:
    """As JSON has it; what is no object is for the API to refuse."""
    return dict(said) if isinstance(said, Mapping) else said
