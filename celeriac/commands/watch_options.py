"""The commands that go on while something happens: `celeriac watch`, `events`, `top`."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import click

from celeriac.commands.names import Name, span_given
from celeriac.commands.program import Command
from celeriac.commands.reaching import reaching
from tracking.exit_status import Exit

if TYPE_CHECKING:
    from celeriac.client import Client
    from celeriac.commands.screen import Screen

# ruff: noqa: PLC0415  as in part_options.py


@click.command(cls=Command)
@click.argument("job_id", metavar="ID", type=click.UUID)
@click.option("--within", default="1h", show_default=True, help="How long to wait: a number and s, m, h or d.")
@reaching
def watch(*, client: Client, screen: Screen, job_id: UUID, within: str) -> Exit:
    """Watch a job to its end; the exit status is how it has ended."""
    from celeriac.commands.watching import watch_job

    return watch_job(client, screen, job_id, span_given(within, "--within").total_seconds())


@click.command(cls=Command)
@click.option("--follow/--no-follow", "-f", default=True, help="Go on until Ctrl-C, or end at the first quiet second.")
@click.option("--job", "job_id", type=click.UUID, help="Of this job.")
@click.option("--type", "--job-type", "job_type", type=Name(), help="Of jobs of this type.")
@click.option("--project", "project_id", type=Name(), help="Of jobs of this project.")
@click.option("--after", type=click.IntRange(0), metavar="ID", help="From behind the event with this id.")
@reaching
def events(
    *,
    client: Client,
    screen: Screen,
    follow: bool,
    job_id: UUID | None,
    job_type: str | None,
    project_id: str | None,
    after: int | None,
) -> None:
    """Print what happens to jobs, workflows and schedules, as it happens."""
    from celeriac.commands.watching import print_events

    stream = client.events(job_id=job_id, job_type=job_type, project_id=project_id, after=after)
    print_events(screen, stream, follows=follow)


@click.command(cls=Command)
@click.option("--every", default="2s", show_default=True, help="How often to look: a number and s, m, h or d.")
@reaching
def top(*, client: Client, screen: Screen, every: str) -> None:
    """Watch workers, queues and jobs on a full screen, until q or Ctrl-C."""
    from celeriac.commands.top import run_top

    run_top(client, screen, max(0.5, span_given(every, "--every").total_seconds()))
