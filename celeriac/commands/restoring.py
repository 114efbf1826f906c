"""`celeriac restore-check`: what is newer than the rows after a restore, told to people and to programs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from celeriac.commands.operating import quiet
from celeriac.commands.operations import connected
from celeriac.commands.screen import Screen, clean, plain
from celeriac.preconditions import require_servers
from tasks.app import app, import_handlers
from tasks.restored.checking import Example, Found, Report, check
from tasks.restored.kinds import MEANINGS, NOTHING, UNSEEN
from tracking.exit_status import Exit
from tracking.renumbering import renumber
from tracking.settings import settings
from tracking.versions import require_newest

TIMEOUT = 300  # seconds for each statement


def run_check(*, most: int, shown: int, as_json: bool) -> Exit:
    """Look and print. Returns FAILED when something is newer than the rows, or gone."""
    require_servers(settings())
    with quiet(), connected(TIMEOUT) as database:
        with database.autocommit() as connection:
            require_newest(connection)
        import_handlers(settings())
        report = check(app, database, settings(), most=most, shown=shown)
    if as_json:
        click.echo(json.dumps(_as_json(report)))
    elif Screen().is_terminal:
        _print(Screen(), report)
    else:
        for each in _found(report):
            click.echo("\t".join(_line(each)))
    return Exit.FAILED if report.is_newer else Exit.FINE


def run_renumber() -> None:
    """Let the next events have numbers that none had, and say which."""
    with connected(TIMEOUT) as database, database.begin() as connection:
        require_newest(connection)
        number = renumber(connection)
    click.echo(f"The next event is number {number + 1:,}; streams that resume behind an earlier one begin anew.")


def _found(report: Report) -> Iterator[Found]:
    return (each for each in report.found if each.count)


def _line(found: Found) -> tuple[str, ...]:
    meaning = MEANINGS[found.kind]
    subjects = " ".join(clean(each.subject) for each in found.examples)
    return _verdict(found), str(found.kind), str(found.count), meaning.by_itself, meaning.to_do, subjects


def _verdict(found: Found) -> str:
    return "look" if MEANINGS[found.kind].is_newer else "heals"


def _print(screen: Screen, report: Report) -> None:
    until = plain(report.rows_until)
    click.echo(f"The rows end at {until}. Messages: {report.messages}{'' if report.is_whole else ', and more'}.\n")
    table = Table("", "#", "what was found", "by itself", "for you to do", box=SIMPLE_HEAD)
    for each in _found(report):
        meaning, to_do = MEANINGS[each.kind], Text(MEANINGS[each.kind].to_do)
        if meaning.to_do == NOTHING:
            to_do.stylize("dim")
        verdict = Text(_verdict(each), "red" if meaning.is_newer else "green", no_wrap=True)
        table.add_row(verdict, str(each.count), meaning.what, meaning.by_itself, to_do)
    if table.row_count:
        screen.print(table)
    else:
        click.echo("Rows, messages and files agree.\n")
    for each in _found(report):
        for example in each.examples:
            click.echo(f"{each.kind}: {_said(example)}")
    click.echo("\nWhat this cannot see:\n")
    for sentence in UNSEEN:
        click.echo(f"- {sentence}")


def _said(example: Example) -> str:
    whose = f" of {example.organization}" if example.organization else ""
    return clean(f"{example.subject}{whose}: {example.detail}")


def _as_json(report: Report) -> dict[str, object]:
    return {
        "newer": report.is_newer,
        "rowsUntil": plain(report.rows_until) if report.rows_until else None,
        "messages": report.messages,
        "whole": report.is_whole,
        "found": [
            {
                "kind": each.kind,
                "newer": MEANINGS[each.kind].is_newer,
                "count": each.count,
                "what": MEANINGS[each.kind].what,
                "byItself": MEANINGS[each.kind].by_itself,
                "toDo": MEANINGS[each.kind].to_do,
                "examples": [
                    {"subject": one.subject, "organization": one.organization, "detail": one.detail}
                    for one in each.examples
                ],
            }
            for each in report.found
        ],
        "unseen": UNSEEN,
    }
