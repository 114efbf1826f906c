"""`celeriac schedules`: its commands and their options; what they do stands in schedules.py beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from celeriac.commands.names import Name, span_given
from celeriac.commands.program import Commands
from tracking.errors import InvalidValue
from tracking.schedules.values import CatchUp, Overlap
from tracking.values import check_json

# ruff: noqa: PLC0415  as in cli.py

Verb = Callable[[str, str], None]
CATCH_UP, OVERLAP = (click.Choice([str(each) for each in words]) for words in (CatchUp, Overlap))


@click.group("schedules", cls=Commands)
def schedules() -> None:
    """Have jobs made by themselves, by cron or at an interval."""


@schedules.command("list")
@click.option("--organization", type=Name(), help="Of this one only. [default: all, and what the platform cleans up]")
def list_schedules(organization: str | None) -> None:
    """List schedules: when they are due, and what became of the last due time."""
    from celeriac.commands.schedules import print_schedules

    print_schedules(organization)


def _of(run: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--organization", required=True, type=Name(), help="Whose schedule it is.")(run)


@schedules.command("add")
@click.argument("name", type=Name())
@_of
@click.option("--user", required=True, type=Name(), help="In whose name its jobs are made.")
@click.option("--job-type", required=True, type=Name(), help="What is made.")
@click.option("--payload", default="{}", help="JSON, as the handler takes it.  [default: {}]")
@click.option("--cron", help="Five fields, or @daily and its like.")
@click.option("--timezone", help="In which cron is read, such as Europe/Berlin. [default: UTC]")
@click.option("--every", metavar="TIME", help="Instead of cron: a number and s, m, h or d.")
@click.option("--priority", type=click.IntRange(0, 9), help="Higher is more urgent. [default: as the handler says]")
@click.option(
    "--catch-up", type=click.Choice([str(each) for each in CatchUp]), default=str(CatchUp.ONCE), show_default=True
)
@click.option(
    "--overlap", type=click.Choice([str(each) for each in Overlap]), default=str(Overlap.ALLOW), show_default=True
)
@click.option("--paused", is_flag=True, help="It begins with a pause.")
def add_schedule(name: str, organization: str, user: str, **said: Any) -> None:
    """Make a schedule."""
    from celeriac.commands.schedules import add

    every = said.pop("every")
    seconds = None if every is None else span_given(every, "--every").total_seconds()
    if (said["cron"] is None) == (every is None) or (every is not None and said["timezone"] is not None):
        raise click.UsageError("Say when: --cron, with --timezone if it is not UTC, or --every.")
    said |= {"catch_up": CatchUp(said["catch_up"]), "overlap": Overlap(said["overlap"])}
    said["payload"] = _json(said["payload"])
    add(name, organization, user, every_seconds=None if seconds is None else round(seconds), **said)


def _verb(name: str, does: str, says: str) -> None:
    """A command that does something to the schedule of a name."""

    @schedules.command(name, help=says)
    @click.argument("schedule", metavar="NAME", type=Name())
    @_of
    def run(schedule: str, organization: str) -> None:
        from celeriac.commands import schedules as commands

        verb: Verb = getattr(commands, does)
        verb(schedule, organization)


_verb("pause", "pause", "Let it make no job until it is resumed.")
_verb("resume", "resume", "Let it be due again from now on.")
_verb("run", "run_now", "Make a job of it now; the workers send it within seconds.")
_verb("skip-next", "skip_next", "Let its next due time make no job.")
_verb("remove", "remove", "Forget it; its jobs stay.")


@schedules.command("import")
@click.argument("app")
@_of
@click.option("--user", required=True, type=Name(), help="In whose name the jobs are made.")
def import_schedules(app: str, organization: str, user: str) -> int:
    """Take over the beat_schedule of a Celery app, such as shop.celery:app. Twice changes nothing."""
    from celeriac.commands.schedules import import_beat

    return import_beat(app, organization, user)


def _json(text: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
        if isinstance(read, dict):
            checked: dict[str, Any] = check_json(read, "it")
            return checked
    except (ValueError, InvalidValue) as error:
        raise click.BadParameter(str(error), param_hint="--payload") from None
    raise click.BadParameter("it is no JSON object", param_hint="--payload")
