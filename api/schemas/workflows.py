"""Workflows, as they are asked for and answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field

from api.schemas.answers import Answered
from api.schemas.fields import (
    END,
    JsonObject,
    KeptInstant,
    Limit,
    Listed,
    Name,
    Payload,
    Percent,
    Segment,
    Text,
    Whole,
)
from api.schemas.requests import Asked, Elsewhere, digest_of
from tracking.models import JobRecord
from tracking.states import Hold, When
from tracking.values import Instant
from tracking.workflow_tables import WorkflowStatus
from tracking.workflows.reads import Workflows as WorkflowsPage
from tracking.workflows.values import MOST_JOBS, NODE_STATUSES, Begun, NodeState
from tracking.workflows.values import After as AfterValue
from tracking.workflows.values import Node as NodeValue
from tracking.workflows.values import Workflow as WorkflowRecord

KEY = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,99}"
Key = Annotated[str, Field(pattern=f"{KEY}$", max_length=100, json_schema_extra={"pattern": f"{KEY}{END}"})]
MOST_AFTER = MOST_JOBS  # how many may be tried; fewer are allowed, and told of with the other problems

EXAMPLE: dict[str, Any] = {
    "name": "nightly figures",
    "jobs": {
        "report": {"jobType": "export_report", "payload": {"reportType": "jobs"}},
        "tell": {
            "jobType": "notification",
            "payload": {
                "channel": "log",
                "subject": "The figures are there",
                "data": {"where": {"$from": "report", "path": "/result/downloadUrl"}},
            },
            "after": [{"key": "report", "when": "succeeded"}],
        },
    },
}


class After(Asked):
    """What a job waits for."""

    key: Key = Field(description="Of another job of the workflow.")
    when: When = Field(default=When.SUCCEEDED, description="For which end; finished: any, and its body is over.")


class WorkflowJob(Asked):
    """A job of a workflow to create."""

    job_type: Name
    payload: JsonObject = Field(
        default={},
        description='What the handler takes; a value may be `{"$from": "key", "path": "/result/rows"}`.',
    )
    after: list[After] = Field(default=[], max_length=MOST_AFTER)
    priority: Annotated[int | None, Whole] = Field(
        default=None, strict=True, ge=0, le=9, description="Unset: as the handler says."
    )
    max_retries: Annotated[int | None, Whole] = Field(
        default=None, strict=True, ge=0, le=100, description="Unset: as the handler says."
    )
    scheduled_at: KeptInstant | None = Field(default=None, description="Not to be started earlier.")
    message: Text | None = Field(default=None, description="Shown until the handler reports its own.")
    metadata: JsonObject = Field(default={}, description="Kept with the job, not seen by the handler.")


class NewWorkflow(Asked):
    """A workflow to create."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    name: Name
    jobs: dict[Key, WorkflowJob] = Field(min_length=1, description=f"By their keys; at most {MOST_JOBS:,}.")
    project_id: Segment | None = Field(default=None, description="Of all its jobs.")

    @property
    def nodes(self) -> list[NodeValue]:
        return [_node(key, job) for key, job in self.jobs.items()]

    @property
    def digest(self) -> str:
        """The same for two requests that ask for the same."""
        return digest_of(self)


def _node(key: str, job: WorkflowJob) -> NodeValue:
    said = {name: value for name, value in job if name != "after"}
    return NodeValue(key=key, after=[AfterValue(after.key, after.when) for after in job.after], **said)


class WorkflowCancel(Asked):
    """Why a workflow is cancelled."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "wrong month"}]})

    reason: Text | None = None


class WorkflowRetry(Asked):
    """Which part of a workflow is run again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"part": "failed"}]})

    part: Literal["failed", "whole"] = Field(
        default="failed", description="failed: what has failed or was cancelled, and all that follows it."
    )


class WorkflowsQuery(Elsewhere):
    """Which workflows."""

    status: Annotated[list[WorkflowStatus], Listed] = Field(default=[], max_length=len(WorkflowStatus))
    name: Name | None = None
    limit: Limit = 50
    cursor: UUID | None = None


class JobCounts(Answered):
    """How many jobs of a workflow are so."""

    total: int
    queued: int
    running: int
    retrying: int
    succeeded: int
    failed: int
    cancelled: int
    skipped: int = Field(description="Cancelled because what they wait for cannot come.")


class Workflow(Answered):
    """A workflow; what it says of itself is said by its jobs."""

    id: UUID
    organization_id: str
    user_id: str
    name: str
    project_id: str | None
    run: int = Field(description="1, and one more with each retry.")
    status: WorkflowStatus = Field(
        description="Over when all jobs are: failed if one has failed, cancelled if one was cancelled, else succeeded;"
        " what was skipped says nothing."
    )
    progress: Percent
    counts: JobCounts
    worker_seconds: float = Field(
        description="For which workers were busy: all attempts of its jobs, of earlier runs, and of what they sent."
    )
    cancelled_by: str | None
    reason: str | None = Field(description="Why it was cancelled.")
    created_at: Instant
    started_at: Instant | None
    completed_at: Instant | None

    @classmethod
    def of(cls, workflow: WorkflowRecord, **more: Any) -> Self:
        """The workflow as clients see it."""
        kept = {name: getattr(workflow, name) for name in KEPT}
        return cls(
            organization_id=workflow.owner.organization_id,
            user_id=workflow.owner.user_id,
            counts=JobCounts(total=sum(workflow.counts.values()), **workflow.counts),
            worker_seconds=round(workflow.worker_time / timedelta(seconds=1), 3),
            **kept,
            **more,
        )


KEPT = (
    *("id", "name", "project_id", "run", "status", "progress", "cancelled_by", "reason"),
    *("created_at", "started_at", "completed_at"),
)


class AnsweredAfter(Answered):
    """What a job waits for."""

    key: str
    when: When


class Node(Answered):
    """A job of a workflow. The other reads of a job tell more of it."""

    key: str
    job_id: UUID | None = Field(description="In the latest run that it was in; null: the job was removed.")
    job_type: str
    status: Literal[NODE_STATUSES]  # type: ignore[valid-type]  # from the data
    hold: Hold | None
    progress: Percent
    run: int = Field(description="Of the workflow, in which this job was made.")
    after: list[AnsweredAfter]
    payload: Payload = Field(description="As it was given: the job has it with its values filled in.")
    error_message: str | None
    started_at: Instant | None
    completed_at: Instant | None

    @classmethod
    def of(cls, state: NodeState) -> Self:
        """The job as clients see it."""
        node = state.node
        kept = ("status", "hold", "progress", "run", "error_message", "started_at", "completed_at")
        return cls(
            key=node.key,
            job_id=None if state.is_gone else state.job_id,
            job_type=node.job_type,
            after=[AnsweredAfter.model_validate(after) for after in node.after],
            payload=dict(node.payload),
            **{name: getattr(state, name) for name in kept},
        )


class WorkflowWithJobs(Workflow):
    """A workflow with its jobs, each after all that it waits for."""

    jobs: list[Node]

    @classmethod
    def with_jobs(cls, workflow: WorkflowRecord, jobs: Sequence[NodeState]) -> Self:
        """The workflow as clients see it."""
        return cls.of(workflow, jobs=[Node.of(job) for job in jobs])


class Workflows(Answered):
    """A page of workflows, newest first."""

    workflows: list[Workflow]
    next_cursor: UUID | None = Field(description="Where the next page begins; null: there is none.")

    @classmethod
    def of(cls, page: WorkflowsPage) -> Self:
        """The page as clients see it."""
        return cls(workflows=[Workflow.of(each) for each in page.workflows], next_cursor=page.next_cursor)


class WorkflowCreated(Answered):
    """A workflow was accepted."""

    workflow_id: UUID
    message: str
    jobs: dict[str, UUID] = Field(description="The ids of its jobs, by their keys.")


class WorkflowMoved(Answered):
    """A workflow was cancelled or retried."""

    message: str
    status: WorkflowStatus
    jobs: dict[str, UUID] = Field(description="Those that a retry has made, by their keys; the others stay.")

    @classmethod
    def of(cls, message: str, workflow: WorkflowRecord, begun: Begun | None = None) -> Self:
        """The answer about this workflow."""
        made: dict[str, JobRecord] = {} if begun is None else dict(begun.jobs)
        return cls(message=message, status=workflow.status, jobs={key: job.id for key, job in made.items()})
