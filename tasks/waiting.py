"""Waiting for jobs: one thread looks at the rows of all for which this process waits, whoever waits for them.

Not by the tail of the history, which streams follow: that reads what happens to every job of the platform, and a
producer waits for a few. A look is one statement that finds these rows by their keys.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from tracking.db import SQLAlchemyError
from tracking.reads import seen

if TYPE_CHECKING:
    from tasks.platform import Platform

SOONEST, LATEST = 0.01, 0.1  # seconds between two looks: the first ones after somebody has come, and later
PAUSE = 0.5  # seconds after a look that failed
MOST = 1000  # jobs of one statement

log = structlog.get_logger(__name__)


class Waiting:
    """Who waits for which job in this process."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._lock = threading.Lock()
        self._waiters: dict[UUID, list[threading.Event]] = {}
        self._looks = False
        self._hurry = threading.Event()

    def wait(self, job_id: UUID, seconds: float) -> bool:
        """Whether the job has ended, as soon as it has, or not after so many seconds.

        A database that is away is waited for as well: whoever reads the job then hears of it.
        """
        ended = threading.Event()
        with self._lock:
            self._waiters.setdefault(job_id, []).append(ended)
            if not self._looks:
                self._looks = True
                threading.Thread(target=self._run, name="waiting for jobs", daemon=True).start()
        self._hurry.set()
        try:
            return ended.wait(seconds)
        finally:
            with self._lock:
                others = [each for each in self._waiters.pop(job_id, []) if each is not ended]
                if others:
                    self._waiters[job_id] = others

    def _run(self) -> None:
        """Look until nobody waits any more."""
        pause = SOONEST
        while True:
            with self._lock:
                sought = list(self._waiters)
                if not sought:
                    self._looks = False
                    return
            found = self._look(sought)
            with self._lock:
                for ended in [each for job_id in found or () for each in self._waiters.pop(job_id, [])]:
                    ended.set()
            if found is None:
                pause = PAUSE
            elif found or self._hurry.is_set():
                pause = SOONEST
            else:
                pause = min(2 * pause, LATEST)
            self._hurry.clear()
            self._hurry.wait(pause)

    def _look(self, sought: list[UUID]) -> set[UUID] | None:
        """Which of them have ended; None when that cannot be read now."""
        try:
            with self._platform.database.autocommit() as connection:
                return {job_id for some in _in_parts(sought) for job_id in seen.ended(connection, some)}
        except SQLAlchemyError as error:
            log.warning("waiting.unreadable", error=type(getattr(error, "orig", error)).__name__, jobs=len(sought))
            return None


def _in_parts(sought: list[UUID]) -> Iterable[list[UUID]]:
    return (sought[start : start + MOST] for start in range(0, len(sought), MOST))
