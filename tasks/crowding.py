"""Refusing jobs while as many of the organization wait as may."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from tracking.admission import waiting
from tracking.db import Connection, Database
from tracking.errors import TooManyWaiting
from tracking.models import NewJob
from tracking.tenancy import unconfined
from tracking.webhooks import DELIVERING

KNOWN_FOR = 1.0  # seconds that the limits are remembered: a change counts after that in every process


class Crowding:
    """Knows the limits of all organizations: whoever has none pays nothing for those who have one."""

    def __init__(self, database: Database, default: int) -> None:
        self._database = database
        self._default = default
        self._limits: Mapping[str, int] = {}
        self._known_until = 0.0

    def is_bounded(self, jobs: Sequence[NewJob]) -> bool:
        """Whether any of these organizations has a limit, so that there must be room for their jobs."""
        if time.monotonic() >= self._known_until:
            with self._database.autocommit() as connection:
                self._ask(connection)
        return bool(self._bounded(jobs))

    def require_room(self, connection: Connection, jobs: Sequence[NewJob]) -> None:
        """Raise TooManyWaiting unless so many jobs may wait besides those that do, with what follows each of them.

        Wants the transaction that writes them, before it has written anything: until its end nobody else creates jobs
        of an organization with a limit, so that together they do not go beyond it. A job that is known is no new one.
        """
        if time.monotonic() >= self._known_until:
            self._ask(connection)  # not by another connection: all that there are may be at this
        for organization_id, asked in sorted(self._bounded(jobs).items()):
            most = self._limit_of(organization_id)
            found = waiting.crowd(connection, organization_id, asked, most)
            if found.new and found.waiting + found.new > most:
                raise TooManyWaiting(
                    f"{found.waiting} jobs of the organization wait, and {most} may:"
                    f" there is no room for {found.new} more"
                )

    def forget(self) -> None:
        """Ask for the limits again: somebody has changed one."""
        self._known_until = 0.0

    def _ask(self, connection: Connection) -> None:
        with unconfined(connection):
            self._limits = waiting.own_limits(connection)
        self._known_until = time.monotonic() + KNOWN_FOR

    def _bounded(self, jobs: Sequence[NewJob]) -> dict[str, list[NewJob]]:
        found: dict[str, list[NewJob]] = {}
        for job in jobs:
            organization_id = job.owner.organization_id
            if not job.external and self._limit_of(organization_id):  # what is done elsewhere waits for nobody
                found.setdefault(organization_id, []).append(job)
        return found

    def _limit_of(self, organization_id: str) -> int:
        if organization_id.startswith(DELIVERING):  # what they tell of has happened: it is told
            return 0
        return self._limits.get(organization_id, self._default)
