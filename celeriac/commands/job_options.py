"""The commands about jobs one by one: `celeriac submit`, `jobs`, `job`, `explain`, `cancel`, `retry`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from celeriac.commands.completing import JobType
from celeriac.commands.names import Key, Moment, Name, Object, Word, span_given
from celeriac.commands.program import Command
from celeriac.commands.reaching import reaching
from tracking.exit_status import Exit
from tracking.states import STATUS_WORDS

if TYPE_CHECKING:
    from celeriac.client import Client
    from celeriac.commands.screen import Screen

# ruff: noqa: PLC0415  as in part_options.py

PAYLOAD = "JSON, @file, or - for standard input."


def chosen(run: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say which jobs, as the lists of the API take them."""
    for option in (
        click.option("--created-to", type=Moment(), help="Created before it."),
        click.option(
            "--created-from", type=Moment(), help="Created at or after it: 2026-12-01, or 2h for so long ago."
        ),
        click.option("--completed-to", type=Moment(), help="Ended before it."),
        click.option("--completed-from", type=Moment(), help="Ended at or after it."),
        click.option(
            "--search",
            metavar="WORDS",
            help="Words and qualifiers: 'error:\"no space\" queue:slow priority:>=7 payload.customer.id:42'.",
        ),
        click.option("--error", metavar="FINGERPRINT", help="Failed alike: see `celeriac errors`."),
        click.option("--user", "user_id", type=Name(), help="Of this user."),
        click.option("--project", "project_id", type=Name(), help="Of this project."),
        click.option("--type", "--job-type", "job_type", type=JobType(), help="Of this type."),
        click.option("--status", multiple=True, type=Word(STATUS_WORDS), help="So; may be repeated."),
    ):
        run = option(run)
    return run


@click.command(cls=Command)
@click.argument("job_type", metavar="TYPE", type=JobType())
@click.option("--payload", type=Object(), default="{}", help=f"{PAYLOAD} [default: {{}}]")
@click.option("--priority", type=click.IntRange(0, 9), help="Higher is more urgent. [default: as the handler says]")
@click.option("--max-retries", type=click.IntRange(0, 100), help="[default: as the handler says]")
@click.option("--at", "scheduled_at", type=Moment(ahead=True), help="Not before: 2026-12-01T06:00Z, or in 30m.")
@click.option("--after", "depends_on", multiple=True, type=click.UUID, help="When this job has succeeded; repeatable.")
@click.option("--project", "project_id", type=Name())
@click.option("--message", help="Shown with the job.")
@click.option("--metadata", type=Object(), help=PAYLOAD)
@click.option("--key", "idempotency_key", type=Key(), help="Of an earlier request: then it is that request's job.")
@click.option("--wait", is_flag=True, help="Watch it to its end, and end as it does.")
@click.option("--within", default="1h", show_default=True, help="How long to wait: a number and s, m, h or d.")
@reaching
def submit(*, client: Client, screen: Screen, wait: bool, within: str, job_type: str, **said: Any) -> Exit | None:
    """Have a job made, and print its id."""
    limit = span_given(within, "--within").total_seconds()
    from celeriac.commands.jobs import created_by

    created = created_by(client, job_type, **said)
    if not wait:
        if screen.as_json:
            screen.json(created)
        else:
            click.echo(str(created.job_id))
        return None
    from celeriac.commands.watching import watch_job

    return watch_job(client, screen, created.job_id, limit)


@click.command(cls=Command)
@chosen
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000_000), help="How many at most.")
@reaching
def jobs(*, client: Client, screen: Screen, limit: int, **which: Any) -> None:
    """List jobs, newest first."""
    from celeriac.commands.jobs import print_jobs

    print_jobs(client, screen, limit, which)


@click.command(cls=Command)
@click.argument("job_id", metavar="ID", type=click.UUID)
@click.option("--frames", is_flag=True, help="Show the frames of libraries in tracebacks as well.")
@reaching
def job(*, client: Client, screen: Screen, job_id: UUID, frames: bool) -> None:
    """Show a job: its payload and result, its attempts with their errors, its timeline."""
    from celeriac.commands.jobs import print_job

    print_job(client, screen, job_id, with_libraries=frames)


@click.command(cls=Command)
@click.argument("job_id", metavar="ID", type=click.UUID)
@reaching
def explain(*, client: Client, screen: Screen, job_id: UUID) -> None:
    """Say why a job does not run, which worker runs it, or who or what has ended it."""
    found = client.explain(job_id)
    if screen.as_json:
        screen.json(found)
        return
    for reason in found.reasons:
        screen.say(reason.sentence)


@click.command(cls=Command)
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True, type=click.UUID)
@click.option("--reason", help="Shown with the job.")
@reaching
def cancel(*, client: Client, screen: Screen, job_ids: tuple[UUID, ...], reason: str | None) -> Exit:
    """End jobs that are not finished; `celeriac bulk cancel` takes all that match."""
    from celeriac.commands.jobs import each

    return each(screen, job_ids, lambda job_id: client.cancel(job_id, reason))


@click.command(cls=Command)
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True, type=click.UUID)
@click.option("--payload", type=Object(), help=f"Instead: a new job repeats it with this. {PAYLOAD}")
@click.option("--priority", type=click.IntRange(0, 9), help="[default: its own]")
@click.option("--force", is_flag=True, help="Also without a retry left.")
@reaching
def retry(*, client: Client, screen: Screen, job_ids: tuple[UUID, ...], payload: Any, **how: Any) -> Exit:
    """Run failed or cancelled jobs again; `celeriac bulk retry` takes all that match."""
    from celeriac.commands.jobs import each

    if payload is None:
        return each(screen, job_ids, lambda job_id: client.retry(job_id, **how))
    return each(screen, job_ids, lambda job_id: client.retry_with(job_id, payload, **how))
