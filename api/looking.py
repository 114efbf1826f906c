"""A look at a server that is taken again and again in the background, so that whoever asks waits for none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

INTERVAL = 1.0  # seconds between two looks
SILENCE = 6.0  # seconds without the end of a look after which its server counts as silent
LAST_LOOK = 1.0  # seconds for it to end with the process

OK = "ok"
UNKNOWN = "unknown"

State = dict[str, str]

log = structlog.get_logger(__name__)


class Look:
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
