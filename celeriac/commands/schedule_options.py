"""`celeriac schedules`: its commands and their options; what they do stands in schedules.py beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from celeriac.commands.names import Name, Object, span_given
from celeriac.commands.program import Commands
from celeriac.commands.reaching import reaching, reaching_as

if TYPE_CHECKING:
    from celeriac.client import Client
    from celeriac.commands.screen import Screen

# ruff: noqa: PLC0415  as in part_options.py

NAME = click.argument("name", metavar="NAME", type=Name())
CATCH_UP = click.Choice(["skip", "once", "all"])
OVERLAP = click.Choice(["allow", "skip", "cancel_previous"])


@click.group("schedules", cls=Commands)
def schedules() -> None:
    """Have jobs made by themselves, by cron or at an interval."""


@schedules.command("list")
@reaching
def list_schedules(*, client: Client, screen: Screen) -> None:
    """List schedules: when they are due, and what became of the last due time."""
    from celeriac.commands.schedules import COLUMNS

    screen.rows(client.schedules(), COLUMNS, empty="There is no schedule.")


@schedules.command("everywhere")
def list_everywhere() -> None:
    """List those of all organizations, and what the platform cleans up; with the database alone."""
    from celeriac.commands.everywhere import print_schedules

    print_schedules()


@schedules.command("show")
@NAME
@reaching
def show_schedule(*, client: Client, screen: Screen, name: str) -> None:
    """Show one, with its next times and what became of the last ones."""
    from celeriac.commands.schedules import show

    show(client, screen, name)


@schedules.command("add")
@NAME
@click.option("--type", "--job-type", "job_type", required=True, type=Name(), help="What is made.")
@click.option("--payload", type=Object(), default="{}", help="JSON, @file, or - for standard input. [default: {}]")
@click.option("--cron", help="Five fields, or @daily and its like.")
@click.option("--timezone", help="In which cron is read, such as Europe/Berlin. [default: UTC]")
@click.option("--every", metavar="TIME", help="Instead of cron: a number and s, m, h or d.")
@click.option("--priority", type=click.IntRange(0, 9), help="Higher is more urgent. [default: as the handler says]")
@click.option("--catch-up", type=CATCH_UP, default="once", show_default=True, help="Of times that were missed.")
@click.option("--overlap", type=OVERLAP, default="allow", show_default=True, help="While the last job is not over.")
@click.option("--paused", is_flag=True, help="It begins with a pause.")
@reaching_as("--as", "--user")
def add_schedule(*, client: Client, screen: Screen, name: str, every: str | None, **said: Any) -> None:
    """Make a schedule."""
    from celeriac.commands.schedules import add

    seconds = None if every is None else span_given(every, "--every").total_seconds()
    if (said["cron"] is None) == (every is None) or (every is not None and said["timezone"] is not None):
        raise click.UsageError("Say when: --cron, with --timezone if it is not UTC, or --every.")
    add(client, screen, name, every_seconds=None if seconds is None else round(seconds), **said)


@schedules.command("pause")
@NAME
@reaching
def pause_schedule(*, client: Client, screen: Screen, name: str) -> None:
    """Let it make no job until it is resumed."""
    from celeriac.commands.schedules import do

    do(client, screen, name, client.pause_schedule)


@schedules.command("resume")
@NAME
@reaching
def resume_schedule(*, client: Client, screen: Screen, name: str) -> None:
    """Let it be due again from now on."""
    from celeriac.commands.schedules import do

    do(client, screen, name, client.resume_schedule)


@schedules.command("skip-next")
@NAME
@reaching
def skip_next(*, client: Client, screen: Screen, name: str) -> None:
    """Let its next due time make no job."""
    from celeriac.commands.schedules import do

    do(client, screen, name, client.skip_next)


@schedules.command("run")
@NAME
@reaching
def run_schedule(*, client: Client, screen: Screen, name: str) -> None:
    """Make a job of it now, and print its id."""
    from celeriac.commands.schedules import named

    created = client.run_schedule(named(client, name).id)
    if screen.as_json:
        screen.json(created)
    else:
        click.echo(str(created.job_id))


@schedules.command("remove")
@NAME
@reaching
def remove_schedule(*, client: Client, screen: Screen, name: str) -> None:
    """Forget it; its jobs stay."""
    from celeriac.commands.schedules import named

    client.remove_schedule(named(client, name).id)
    screen.say(f"{name}: removed.")


@schedules.command("import")
@click.argument("app")
@click.option("--organization", required=True, type=Name(), help="Whose schedules they are.")
@click.option("--user", required=True, type=Name(), help="In whose name the jobs are made.")
def import_schedules(app: str, organization: str, user: str) -> int:
    """Take over the beat_schedule of a Celery app, such as shop.celery:app. Twice changes nothing."""
    from celeriac.commands.everywhere import import_beat

    return import_beat(app, organization, user)
