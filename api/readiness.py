"""What `/readyz` answers from: the state of database, workers and broker, looked at in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import structlog

from tasks.broker.link import Link
from tasks.platform import Platform
from tracking import workers
from tracking.db import Database, Outage, outage, takes_writes

INTERVAL = 1.0  # seconds between two looks
SILENCE = 6.0  # seconds without the end of a look after which its server counts as silent
LAST_LOOK = 1.0  # seconds for it to end with the process

OK = "ok"
UNKNOWN = "unknown"

State = dict[str, str]

log = structlog.get_logger(__name__)


class Readiness:
    """Whether the platform takes jobs, as last seen: answering asks no server, however many callers there are.

    Two threads look, so that a broker that hangs does not hide the database; each has one connection of its own.
    """

    def __init__(self, platform: Platform) -> None:
        settings = platform.settings
        self._database = Database(settings.database, settings, pool_size=1)
        self._lease_timeout = timedelta(seconds=settings.lease_timeout)
        self._link = Link(platform.app)
        self._looks = (
            _Look(self._look_at_database, _without_database, {"database": "silent", "worker": UNKNOWN}),
            _Look(self._look_at_broker, _without_broker, {"broker": "silent"}),
        )

    def start(self) -> None:
        for look in self._looks:
            look.start()

    def stop(self) -> None:
        for look in self._looks:
            look.stop()
        self._database.close()

    @property
    def checks(self) -> State:
        """The state of each part: `ok`, or what is wrong with it."""
        return {name: state for look in self._looks for name, state in look.state.items()}

    def _look_at_database(self) -> State:
        with self._database.autocommit() as connection:
            database = OK if takes_writes(connection) else Outage.READ_ONLY.name.lower()
            return {"database": database, "worker": OK if workers.live(connection, self._lease_timeout) else "none"}

    def _look_at_broker(self) -> State:
        self._link.ask()
        return {"broker": OK}


def _without_database(error: Exception) -> State:
    kind = outage(error)
    return {"database": kind.name.lower() if kind else "unusable", "worker": UNKNOWN}


def _without_broker(_: Exception) -> State:
    return {"broker": "away"}


class _Look:
    """A thread that looks at one server again and again, and what it saw last."""

    def __init__(self, look: Callable[[], State], failed: Callable[[Exception], State], silent: State) -> None:
        self._look = look
        self._failed = failed
        self._silent = silent
        self._seen: State = dict.fromkeys(silent, UNKNOWN)
        self._at = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"readiness of {', '.join(silent)}", daemon=True)

    @property
    def state(self) -> State:
        """What was seen, if that was not too long ago."""
        return self._seen if time.monotonic() - self._at < SILENCE else self._silent

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(LAST_LOOK)

    def _run(self) -> None:
        while not self._over.is_set():
            seen, error = self._try()
            if seen != self._seen:
                log.info("readiness.changed", error=error and type(getattr(error, "orig", error)).__name__, **seen)
            self._seen, self._at = seen, time.monotonic()
            self._over.wait(INTERVAL)

    def _try(self) -> tuple[State, Exception | None]:
        try:
            return self._look(), None
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            return self._failed(error), error
