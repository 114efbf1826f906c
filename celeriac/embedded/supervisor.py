"""Starts parts in order, starts again the ones that die, shows what they print, and stops them in reverse."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Self

import click

from celeriac.embedded.processes import POLL, Steps, end, kill_session, reason_in
from tracking.exit_status import Exit
from tracking.exits import StartError

LONGEST_PAUSE = 10.0  # seconds between two starts of a part that keeps dying
CALM = 60.0  # seconds alive after which an earlier death is forgotten
KEPT_LINES = 20


class Interrupted(Exception):
    """The user asked to stop."""


def always(_pid: int) -> bool:
    """Ready as soon as it runs."""
    return True


def nothing() -> None:
    """Nothing to tidy."""


@dataclass(frozen=True)
class Part:
    """One process of the platform.

    `launch` clears up after a killed predecessor and starts it; `ready` is asked with its pid, for at most `patience`
    seconds; `steps` end it, a second Ctrl-C cuts their waits short unless it is `firm`; `tidy` removes what it leaves.
    One that `is_ours` is a command of ours, whose exit status says why.
    """

    name: str
    launch: Callable[[], subprocess.Popen[bytes]]
    steps: Steps
    ready: Callable[[int], bool] = always
    patience: float = 60.0
    firm: bool = False
    is_ours: bool = False
    tidy: Callable[[], None] = nothing


@dataclass
class Running:
    """A part, its process (None between a death and the next start), its last lines and its next start."""

    part: Part
    process: subprocess.Popen[bytes] | None = None
    reader: threading.Thread | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    since: float = 0.0
    pause: float = 0.0
    due: float = 0.0


def show_line(name: str, line: str) -> None:
    """Print a part's line on stderr, under its name."""
    try:
        click.echo(f"{click.style(f'{name:8}', bold=True)} | {line}", err=True)
    except OSError:
        # Our reader is gone. The parts must not notice: they would hang on a full pipe.
        return


class Supervisor:
    """Keeps parts alive until it is left or, once it obeys signals, told to stop; `show` gets names and lines."""

    def __init__(self, show: Callable[[str, str], None] = show_line) -> None:
        self._parts: list[Running] = []
        self._interruptions = 0
        self._show = show
        self._showing = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> bool:
        """Stop; being asked to stop before all was ready is no error."""
        self.stop()
        return kind is Interrupted

    def obey_signals(self) -> None:
        """Stop on SIGINT, SIGTERM or SIGHUP; a second one cuts the polite waits short."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, lambda *_: self.interrupt())

    def interrupt(self) -> None:
        """Ask it to stop; once more, to stop at once."""
        self._interruptions += 1

    @property
    def processes(self) -> dict[str, subprocess.Popen[bytes]]:
        """The process of each part that has one now."""
        return {running.part.name: running.process for running in self._parts if running.process}

    def start(self, part: Part) -> None:
        """Start a part and wait until it is ready. Raises StartError when it dies or is too slow, Interrupted."""
        running = Running(part)
        self._parts.append(running)
        self._launch(running)
        self.wait_for(lambda: running.process is not None and part.ready(running.process.pid), part.patience, part.name)

    def finish(self, part: Part) -> None:
        """Run a part that ends by itself. Raises StartError when it fails or is too slow, Interrupted."""
        running = Running(part)
        self._launch(running)
        try:
            process = running.process
            self.wait_for(lambda: process is None or process.poll() is not None, part.patience, part.name)
            if process and process.returncode:
                raise _died(running, process.returncode)
        finally:
            self._end(running)

    def wait_for(self, condition: Callable[[], bool], seconds: float, name: str, every: float = POLL) -> None:
        """Ask `every` so many seconds whether `condition` holds, and return when it does.

        Raises StartError after `seconds` or when a part dies meanwhile, Interrupted when told to stop.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if self._interruptions:
                raise Interrupted
            self._require_alive()
            if time.monotonic() > deadline:
                raise StartError(f"{name} is not ready after {seconds:.0f} s")
            time.sleep(every)

    def watch(self, each_turn: Callable[[], None] = nothing) -> None:
        """Look after the parts until asked to stop; `each_turn` is called several times a second."""
        while not self._interruptions:
            self.look_after()
            each_turn()
            time.sleep(2 * POLL)

    def restart(self, name: str, reason: str) -> None:
        """End a part, as it is ended at last, and have it started again at once."""
        for running in self._parts:
            if running.part.name == name:
                self._say(running, f"{reason}; starts again")
                self._end(running)
                running.process, running.pause, running.due = None, 0.0, 0.0

    def look_after(self) -> None:
        """Start again, after a pause that grows, each part that has died."""
        for running in self._parts:
            self._revive(running, time.monotonic())

    def stop(self) -> None:
        """Stop all parts, the last one started first."""
        while self._parts:
            running = self._parts.pop()
            self._end(running)
            running.part.tidy()

    def _launch(self, running: Running) -> None:
        process = running.part.launch()
        running.process, running.since = process, time.monotonic()
        running.reader = threading.Thread(target=self._read, args=(running, process), daemon=True)
        running.reader.start()

    def _read(self, running: Running, process: subprocess.Popen[bytes]) -> None:
        with process.stdout or BytesIO() as output:
            for raw in output:
                line = raw.decode(errors="replace").rstrip()
                if line:
                    running.lines.append(line)
                    self._say(running, line)

    def _say(self, running: Running, line: str) -> None:
        with self._showing:
            self._show(running.part.name, line)

    def _require_alive(self) -> None:
        for running in self._parts:
            if running.process is not None and running.process.poll() is not None:
                raise _died(running, running.process.returncode)

    def _revive(self, running: Running, now: float) -> None:
        if running.process is None:
            if now >= running.due:
                self._launch_again(running)
        elif running.process.poll() is not None:
            kill_session(running.process)
            self._pause(running, now, f"died ({_exit(running.process.returncode)})")

    def _launch_again(self, running: Running) -> None:
        try:
            self._launch(running)
        except StartError as error:
            self._pause(running, time.monotonic(), str(error))

    def _pause(self, running: Running, now: float, reason: str) -> None:
        calm = now - running.since > CALM
        running.pause = 1.0 if calm or not running.pause else min(2 * running.pause, LONGEST_PAUSE)
        running.process, running.due = None, now + running.pause
        self._say(running, f"{reason}; starts again in {running.pause:.0f} s")

    def _end(self, running: Running) -> None:
        if running.process is None:
            return
        end(running.process, running.part.steps, lambda: self._interruptions > 1 and not running.part.firm)
        _read_rest(running)


def _read_rest(running: Running) -> None:
    if running.reader:
        running.reader.join(1)  # a process that left the session may hold the pipe open


def _died(running: Running, code: int) -> StartError:
    _read_rest(running)
    words = f": {reason}" if (reason := reason_in(running.lines)) else ""
    # A part knows best whether a setting is wrong or a server away; of other programs such numbers mean nothing.
    status = Exit(code) if running.part.is_ours and code in (Exit.MISUSED, Exit.AWAY) else Exit.FAILED
    return StartError(f"{running.part.name} ended ({_exit(code)}){words}", status)


def _exit(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
