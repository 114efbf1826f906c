"""`celeriac errors`: what failed, in groups that are alike, and what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celeriac.commands.names import Name, span_given
from celeriac.commands.program import Commands
from celeriac.commands.reaching import reaching

if TYPE_CHECKING:
    from celeriac.client import Client
    from celeriac.client.failures import Standing
    from celeriac.commands.screen import Columns, Screen

STATES = ("open", "resolved", "ignored")


@click.group(cls=Commands)
def errors() -> None:
    """List what failed, in groups of jobs that failed alike, and say what became of a group."""


@errors.command("list")
@click.option("--within", default="1d", show_default=True, help="Failed in this time: a number and s, m, h or d.")
@click.option("--state", type=click.Choice(STATES), default="open", show_default=True, help="What is said of them.")
@click.option("--type", "--job-type", "job_type", type=Name(), help="Of this type.")
@click.option("--project", "project_id", type=Name(), help="Of this project.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100), help="At most.")
@reaching
def list_errors(
    *,
    client: Client,
    screen: Screen,
    within: str,
    state: Standing,
    job_type: str | None,
    project_id: str | None,
    limit: int,
) -> None:
    """List groups, those with most failures first."""
    window = span_given(within, "--within")
    found = client.errors(window=window, state=state, job_type=job_type, project_id=project_id, limit=limit)
    screen.rows(found.errors, COLUMNS, empty="Nothing has failed in that time.")


@errors.command("resolve")
@click.argument("fingerprint")
@reaching
def resolve(*, client: Client, screen: Screen, fingerprint: str) -> None:
    """Say that the failures until now are resolved."""
    _mark(client, screen, fingerprint, "resolved")


@errors.command("ignore")
@click.argument("fingerprint")
@reaching
def ignore(*, client: Client, screen: Screen, fingerprint: str) -> None:
    """Say that such failures are to be ignored, later ones too."""
    _mark(client, screen, fingerprint, "ignored")


@errors.command("open")
@click.argument("fingerprint")
@reaching
def open_again(*, client: Client, screen: Screen, fingerprint: str) -> None:
    """Take back what was said of them."""
    _mark(client, screen, fingerprint, "open")


def _mark(client: Client, screen: Screen, fingerprint: str, state: Standing) -> None:
    said = client.mark_error(fingerprint, state)
    screen.say(f"{said.fingerprint}: {said.state}.")


COLUMNS: Columns = {
    "fingerprint": lambda group: group.fingerprint,
    "type": lambda group: group.job_type,
    "failures": lambda group: group.count,
    "failed now": lambda group: group.failed,
    "last": lambda group: group.last_seen,
    "first": lambda group: group.first_seen,
    "error": lambda group: ": ".join(filter(None, (group.error_type, group.sample_message))),
}
