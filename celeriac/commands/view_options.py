"""`celeriac views`: searches of jobs that a user keeps under names."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

import click

from celeriac.commands.names import Name, similar
from celeriac.commands.program import Commands
from celeriac.commands.reaching import reaching

if TYPE_CHECKING:
    from celeriac.client import Client
    from celeriac.client.views import View
    from celeriac.commands.screen import Columns, Screen

# ruff: noqa: PLC0415  as in part_options.py

VIEW = click.argument("name", metavar="NAME|ID", type=Name())
SEARCH = "Words and qualifiers, as of `celeriac jobs --search`."


@click.group("views", cls=Commands)
def views() -> None:
    """Keep searches of jobs under names; the dashboard has the same."""


@views.command("list")
@reaching
def list_views(*, client: Client, screen: Screen) -> None:
    """List your own, by name."""
    screen.rows(client.views(), COLUMNS, empty="There is no view.")


@views.command("show")
@VIEW
@reaching
def show_view(*, client: Client, screen: Screen, name: str) -> None:
    """Show one of yours by its name, or anybody's of the organization by its id."""
    _show(screen, _found(client, name))


@views.command("jobs")
@VIEW
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000_000), help="How many at most.")
@reaching
def list_jobs_of_view(*, client: Client, screen: Screen, name: str, limit: int) -> None:
    """List the jobs that one finds, newest first: those of them that you may see."""
    from celeriac.commands.jobs import print_jobs

    print_jobs(client, screen, limit, {"search": _found(client, name).search or None})


@views.command("save")
@click.argument("name", type=Name())
@click.option("--search", required=True, metavar="WORDS", help=SEARCH)
@reaching
def save_view(*, client: Client, screen: Screen, name: str, search: str) -> None:
    """Keep one."""
    _show(screen, client.save_view(name, search))


@views.command("change")
@VIEW
@click.option("--name", "new_name", type=Name(), help="Its new name.")
@click.option("--search", metavar="WORDS", help=SEARCH)
@reaching
def change_view(*, client: Client, screen: Screen, name: str, new_name: str | None, search: str | None) -> None:
    """Rename one, or have it find something else."""
    if new_name is None and search is None:
        raise click.UsageError("Say what changes: --name or --search.")
    _show(screen, client.change_view(_found(client, name).id, name=new_name, search=search))


@views.command("remove")
@VIEW
@reaching
def remove_view(*, client: Client, screen: Screen, name: str) -> None:
    """Forget one; the jobs that it finds stay."""
    client.remove_view(_found(client, name).id)
    screen.say(f"{name}: removed.")


COLUMNS: Columns = {
    "view": lambda view: view.name,
    "search": lambda view: view.search,
    "id": lambda view: view.id,
    "user": lambda view: view.user_id,
    "created": lambda view: view.created_at,
}


def _show(screen: Screen, view: View) -> None:
    screen.one(view, {name: of(view) for name, of in COLUMNS.items()})


def _found(client: Client, name: str) -> View:
    """The caller's own view of this name, else the one with this id. Raises ConfigurationError, with what was meant."""
    own = client.views()
    for view in own:
        if view.name == name:
            return view
    with suppress(ValueError):
        return client.view(UUID(name))
    from tracking.errors import ConfigurationError

    raise ConfigurationError(f"there is no view {name!r}{similar(name, [view.name for view in own])}")
