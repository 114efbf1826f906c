"""The thread that follows the history for all streams of this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import structlog

from api.live.hub import Hub
from api.live.messages import messages
from tracking.db import Connection, Database
from tracking.reads.tail import BATCH, SequenceReset, Tail, holders
from tracking.settings import Settings

BUSY = 0.1  # seconds between two looks while there is news
QUIET = 0.25  # seconds while there is none
ALONE = 1.0  # seconds while nobody listens
PAUSE = 1.0  # seconds after a look that failed
LAST_LOOK = 5.0  # seconds for it to end with the process
HELD = 5.0  # seconds that one transaction keeps everybody waiting, and then each time again, until that is logged

log = structlog.get_logger(__name__)


class Reader:
    """Polls the tail of the history, and has what is new published in the event loop of the hub."""

    def __init__(self, settings: Settings, hub: Hub) -> None:
        self._database = Database(settings.database, settings, pool_size=1)
        self._hub = hub
        self._tail = Tail()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="live events", daemon=True)
        self._over = False
        self._wake = threading.Event()
        self._looks = threading.Condition()
        self._begun_looks = 0
        self._done_looks = 0
        self._error: str | None = None
        self._held_since: float | None = None
        self._level_at = time.monotonic()

    @property
    def lag(self) -> float:
        """Seconds since everything that had happened was published; about one while nobody listens."""
        return time.monotonic() - self._level_at

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Follow the history from now on."""
        self._loop = loop
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Not to be called in the event loop, for which the thread may wait."""
        self._over = True
        self._wake.set()
        self._thread.join(LAST_LOOK)
        self._database.close()

    def catch_up(self, seconds: float) -> None:
        """Have a look begin now, and wait for its end: whoever joins then hears only of what happens from now on."""
        with self._looks:
            mine = self._begun_looks + 1
            self._wake.set()
            self._looks.wait_for(lambda: self._done_looks >= mine, seconds)

    def _run(self) -> None:
        pause = BUSY
        while not self._over:
            with self._looks:
                self._begun_looks += 1
            began = time.monotonic()
            found = self._look()
            if found is not None and found < BATCH and not self._tail.is_held:
                self._level_at = began
            with self._looks:
                self._done_looks = self._begun_looks
                self._looks.notify_all()
            if found == BATCH:
                continue  # there is more
            if found is None:
                pause = PAUSE
            elif len(self._hub) == 0:
                pause = ALONE
            elif found or self._tail.is_held:
                pause = BUSY
            else:
                pause = min(2 * pause, QUIET)
            self._wake.wait(pause)
            self._wake.clear()

    def _look(self) -> int | None:
        """Publish what is new; how many rows that was, None when the history cannot be read."""
        try:
            with self._database.autocommit() as connection:
                # Who joins has had a look of its own before, and what it has missed is read for it alone.
                happenings = self._tail.poll(connection, is_wanted=len(self._hub) > 0)
                self._watch_holders(connection)
            if happenings or self._tail.position != self._hub.position:
                self._in_loop(self._hub.publish, messages(happenings), self._tail.position)
        except SequenceReset:
            log.warning("events.restarted", reason="the numbers of the history are lower than before")
            self._tail = Tail()
            self._in_loop(self._hub.restart)
            return 0
        except Exception as error:  # noqa: BLE001 - whatever it is, the streams go on where they were when it is over
            self._failed(type(getattr(error, "orig", error)).__name__)
            return None
        if self._error is not None:
            log.info("events.resumed")
            self._error = None
        return len(happenings)

    def _failed(self, name: str) -> None:
        if name != self._error:
            log.warning("events.unreadable", error=name)
            self._error = name

    def _watch_holders(self, connection: Connection) -> None:
        """Say who keeps the tail waiting: a transaction that has written history and does not end."""
        if not self._tail.is_held:
            self._held_since = None
            return
        self._held_since = self._held_since or time.monotonic()
        if time.monotonic() - self._held_since > HELD:
            self._held_since = None
            log.warning("events.held", processes=list(holders(connection)), seconds=HELD)

    def _in_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call it in the event loop, and wait for that: nothing piles up before a loop that is busy."""
        done: Future[None] = Future()

        def call() -> None:
            try:
                function(*arguments)
            except Exception as error:  # noqa: BLE001 - raised again in the thread
                done.set_exception(error)
            else:
                done.set_result(None)

        assert self._loop is not None  # noqa: S101 - the thread begins with `start`
        self._loop.call_soon_threadsafe(call)
        done.result()
