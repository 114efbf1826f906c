"""What is known of the limits of types: whoever has none pays nothing for those who have one."""

from __future__ import annotations

import time

from tracking.admission import job_limits
from tracking.admission.job_limits import Known
from tracking.db import Database
from tracking.tenancy import confined_to

KNOWN_FOR = 1.0  # seconds that it is remembered; what was sent under a limit that is new meets it at the claim


class Limiting:
    """Remembers whether there are limits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known = Known(any=False, shared=False)
        self._until = 0.0

    def known(self) -> Known:
        """Whether there are limits, or jobs that wait for one; and whether organizations share any."""
        if time.monotonic() >= self._until:
            with confined_to(None), self._database.autocommit() as connection:
                self._known = job_limits.known(connection)
            self._until = time.monotonic() + KNOWN_FOR
        return self._known

    def forget(self) -> None:
        """Ask again: somebody has changed one."""
        self._until = 0.0
