"""`celeriac templates`: jobs that are asked for again and again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from celeriac.commands.names import Name, Object
from celeriac.commands.program import Commands
from celeriac.commands.reaching import reaching

if TYPE_CHECKING:
    from celeriac.client import Client
    from celeriac.client.kept import Template
    from celeriac.commands.screen import Columns, Screen


NAME = click.argument("name", type=Name())
PAYLOAD = "JSON, @file, or - for standard input."


@click.group("templates", cls=Commands)
def templates() -> None:
    """Keep jobs that are asked for again and again."""


@templates.command("list")
@reaching
def list_templates(*, client: Client, screen: Screen) -> None:
    """List the newest version of each."""
    screen.rows(client.templates(), COLUMNS, empty="There is no template.")


@templates.command("show")
@NAME
@click.option("--version", type=click.IntRange(1), help="[default: the newest]")
@reaching
def show_template(*, client: Client, screen: Screen, name: str, version: int | None) -> None:
    """Show one."""
    _show(screen, client.template(name, version))


@templates.command("versions")
@NAME
@reaching
def list_versions(*, client: Client, screen: Screen, name: str) -> None:
    """List the versions of one, newest first."""
    screen.rows(client.template_versions(name), COLUMNS)


@templates.command("add")
@NAME
@click.option("--type", "--job-type", "job_type", required=True, type=Name(), help="What it makes.")
@click.option("--payload", type=Object(), default="{}", help=PAYLOAD)
@click.option("--priority", type=click.IntRange(0, 9), help="Higher is more urgent. [default: as the handler says]")
@click.option("--max-retries", type=click.IntRange(0, 100), help="[default: as the handler says]")
@click.option("--permission", type=Name(), help="What a caller needs besides jobs.create_jobs.")
@reaching
def add_template(*, client: Client, screen: Screen, name: str, job_type: str, **content: Any) -> None:
    """Keep one."""
    _show(screen, client.create_template(name, job_type, **_said(content)))


@templates.command("change")
@NAME
@click.option("--payload", type=Object(), help=PAYLOAD)
@click.option("--priority", type=click.IntRange(0, 9))
@click.option("--max-retries", type=click.IntRange(0, 100))
@reaching
def change_template(*, client: Client, screen: Screen, name: str, **content: Any) -> None:
    """Make the next version of one, of what is said here and the rest of the newest."""
    _show(screen, client.change_template(name, **_said(content)))


@templates.command("remove")
@NAME
@reaching
def remove_template(*, client: Client, screen: Screen, name: str) -> None:
    """Forget one with its versions; its jobs stay."""
    client.remove_template(name)
    screen.say(f"{name}: removed.")


@templates.command("run")
@NAME
@click.option("--payload", type=Object(), help=f"On top of its own. {PAYLOAD}")
@click.option("--version", type=click.IntRange(1), help="[default: the newest]")
@click.option("--priority", type=click.IntRange(0, 9), help="[default: its own]")
@reaching
def run_template(*, client: Client, screen: Screen, name: str, payload: Any, **how: Any) -> None:
    """Have a job made of one, and print its id."""
    created = client.create_from(name, payload, **how)
    if screen.as_json:
        screen.json(created)
    else:
        click.echo(str(created.job_id))


COLUMNS: Columns = {
    "template": lambda found: found.name,
    "type": lambda found: found.job_type,
    "version": lambda found: f"{found.version}/{found.newest}",
    "payload": lambda found: json.dumps(found.payload, ensure_ascii=False),
    "changed": lambda found: found.changed_at,
    "by": lambda found: found.changed_by,
}


def _show(screen: Screen, found: Template) -> None:
    screen.one(found, {name: of(found) for name, of in COLUMNS.items()})


def _said(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if value is not None}
