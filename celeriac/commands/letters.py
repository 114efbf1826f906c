"""Dead letters on a screen: a table of the newest, or one with its body; plain lines when piped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from celeriac.commands.operations import connected
from tracking import dead_letters
from tracking.dead_letters import DeadLetter
from tracking.values import in_milliseconds

HEADINGS = ("id", "at", "queue", "task", "task id", "reason")
BYTES_A_LINE = 16
TIMEOUT = 30  # seconds for each statement


def print_newest(limit: int) -> None:
    """Print the newest messages that were set aside."""
    letters, total = _read(limit)
    console = _console()
    if not console.is_terminal:
        for letter in letters:
            click.echo("\t".join(_cells(letter)))
        return
    if not letters:
        console.print("No message was set aside.")
        return
    table = Table(*HEADINGS)
    for letter in letters:
        table.add_row(*map(Text, _cells(letter)))
    console.print(table)
    console.print(f"{len(letters)} of {total}; one of them with its body: celeriac dead-letters --show {letters[0].id}")


def print_letter(letter_id: int) -> None:
    """Print one message that was set aside. Raises click.UsageError when there is none of this number."""
    for line in _lines(_find(letter_id)):
        click.echo(line)


def escaped(text: str) -> str:
    """`text` for a terminal: what a forged message says must not move the cursor, or look like another line."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def dumped(body: bytes) -> Iterator[str]:
    """A body in lines: as text, or as hexadecimal numbers when it is none."""
    try:
        yield from (escaped(line) for line in body.decode().split("\n"))
    except UnicodeDecodeError:
        for offset in range(0, len(body), BYTES_A_LINE):
            part = body[offset : offset + BYTES_A_LINE]
            signs = "".join(chr(byte) if chr(byte).isascii() and chr(byte).isprintable() else "." for byte in part)
            yield f"{offset:06x}  {part.hex(' '):{3 * BYTES_A_LINE}} {signs}"


def _cells(letter: DeadLetter) -> list[str]:
    values = (
        str(letter.id),
        in_milliseconds(letter.at),
        letter.queue,
        letter.task_name or "-",
        letter.task_id or "-",
        letter.reason,
    )
    return [escaped(value) for value in values]


def _lines(letter: DeadLetter) -> Iterator[str]:
    yield from (f"{heading + ':':13}{cell}" for heading, cell in zip(HEADINGS, _cells(letter), strict=True))
    yield f"worker:      {escaped(letter.worker)}"
    yield f"content:     {escaped(letter.content_type or '-')}, {letter.size} bytes"
    yield f"redelivered: {'yes' if letter.redelivered else 'no'}"
    for name, value in letter.headers.items():
        yield f"header:      {escaped(name)} = {json.dumps(value)}"
    yield ""
    if letter.body is None:
        yield "(the body was not kept)"
        return
    yield from dumped(letter.body)
    if len(letter.body) < letter.size:
        yield f"(cut: {len(letter.body)} of {letter.size} bytes)"


def _read(limit: int) -> tuple[Sequence[DeadLetter], int]:
    with connected(TIMEOUT) as database, database.autocommit() as connection:
        return dead_letters.newest(connection, limit), dead_letters.count(connection)


def _find(letter_id: int) -> DeadLetter:
    with connected(TIMEOUT) as database, database.autocommit() as connection:
        letter = dead_letters.find(connection, letter_id)
    if letter is None:
        raise click.UsageError(f"There is no dead letter {letter_id}; `celeriac dead-letters` lists them.")
    return letter


def _console() -> Console:
    return Console(highlight=False, markup=False)
