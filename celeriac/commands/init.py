"""A small project, written from the files beside this one."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path

import click

from tracking.errors import ConfigurationError

FILES = {
    "handlers.py": "handlers.py.txt",
    "test_handlers.py": "test_handlers.py.txt",
    "pyproject.toml": "pyproject.toml.txt",
    "celeriac.env": "celeriac.env.txt",
    ".gitignore": "gitignore.txt",
    "README.md": "README.md.txt",
}


def write_project(directory: Path) -> None:
    """Write all of it, or nothing. Raises ConfigurationError when a file of one of these names is there already."""
    there = [name for name in FILES if (directory / name).exists()]
    if there:
        raise ConfigurationError(f"{directory / there[0]} is there already: take an empty directory")
    source = files("celeriac.commands") / "project"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, kept in FILES.items():
            with (directory / name).open("x", encoding="utf-8") as file:
                file.write((source / kept).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{directory} cannot be written: {error.strerror}") from None
    click.echo(f"{directory}: {', '.join(FILES)}.")
    enter = "" if directory == Path() else f"cd {shlex.quote(str(directory))} && "
    click.echo(f"Next: {enter}pytest, and celeriac up --imports handlers --reload")
