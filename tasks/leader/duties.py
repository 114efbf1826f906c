"""What the leader does again and again: each duty by itself, so that one that fails or hangs holds up no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from tasks.failures import failures

log = structlog.get_logger(__name__)

LATE = (
    30.0  # seconds after which a duty that still runs is said to be late; each of its waits has a time-out of its own
)
LEAST_REST = 0.1  # of the longest one: what becomes due within so much is begun together
AT_ONCE = 6  # duties, each with a connection to the database at most: the others of its pool are the worker's


@dataclass(frozen=True, slots=True)
class Duty:
    """`work` is called `interval` seconds after its last end, or `breath` seconds when it says that there is more.

    Or, if that is longer, after `rest` times as long as that work took, so that a server that is busy gets less of it.
    `sooner` says after how many seconds there may be something to do before that, yet no sooner than the work took;
    None: it does not know. An exception of either is logged, and changes nothing of these times.
    """

    name: str
    interval: float
    work: Callable[[], bool | None]
    breath: float = 0.0
    rest: float = 0.0
    sooner: Callable[[], float | None] | None = None


class Duties:
    """Threads for the duties that are due, so that one that waits for a lock holds up no other."""

    def __init__(self, duties: Sequence[Duty], worker: str) -> None:
        self._runs = [_Run(duty, worker) for duty in duties]
        self._threads = ThreadPoolExecutor(AT_ONCE, "duty")
        self._may = threading.Event()

    def turn(self) -> None:
        """Start what is due. The caller has made sure that this worker leads."""
        self._may.set()
        for run in self._runs:
            run.tell_if_late()
            if run.is_due():
                run.begin()
                self._threads.submit(run.once, self._may)

    def rest(self, most: float) -> float:
        """Seconds until the next turn: to when one is due that does not run, or `most`.

        Turns at an interval would miss, each second time, what is due an interval after the end of its work.
        """
        first = min((run.due_at for run in self._runs if run.idle.is_set()), default=0.0)
        return min(most, max(LEAST_REST * most, first - time.monotonic()))

    def pause(self) -> None:
        """Start nothing more until the next turn; what runs comes to the end of its work."""
        self._may.clear()

    def postpone(self, name: str, seconds: float) -> None:
        """Let a duty begin in so many seconds at the earliest."""
        for run in self._runs:
            if run.duty.name == name:
                run.due_at = time.monotonic() + seconds

    def close(self, timeout: float) -> None:
        """End them; gives up waiting after `timeout` seconds."""
        self.pause()
        self._threads.shutdown(wait=False, cancel_futures=True)
        deadline = time.monotonic() + timeout
        for run in self._runs:
            run.idle.wait(max(0.0, deadline - time.monotonic()))


class _Run:
    """One duty, and when it began and is due again."""

    def __init__(self, duty: Duty, worker: str) -> None:
        self.duty = duty
        self.due_at = 0.0
        self._took = 0.0
        self.idle = threading.Event()
        self.idle.set()
        self._ids = {"duty": duty.name, "worker": worker}
        self._tell_at = 0.0

    def is_due(self) -> bool:
        return self.idle.is_set() and time.monotonic() >= self.due_at

    def begin(self) -> None:
        self.idle.clear()
        self._tell_at = time.monotonic() + LATE

    def tell_if_late(self) -> None:
        now = time.monotonic()
        if not self.idle.is_set() and now >= self._tell_at:
            log.error("duty.late", seconds=round(LATE + now - self._tell_at), **self._ids)
            self._tell_at = now + LATE

    def _has_more(self) -> bool:
        began = time.monotonic()
        has_more = bool(self.duty.work())
        self._took = time.monotonic() - began
        if has_more:
            time.sleep(max(self.duty.breath, self.duty.rest * self._took))
        return has_more

    def _pause(self) -> float:
        sooner = self.duty.sooner() if self.duty.sooner is not None else None
        return self.duty.interval if sooner is None else min(self.duty.interval, max(sooner, self._took))

    def once(self, may: threading.Event) -> None:
        pause = self.duty.interval
        try:
            while may.is_set() and self._has_more():
                self._tell_at = time.monotonic() + LATE
            pause = self._pause()
            failures.clear("duty.failed", **self._ids)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this duty's alone, and the next turn tries again
            failures.note("duty.failed", error, **self._ids)
        finally:
            self.due_at = time.monotonic() + pause
            self.idle.set()
