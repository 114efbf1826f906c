"""The commands that list: `celeriac history`, `stats`, `queues`, `workers`, `pauses`, `circuits`, `audit`."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from celeriac.commands.completing import JobType
from celeriac.commands.names import Moment, Name, Word, span_given
from celeriac.commands.program import Command
from celeriac.commands.reaching import reaching
from tracking.states import STATUS_WORDS

if TYPE_CHECKING:
    from celeriac.client import Client
    from celeriac.commands.screen import Screen

# ruff: noqa: PLC0415  as in part_options.py

LIMIT = click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000_000), help="At most.")


@click.command(cls=Command)
@click.option("--status", type=Word(STATUS_WORDS), help="Only those that are so.")
@click.option("--type", "--job-type", "job_type", type=JobType(), help="Of this type.")
@click.option(
    "--from", "finished_from", type=Moment(), help="Finished at or after it: 2026-12-01, or 2h for so long ago."
)
@click.option("--to", "finished_to", type=Moment(), help="Finished before it.")
@LIMIT
@reaching
def history(*, client: Client, screen: Screen, limit: int, **which: Any) -> None:
    """List finished jobs, newest first."""
    from celeriac.commands.lists import HISTORY

    found = client.history(page_size=min(limit, 100), **which)
    screen.rows(islice(found, limit), HISTORY, empty="No finished job matches.")


@click.command(cls=Command)
@click.option("--project", "project_id", type=Name(), help="Of this project.")
@click.option("--window", default="1h", show_default=True, help="Finished in this time: a number and s, m, h or d.")
@reaching
def stats(*, client: Client, screen: Screen, project_id: str | None, window: str) -> None:
    """Count jobs by their status."""
    from celeriac.commands.lists import stats_of

    found = client.stats(project_id=project_id, window=span_given(window, "--window"))
    screen.one(found, stats_of(found))


@click.command(cls=Command)
@reaching
def queues(*, client: Client, screen: Screen) -> None:
    """List queues, and what waits in them."""
    from celeriac.commands.lists import QUEUES

    screen.rows(client.queues(), QUEUES, empty="There is no queue.")


@click.command(cls=Command)
@reaching
def workers(*, client: Client, screen: Screen) -> None:
    """List workers, and what they run."""
    from celeriac.commands.lists import WORKERS

    screen.rows(client.workers(), WORKERS, empty="No worker runs.")


@click.command(cls=Command)
@reaching
def pauses(*, client: Client, screen: Screen) -> None:
    """List what is paused, by whom and why."""
    from celeriac.commands.lists import PAUSES

    screen.rows(client.organization().pauses, PAUSES, empty="Nothing is paused.")


@click.command(cls=Command)
@click.option("--all", "every", is_flag=True, help="Closed ones too, which hold nothing.")
@reaching
def circuits(*, client: Client, screen: Screen, every: bool) -> None:
    """List circuits that keep jobs from starting, because the last ones have failed."""
    from celeriac.commands.lists import CIRCUITS, circuits_of

    screen.rows(circuits_of(client.job_types(), every=every), CIRCUITS, empty="No circuit is open.")


@click.command(cls=Command)
@click.option("--actor", type=Name(), help="Who did it.")
@click.option("--action", multiple=True, help="Such as job.cancel; may be repeated.")
@click.option("--target", type=Name(), help="The id of a job, or a name.")
@click.option("--from", "after", type=Moment(), help="At or after it: 2026-12-01, or 2h for so long ago.")
@click.option("--to", "before", type=Moment(), help="Before it.")
@LIMIT
@reaching
def audit(*, client: Client, screen: Screen, limit: int, **which: Any) -> None:
    """List who did what, from where, with what outcome, newest first."""
    from celeriac.commands.lists import AUDIT

    found = client.audit(page_size=min(limit, 100), **which)
    screen.rows(islice(found, limit), AUDIT, empty="Nothing was done.")
