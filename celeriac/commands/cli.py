"""The commands of `celeriac`. Each returns its exit status, None standing for a good end; see docs/commands.md."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import click

from celeriac.commands.bulk_options import bulk
from celeriac.commands.names import Name, Names, span_given
from celeriac.commands.program import Program
from celeriac.commands.schedule_options import schedules
from celeriac.commands.workflow_options import workflows
from celeriac.preconditions import (
    listen,
    require_database,
    require_imports,
    require_secret,
    require_servers,
)
from tracking.exits import Exit
from tracking.logs import configure_logging
from tracking.settings import MOST_AT_ONCE, MOST_WAITING, QUEUES, settings

# ruff: noqa: PLC0415  each command pays only for what it runs: `up` starts four of them

LONGEST_LIFE = timedelta(days=366)  # of a token, which nobody can take back


@click.group(cls=Program)
@click.version_option(package_name="celeriac")
@click.option("--debug", is_flag=True, help="Show the traceback of an error; as CELERIAC_DEBUG=true does.")
def command(*, debug: bool) -> None:
    """A job platform on Celery."""
    if debug:
        os.environ["CELERIAC_DEBUG"] = "true"
        settings.cache_clear()


@command.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the API listens on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--data-dir", type=click.Path(file_okay=False), help="Servers, secrets, exports. [default: .celeriac]")
@click.option("--concurrency", default=2, show_default=True, type=click.IntRange(1), help="Jobs that run at once.")
def up(host: str, port: int, data_dir: str | None, concurrency: int) -> None:
    """Run everything here: PostgreSQL, Valkey, a worker and the API."""
    # The environment, not an argument: the parts, and what they import, read the same setting.
    os.environ["CELERIAC_DATA_DIR"] = str(Path(data_dir or settings().data_dir).absolute())
    settings.cache_clear()
    from celeriac.commands import registered
    from celeriac.embedded.up import run_platform

    def permissions() -> set[str]:
        return {*registered.IN_ORGANIZATION, *registered.permissions()}

    run_platform(settings(), host, port, concurrency, permissions=permissions)


@command.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
@click.option("--fd", type=int, hidden=True, help="A listening socket that `up` made.")
def api(host: str, port: int, workers: int, fd: int | None) -> None:
    """Run the API alone. Without its database it starts all the same, and answers 503 until that is there."""
    configured = settings()
    configure_logging(configured)
    require_servers(configured)
    require_imports(configured)
    if fd is None:
        require_secret(configured, host)
    require_database(configured)
    from celeriac.web import serve

    if fd is not None:
        serve(socket.socket(fileno=fd), workers)
        return
    with listen(host, port) as listener:
        serve(listener, workers)


@command.command()
@click.option(
    "--queues",
    default=",".join(QUEUES),
    type=Names(),
    show_default=True,
    help="Queues to take jobs from, comma-separated.",
)
@click.option("--concurrency", type=click.IntRange(1), help="Jobs that run at once. [default: the number of CPUs]")
@click.option("--name", type=Name(), help="Part of its node name before the @. [default: one that no other has]")
@click.option(
    "--pool",
    default="prefork",
    type=click.Choice(["prefork", "threads", "solo"]),
    show_default=True,
    help="What bodies run in: only processes can be killed, or given a time limit.",
)
def worker(queues: tuple[str, ...], concurrency: int | None, name: str | None, pool: str) -> int:
    """Run a worker alone; `celery -A tasks worker` is the same with all of Celery's options.

    It waits for its database and its broker, CELERIAC_START_PATIENCE seconds at most.
    """
    require_servers(settings())
    require_imports(settings())
    configure_logging(settings())
    from celeriac.commands.worker import run_worker

    return run_worker(queues, concurrency, name, pool)


@command.command()
def migrate() -> None:
    """Bring the database's schema to the newest version."""
    from tracking.db import migrate as bring_up_to_date
    from tracking.pooling import require_kept

    configure_logging(settings())
    require_kept(settings())
    bring_up_to_date(settings().direct)


@command.command("dead-letters")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many, newest first.")
@click.option("--show", "letter_id", type=click.IntRange(1, 2**63 - 1), metavar="ID", help="One, with its body.")
def dead_letters(limit: int, letter_id: int | None) -> None:
    """List the messages that no worker could run."""
    from celeriac.commands.letters import print_letter, print_newest

    configure_logging(settings())
    if letter_id is None:
        print_newest(limit)
    else:
        print_letter(letter_id)


@command.command()
@click.option("--jobs", default=300, show_default=True, type=click.IntRange(10, 10_000), help="How many to run.")
def demo(jobs: int) -> int:
    """Run real jobs and an export of them on a platform of its own, and check the result."""
    from celeriac.demo.story import run_demo

    return run_demo(jobs)


@command.command()
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


@command.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def prune(*, dry_run: bool) -> None:
    """Remove the finished jobs that are older than the settings keep them; the workers do so by themselves."""
    from celeriac.commands.operations import run_prune

    run_prune(dry_run=dry_run)


@command.command()
@click.argument("organization", type=Name())
@click.argument("limit", required=False, metavar="[N|default]")
@click.option("--waiting", metavar="[N|default]", help="How many may wait, before the API refuses more; 0: any number.")
def limit(organization: str, limit: str | None, waiting: str | None) -> None:
    """Show or set how many jobs of an organization execute at once; 0 is any number."""
    from celeriac.commands.controls import set_limit, set_waiting_limit, show_limit

    if limit is not None:
        set_limit(organization, _limit(limit, MOST_AT_ONCE))
    if waiting is not None:
        set_waiting_limit(organization, _limit(waiting, MOST_WAITING))
    show_limit(organization)


def _selection(run: Callable[..., None]) -> Callable[..., None]:
    run = click.option("--everything", is_flag=True, help="All jobs of all organizations.")(run)
    run = click.option("--organization", type=Name(), help="Only jobs of this organization.")(run)
    return click.option("--job-type", type=Name(), help="Only jobs of this type.")(run)


@command.command()
@_selection
@click.option("--reason", type=Name(), help="Shown to everybody whose jobs wait.")
def pause(job_type: str | None, organization: str | None, reason: str | None, *, everything: bool) -> None:
    """From now on let no such job start; what runs goes on."""
    from celeriac.commands.controls import pause_jobs

    _require_selection(job_type, organization, everything=everything)
    pause_jobs(organization, job_type, reason)


@command.command()
@_selection
def resume(job_type: str | None, organization: str | None, *, everything: bool) -> None:
    """End the pause that was made with the same options; the workers send the jobs within a second."""
    from celeriac.commands.controls import resume_jobs

    _require_selection(job_type, organization, everything=everything)
    resume_jobs(organization, job_type)


@command.group(invoke_without_command=True)
@click.pass_context
def types(context: click.Context) -> None:
    """List the types of jobs whose work is done elsewhere, which no worker runs."""
    if context.invoked_subcommand is None:
        from celeriac.commands.types import print_types

        print_types()


@types.command("add")
@click.argument("name", type=Name())
@click.option("--permission", type=Name(), help="What a caller needs besides jobs.create_jobs. [default: nothing]")
@click.option("--timeout", metavar="TIME", help="Silence after which a job is given up: a number and s, m, h or d.")
def add_type(name: str, permission: str | None, timeout: str | None) -> None:
    """Name such a type, or change the permission and the time of one."""
    from celeriac.commands.types import add_type as add

    add(name, permission, None if timeout is None else span_given(timeout, "--timeout"))


@types.command("remove")
@click.argument("name", type=Name())
def remove_type(name: str) -> None:
    """Forget such a type; its jobs stay what they are."""
    from celeriac.commands.types import remove_type as remove

    remove(name)


@command.command()
@click.option(
    "--organization", required=True, type=Name(), help="The organization whose jobs the token gives access to."
)
@click.option("--user", required=True, type=Name(), help="Whose name its requests bear.")
@click.option(
    "--permission", "permissions", multiple=True, type=Name(), help="For example jobs.view_jobs; may be repeated."
)
@click.option("--admin", is_flag=True, help="Every permission in the organization, those of the handlers too.")
@click.option("--expires", default="1h", show_default=True, help="Lifetime: a number and s, m, h or d; up to 366d.")
def token(organization: str, user: str, permissions: tuple[str, ...], expires: str, *, admin: bool) -> None:
    """Print a token for the API, signed with the secret that the API has."""
    from celeriac.commands.tokens import make_token

    seconds = _seconds(expires)
    click.echo(make_token(settings(), organization, user, permissions, seconds=seconds, admin=admin))


def _seconds(lifetime: str) -> int:
    span = span_given(lifetime, "--expires")
    if span > LONGEST_LIFE:
        raise click.BadParameter(f"{lifetime} is longer than {LONGEST_LIFE.days}d", param_hint="--expires")
    return round(span.total_seconds())


def _limit(text: str, most: int) -> int | None:
    if text == "default":
        return None
    if not re.fullmatch(r"[0-9]{1,7}", text) or int(text) > most:
        raise click.BadParameter(f"{text!r} is no number up to {most}, nor default", param_hint="LIMIT")
    return int(text)


def _require_selection(job_type: str | None, organization: str | None, *, everything: bool) -> None:
    if everything is bool(job_type or organization):
        raise click.UsageError("Say which jobs: --job-type, --organization or both, or --everything.")


command.add_command(bulk)
command.add_command(schedules)
command.add_command(workflows)
