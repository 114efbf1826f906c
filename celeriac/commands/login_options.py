"""`celeriac login`, `logout` and `completion`: what one does once at a machine."""

from __future__ import annotations

import sys
from typing import IO

import click

from celeriac.commands.names import Name
from celeriac.commands.program import Command
from tracking.exit_status import Exit

# ruff: noqa: PLC0415  as in part_options.py

SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Command)
@click.argument("url", default="http://127.0.0.1:8000")
@click.option("--profile", default="default", show_default=True, type=Name(), help="Its name.")
@click.option("--token-file", type=click.File(), help="Where the token is; - is standard input. [default: it is asked]")
def login(url: str, profile: str, token_file: IO[str] | None) -> None:
    """Keep the address of an API, and a token for it, in a file that only you can read.

    The token is typed unseen, or read from a file: an argument would stand in the list of processes.
    """
    from celeriac.commands.login import keep_profile

    if token_file is not None:
        token = token_file.read()
    elif sys.stdin.isatty():
        token = click.prompt("Token", hide_input=True, err=True)
    else:
        token = sys.stdin.read()
    keep_profile(profile, url, token.strip())


@click.command(cls=Command)
@click.option("--profile", default="default", show_default=True, type=Name(), help="Its name.")
def logout(profile: str) -> None:
    """Forget a profile; its token stays valid until it expires."""
    from celeriac.commands.profiles import forget

    forget(profile)
    click.echo(f"{profile}: forgotten.")


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> Exit:
    """Print what completes the commands and their options in a shell; see docs/commands.md for where to put it."""
    from click.shell_completion import get_completion_class

    from celeriac.commands.cli import command

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"{shell} is not known here.")
    click.echo(_source(found, command))
    return Exit.FINE


def _source(found: type, command: click.Command) -> str:
    # Not `source()`: it asks bash for its version, and warns when there is none on this machine.
    made = found(command, {}, "celeriac", "_CELERIAC_COMPLETE")
    text: str = made.source_template % made.source_vars()
    return text
