"""What a running body says of itself: at most four writes a second, and always the last word and every milestone.

What it says again is written as a sign of life, and not into the history: a body that waits would fill its timeline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from celery.exceptions import Ignore

from tracking.models import Attempt, Milestone, Progress

WRITES_PER_SECOND = 4
MOST_PENDING = 20  # milestones of one write; further ones until then are reports like any other
MOST_MILESTONES = 500  # of an attempt: a body may take a million steps


GROWING = ("percent", "current_step", "total_steps")  # the row never moves back
SAID = (*GROWING, "message", "detail")


class JobCancelled(Ignore):
    """The job was cancelled, or is not this attempt's any more: stop."""


class Reporter:
    """The progress of one attempt. `write` says whether the attempt is still the job's current one."""

    def __init__(
        self, attempt: Attempt, write: Callable[[Progress], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._nothing = Progress(attempt.fence, attempt.attempt)
        self._pending = self._nothing
        self._milestones = _Milestones(clock)
        self._told: dict[str, Any] = {}
        self._write = write
        self._clock = clock
        self._next_write = 0.0
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._lost = False

    def report(self, *, milestone: bool = False, **news: Any) -> None:
        """Note the news, and write them now or a moment later; a `milestone` is in the history whatever follows it.

        Raises JobCancelled when nobody expects this attempt.
        """
        news = {name: value for name, value in news.items() if value is not None}
        with self._lock:
            self._pending = replace(self._pending, **news)
            if news:
                self._milestones.note(news, is_one=milestone)
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
        with self._lock:
            self._flush()

    def close(self) -> Progress | None:
        """End the reporting: write the milestones that are left.

        Returns the other news that were not written yet, to be written with the outcome, if any.
        """
        with self._lock:
            self._stop_timer()
            last, self._pending = self._pending, self._nothing
            if self._milestones.pending:
                self._write(replace(last, milestones=self._milestones.taken(), moved_on=False))
            return last if last != self._nothing and self._milestones.moved_on else None

    def _flush(self) -> None:
        self._stop_timer()  # it may be late
        pending, self._pending = self._pending, self._nothing
        if pending != self._nothing:
            self._next_write = self._clock() + 1 / WRITES_PER_SECOND
            moved_on = self._tells(pending) and self._milestones.moved_on
            self._lost = not self._write(replace(pending, milestones=self._milestones.taken(), moved_on=moved_on))

    def _tells(self, pending: Progress) -> bool:
        """Whether there is anything in it that was not told before; it was now."""
        said = {name: getattr(pending, name) for name in SAID if getattr(pending, name) is not None}
        growing = {name: max(said[name], self._told.get(name, said[name])) for name in GROWING if name in said}
        known, self._told = self._told, {**self._told, **said, **growing}
        return self._told != known

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Milestones:
    """The milestones of an attempt that nobody has written yet, and the step at which its body is."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._now = Milestone(timedelta(0), 0)
        self._left = MOST_MILESTONES
        self.pending: list[tuple[float, Milestone]] = []
        self.moved_on = True

    def note(self, news: dict[str, Any], *, is_one: bool) -> None:
        """Move on; keep where that leads if it is a milestone and there is room for it."""
        known = {name: value for name, value in news.items() if name != "detail"}
        self._now = replace(self._now, **{**known, "percent": max(self._now.percent, known.get("percent", 0))})
        self.moved_on = not is_one or self._left == 0 or len(self.pending) == MOST_PENDING
        if not self.moved_on:
            self._left -= 1
            self.pending.append((self._clock(), self._now))

    def taken(self) -> tuple[Milestone, ...]:
        """Those pending, each with its age; they are not pending any more."""
        now, pending, self.pending = self._clock(), self.pending, []
        return tuple(replace(milestone, ago=timedelta(seconds=now - at)) for at, milestone in pending)
