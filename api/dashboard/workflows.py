"""The pages of workflows: those there are, and one as a graph in layers with its jobs and buttons."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from starlette.responses import RedirectResponse, Response

from api.dashboard.layers import graph, of_workflow
from api.dashboard.site import Visit, of_one_moment, render
from api.permissions import CANCEL_JOBS, RETRY_JOBS
from api.problems import Code, Problem
from api.routes import workflows as routes
from api.schemas.workflows import WorkflowCancel, WorkflowRetry
from tracking.workflow_tables import WorkflowStatus
from tracking.workflows import reads
from tracking.workflows.values import NodeState

SHOWN = 50  # on one page
PARTS = ("failed", "whole")
DONE = {
    "cancelled": "All that had not ended was cancelled.",
    "failed": "What had failed and all that follows it runs again.",
    "whole": "All its jobs run again.",
}


def workflows_page(visit: Visit) -> Response:
    """The workflows that the visitor sees, newest first, all or of one status."""
    asked = visit.request.query_params
    status, after = asked.get("status", ""), asked.get("after", "")
    try:
        statuses = [WorkflowStatus(status)] if status else []
        cursor = UUID(after) if after else None
    except ValueError:
        raise Problem(Code.INVALID_REQUEST, "There is no such status, or no such page.") from None
    page = visit.read(
        reads.page, visit.principal.scope, statuses=statuses, name=asked.get("name") or None, cursor=cursor, size=SHOWN
    )
    return render(
        visit.request,
        "workflows.html",
        principal=visit.principal,
        workflows=page.workflows,
        statuses=list(WorkflowStatus),
        chosen=status,
        name=asked.get("name", ""),
        further=page.next_cursor,
        now=datetime.now(UTC),
    )


@of_one_moment
def workflow_page(visit: Visit) -> Response:
    """One workflow as a graph."""
    asked = visit.request.query_params
    workflow_id: UUID = visit.request.path_params["id"]
    workflow = visit.read(reads.get, workflow_id, visit.principal.scope)
    jobs = visit.read(reads.jobs_of, workflow_id)
    can = visit.principal.permissions
    has_failed = workflow.counts["failed"] + workflow.counts["cancelled"] > 0
    return render(
        visit.request,
        "workflow_body.html" if asked.get("part") == "body" else "workflow.html",
        principal=visit.principal,
        workflow=workflow,
        jobs=jobs,
        whys=_whys(jobs),
        graph=graph(of_workflow(jobs)),
        can_cancel=CANCEL_JOBS in can and not workflow.is_over,
        can_retry=RETRY_JOBS in can and workflow.is_over,
        has_failed=has_failed,
        notice=DONE.get(asked.get("done", "")),
        now=datetime.now(UTC),
    )


def _whys(jobs: Sequence[NodeState]) -> dict[str, str]:
    """Why jobs have not succeeded, by their keys; another job of the workflow goes by its key as well."""
    keys = {str(each.job_id): each.node.key for each in jobs if each.job_id}
    found = {each.node.key: each.error_message or "" for each in jobs}
    for job_id, key in keys.items():
        found = {whose: why.replace(job_id, key) for whose, why in found.items()}
    return found


def cancel_workflow(visit: Visit) -> Response:
    """End all that has not ended, as `POST /v1/workflows/{id}/cancel` does."""
    visit.principal.must_have(CANCEL_JOBS)
    workflow_id: UUID = visit.request.path_params["id"]
    routes.cancel_workflow(visit.principal, visit.platform, workflow_id, visit.origin, WorkflowCancel())
    return RedirectResponse(f"/workflows/{workflow_id}?done=cancelled", 303)


def retry_workflow(visit: Visit) -> Response:
    """Run it again, as `POST /v1/workflows/{id}/retry` does."""
    visit.principal.must_have(RETRY_JOBS)
    workflow_id: UUID = visit.request.path_params["id"]
    part = visit.form.get("part", "")
    if part not in PARTS:
        raise Problem(Code.INVALID_REQUEST, "part: failed or whole")
    said = WorkflowRetry.model_validate({"part": part})
    routes.retry_workflow(visit.principal, visit.platform, visit.read, workflow_id, origin=visit.origin, body=said)
    return RedirectResponse(f"/workflows/{workflow_id}?done={part}", 303)
