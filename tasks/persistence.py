"""Writes that survive an outage: a verb is repeated until the database has answered."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from tasks import interrupts, threads
from tracking.db import DBAPIError, PoolTimeoutError, outage

log = structlog.get_logger(__name__)

T = TypeVar("T")

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 5.0
PATIENCE = 3600.0  # seconds; longer than any restart of a database
BACKLOG = 10_000


class DatabaseAway(Exception):
    """The database could not be reached in time."""


def persist(write: Callable[[], T], *, patience: float = PATIENCE, defer_interrupt: bool = False, **ids: object) -> T:
    """Call `write` until the database has answered, with growing pauses. Raises DatabaseAway after `patience` seconds.

    `write` must be safe to repeat: the first answer may have been lost on its way. No interruption of the job's body
    tears it; with `defer_interrupt` one that has come is raised afterwards.
    """
    deadline = time.monotonic() + patience
    return interrupts.hold(lambda: _until_answered(write, deadline, ids), raised_after=defer_interrupt)


def _until_answered(write: Callable[[], T], deadline: float, ids: dict[str, object]) -> T:
    pause = FIRST_PAUSE
    while True:
        try:
            return write()
        except (DBAPIError, PoolTimeoutError) as error:
            if outage(error) is None:
                raise
            if time.monotonic() + pause > deadline:
                raise DatabaseAway("the database could not be reached in time") from error
            log.warning("database.away", retry_in=round(pause, 2), error=type(error.__cause__ or error).__name__, **ids)
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, so that workers do not return in step
        pause = min(LONGEST_PAUSE, 2 * pause)


class Recorder:
    """A thread that writes in order, for the worker's main process: its event loop must not wait for the database."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Callable[[], object]] = queue.Queue(BACKLOG)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        with threads.apart():
            self._thread.start()

    def record(self, write: Callable[[], object]) -> bool:
        """Have `write` called soon. False with a full backlog: it is dropped, and upkeep finds the job by its lease."""
        try:
            self._queue.put_nowait(write)
        except queue.Full:
            log.critical("recorder.backlog_full", size=BACKLOG)
            return False
        return True

    @property
    def backlog(self) -> int:
        return self._queue.qsize()

    def mark(self) -> Callable[[], bool]:
        """What is returned says whether all that was handed over until now is over; after a full backlog, never."""
        over = threading.Event()
        self.record(over.set)
        return over.is_set

    def flush(self, timeout: float) -> bool:
        """Wait until all is written; False when that took longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self._queue.unfinished_tasks:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        return True

    def _run(self) -> None:
        while True:
            write = self._queue.get()
            try:
                persist(write)
            except Exception:
                log.exception("recorder.write_failed")
            finally:
                self._queue.task_done()
