"""Looks at what `celeriac migrate` would do; none of them changes anything."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import click

from celeriac.commands.operations import connected
from tracking.db import migration_sql
from tracking.versions import NONE, newest, pending, require_newest, version

TIMEOUT = 30  # seconds for each statement
LATER = "The schema is that of a later release, which this one can work with while you upgrade."


def print_status() -> None:
    """Print the version of the schema, that of this program, and the migrations between them."""
    found = _version()
    click.echo(f"schema   {found}\nprogram  {newest()}")
    if found != NONE and found > newest():
        click.echo(LATER)
    for each in pending(found):
        click.echo(f"{each.version}  {each.said}")


def check() -> None:
    """Raise ConfigurationError while a migration is to come."""
    with connected(TIMEOUT) as database, database.autocommit() as connection:
        require_newest(connection)


def print_sql() -> None:
    """Print the statements of the migrations that are to come. Raises ConfigurationError."""
    found = _version()
    if found != NONE and found > newest():
        return
    versions = ["base" if found == NONE else found, *(each.version for each in pending(found))]
    statements = [migration_sql(*pair) for pair in itertools.pairwise(versions)]
    for each in statements:  # all of them, or none
        click.echo(each)


def _version() -> str:
    with connected(TIMEOUT) as database, database.autocommit() as connection:
        return version(connection)


LOOKS: dict[str, Callable[[], None]] = {"status": print_status, "check": check, "sql": print_sql}
