"""Failures of handlers, for whoever writes them: the type, the message, and the frames of their own code."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from celeriac import packages
from tracking.db import Connection, Database, SQLAlchemyError
from tracking.reads import lists
from tracking.reads.tail import Happening, SequenceReset, Tail
from tracking.settings import Settings
from tracking.states import Event

FRAME = re.compile(
    r'^(?P<margin> *\| )?  File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<where>.+)\n'
    r"(?:(?(margin) *\| )    (?P<code>.+)\n?)?",  # each line of a group of exceptions has a margin
    re.MULTILINE,
)
INSTALLED = ("/site-packages/", "/dist-packages/")  # also those of another environment that this one is built on
MOST_AT_ONCE = 5  # that are shown of one look
MOST_FRAMES = 8
ELSEWHERE = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), sysconfig.get_path("stdlib")})


class Failures:
    """Looks again and again what has failed since, and shows it."""

    def __init__(self, settings: Settings, show: Callable[[str, str], None]) -> None:
        self._database = Database(settings.database, settings, pool_size=1)
        self._tail = Tail()
        self._show = show

    def close(self) -> None:
        self._database.close()

    def look(self) -> None:
        """Show what is new. A database that is away says so itself."""
        with suppress(SQLAlchemyError):
            try:
                with self._database.autocommit() as connection:
                    new = [each for each in self._tail.poll(connection) if each.event is Event.FAILED]
                    for each in new[:MOST_AT_ONCE]:
                        for line in _lines(connection, each):
                            self._show("job", line)
                if len(new) > MOST_AT_ONCE:
                    self._show("job", f"and {len(new) - MOST_AT_ONCE} more have failed")
            except SequenceReset:
                self._tail = Tail()


def _lines(connection: Connection, happened: Happening) -> Iterator[str]:
    detail: dict[str, Any] = dict(happened.detail)
    entry = next((each for each in lists.timeline(connection, happened.job_id) if each.id == happened.id), None)
    if entry is not None:
        detail |= entry.detail
    again = ", and runs again" if detail.get("willRetry") else ""
    said = ": ".join(str(part) for part in (detail.get("errorType"), detail.get("error")) if part)
    yield f"{happened.job_type} {happened.job_id} has failed at attempt {happened.attempt}{again}: {_printable(said)}"
    for line in own_frames(str(detail.get("traceback") or "")):
        yield f"  {_printable(line)}"


def own_frames(traceback: str) -> list[str]:
    """The frames of a traceback that are neither of a library nor of ours, the last ones; else the last of all."""
    frames = [match.groupdict() for match in FRAME.finditer(traceback)]
    own = [frame for frame in frames if _is_own(frame["file"])] or frames[-1:]
    shown = []
    for frame in own[-MOST_FRAMES:]:
        shown.append(f"{_short(frame['file'])}:{frame['line']} in {frame['where']}")
        if frame["code"]:
            shown.append(f"    {frame['code'].strip()}")
    return shown


def _is_own(file: str) -> bool:
    ours = any(file.startswith(f"{packages.HOME / name}/") for name in (*packages.NEEDED, "celeriac", "api"))
    return not ours and not file.startswith(ELSEWHERE) and not any(each in file for each in INSTALLED)


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
