"""`celeriac types`: the types of jobs; and for operators, those whose work is done elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celeriac.commands.names import Name, span_given
from celeriac.commands.program import Commands
from celeriac.commands.reaching import reaching

if TYPE_CHECKING:
    from celeriac.client import Client
    from celeriac.commands.screen import Screen

# ruff: noqa: PLC0415  as in part_options.py


@click.group(cls=Commands, invoke_without_command=True)
@reaching
def types(*, client: Client, screen: Screen) -> None:
    """List the types of jobs: what they take, the permission that they ask for, and what holds them."""
    from celeriac.commands.lists import TYPES

    screen.rows(client.job_types(), TYPES, empty="There is no type of jobs.")


@types.command("external")
def list_external() -> None:
    """List those whose work is done elsewhere, and after which silence a job is given up; by the database alone."""
    from celeriac.commands.types import print_types

    print_types()


@types.command("add")
@click.argument("name", type=Name())
@click.option("--permission", type=Name(), help="What a caller needs besides jobs.create_jobs. [default: nothing]")
@click.option("--timeout", metavar="TIME", help="Silence after which a job is given up: a number and s, m, h or d.")
def add_type(name: str, permission: str | None, timeout: str | None) -> None:
    """Name such a type, or change the permission and the time of one."""
    from celeriac.commands.types import add_type as add

    add(name, permission, None if timeout is None else span_given(timeout, "--timeout"))


@types.command("remove")
@click.argument("name", type=Name())
def remove_type(name: str) -> None:
    """Forget such a type; its jobs stay what they are."""
    from celeriac.commands.types import remove_type as remove

    remove(name)
