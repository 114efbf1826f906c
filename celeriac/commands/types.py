"""The types of jobs whose work is done elsewhere, as an operator names them at a terminal."""

from __future__ import annotations

from datetime import timedelta

import click

from celeriac.commands import registered
from celeriac.commands.controls import TERMINAL, TIMEOUT
from celeriac.commands.names import similar
from celeriac.commands.operations import connected
from tracking import external_types
from tracking.errors import ConfigurationError, InvalidValue
from tracking.external_types import BUILT_IN, ExternalType
from tracking.origins import OPERATOR
from tracking.settings import settings


def print_types() -> None:
    """Print each with the permission that it takes, and after which silence a job of it is given up."""
    with connected(TIMEOUT) as database, database.autocommit() as connection:
        named = {each.name: each for each in external_types.every(connection)}
    known = {name: ExternalType(name) for name in BUILT_IN} | named
    for each in sorted(known.values(), key=lambda each: each.name):
        silence = each.silence or timedelta(seconds=settings().tracked_timeout)
        click.echo(f"{each.name:<24}  {each.permission or 'no permission':<24}  given up after {silence}")


def add_type(name: str, permission: str | None, silence: timedelta | None) -> None:
    """Add a type, or change it. Raises ConfigurationError for one of a handler, and a silence too long."""
    with connected(TIMEOUT) as database, database.begin() as connection:
        if name in registered.job_types():
            raise ConfigurationError(f"a handler has the type {name!r}: say external=True there instead")
        named = ExternalType(name, permission, silence)
        try:
            is_new = external_types.put(connection, named, actor=OPERATOR, origin=TERMINAL)
        except InvalidValue as refusal:
            raise ConfigurationError(str(refusal)) from None
    click.echo(f"{name}: {'added' if is_new else 'changed'}.")


def remove_type(name: str) -> None:
    """Forget a type; its jobs stay what they are. Raises ConfigurationError when there is none."""
    with connected(TIMEOUT) as database, database.begin() as connection:
        if not external_types.remove(connection, name, actor=OPERATOR, origin=TERMINAL):
            hint = similar(name, [each.name for each in external_types.every(connection)])
            raise ConfigurationError(f"no operator has added a type {name!r}{hint}")
    click.echo(f"{name}: {'as it was built in' if name in BUILT_IN else 'removed'}.")
