"""`celeriac doctor`: whether the platform works, proved on the live system."""

from __future__ import annotations

import click

from celeriac.commands.names import Name
from celeriac.commands.program import Command
from tracking.exit_status import Exit

# ruff: noqa: PLC0415  as in part_options.py


@click.command(cls=Command)
@click.option("--profile", type=Name(), help="Ask the API of a profile. [default: look from this host]")
@click.option("--operator", is_flag=True, help="Look from this host, with the settings that are here.")
@click.option("--json", "as_json", is_flag=True, help="For programs: the API's JSON.")
def doctor(profile: str | None, *, operator: bool, as_json: bool) -> Exit:
    """Look at database, broker, workers and secrets, with a canary job through each queue; up to half a minute.

    Each check is a line with what was seen, and how to mend what is wrong. 1: a check has failed.
    """
    from celeriac.commands.doctor import examined, print_examination

    if profile and operator:
        raise click.UsageError("--profile is of the API, --operator of this host: say one.")
    return print_examination(examined(profile), as_json=as_json)
