"""`celeriac bulk`: its commands and their options; what they do stands in bulk.py beside it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from celeriac.commands.job_options import chosen
from celeriac.commands.names import span_given
from celeriac.commands.program import Commands
from celeriac.commands.reaching import reaching
from tracking.exit_status import Exit

if TYPE_CHECKING:
    from celeriac.client import Client
    from celeriac.commands.screen import Screen

# ruff: noqa: PLC0415  as in part_options.py


_UNASKED = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group("bulk", cls=Commands)
def bulk() -> None:
    """Do one thing to all jobs that match."""


def _on_jobs(run: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which jobs, and how."""
    run = chosen(reaching(run))
    for option in (
        click.option("--within", default="1h", show_default=True, help="How long to wait: a number and s, m, h or d."),
        click.option("--wait", is_flag=True, help="Until it has ended; 1 unless every job was done."),
        click.option("--dry-run", is_flag=True, help="Only say how many match."),
        click.option("--id", "ids", multiple=True, type=click.UUID, help="This job; may be repeated."),
    ):
        run = option(run)
    return run


@bulk.command("cancel")
@_UNASKED
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
@_UNASKED
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
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000_000), help="At most.")
@reaching
def list_operations(*, client: Client, screen: Screen, limit: int) -> None:
    """List operations, newest first."""
    from celeriac.commands.bulk import COLUMNS

    screen.rows(islice(client.operations(), limit), COLUMNS, empty="There was no operation.")


@bulk.command("abort")
@click.argument("operation", metavar="ID", type=click.UUID)
@reaching
def abort_operation(*, client: Client, screen: Screen, operation: UUID) -> None:
    """End an operation; what was done stays done."""
    from celeriac.commands.bulk import COLUMNS

    screen.rows([client.abort(operation)], COLUMNS)


def _begin(action: str, *, client: Client, screen: Screen, within: str, yes: bool = False, **said: Any) -> Exit | None:
    from celeriac.commands.bulk import begin_operation

    patience = span_given(within, "--within").total_seconds()
    return begin_operation(client, screen, action, yes=yes, within=patience, **said)
