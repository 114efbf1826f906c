"""Refusing jobs while as many of the organization wait as may."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from tracking.admission import waiting
from tracking.db import Database
from tracking.errors import TooManyWaiting
from tracking.models import NewJob

KNOWN_FOR = 1.0  # seconds that the limits are remembered: a change counts after that in every process
PATIENCE = 5  # seconds after which somebody whose job was refused should ask again


class Crowding:
    """Knows the limits of all organizations: whoever has none pays nothing for those who have one."""

    def __init__(self, database: Database, default: int) -> None:
        self._database = database
        self._default = default
        self._limits: Mapping[str, int] = {}
        self._known_until = 0.0

    def require_room(self, jobs: Sequence[NewJob]) -> None:
        """Raise TooManyWaiting unless so many jobs of one user may wait besides those that do.

        A job whose key is known already is no new one. Requests at the same moment do not see each other's jobs.
        """
        most = self._limit_of(jobs[0].owner.organization_id) if jobs else 0
        if not most:
            return
        keys = [job.idempotency_key for job in jobs if job.idempotency_key is not None]
        with self._database.autocommit() as connection:
            found = waiting.crowd(connection, jobs[0].owner, most, keys)
        new = len(jobs) - found.known
        if new and found.waiting + new > most:
            raise TooManyWaiting(
                f"{found.waiting} jobs of the organization wait, and {most} may: there is no room for {new} more",
                retry_after=PATIENCE,
            )

    def _limit_of(self, organization_id: str) -> int:
        if time.monotonic() >= self._known_until:
            with self._database.autocommit() as connection:
                self._limits = waiting.own_limits(connection)
            self._known_until = time.monotonic() + KNOWN_FOR
        return self._limits.get(organization_id, self._default)

    def forget(self) -> None:
        """Ask for the limits again: somebody has changed one."""
        self._known_until = 0.0
