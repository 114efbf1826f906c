"""How commands print: tables in a terminal, plain lines with tabs into a pipe, the API's JSON for programs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tracking.values import in_milliseconds

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from celeriac.client.answers import Answer

# ruff: noqa: PLC0415  a pipe does without what draws tables

# What a terminal would obey: jobs say what they like. C1 controls too, what turns the direction of text, and what
# programs may take for the end of a line.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
COLORS = {
    "queued": "yellow",
    "running": "cyan",
    "retrying": "magenta",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "bright_black",
    "skipped": "bright_black",
    "ok": "green",
    "alive": "green",
    "dead": "red",
    "open": "red",
    "half_open": "yellow",
    "closed": "green",
    "warning": "yellow",
    "denied": "red",
}
MINUTE, HOUR, DAY = 60, 3600, 86400
WIDEST = 60  # columns of a text in a table
NARROWEST = 16  # to which a longer text gives way
GAP = 2  # between two columns
NOTHING = "-"

Columns = Mapping[str, Callable[[Any], Any]]


class Screen:
    """Where a command prints. `as_json`: nothing but JSON, one object a line."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        # None where it is closed, as `>&-` has it.
        self.is_terminal = sys.stdout is not None and sys.stdout.isatty() and not as_json
        # A terminal that only appends, such as that of an editor, shows nothing of what is drawn anew in its place.
        self.is_drawn_on = self.is_terminal and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")

    def rows(self, found: Iterable[Answer], columns: Columns, *, empty: str = "") -> int:
        """Print what was found, as it comes unless it is a table; of none, a terminal says `empty`. Says how many."""
        if self.as_json or not self.is_terminal:
            count = 0
            for count, each in enumerate(found, 1):  # noqa: B007 - it is returned
                self._line(each, columns)
            return count
        rows = [[as_text(of(each)) for of in columns.values()] for each in found]
        if rows:
            self.print(_drawn(list(columns), rows, console().width))
        elif empty:
            click.echo(empty, err=True)
        return len(rows)

    def one(self, answer: Answer, fields: Mapping[str, Any]) -> None:
        """Print one thing: what is said of it, a line each; None is left out."""
        if self.as_json:
            self.json(answer)
            return
        said = {name: value for name, value in fields.items() if value is not None}
        if not self.is_terminal:
            for name, value in said.items():
                click.echo(f"{name}\t{plain(value)}")
            return
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2))
        for name, value in said.items():
            grid.add_row(Text(name, "dim"), as_text(value, widest=None))
        self.print(grid)

    def json(self, answer: Answer) -> None:
        """Print an answer as the API has said it."""
        click.echo(in_a_line(answer.model_dump_json(by_alias=True)))

    def say(self, words: str) -> None:
        """Print a line for people; programs, which asked for JSON, do without."""
        if not self.as_json:
            click.echo(clean(words))

    def print(self, drawn: RenderableType) -> None:
        console().print(drawn)

    def _line(self, each: Answer, columns: Columns) -> None:
        if self.as_json:
            self.json(each)
        else:
            click.echo("\t".join(plain(of(each)) for of in columns.values()))


def console() -> Console:
    """The terminal. Nothing of what is printed is markup."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def clean(text: str) -> str:
    """The text without what a terminal would obey."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def clean_lines(text: str) -> str:
    """The same of a text that has lines of its own."""
    return "\n".join(map(clean, text.splitlines()))


def in_a_line(text: str) -> str:
    """JSON that is one line for whoever reads lines, and the same value: in it only strings have such characters."""
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def plain(value: Any) -> str:
    """A value in a line for programs that read lines: times in full, nothing as a hyphen."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, datetime):
        return in_milliseconds(value)
    if isinstance(value, list | tuple):
        return ",".join(plain(each) for each in value) or NOTHING
    return clean(str(value))


def as_text(value: Any, *, widest: int | None = WIDEST) -> Text:
    """A value for people: times as how long ago, a status in its colour."""
    from rich.text import Text

    said = ago(value) if isinstance(value, datetime) else plain(value)
    shown = said if widest is None or len(said) <= widest else f"{said[: widest - 1]}…"
    return Text(shown, COLORS.get(said, ""))


def ago(at: datetime) -> str:
    """How long ago, or in how long."""
    seconds = (datetime.now(UTC) - at).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def span(seconds: float) -> str:
    """A length of time in its largest two units."""
    whole = int(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def lasted(milliseconds: int | None) -> str | None:
    """A duration of the API; None: there is none."""
    if milliseconds is None:
        return None
    return f"{milliseconds} ms" if milliseconds < MINUTE * 100 else span(milliseconds / 1000)


def _drawn(names: Sequence[str], rows: Sequence[Sequence[Text]], width: int) -> RenderableType:
    """A table, or where a terminal is too narrow for one, each row in lines of its own."""
    needed = [max(len(name), *(row[number].cell_len for row in rows)) for number, name in enumerate(names)]
    whole = [number == 0 or cells <= NARROWEST for number, cells in enumerate(needed)]
    fewest = sum(cells if each else NARROWEST for cells, each in zip(needed, whole, strict=True))
    is_narrow = fewest + GAP * len(names) > width
    return _stacked(names, rows, width) if is_narrow else _table(names, rows, whole)


def _table(names: Sequence[str], rows: Sequence[Sequence[Text]], whole: Sequence[bool]) -> RenderableType:
    """What is not whole gives way, in further lines; nothing is left out of what people copy."""
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, GAP, 0, 0))
    for name, each in zip(names, whole, strict=True):
        table.add_column(name, no_wrap=each, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _stacked(names: Sequence[str], rows: Sequence[Sequence[Text]], width: int) -> RenderableType:
    """What a row is called by, and below it what else there is to say, each with its name."""
    from rich.console import Group
    from rich.text import Text

    lines: list[Text] = []
    for row in rows:
        lines += [row[0], Text()]
        for name, cell in zip(names[1:], row[1:], strict=True):
            said = Text.assemble(" " * GAP, (name, "dim"), " ", cell)
            if lines[-1] and lines[-1].cell_len + said.cell_len > width:
                lines.append(Text())
            if cell.plain != NOTHING:
                lines[-1].append_text(said)
    return Group(*(line for line in lines if line))
