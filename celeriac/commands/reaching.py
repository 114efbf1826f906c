"""How a command reaches the platform: by the API of a profile, or as an operator with the database. It cannot tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from celeriac.commands.completing import ProfileName
from celeriac.commands.names import Name

if TYPE_CHECKING:
    from celeriac.client import Client

# ruff: noqa: PLC0415  the help of a command does without what it asks

OPERATOR = "operator"  # the name of whoever gives none at a terminal
OF_PROFILE = "Of `celeriac login`. [default: default, or CELERIAC_PROFILE]"


Command = Callable[..., Any]


def reaching(run: Command) -> Command:
    """Options that say which platform, and how the answer is printed.

    The function gets `client`, and `screen` to print on.
    """
    return reaching_as("--as")(run)


def reaching_as(*names: str) -> Callable[[Command], Command]:
    """The same, where the name of whoever does it has these options."""

    def with_options(run: Command) -> Command:
        reached = _reached(run)
        for option in (
            click.option("--json", "as_json", is_flag=True, help="For programs: the API's JSON, one object a line."),
            click.option(*names, "as_user", type=Name(), help=f"Of an operator, in this name. [default: {OPERATOR}]"),
            click.option("--organization", type=Name(), help="As an operator of this host, of this organization."),
            click.option("--operator", is_flag=True, help="The same, of the default organization; no API need run."),
            click.option("--profile", type=ProfileName(), help=OF_PROFILE),
        ):
            reached = option(reached)
        return reached

    return with_options


def _reached(run: Command) -> Command:
    @wraps(run)
    def reached(
        *arguments: Any,
        profile: str | None,
        operator: bool,
        organization: str | None,
        as_user: str | None,
        as_json: bool,
        **options: Any,
    ) -> Any:
        from celeriac.commands.screen import Screen

        if click.get_current_context().invoked_subcommand is not None:  # then that one asks
            return None
        if profile and (operator or organization):
            raise click.UsageError("--profile is of the API, --operator and --organization of the database: say one.")
        if as_user and not (operator or organization):
            raise click.UsageError("The name is that of the token, unless --operator or --organization is there.")
        with connected(profile, organization, as_user, operator=operator) as client:
            return run(*arguments, client=client, screen=Screen(as_json=as_json), **options)

    return reached


@contextmanager
def connected(profile: str | None, organization: str | None, user: str | None, *, operator: bool) -> Iterator[Client]:
    """A client of the API of a profile, or of one of our own for an operator. Raises ConfigurationError."""
    if operator or organization:
        from celeriac.commands.operating import operating
        from tracking.settings import settings

        with operating(organization or settings().default_organization or "default", user or OPERATOR) as own:
            yield own
        return
    from celeriac.client import Client
    from celeriac.commands.profiles import chosen
    from tracking.errors import ConfigurationError

    found = chosen(profile)
    try:
        client = Client(found.url, found.token, patience=PATIENCE)
    except ValueError as error:
        raise ConfigurationError(f"the profile, or CELERIAC_URL and CELERIAC_TOKEN: {error}") from None
    with client:
        yield client


PATIENCE = 10.0  # seconds that a request is repeated while the API cannot answer
