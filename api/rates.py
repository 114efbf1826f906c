"""How many requests in a second an organization, and each of its users, may send to this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from api.auth import Principal
from api.problems import Code, Problem
from tracking.settings import Settings

BURST = 1.0  # second: so much of the rate may come at once
ROUNDING = 1e-6  # seconds
MOST_KEPT = 10_000  # organizations, and as many users, that are remembered; nobody is, whose burst is there again


class Rates:
    """Those of one API process: of several, each counts for itself."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._organizations = _Buckets(settings.api_rate)
        self._users = _Buckets(settings.api_user_rate)

    def take(self, principal: Principal) -> None:
        """Count a request of the caller's. Raises the 429 problem, and then counts nothing."""
        now, user = self._clock(), (principal.organization, principal.user)
        waits = {
            "the organization": self._organizations.wait(principal.organization, now),
            "the user": self._users.wait(user, now),
        }
        whose, wait = max(waits.items(), key=lambda each: each[1])
        if wait > ROUNDING:
            most = self._organizations.rate if whose == "the organization" else self._users.rate
            headers = {"Retry-After": str(math.ceil(wait))}
            raise Problem(Code.TOO_MANY_REQUESTS, f"{most:g} requests a second of {whose} are taken.", headers=headers)
        self._organizations.take(principal.organization, now)
        self._users.take(user, now)


class _Buckets:
    """For each key, when as much as it has taken would have been taken at the rate; 0: any rate is right."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._until: dict[object, float] = {}  # the one used longest ago first

    def wait(self, key: object, now: float) -> float:
        """Seconds until one more may be taken."""
        if not self.rate:
            return 0.0
        # A rate of less than one in a second has a burst of one.
        return max(self._until.get(key, now), now) + 1 / self.rate - now - max(BURST, 1 / self.rate)

    def take(self, key: object, now: float) -> None:
        if not self.rate:
            return
        until = max(self._until.pop(key, now), now)
        while self._until and (len(self._until) >= MOST_KEPT or next(iter(self._until.values())) <= now):
            del self._until[next(iter(self._until))]
        self._until[key] = until + 1 / self.rate
