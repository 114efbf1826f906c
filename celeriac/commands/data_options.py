"""`celeriac data`: the data directories of `celeriac up` on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from celeriac.commands.program import Commands

# ruff: noqa: PLC0415  as in part_options.py


@click.group("data", cls=Commands)
def data() -> None:
    """List the data directories that `celeriac up` has made on this machine, and remove one."""


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs: one object a line.")
def list_data(*, as_json: bool) -> None:
    """List them, of this user: where, which PostgreSQL, how large, when it began or ended last, and whether it runs."""
    from celeriac.commands.data import print_all

    print_all(as_json=as_json)


@data.command("remove")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove_data(path: Path, *, yes: bool) -> None:
    """Remove one with its database, messages, secrets and exports, unless it runs or holds anything else."""
    from celeriac.commands.data import remove

    remove(path, yes=yes)
