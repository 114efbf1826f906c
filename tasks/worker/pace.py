"""How long bodies take, by what those before them took, and how far ahead of them a worker may therefore work."""

from __future__ import annotations

from collections import OrderedDict

CLAIMED_AHEAD = 0.02  # seconds of work that is claimed and has not begun: a cancel or a death finds no more than that
FETCHED_AHEAD = 0.05  # seconds of work that is here and not claimed: an idle worker could have had it
LEAST = 0.0005  # seconds of a process for any job, whatever its body does
MOST_TYPES = 1000  # that are remembered
WEIGHT = 0.1  # of the newest body
ABOUT = 1.5  # times as many messages as wanted are not worth telling the broker so
SUDDEN = 8  # times as long as expected: what was is no more


class Pace:
    """Moving averages of seconds, by type and over all; nothing is known of a type before one of its bodies ended."""

    def __init__(self) -> None:
        self._overall: float | None = None
        self._by_type: OrderedDict[str, float] = OrderedDict()

    def took(self, job_type: str, seconds: float) -> None:
        """Note what a body took. In any thread: each step leaves what the others can read."""
        seconds = max(LEAST, seconds)
        self._overall = _moved(self._overall, seconds)
        self._by_type[job_type] = _moved(self._by_type.pop(job_type, None), seconds)  # the newest at the end
        if len(self._by_type) > MOST_TYPES:
            self._by_type.popitem(last=False)

    def forget(self) -> None:
        """Bodies take longer than it was thought, and nobody knows how long."""
        self._overall = None
        self._by_type.clear()

    def expected(self, job_type: str) -> float | None:
        """The seconds that a body of this type takes; None: nobody knows."""
        return self._by_type.get(job_type)

    def more(self, seconds: float) -> int:
        """How many bodies are over in so many seconds of a process, whatever their types; 0: nobody knows."""
        return max(0, int(seconds / self._overall)) if self._overall is not None else 0

    def window(self, slots: int, most: int, current: int) -> int:
        """How many messages a worker with so many slots should have, at most `most` for each of them.

        Only powers of two of the slots, and the `current` number while that is about right: to tell the broker of
        another one takes a round trip, for which the event loop stands still.
        """
        if self._overall is None or slots == 0:
            return slots
        wanted = slots + FETCHED_AHEAD * slots / self._overall
        each = 1
        while 2 * each <= most and 2 * each * slots <= wanted:
            each *= 2
        is_about_right = each * slots < current <= min(most * slots, ABOUT * wanted)
        return current if is_about_right else each * slots


def _moved(average: float | None, seconds: float) -> float:
    if average is None or seconds > SUDDEN * average:
        return seconds
    return average + WEIGHT * (seconds - average)
