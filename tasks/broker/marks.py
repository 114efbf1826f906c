"""Marks in rows that the broker has their messages: a second later most jobs have begun, and need none."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from tracking import jobs

if TYPE_CHECKING:
    from tasks.platform import Platform
    from tracking.models import Fence, JobRecord

DELAY = 1.0  # seconds; upkeep sends after three what has no mark
MOST = 10_000  # that wait for theirs
AT_ONCE = 500  # in a statement


class LateMarks:
    """For one thread only. What is lost with its process, upkeep sends again, and the claim refuses one of the two."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._waiting: deque[tuple[float, Fence]] = deque()

    def note(self, records: Sequence[JobRecord], confirmed: Sequence[Fence]) -> None:
        """The broker has confirmed these dispatches of these jobs. Raises DBAPIError."""
        old = {record.fence for record in records if _may_be_sent_by_upkeep(record)}
        now = [fence for fence in confirmed if fence in old]
        if now:
            self._write(now)
        due = time.monotonic() + DELAY
        self._waiting.extend((due, fence) for fence in confirmed if fence not in old)
        while len(self._waiting) > MOST:
            self._write_next(AT_ONCE)

    @property
    def due_in(self) -> float | None:
        """Seconds until the first of them is due, less than 0 if it was before; None: there is none."""
        return self._waiting[0][0] - time.monotonic() if self._waiting else None

    def write(self, *, all_of_them: bool = False) -> None:
        """Write those that are due. Raises DBAPIError: they are written the next time."""
        while self._waiting and (all_of_them or self._waiting[0][0] <= time.monotonic()):
            self._write_next(AT_ONCE)

    def _write_next(self, most: int) -> None:
        fences = [fence for _, fence in islice(self._waiting, most)]
        self._write(fences)
        for _ in fences:
            self._waiting.popleft()

    def _write(self, fences: Sequence[Fence]) -> None:
        with self._platform.database.autocommit() as connection:
            jobs.mark_dispatched(connection, fences)


def _may_be_sent_by_upkeep(record: JobRecord) -> bool:
    """Whether it would be found before its mark: it was accepted a while ago, or was begun before."""
    return record.started_at is not None or datetime.now(UTC) - record.updated_at > timedelta(seconds=DELAY)
