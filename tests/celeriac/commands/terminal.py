"""A terminal of a test's own, in which a command runs."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Callable
from contextlib import suppress

from tests.api.calling import Caller
from tests.celeriac.commands.asking import environment_of
from tests.commands import PROGRAM
from tests.live import fork_server

CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
ROWS, COLUMNS = 40, 160


class Terminal:
    """A command of a caller in a terminal of its own; `url`: the API, if it is to be reached otherwise."""

    def __init__(
        self,
        caller: Caller,
        *arguments: str,
        rows: int = ROWS,
        columns: int = COLUMNS,
        url: str | None = None,
        term: str = "xterm-256color",
    ) -> None:
        reached = {**environment_of(caller), "CELERIAC_URL": url or caller.api.url}
        environment = {**os.environ, **reached, "TERM": term}
        for name in ("COLUMNS", "LINES"):  # they would be believed more than the terminal
            environment.pop(name, None)
        self._terminal, inside = pty.openpty()
        self.resize(rows, columns)
        self._process = fork_server.start(
            (PROGRAM, *arguments), environment=environment, stdin=inside, stdout=inside, stderr=inside
        )
        os.close(inside)
        self.raw = ""

    def until(self, condition: Callable[[str], bool], within: float = 60) -> str:
        """What it has shown, without codes, as soon as the condition holds for that."""
        deadline = time.monotonic() + within
        while not condition(self.shown):
            assert time.monotonic() < deadline, self.raw
            if select.select([self._terminal], [], [], 0.1)[0]:
                try:
                    self.raw += os.read(self._terminal, 65536).decode(errors="replace")
                except OSError:  # it has ended
                    break
        return self.shown

    @property
    def shown(self) -> str:
        return CODES.sub("", self.raw)

    def resize(self, rows: int, columns: int) -> None:
        """Have the terminal be of another size."""
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def signal(self, number: int) -> None:
        """Send the command a signal. Ctrl-Z does not stop it: it leads a session of its own, which has no `fg`."""
        self._process.send_signal(number)

    def press(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def end(self) -> int:
        """Its exit status, at its end."""
        with suppress(AssertionError):
            self.until(lambda _: False, within=30)
        try:
            return self._process.wait(30)
        finally:
            self._process.kill()
            os.close(self._terminal)
