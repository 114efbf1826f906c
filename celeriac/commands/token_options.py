"""`celeriac token`: a token for the API, of whoever has its secret."""

from __future__ import annotations

from datetime import timedelta

import click

from celeriac.commands.names import Name, span_given
from celeriac.commands.program import Command

# ruff: noqa: PLC0415  as in part_options.py


@click.command(cls=Command)
@click.option(
    "--organization", required=True, type=Name(), help="The organization whose jobs the token gives access to."
)
@click.option("--user", required=True, type=Name(), help="Whose name its requests bear.")
@click.option(
    "--permission", "permissions", multiple=True, type=Name(), help="For example jobs.view_jobs; may be repeated."
)
@click.option("--admin", is_flag=True, help="Every permission in the organization, those of the handlers too.")
@click.option(
    "--expires",
    default="1h",
    show_default=True,
    help="A number and s, m, h or d; at most CELERIAC_TOKEN_LIFE.",
)
def token(organization: str, user: str, permissions: tuple[str, ...], expires: str, *, admin: bool) -> None:
    """Print a token for the API, signed with the secret that the API has."""
    from celeriac.commands.tokens import make_token
    from tracking.settings import settings

    span = span_given(expires, "--expires")
    configured = settings()
    if span > timedelta(seconds=configured.token_life):
        longest = f"CELERIAC_TOKEN_LIFE, which is {configured.token_life} seconds"
        raise click.BadParameter(f"{expires} is longer than {longest}", param_hint="--expires")
    seconds = round(span.total_seconds())
    click.echo(make_token(configured, organization, user, permissions, seconds=seconds, admin=admin))
