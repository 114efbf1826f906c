"""`celeriac restore-check`: what is asked of it at a terminal."""

from __future__ import annotations

import click

from celeriac.commands.program import Command
from tracking.exit_status import Exit

# ruff: noqa: PLC0415  as in part_options.py


@click.command("restore-check", cls=Command)
@click.option("--limit", "shown", default=20, show_default=True, type=click.IntRange(0), help="Examples of each kind.")
@click.option("--most", default=100_000, show_default=True, type=click.IntRange(1), help="Messages of a queue to read.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one object.")
@click.option("--renumber", is_flag=True, help="Instead, give no event a number that one had since the backup.")
def restore_check(shown: int, most: int, *, as_json: bool, renumber: bool) -> Exit:
    """After a restore, and before API and workers start: say which messages and files are newer than the rows.

    Of each kind it says what happens by itself, and what is left to do. It changes nothing, unless with --renumber. 1:
    something is newer, or gone.
    """
    from celeriac.commands.restoring import run_check, run_renumber

    if renumber:
        run_renumber()
        return Exit.FINE
    return run_check(most=most, shown=shown, as_json=as_json)
