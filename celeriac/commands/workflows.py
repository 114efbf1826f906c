"""Workflows, as the commands print them."""

from __future__ import annotations

from uuid import UUID

from celeriac.client import Client
from celeriac.client.workflows import Workflow
from celeriac.commands.screen import Columns, Screen

COLUMNS: Columns = {
    "id": lambda flow: flow.id,
    "name": lambda flow: flow.name,
    "status": lambda flow: flow.status,
    "%": lambda flow: flow.progress,
    "jobs": lambda flow: flow.counts.total,
    "failed": lambda flow: flow.counts.failed,
    "user": lambda flow: flow.user_id,
    "created": lambda flow: flow.created_at,
}
JOBS: Columns = {
    "job": lambda job: job.key,
    "status": lambda job: job.status,
    "id": lambda job: job.job_id,
    "type": lambda job: job.job_type,
    "%": lambda job: job.progress,
    "after": lambda job: ", ".join(f"{each.key} {each.when}" for each in job.after),
    "says": lambda job: job.error_message,
}


def show(client: Client, screen: Screen, workflow_id: UUID) -> None:
    """Print a workflow with its jobs."""
    found = client.workflow(workflow_id)
    if screen.as_json:
        screen.json(found)
        return
    screen.say(f"{_said(found)}, run {found.run}, {found.worker_seconds:.1f} s of workers")
    screen.rows(found.jobs, JOBS)


def cancel(client: Client, screen: Screen, workflow_id: UUID, reason: str | None) -> None:
    """Cancel a workflow, and print how it is then."""
    moved = client.cancel_workflow(workflow_id, reason=reason)
    if screen.as_json:
        screen.json(moved)
    else:
        screen.say(_said(client.workflow(workflow_id)))


def retry(client: Client, screen: Screen, workflow_id: UUID, *, whole: bool) -> None:
    """Retry a workflow, or what has failed of it, and print which of its jobs run again."""
    moved = client.retry_workflow(workflow_id, part="whole" if whole else "failed")
    if screen.as_json:
        screen.json(moved)
    else:
        screen.say(f"{workflow_id}: {len(moved.jobs)} jobs run again: {', '.join(moved.jobs)}")


def _said(found: Workflow) -> str:
    return f"{found.name}: {found.status} {found.progress} %"
