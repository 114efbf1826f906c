"""`celeriac workflows`: its commands and their options; what they print stands in workflows.py beside it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from celeriac.commands.names import Key, Name, Object
from celeriac.commands.program import Commands
from celeriac.commands.reaching import reaching

if TYPE_CHECKING:
    from celeriac.client import Client
    from celeriac.commands.screen import Screen

# ruff: noqa: PLC0415  as in part_options.py

ID = click.argument("workflow_id", metavar="ID", type=click.UUID)
STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")


@click.group("workflows", cls=Commands)
def workflows() -> None:
    """Have workflows made, look at them, cancel them, and run them again."""


@workflows.command("list")
@click.option("--status", type=click.Choice(STATUSES), help="Only those that are so.")
@click.option("--name", type=Name(), help="Of this name.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1_000_000), help="At most.")
@reaching
def list_workflows(*, client: Client, screen: Screen, status: Any, name: str | None, limit: int) -> None:
    """List workflows, newest first."""
    from celeriac.commands.workflows import COLUMNS

    found = client.workflows(status=[status] if status else [], name=name)
    screen.rows(islice(found, limit), COLUMNS, empty="No workflow matches.")


@workflows.command("create")
@click.argument("name", type=Name())
@click.option("--jobs", required=True, type=Object(), help="By their keys, as the API takes them: JSON, @file, or -.")
@click.option("--project", "project_id", type=Name())
@click.option("--key", "idempotency_key", type=Key(), help="Of an earlier request: then it is that workflow.")
@reaching
def create_workflow(*, client: Client, screen: Screen, name: str, jobs: Any, **said: Any) -> None:
    """Have a workflow made, all of it or nothing, and print its id."""
    created = client.create_workflow(name, jobs, **said)
    if screen.as_json:
        screen.json(created)
    else:
        click.echo(str(created.workflow_id))


@workflows.command("show")
@ID
@reaching
def show_workflow(*, client: Client, screen: Screen, workflow_id: UUID) -> None:
    """Show a workflow with its jobs, and why they did not run."""
    from celeriac.commands.workflows import show

    show(client, screen, workflow_id)


@workflows.command("cancel")
@ID
@click.option("--reason", help="Shown with it.")
@reaching
def cancel_workflow(*, client: Client, screen: Screen, workflow_id: UUID, reason: str | None) -> None:
    """End all that a workflow has not ended."""
    from celeriac.commands.workflows import cancel

    cancel(client, screen, workflow_id, reason)


@workflows.command("retry")
@ID
@click.option("--whole", is_flag=True, help="All its jobs, not only what has failed and what follows that.")
@reaching
def retry_workflow(*, client: Client, screen: Screen, workflow_id: UUID, whole: bool) -> None:
    """Run a workflow that is over again, by new jobs."""
    from celeriac.commands.workflows import retry

    retry(client, screen, workflow_id, whole=whole)
