"""Workflows, as an operator handles them at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import click

from celeriac.commands.controls import OPERATOR, TERMINAL, TIMEOUT
from celeriac.commands.operations import connected, own_platform
from tasks import workflows
from tracking.errors import ConfigurationError, IllegalWorkflowMove, WorkflowNotFound
from tracking.models import Scope
from tracking.origins import By
from tracking.workflow_tables import WorkflowStatus
from tracking.workflows import reads
from tracking.workflows.values import Workflow

BY = By(OPERATOR, TERMINAL)
MOST = 100  # that are listed
FLUSH = 5.0  # seconds for messages to go out


def print_workflows(organization_id: str, status: str | None) -> None:
    """Print the newest workflows of an organization; `status`: those that are so."""
    statuses = [] if status is None else [WorkflowStatus(status)]
    with connected(TIMEOUT) as database, database.autocommit() as connection:
        scope = Scope(organization_id, None)
        page = reads.page(connection, scope, statuses=statuses, name=None, cursor=None, size=MOST)
    for each in page.workflows:
        click.echo(f"{each.id}  {each.name:<24}  {_said(each)}  {each.owner.user_id}")


def show(workflow_id: UUID, organization_id: str) -> None:
    """Print a workflow with its jobs. Raises ConfigurationError when there is none."""
    with _refusals(), connected(TIMEOUT) as database, database.autocommit() as connection:
        found = reads.get(connection, workflow_id, Scope(organization_id, None))
        jobs = reads.jobs_of(connection, workflow_id)
    click.echo(f"{found.name}: {_said(found)}, run {found.run}, {found.worker_time.total_seconds():.1f} s of workers")
    for job in jobs:
        after = ", ".join(f"{each.key} {each.when}" for each in job.node.after)
        why = job.error_message or (f"after {after}" if after else "")
        click.echo(f"  {job.node.key:<20}  {job.status:<9}  {job.job_id}  {job.node.job_type:<16}  {why}".rstrip())


def cancel(workflow_id: UUID, organization_id: str, reason: str | None) -> None:
    """Cancel a workflow. Raises ConfigurationError when it cannot be."""
    with _refusals(), own_platform(FLUSH) as platform:
        found = workflows.cancel(platform, workflow_id, Scope(organization_id, None), reason=reason, by=BY)
    click.echo(f"{found.name}: {_said(found)}")


def retry(workflow_id: UUID, organization_id: str, *, whole: bool) -> None:
    """Retry a workflow, or what has failed of it. Raises ConfigurationError when it cannot be."""
    scope = Scope(organization_id, None)
    with _refusals(), own_platform(FLUSH) as platform:
        with platform.database.autocommit() as connection:
            found = reads.get(connection, workflow_id, scope)
            nodes = [job.node for job in reads.jobs_of(connection, workflow_id)]
        takers = workflows.takers_of(platform, nodes, also_of_code=True)
        begun = workflows.retry(platform, takers, workflow_id, scope, whole=whole, by=BY)
    click.echo(f"{found.name}: {len(begun.jobs)} jobs run again: {', '.join(begun.jobs)}")


def _said(found: Workflow) -> str:
    return f"{found.status:<9}  {found.progress:>3} %"


@contextmanager
def _refusals() -> Iterator[None]:
    """What a verb refuses, as a line for the operator."""
    try:
        yield
    except (WorkflowNotFound, IllegalWorkflowMove) as error:
        raise ConfigurationError(str(error)) from None
