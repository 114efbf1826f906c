"""What a running body says of itself: at most four writes a second, and always the last word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from celery.exceptions import Ignore

from tracking.models import Attempt, Progress

WRITES_PER_SECOND = 4


class JobCancelled(Ignore):
    """The job was cancelled, or is not this attempt's any more: stop."""


class Reporter:
    """The progress of one attempt. `write` says whether the attempt is still the job's current one."""

    def __init__(
        self, attempt: Attempt, write: Callable[[Progress], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._nothing = Progress(attempt.task_id, attempt.attempt)
        self._pending = self._nothing
        self._write = write
        self._clock = clock
        self._next_write = 0.0
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._lost = False

    def report(self, **news: Any) -> None:
        """Note the news, and write them now or a moment later. Raises JobCancelled when nobody expects this attempt."""
        with self._lock:
            self._pending = replace(self._pending, **{name: value for name, value in news.items() if value is not None})
            wait = self._next_write - self._clock()
            if wait <= 0:
                self._flush()
            elif self._timer is None:
                self._timer = threading.Timer(wait, self.flush)
                self._timer.daemon = True
                self._timer.start()
        if self._lost:
            raise JobCancelled

    def flush(self) -> None:
        """Write what is pending."""
        with self._lock:
            self._flush()

    def close(self) -> Progress | None:
        """End the reporting; returns the news that were not written yet, to be written with the outcome, if any."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            last, self._pending = self._pending, self._nothing
            return last if last != self._nothing else None

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()  # it may be late
            self._timer = None
        pending, self._pending = self._pending, self._nothing
        if pending != self._nothing:
            self._next_write = self._clock() + 1 / WRITES_PER_SECOND
            self._lost = not self._write(pending)
