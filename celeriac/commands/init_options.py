"""`celeriac init`: a small project that runs."""

from __future__ import annotations

from pathlib import Path

import click

from celeriac.commands.program import Command

# ruff: noqa: PLC0415  as in part_options.py


@click.command("init", cls=Command)
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path))
def init(directory: Path) -> None:
    """Write a small project: a handler, a test of it, settings. What is there is left as it is."""
    from celeriac.commands.init import write_project

    write_project(directory)
