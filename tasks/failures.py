"""What fails again and again, or for one row alone, is told so that neither hides the rest."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

import structlog

from tasks.refusals import reason_of
from tracking.db import DBAPIError, is_away, is_locked

log = structlog.get_logger(__name__)

MOST_KEYS = 1000


class Failures:
    """What fails again and again is logged at its 1st, 2nd, 4th, 8th … time in a row, with their number."""

    def __init__(self) -> None:
        self._counts: OrderedDict[Hashable, int] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, event: str, error: BaseException, **ids: object) -> None:
        """One more failure of this event with these ids."""
        key = (event, *ids.items())
        with self._lock:
            count = self._counts.pop(key, 0) + 1
            self._counts[key] = count
            if len(self._counts) > MOST_KEYS:
                self._counts.popitem(last=False)
        if count & (count - 1) == 0:
            reason = reason_of(error)
            log.warning(event, failures=count, error=reason.type, **ids)

    def clear(self, event: str, **ids: object) -> None:
        with self._lock:
            count = self._counts.pop((event, *ids.items()), 0)
        if count:
            log.info("failure.over", of=event, failures=count, **ids)


failures = Failures()


@contextmanager
def alone(event: str, **ids: object) -> Iterator[None]:
    """Log as `event` what the database refuses for one row or one organization, and go on with the others."""
    try:
        yield
    except DBAPIError as error:
        if is_away(error) and not is_locked(error):
            raise
        failures.note(event, error, **ids)
    else:
        failures.clear(event, **ids)
