"""`celeriac denied-tokens`: tokens that the API takes no more before they expire."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import click

from celeriac.commands.names import Moment, Name
from celeriac.commands.program import Commands
from celeriac.commands.reaching import reaching

if TYPE_CHECKING:
    from datetime import datetime

    from celeriac.client import Client
    from celeriac.client.denied_tokens import Denial
    from celeriac.commands.screen import Columns, Screen


@click.group("denied-tokens", cls=Commands)
def denied_tokens() -> None:
    """Say which tokens the API takes no more before they expire: one, or those of a user."""


@denied_tokens.command("list")
@reaching
def list_denied_tokens(*, client: Client, screen: Screen) -> None:
    """List them."""
    screen.rows(client.denied_tokens(), COLUMNS, empty="No token is denied.")


@denied_tokens.command("add")
@click.option("--jti", "token", type=Name(), help="The one with this id, its claim `jti`.")
@click.option("--user", type=Name(), metavar="SUB", help="Those of this user, its claim `sub`.")
@click.option("--only", "of", type=Name(), metavar="ORGANIZATION", help="In this one. [default: in any]")
@click.option("--issued-before", type=Moment(), help="Older ones of the user. [default: later ones too]")
@click.option("--reason", type=Name(), help="For operators, and the audit.")
@reaching
def add_denied_tokens(
    *,
    client: Client,
    screen: Screen,
    token: str | None,
    user: str | None,
    of: str | None,
    issued_before: datetime | None,
    reason: str | None,
) -> None:
    """Take one no more, or those of a user; sessions and streams that were opened with them end in five seconds."""
    if (token is None) is (user is None):
        raise click.UsageError("Say which tokens: --jti or --user.")
    if token is not None and issued_before is not None:
        raise click.UsageError("--issued-before is of the tokens of a --user.")
    said = {"token": token, "user": user, "organization": of, "reason": reason}
    found = client.deny_tokens(**said, issued_before=issued_before)
    screen.one(found, {name: show(found) for name, show in COLUMNS.items()})


@denied_tokens.command("remove")
@click.argument("denial_id", type=click.UUID, metavar="ID")
@reaching
def remove_denied_tokens(*, client: Client, screen: Screen, denial_id: UUID) -> None:
    """Take them again, as far as they have not expired."""
    client.allow_tokens(denial_id)
    screen.say(f"{denial_id}: removed.")


def _which(denial: Denial) -> str:
    return f"token {denial.token}" if denial.token is not None else f"user {denial.user}"


COLUMNS: Columns = {
    "id": lambda denial: denial.id,
    "which": _which,
    "organization": lambda denial: denial.organization or "(any)",
    "issued before": lambda denial: denial.issued_before,
    "until": lambda denial: denial.expires_at,
    "reason": lambda denial: denial.reason,
    "by": lambda denial: denial.denied_by,
    "at": lambda denial: denial.denied_at,
}
