"""What bodies and their libraries print becomes log lines, where each line is to be JSON."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable
from typing import Any, TextIO

LONGEST = 8192  # characters that are kept of a line that is begun
STREAMS = {"stdout": logging.INFO, "stderr": logging.WARNING}


def log_prints() -> None:
    """From here on `print`, and whatever writes to stdout or stderr by Python, is logged. Logging comes first.

    A text amid a line of ours would break that, too. What other programs write that a body starts stays as it is.
    """
    for name, level in STREAMS.items():
        if not isinstance(getattr(sys, name), Prints):
            setattr(sys, name, Prints(getattr(sys, name), logging.getLogger(name), level))


def unlogged(stream: TextIO) -> TextIO:
    """The stream itself."""
    return stream.stream if isinstance(stream, Prints) else stream


class Prints:
    """A stream whose lines are logged, each thread's by themselves; all but writing is as it was."""

    def __init__(self, stream: TextIO, log: logging.Logger, level: int) -> None:
        self.stream = stream
        self._log = log
        self._level = level
        self._of_thread = threading.local()

    def write(self, said: str) -> int:
        """Log the lines that are complete with this."""
        if getattr(self._of_thread, "is_logging", False):  # logging says that it cannot
            return self.stream.write(said)
        *lines, begun = f"{self._begun}{said}".split("\n")
        if len(begun) > LONGEST:  # dots that tell progress, say: no line may end
            lines, begun = [*lines, begun], ""
        self._of_thread.begun = begun
        self._tell(lines)
        return len(said)

    def writelines(self, lines: Iterable[str]) -> None:
        for each in lines:
            self.write(each)

    def flush(self) -> None:
        """Log what was begun."""
        begun, self._of_thread.begun = self._begun, ""
        self._tell([begun])
        self.stream.flush()

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @property
    def _begun(self) -> str:
        return getattr(self._of_thread, "begun", "")

    def _tell(self, lines: Iterable[str]) -> None:
        self._of_thread.is_logging = True
        try:
            for line in filter(str.strip, lines):
                self._log.log(self._level, "%s", line)
        finally:
            self._of_thread.is_logging = False
