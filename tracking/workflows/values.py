"""The frozen values of workflows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from tracking.models import JobRecord, JsonObject, NewJob, Owner
from tracking.states import Hold, When
from tracking.workflow_tables import SKIPPED, WorkflowStatus

MOST_JOBS = 1000  # of one workflow: they are accepted in one statement
NODE_STATUSES = ("queued", "running", "retrying", "succeeded", "failed", "cancelled", SKIPPED)
DONE = ("succeeded", SKIPPED)  # what the retry of the failed part lets be, unless it follows that


@dataclass(frozen=True, slots=True)
class After:
    """What a job of a workflow waits for: that the one with this key ends so."""

    key: str
    when: When = When.SUCCEEDED


@dataclass(frozen=True, slots=True)
class Node:
    """A job of a workflow, as it was asked for. None is as the handler says, or unsaid.

    Its payload may name results of earlier ones; see tracking.workflows.references.
    """

    key: str
    job_type: str
    payload: JsonObject = field(default_factory=dict)
    after: Sequence[After] = ()
    priority: int | None = None
    max_retries: int | None = None
    scheduled_at: datetime | None = None
    message: str | None = None
    metadata: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewWorkflow:
    """A workflow to create: its jobs in an order in which each comes after all that it waits for."""

    id: UUID
    owner: Owner
    name: str
    jobs: Sequence[tuple[Node, NewJob]]
    project_id: str | None = None
    idempotency_key: str | None = None
    request_hash: str | None = None


@dataclass(frozen=True, slots=True)
class NodeState:
    """A job of a workflow as it is now. `status`: one of NODE_STATUSES; SKIPPED: what it waits for cannot come.

    `is_gone`: its row was removed; the status is that at the end of the workflow then.
    """

    node: Node
    job_id: UUID
    run: int
    status: str
    is_gone: bool
    hold: Hold | None
    progress: int
    stopping: bool
    error_message: str | None
    started_at: datetime | None
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow, and what its jobs say of it. `counts`: how many of them have each of NODE_STATUSES.

    `worker_time`: of all attempts of all its jobs, of those as well that a retry has replaced, and that its jobs sent.
    """

    id: UUID
    owner: Owner
    name: str
    project_id: str | None
    run: int
    status: WorkflowStatus
    progress: int
    counts: Mapping[str, int]
    worker_time: timedelta
    cancelled_by: str | None
    reason: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None

    @classmethod
    def of(cls, row: Any) -> Self:
        """A row of workflows beside what its jobs say."""
        return cls(
            id=row.id,
            owner=Owner(row.organization_id, row.user_id),
            name=row.name,
            project_id=row.project_id,
            run=row.run,
            status=WorkflowStatus(row.status_now),
            progress=row.progress,
            counts={status: getattr(row, f"are_{status}") for status in NODE_STATUSES},
            worker_time=timedelta(milliseconds=int(row.worker_ms_now)),
            cancelled_by=row.cancelled_by,
            reason=row.reason,
            created_at=row.created_at,
            started_at=row.started_at,
            completed_at=row.completed_at_now,
        )

    @property
    def is_over(self) -> bool:
        """Whether all its jobs are."""
        return self.status not in (WorkflowStatus.QUEUED, WorkflowStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class Begun:
    """A workflow that was accepted, or its next run; `created` is False when it was there already.

    `jobs`: those that are new, by their keys.
    """

    id: UUID
    jobs: Mapping[str, JobRecord]
    created: bool
