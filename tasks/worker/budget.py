"""How much a worker has claimed and not begun, in seconds of bodies: that is bounded, and so is what it claims more."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from tasks.worker.pace import CLAIMED_AHEAD, Pace
from tracking.models import Attempt, JobRecord

MOST_TOGETHER = 8  # jobs of a bundle; with more of them each costs hardly less
TOGETHER = 0.01  # seconds of a bundle


class Budget:
    """Of one worker. A job of which nobody knows how long it takes has a slot, or is not claimed yet."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self.pace = Pace()
        self._seconds = 0.0  # of the bodies that are claimed, or about to be

    @property
    def slots(self) -> int:
        """How many bodies may run at once; the pool says so no more when it has ended."""
        return int(self._worker.semaphore.initial_value)

    @property
    def most_slots(self) -> int:
        """How many there may be: one that scales by itself makes them when it has messages for them."""
        autoscaler = getattr(self._worker, "autoscaler", None)
        return max(self.slots, int(autoscaler.max_concurrency) if autoscaler is not None else 0)

    @property
    def jobs(self) -> int:
        """How many more it allows, whatever their types."""
        return self.pace.more(self._left)

    def allows(self, job_type: str) -> bool:
        """Whether one more may be claimed that has to wait for its slot."""
        expected = self.pace.expected(job_type)
        return expected is not None and expected <= self._left

    def first(self, records: Iterable[JobRecord], free: int) -> list[JobRecord]:
        """So many for the slots that are free, and those after them that it allows."""
        allowed, left = list[JobRecord](), self._left
        for record in records:
            expected = self.pace.expected(record.job_type)
            left -= CLAIMED_AHEAD if expected is None else expected
            if len(allowed) >= free and (expected is None or left < 0):
                break
            allowed.append(record)
        return allowed

    def next(self, granted: deque[tuple[Any, Attempt | None]]) -> list[tuple[Any, Attempt | None]]:
        """What goes to one process now, taken from those that may: as many as every process can have."""
        ones = [granted.popleft()]
        if _is_short(*ones[0]):
            share = (len(granted) + 1) // max(1, self.slots)
            most = min(MOST_TOGETHER, share, self.pace.more(TOGETHER))
            while len(ones) < most and granted and _is_short(*granted[0]):
                ones.append(granted.popleft())
        return ones

    def take(self, request: Any) -> None:
        """It is claimed, or about to be."""
        request.expected = self.pace.expected(request.task.name) or CLAIMED_AHEAD
        self._seconds += request.expected

    def give_back(self, request: Any) -> None:
        """It has begun, or never will."""
        self._seconds = max(0.0, self._seconds - request.expected)

    def reset(self) -> None:
        self._seconds = 0.0

    @property
    def _left(self) -> float:
        return CLAIMED_AHEAD * self.slots - self._seconds


def _is_short(request: Any, attempt: Attempt | None) -> bool:
    return attempt is not None and bool(request.may_be_bundled)
