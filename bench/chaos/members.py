"""The processes of a run: started, killed, stopped and started again, and noticed when they die by themselves."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from celeriac.embedded.processes import end, kill_session, wait_until
from celeriac.embedded.supervisor import Part

LAST_WORDS = 2.0  # seconds to wait for what a dead process has said; its children may hold the pipe open
RETIREMENT = 60.0  # seconds in which a member that crash points end is started again to end by itself
CRASHED = re.compile(r"^crash point (\S+) pid=(\d+)$", re.MULTILINE)

# The kernel ends a process with the thread that started it, so all are started by one thread that lives as long as we.
_launcher = ThreadPoolExecutor(1, thread_name_prefix="launcher")


class Member:
    """A process of the run, whose words go to `log`; `node` is what a worker is called in the rows, before the @.

    `surprised` is called when it dies and nobody had asked for that. Killed, its children live on, as they do in real
    life, unless its `family` goes with it.
    """

    def __init__(
        self, part: Part, log: Path, surprised: Callable[[str], None], *, family: bool = False, node: str = ""
    ) -> None:
        self.name = part.name
        self.node = node
        self.log = log
        self.since = 0.0  # when it was started last, on the steady clock
        self._part = part
        self._surprised = surprised
        self._family = family
        self._doomed = True  # whether its death is our doing
        self._changing = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader = threading.Thread()
        self._left: list[subprocess.Popen[bytes]] = []

    @property
    def pid(self) -> int:
        assert self._process is not None
        return int(self._process.pid)

    @property
    def children(self) -> list[int]:
        """The pids of its children."""
        try:
            return [child.pid for child in psutil.Process(self.pid).children()]
        except psutil.NoSuchProcess:
            return []

    def start(self) -> None:
        """Start it and wait until it is ready. Raises AssertionError when it is not in time."""
        with self._changing:
            self._process = _launcher.submit(self._part.launch).result()
            self._doomed = False
            self.since = time.monotonic()
            self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
            self._reader.start()
            process = self._process
            ready = wait_until(lambda: process.poll() is not None or self._part.ready(process.pid), self._part.patience)
            assert ready, f"{self.name} is not ready after {self._part.patience:.0f} s"

    def kill(self, number: signal.Signals = signal.SIGKILL, patience: float = 30.0) -> int:
        """End it with this signal; returns its exit status. Raises AssertionError when it does not end in time."""
        with self._changing:
            assert self._process is not None
            process, self._doomed = self._process, True
            process.send_signal(number)
            if self._family and number == signal.SIGKILL:
                kill_session(process)
            assert wait_until(lambda: process.poll() is not None, patience), f"{self.name} does not end"
            self._left.append(process)
            return int(process.returncode)

    def retire(self) -> None:
        """Let it end what it does, by SIGTERM, and not come back. Raises AssertionError when it does not end.

        What a crash point ends before that begins once more: it may still have most of a burst to ask for.
        """
        with self._changing:
            until = time.monotonic() + RETIREMENT
            while self.kill(signal.SIGTERM) == -signal.SIGKILL and time.monotonic() < until:
                self.start()
            self._process = None

    @contextmanager
    def away(self, number: signal.Signals) -> Iterator[None]:
        """It is ended before the block and started after it."""
        with self._changing:
            self.kill(number)
            try:
                yield
            finally:
                self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All of its processes are stopped within the block, as those of a machine that is suspended."""
        with self._changing:
            self._signal(signal.SIGSTOP)
            try:
                yield
            finally:
                self._signal(signal.SIGCONT)

    def look_after(self) -> None:
        """Start it again when it has died; a death that is neither ours nor a crash point's is a surprise."""
        if not self._changing.acquire(blocking=False):
            return
        try:
            if self._process is None or self._process.poll() is None:
                return
            self._reader.join(LAST_WORDS)
            if not self._doomed and self._process.pid not in self.crashes():
                self._surprised(f"{self.name} (pid {self._process.pid}) ended by itself: {self._process.returncode}")
            self._left.append(self._process)
            self.start()
        finally:
            self._changing.release()

    def crashes(self) -> dict[int, str]:
        """The pids that died at a crash point, and at which."""
        if not self.log.exists():
            return {}
        return {int(pid): point for point, pid in CRASHED.findall(self.log.read_text(errors="replace"))}

    def stop(self) -> None:
        with self._changing:
            self._doomed = True
            if self._process is not None:
                end(self._process, self._part.steps)
                self._process = None
            for process in self._left:
                kill_session(process)

    def _signal(self, number: signal.Signals) -> None:
        for pid in (self.pid, *self.children):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with self.log.open("ab", buffering=0) as log:
            for line in process.stdout:
                log.write(line)


class Watch:
    """A thread that looks after members until it is left."""

    def __init__(self, members: list[Member]) -> None:
        self._members = members
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._over.wait(0.2):
            for member in self._members:
                member.look_after()
