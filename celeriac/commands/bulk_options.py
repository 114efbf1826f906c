"""`celeriac bulk`: its commands and their options; what they do stands in bulk.py beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import click

from celeriac.commands.names import Name
from celeriac.commands.program import Commands
from tracking.exits import Exit
from tracking.states import STATUS_WORDS

# ruff: noqa: PLC0415  as in cli.py


@click.group("bulk", cls=Commands)
def bulk() -> None:
    """Do one thing to all jobs that match."""


def _on_jobs(run: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which jobs, and how."""
    for option in (
        click.option("--wait", is_flag=True, help="Until it has ended; 1 unless every job was done."),
        click.option("--dry-run", is_flag=True, help="Only say how many match."),
        click.option("--id", "ids", multiple=True, type=click.UUID, help="This job; may be repeated."),
        click.option("--search", help="Words and qualifiers, as in the list."),
        click.option("--created-to", metavar="TIME", help="Created before, such as 2026-11-28T00:00:00Z."),
        click.option("--created-from", metavar="TIME", help="Created then or later."),
        click.option("--user", type=Name(), help="Of this user."),
        click.option("--project", type=Name(), help="Of this project."),
        click.option("--job-type", type=Name(), help="Of this type."),
        click.option("--status", multiple=True, type=click.Choice(STATUS_WORDS), help="May be repeated."),
        click.option("--organization", required=True, type=Name(), help="Whose jobs."),
    ):
        run = option(run)
    return run


@bulk.command("cancel")
@_on_jobs
def cancel_jobs(**said: Any) -> Exit | None:
    """End jobs that are not finished."""
    return _begin("cancel", **said)


@bulk.command("retry")
@click.option("--canary", type=click.IntRange(1, 100), help="So many first, the others only if all of these succeed.")
@click.option("--force", is_flag=True, help="Also without a retry left.")
@click.option("--priority", type=click.IntRange(0, 9), help="That they get. [default: their own]")
@_on_jobs
def retry_jobs(**said: Any) -> Exit | None:
    """Run failed and cancelled jobs again."""
    return _begin("retry", **said)


@bulk.command("delete")
@_on_jobs
def delete_jobs(**said: Any) -> Exit | None:
    """Remove finished jobs, with their history."""
    return _begin("delete", **said)


@bulk.command("reprioritize")
@click.option("--priority", type=click.IntRange(0, 9), required=True, help="Higher is more urgent.")
@_on_jobs
def reprioritize_jobs(**said: Any) -> Exit | None:
    """Give jobs that wait another priority."""
    return _begin("reprioritize", **said)


@bulk.command("list")
@click.option("--organization", required=True, type=Name(), help="Whose operations.")
def list_operations(organization: str) -> None:
    """List the operations of an organization, newest first."""
    from celeriac.commands.bulk import print_operations

    print_operations(organization)


@bulk.command("abort")
@click.argument("operation", type=click.UUID)
@click.option("--organization", required=True, type=Name(), help="Whose operation it is.")
def abort_operation(operation: UUID, organization: str) -> None:
    """End an operation; what was done stays done."""
    from celeriac.commands.bulk import abort

    abort(operation, organization)


def _begin(action: str, **said: Any) -> Exit | None:
    from celeriac.commands.bulk import begin_operation

    return begin_operation(action, **said)
