"""`celeriac workflows`: its commands and their options; what they do stands in workflows.py beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import click

from celeriac.commands.names import Name
from celeriac.commands.program import Commands
from tracking.workflow_tables import WorkflowStatus

# ruff: noqa: PLC0415  as in cli.py


@click.group("workflows", cls=Commands)
def workflows() -> None:
    """Look at workflows, cancel them, and run them again."""


def _of(run: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--organization", required=True, type=Name(), help="Whose workflow it is.")(run)


@workflows.command("list")
@_of
@click.option("--status", type=click.Choice([str(each) for each in WorkflowStatus]), help="Only those that are so.")
def list_workflows(organization: str, status: str | None) -> None:
    """List the newest workflows of an organization."""
    from celeriac.commands.workflows import print_workflows

    print_workflows(organization, status)


@workflows.command("show")
@click.argument("workflow_id", metavar="ID", type=click.UUID)
@_of
def show_workflow(workflow_id: UUID, organization: str) -> None:
    """Show a workflow with its jobs, and why they did not run."""
    from celeriac.commands.workflows import show

    show(workflow_id, organization)


@workflows.command("cancel")
@click.argument("workflow_id", metavar="ID", type=click.UUID)
@_of
@click.option("--reason", help="Shown with it.")
def cancel_workflow(workflow_id: UUID, organization: str, reason: str | None) -> None:
    """End all that a workflow has not ended."""
    from celeriac.commands.workflows import cancel

    cancel(workflow_id, organization, reason)


@workflows.command("retry")
@click.argument("workflow_id", metavar="ID", type=click.UUID)
@_of
@click.option("--whole", is_flag=True, help="All its jobs, not only what has failed and what follows that.")
def retry_workflow(workflow_id: UUID, organization: str, *, whole: bool) -> None:
    """Run a workflow that is over again, by new jobs."""
    from celeriac.commands.workflows import retry

    retry(workflow_id, organization, whole=whole)
