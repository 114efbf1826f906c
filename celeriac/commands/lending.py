"""The terminal on which a command draws: it is as it was while the command is stopped, and when it was ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

ENDS = (signal.SIGTERM, signal.SIGHUP)
SHOW_CURSOR, HIDE_CURSOR = b"\x1b[?25h", b"\x1b[?25l"
LEAVE_SCREEN, ENTER_SCREEN = b"\x1b[?1049l", b"\x1b[?1049h"


@contextmanager
def lent(give_back: Callable[[], None], take_again: Callable[[], None]) -> Iterator[None]:
    """Give the terminal back before Ctrl-Z stops the command, and take it again with `fg`.

    Told to end, the command ends as it does otherwise, with what the terminal needs for that: by SystemExit, with the
    status that a shell says of the signal.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        give_back()
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_kill(threading.get_ident(), number)  # here it stops
        signal.signal(number, stop)
        take_again()

    before = {number: signal.signal(number, _end) for number in ENDS}
    before[signal.SIGTSTP] = signal.getsignal(signal.SIGTSTP)
    if before[signal.SIGTSTP] is signal.SIG_DFL:  # who has no `fg` has it ignored
        signal.signal(signal.SIGTSTP, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def obey(*codes: bytes) -> None:
    """Have the terminal do this at once, whatever is being printed to it just now."""
    os.write(sys.stdout.fileno(), b"".join(codes))


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
