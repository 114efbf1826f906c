"""What an operator does at a terminal with the database alone: `celeriac migrate`, `verify`, `limit` and their like."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click

from celeriac.commands.names import Name, span_given
from celeriac.commands.program import Command
from tracking.exit_status import Exit

# ruff: noqa: PLC0415  as in part_options.py


@click.command(cls=Command)
@click.option("--status", "wanted", flag_value="status", help="Only say which version there is, and what is to come.")
@click.option("--check", "wanted", flag_value="check", help="Only look: exit status 2 unless nothing is to come.")
@click.option("--sql", "wanted", flag_value="sql", help="Only print the statements that are to come.")
def migrate(wanted: str | None) -> None:
    """Bring the database's schema to the newest version."""
    from celeriac.commands.migrating import LATER, LOOKS

    if wanted is not None:
        LOOKS[wanted]()
        return
    from tracking.db import migrate as bring_up_to_date
    from tracking.logs import configure_logging
    from tracking.pooling import require_kept
    from tracking.settings import settings

    configure_logging(settings())
    require_kept(settings())
    if not bring_up_to_date(settings().direct):
        click.echo(LATER)


@click.command(cls=Command)
@click.option("--login", "logins", multiple=True, type=Name(), help="Who API and workers connect as; may be repeated.")
@click.option("--sql", is_flag=True, help="Only print what is to be said to the database.")
def roles(logins: tuple[str, ...], *, sql: bool) -> None:
    """Make the roles by which the database keeps organizations apart; before `celeriac migrate`, as one that may.

    Without --login they are for the user of DATABASE_URL.
    """
    from tracking import roles as wanted
    from tracking.settings import settings

    if sql:
        names = logins or [wanted.user_of(settings().direct)]
        click.echo("\n".join(f"{statement};" for statement in wanted.statements(names)))
    else:
        wanted.make(settings().direct, logins)


@click.command("dead-letters", cls=Command)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many, newest first.")
@click.option("--show", "letter_id", type=click.IntRange(1, 2**63 - 1), metavar="ID", help="One, with its body.")
def dead_letters(limit: int, letter_id: int | None) -> None:
    """List the messages that no worker could run."""
    from celeriac.commands.letters import print_letter, print_newest
    from tracking.logs import configure_logging
    from tracking.settings import settings

    configure_logging(settings())
    if letter_id is None:
        print_newest(limit)
    else:
        print_letter(letter_id)


@click.command(cls=Command)
@click.option("--timeout", default=60, show_default=True, type=click.IntRange(1, 86400), help="Seconds for each step.")
@click.option("--since", help="Only jobs that have changed in this time, such as 12h or 7d.")
@click.option(
    "--resume",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file to write down how far it is, and to go on from when it is there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def verify(timeout: int, since: str | None, resume: Path | None, *, as_json: bool) -> Exit:
    """Check on the live database, read-only, what must always be true of jobs; exits with 1 unless it is."""
    from celeriac.commands.verifying import run_verify

    span = None if since is None else span_given(since, "--since")
    return Exit.FINE if run_verify(timeout, span, resume, as_json=as_json) else Exit.FAILED


@click.command(cls=Command)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def prune(*, dry_run: bool) -> None:
    """Remove the finished jobs that are older than the settings keep them; the workers do so by themselves."""
    from celeriac.commands.operations import run_prune

    run_prune(dry_run=dry_run)


@click.command(cls=Command)
@click.argument("organization", type=Name())
@click.argument("limit", required=False, metavar="[N|default]")
@click.option("--waiting", metavar="[N|default]", help="How many may wait, before the API refuses more; 0: any number.")
@click.option("--weight", metavar="[N|default]", help="How many are served while one of another organization is.")
def limit(organization: str, limit: str | None, waiting: str | None, weight: str | None) -> None:
    """Show or set how many jobs of an organization execute at once; 0 is any number."""
    from celeriac.commands.controls import set_limit, set_waiting_limit, set_weight, show_limit
    from tracking.admission.weights import HEAVIEST
    from tracking.settings import MOST_AT_ONCE, MOST_WAITING

    if limit is not None:
        set_limit(organization, _limit(limit, MOST_AT_ONCE))
    if waiting is not None:
        set_waiting_limit(organization, _limit(waiting, MOST_WAITING))
    if weight is not None:
        set_weight(organization, _limit(weight, HEAVIEST, least=1))
    show_limit(organization)


def _selection(run: Callable[..., None]) -> Callable[..., None]:
    run = click.option("--everything", is_flag=True, help="All jobs of all organizations.")(run)
    run = click.option("--organization", type=Name(), help="Only jobs of this organization.")(run)
    run = click.option("--queue", type=Name(), help="All that is in this queue, whoever has sent it.")(run)
    return click.option("--job-type", type=Name(), help="Only jobs of this type.")(run)


@click.command(cls=Command)
@_selection
@click.option("--reason", type=Name(), help="Shown to everybody whose jobs wait.")
def pause(
    job_type: str | None, organization: str | None, queue: str | None, reason: str | None, *, everything: bool
) -> None:
    """From now on let no such job start; what runs goes on."""
    from celeriac.commands.controls import pause_jobs, pause_queue

    _require_selection(job_type, organization, queue, everything=everything)
    if queue is not None:
        pause_queue(queue, reason)
    else:
        pause_jobs(organization, job_type, reason)


@click.command(cls=Command)
@_selection
def resume(job_type: str | None, organization: str | None, queue: str | None, *, everything: bool) -> None:
    """End the pause that was made with the same options; the workers send the jobs within a second."""
    from celeriac.commands.controls import resume_jobs, resume_queue

    _require_selection(job_type, organization, queue, everything=everything)
    if queue is not None:
        resume_queue(queue)
    else:
        resume_jobs(organization, job_type)


def _limit(text: str, most: int, least: int = 0) -> int | None:
    if text == "default":
        return None
    if not re.fullmatch(r"[0-9]{1,7}", text) or not least <= int(text) <= most:
        up_to = f"from {least} to {most}" if least else f"up to {most}"
        raise click.BadParameter(f"{text!r} is no number {up_to}, nor default", param_hint="LIMIT")
    return int(text)


def _require_selection(job_type: str | None, organization: str | None, queue: str | None, *, everything: bool) -> None:
    ways = (bool(job_type or organization), bool(queue), everything)
    if sum(ways) != 1:
        raise click.UsageError("Say which jobs: --job-type, --organization or both, or --queue, or --everything.")
