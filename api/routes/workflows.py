"""Workflows: create, read, cancel, retry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Header, Path, Query, Response
from uuid_utils.compat import uuid7

from api import openapi
from api.auth import Principal, Reach, requires
from api.ledger import told_of
from api.origins import Came
from api.permissions import CANCEL_JOBS, CREATE_JOBS, RETRY_JOBS, VIEW_JOBS
from api.problems import LONGEST_FIELD, Code, Problem
from api.reading import ListRead, Read, Served, SlowRead
from api.schemas import fields, workflows
from api.schemas.answers import REPLAYED
from api.schemas.webhooks import Deliveries, DeliveriesQuery
from api.strict import StrictRoute
from tasks import workflows as work
from tracking.origins import By
from tracking.workflows import graph, reads
from tracking.workflows.values import NewWorkflow, Node

router = APIRouter(prefix="/v1/workflows", tags=["workflows"], route_class=StrictRoute)

Viewer = Annotated[Principal, requires(VIEW_JOBS, reach=Reach.ONE)]
WorkflowId = Annotated[UUID, Path(alias="id")]
MOST_PROBLEMS = 100  # of which an answer tells


@router.post("", status_code=202, responses=openapi.WORKFLOW_CREATED, openapi_extra=openapi.HANDLERS)
def create_workflow(
    principal: Annotated[Principal, requires(CREATE_JOBS)],
    platform: Served,
    read: Read,
    new: workflows.NewWorkflow,
    *,
    origin: Came,
    response: Response,
    idempotency_key: Annotated[fields.IdempotencyKey | None, Header()] = None,
) -> workflows.WorkflowCreated:
    """Accept a workflow: all its jobs, or none and all that is wrong with them."""
    nodes, workflow_id = new.nodes, uuid7()
    takers = work.takers_of(platform, nodes)
    for takes in takers.values():
        principal.must_have(takes.permission)
    asked = work.Asked(workflow_id, principal.owner, new.project_id, principal.actor)
    draft = work.draft(takers, nodes, asked)
    if draft.problems:
        raise _unfit(draft.problems)
    wanted = NewWorkflow(
        id=workflow_id,
        owner=principal.owner,
        name=new.name,
        jobs=draft.jobs,
        project_id=new.project_id,
        idempotency_key=idempotency_key,
        request_hash=None if idempotency_key is None else new.digest,
    )
    begun = work.create(platform, wanted, by=By(principal.actor, origin))
    jobs = {key: job.id for key, job in begun.jobs.items()}
    if not begun.created:
        response.headers[REPLAYED] = "true"
        jobs = {job.node.key: job.job_id for job in read(reads.jobs_of, begun.id)}
    response.headers["Location"] = f"/v1/workflows/{begun.id}"
    return workflows.WorkflowCreated(workflow_id=begun.id, message="Workflow created successfully", jobs=jobs)


@router.get("", responses=openapi.SLOW)
def list_workflows(
    principal: Annotated[Principal, requires(VIEW_JOBS, reach=Reach.ALL)],
    read: ListRead,
    query: Annotated[workflows.WorkflowsQuery, Query()],
) -> workflows.Workflows:
    """The workflows that the caller sees, newest first."""
    page = read(
        reads.page, principal.scope, statuses=query.status, name=query.name, cursor=query.cursor, size=query.limit
    )
    return workflows.Workflows.of(page)


@router.get("/{id}", responses=openapi.WORKFLOW)  # noqa: FAST003 - WorkflowId is that parameter
def get_workflow(principal: Viewer, read: SlowRead, workflow_id: WorkflowId) -> workflows.WorkflowWithJobs:
    """One workflow with its jobs."""
    found = read(reads.get, workflow_id, principal.scope)
    return workflows.WorkflowWithJobs.with_jobs(found, read(reads.jobs_of, workflow_id))


@router.get("/{id}/deliveries", responses=openapi.WORKFLOW)  # noqa: FAST003 - as above
def list_workflow_deliveries(
    principal: Viewer, read: SlowRead, workflow_id: WorkflowId, query: Annotated[DeliveriesQuery, Query()]
) -> Deliveries:
    """What webhooks were told of a workflow, newest first; of its jobs each has its own list."""
    found = read(reads.get, workflow_id, principal.scope)
    return told_of(read, found.owner.organization_id, workflow_id, query)


@router.post("/{id}/cancel", responses=openapi.WORKFLOW_MOVED)  # noqa: FAST003 - as above
def cancel_workflow(
    principal: Annotated[Principal, requires(CANCEL_JOBS, reach=Reach.ONE)],
    platform: Served,
    workflow_id: WorkflowId,
    origin: Came,
    body: Annotated[workflows.WorkflowCancel | None, Body()] = None,
) -> workflows.WorkflowMoved:
    """End all jobs of a workflow that are not finished, and those that they have sent."""
    reason, by = body.reason if body else None, By(principal.actor, origin)
    found = work.cancel(platform, workflow_id, principal.scope, reason=reason, by=by)
    return workflows.WorkflowMoved.of("Workflow cancelled successfully", found)


@router.post("/{id}/retry", responses=openapi.WORKFLOW_MOVED, openapi_extra=openapi.HANDLERS)  # noqa: FAST003 - as above
def retry_workflow(
    principal: Annotated[Principal, requires(RETRY_JOBS, reach=Reach.ONE)],
    platform: Served,
    read: Read,
    workflow_id: WorkflowId,
    *,
    origin: Came,
    body: Annotated[workflows.WorkflowRetry | None, Body()] = None,
) -> workflows.WorkflowMoved:
    """Run a workflow that is over again, by new jobs: what has failed and all that follows it, or the whole."""
    read(reads.get, workflow_id, principal.scope)
    nodes: list[Node] = [job.node for job in read(reads.jobs_of, workflow_id)]
    takers = work.takers_of(platform, nodes, also_of_code=True)
    for takes in takers.values():
        principal.must_have(takes.permission)
    whole, by = (body or workflows.WorkflowRetry()).part == "whole", By(principal.actor, origin)
    begun = work.retry(platform, takers, workflow_id, principal.scope, whole=whole, by=by)
    found = read(reads.get, workflow_id, principal.scope)
    return workflows.WorkflowMoved.of("Workflow retry initiated successfully", found, begun)


def _unfit(problems: Sequence[graph.Problem]) -> Problem:
    """The answer to a workflow that cannot be: the first of its problems, and all of them with their places."""
    told = [{"field": each.place[:LONGEST_FIELD], "message": each.message} for each in problems[:MOST_PROBLEMS]]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Problem(Code.INVALID_REQUEST, f"{told[0]['field']}: {told[0]['message']}{more}", extra={"errors": told})
