"""The `celeriac` command."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from api.secrets import signing_secret
from celeriac.preconditions import listen, require_secret, require_servers
from celeriac.processes import StartError
from tracking.errors import ConfigurationError
from tracking.logs import configure_logging
from tracking.settings import settings

# ruff: noqa: PLC0415  each command pays only for what it runs: `up` starts four of them

# Of an organization; jobs.manage_platform reaches beyond it and has to be asked for by name.
PERMISSIONS = (
    *("jobs.create_jobs", "jobs.view_jobs", "jobs.cancel_jobs", "jobs.retry_jobs", "jobs.view_all"),
    "jobs.manage_jobs",
)
MOST_AT_ONCE = 100_000
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# Errors of use and of configuration are the user's to mend, and leave with 2; a part that did not start leaves with 1.
MISUSED, NOT_STARTED = 2, 1


def main() -> None:
    """Run the command; an error that the user can mend is one line on stderr."""
    sys.path.append(str(Path.cwd()))  # CELERIAC_IMPORTS may name modules of the project that we are called from
    try:
        command(prog_name="celeriac")
    except ConfigurationError as error:
        _leave(error, MISUSED)
    except StartError as error:
        _leave(error, NOT_STARTED)


@click.group()
@click.version_option(package_name="celeriac")
def command() -> None:
    """A job platform on Celery."""


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
    from celeriac.up import run_platform

    run_platform(settings(), host, port, concurrency)


@command.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
@click.option("--fd", type=int, hidden=True, help="A listening socket that `up` made.")
def api(host: str, port: int, workers: int, fd: int | None) -> None:
    """Run the API alone."""
    configured = settings()
    configure_logging(configured)
    require_servers(configured)
    if fd is None:
        require_secret(configured, host)
    from celeriac.web import serve

    if fd is not None:
        serve(socket.socket(fileno=fd), workers)
        return
    with listen(host, port) as listener:
        serve(listener, workers)


@command.command()
@click.option(
    "--queues", default="default,maintenance", show_default=True, help="Queues to take jobs from, comma-separated."
)
@click.option("--concurrency", type=click.IntRange(1), help="Jobs that run at once. [default: the number of CPUs]")
@click.option("--name", default="worker", show_default=True, help="Part of its node name before the @.")
def worker(queues: str, concurrency: int | None, name: str) -> None:
    """Run a worker alone; `celery -A tasks worker` is the same with all of Celery's options."""
    require_servers(settings())
    from celery.signals import setup_logging

    from tasks.app import app

    size = ("--concurrency", str(concurrency)) if concurrency else ()
    setup_logging.connect(lambda **_: configure_logging(settings()), weak=False)
    sys.exit(app.start(["--quiet", "worker", "--queues", queues, "--hostname", f"{name}@%h", *size]))


@command.command()
def migrate() -> None:
    """Bring the database's schema to the newest version."""
    from sqlalchemy.exc import OperationalError

    from tracking.db import migrate as bring_up_to_date

    configure_logging(settings())
    try:
        bring_up_to_date(settings().database)
    except OperationalError as error:
        raise StartError(f"the database cannot be reached: {str(error.orig).partition(chr(10))[0]}") from None


@command.command("dead-letters")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many, newest first.")
@click.option("--show", "letter_id", type=click.IntRange(1, 2**63 - 1), metavar="ID", help="One, with its body.")
def dead_letters(limit: int, letter_id: int | None) -> None:
    """List the messages that no worker could run."""
    from celeriac.letters import print_letter, print_newest

    configure_logging(settings())
    if letter_id is None:
        print_newest(limit)
    else:
        print_letter(letter_id)


@command.command()
@click.option("--jobs", default=300, show_default=True, type=click.IntRange(10, 10_000), help="How many to run.")
def demo(jobs: int) -> None:
    """Run real jobs and an export of them on a platform of its own, and check the result."""
    from celeriac.demo.story import run_demo

    sys.exit(run_demo(jobs))


@command.command()
@click.option("--timeout", default=60, show_default=True, type=click.IntRange(1, 86400), help="Seconds for each check.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def verify(timeout: int, *, as_json: bool) -> None:
    """Check on the live database, read-only, what must always be true of jobs; exits with 1 unless it is."""
    from celeriac.operations import run_verify

    sys.exit(0 if run_verify(timeout, as_json=as_json) else 1)


@command.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def prune(*, dry_run: bool) -> None:
    """Remove the finished jobs that are older than the settings keep them; the workers do so by themselves."""
    from celeriac.operations import run_prune

    run_prune(dry_run=dry_run)


@command.command()
@click.argument("organization")
@click.argument("limit", required=False, metavar="[N|default]")
def limit(organization: str, limit: str | None) -> None:
    """Show or set how many jobs of an organization execute at once; 0 is any number."""
    from celeriac.controls import set_limit, show_limit

    if limit is not None:
        set_limit(organization, _limit(limit))
    show_limit(organization)


def _selection(run: Callable[..., None]) -> Callable[..., None]:
    run = click.option("--everything", is_flag=True, help="All jobs of all organizations.")(run)
    run = click.option("--organization", help="Only jobs of this organization.")(run)
    return click.option("--job-type", help="Only jobs of this type.")(run)


@command.command()
@_selection
@click.option("--reason", help="Shown to everybody whose jobs wait.")
def pause(job_type: str | None, organization: str | None, reason: str | None, *, everything: bool) -> None:
    """From now on let no such job start; what runs goes on."""
    from celeriac.controls import pause_jobs

    _require_selection(job_type, organization, everything=everything)
    pause_jobs(organization, job_type, reason)


@command.command()
@_selection
def resume(job_type: str | None, organization: str | None, *, everything: bool) -> None:
    """End the pause that was made with the same options; the workers send the jobs within a second."""
    from celeriac.controls import resume_jobs

    _require_selection(job_type, organization, everything=everything)
    resume_jobs(organization, job_type)


@command.command()
@click.option("--organization", required=True, help="The organization whose jobs the token gives access to.")
@click.option("--user", required=True, help="Whose name its requests bear.")
@click.option("--permission", "permissions", multiple=True, help="For example jobs.view_jobs; may be repeated.")
@click.option("--admin", is_flag=True, help="Every permission in the organization, those of the handlers too.")
@click.option("--expires", default="1h", show_default=True, help="Lifetime: a number and s, m, h or d.")
def token(organization: str, user: str, permissions: tuple[str, ...], expires: str, *, admin: bool) -> None:
    """Print a token for the API."""
    import jwt

    now = int(time.time())
    configured = settings()
    claims = {
        "sub": user,
        "org": organization,
        "permissions": sorted({*permissions, *(_every_permission() if admin else ())}),
        "iat": now,
        "exp": now + _seconds(expires),
        "iss": configured.jwt_issuer,
        "aud": configured.jwt_audience,
    }
    click.echo(jwt.encode(claims, signing_secret(configured), algorithm="HS256"))


def _every_permission() -> set[str]:
    if not settings().broker_url.get_secret_value():
        os.environ["BROKER_URL"] = "memory://"  # handlers need some broker to exist, and no server need run for a token
        settings.cache_clear()
    from tasks.app import app, import_handlers

    import_handlers()
    own = {getattr(handler, "permission", None) for handler in app.tasks.values()}
    return {*PERMISSIONS, *(permission for permission in own if permission)}


def _seconds(lifetime: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", lifetime)
    if not match or int(match[1]) == 0:
        raise click.BadParameter(f"{lifetime!r} is not like 30m, 1h or 7d", param_hint="--expires")
    return int(match[1]) * UNITS[match[2]]


def _limit(text: str) -> int | None:
    if text == "default":
        return None
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) > MOST_AT_ONCE:
        raise click.BadParameter(f"{text!r} is no number up to {MOST_AT_ONCE}, nor default", param_hint="LIMIT")
    return int(text)


def _require_selection(job_type: str | None, organization: str | None, *, everything: bool) -> None:
    if everything is bool(job_type or organization):
        raise click.UsageError("Say which jobs: --job-type, --organization or both, or --everything.")


def _leave(error: Exception, code: int) -> None:
    click.echo(f"celeriac: {error}", err=True)
    sys.exit(code)
