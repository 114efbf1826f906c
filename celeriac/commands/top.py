"""`celeriac top`: workers, queues and jobs on a full screen."""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import click
from rich.live import Live

from celeriac.client import ApiError, Client
from celeriac.commands.lending import ENTER_SCREEN, HIDE_CURSOR, LEAVE_SCREEN, SHOW_CURSOR, lent, obey
from celeriac.commands.screen import Screen, console
from celeriac.commands.top_picture import MOST_ROWS, Seen, picture

NOTICES = 0.2  # seconds between two looks at the size of the terminal, and at whether an answer has come
ESCAPE = b"\x1b"


def run_top(client: Client, screen: Screen, every: float) -> None:
    """Show it until somebody has enough, be there an answer or none. Raises UsageError without a terminal."""
    if not screen.is_drawn_on or not sys.stdin.isatty():
        raise click.UsageError("top needs a terminal to draw on: take `celeriac stats`, `jobs` or `events` instead.")
    drawn = console()
    seen, due = Seen(time.monotonic()), 0.0
    look: Future[Seen] | None = None
    shown: Any = None
    terminal = _Keys()
    with terminal.lent(), Live(console=drawn, screen=True, auto_refresh=False) as live:
        while not _is_quit(terminal.descriptor, NOTICES):
            now = time.monotonic()
            if look is None and now >= due:
                look = _in_a_thread(partial(_look, client, seen))
            if look is not None and look.done():
                seen, look, due = look.result(), None, now + every
            news = (seen, drawn.size, int(now), terminal.turns)
            if news != shown:
                live.update(picture(seen, drawn.size, every), refresh=True)
                shown = news


def _look(client: Client, before: Seen) -> Seen:
    """What there is now; where the API does not answer, what there was before, and why there is nothing newer."""
    try:
        at, stats, jobs = time.monotonic(), client.stats(), client.recent(limit=100)
    except ApiError as error:
        return replace(before, troubles=(str(error),))
    # Of operators alone; whoever is none sees the jobs.
    rows: dict[str, tuple[Any, ...]] = {"workers": (), "queues": ()}
    troubles: list[str] = []
    for name, read in (("workers", client.workers), ("queues", client.queues)):
        try:
            rows[name] = tuple(islice(read(), MOST_ROWS))
        except ApiError as error:
            if error.code != "permission_missing":
                troubles.append(str(error))
    return Seen(at, stats, jobs, **rows, troubles=tuple(troubles))


def _in_a_thread(look: Callable[[], Seen]) -> Future[Seen]:
    """A look that keys do not wait for, and that ends with the process."""
    found: Future[Seen] = Future()

    def run() -> None:
        try:
            found.set_result(look())
        except BaseException as error:  # noqa: BLE001 - it is raised where the look is taken
            found.set_exception(error)

    threading.Thread(target=run, name="top", daemon=True).start()
    return found


class _Keys:
    """The terminal, whose keys come one by one and are not shown. `turns`: how often it was taken."""

    def __init__(self) -> None:
        self.descriptor = sys.stdin.fileno()
        self.turns = 0
        self._before = termios.tcgetattr(self.descriptor)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Take it, and give it back in the end, and whenever the command is stopped."""
        self._take()
        try:
            with lent(self._leave, self._enter):
                yield
        finally:
            self._give_back()

    def _leave(self) -> None:
        self._give_back()
        obey(SHOW_CURSOR, LEAVE_SCREEN)

    def _enter(self) -> None:
        self._take()
        obey(ENTER_SCREEN, HIDE_CURSOR)

    def _take(self) -> None:
        tty.setcbreak(self.descriptor, termios.TCSADRAIN)  # what was pressed meanwhile counts
        self.turns += 1

    def _give_back(self) -> None:
        termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self._before)


def _is_quit(descriptor: int, within: float) -> bool:
    """Whether somebody presses a key that ends it, in this time, or the terminal is gone."""
    if not select.select([descriptor], [], [], within)[0]:
        return False
    pressed = os.read(descriptor, 1024)
    if pressed.startswith(ESCAPE):
        return pressed == ESCAPE  # with more behind it, it is an arrow or the like
    return not pressed or b"q" in pressed.lower()
