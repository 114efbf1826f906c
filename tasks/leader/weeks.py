"""The leader's care for the weeks of the history: they are made ahead, and go when most of their jobs are gone."""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from tasks.leader.duties import Duty
from tasks.leader.pruning import LEAST_REST, REST, Pruning
from tasks.platform import Platform
from tracking import partitions, retention, thinning
from tracking.db import DBAPIError, is_locked
from tracking.thinning import Thinned

log = structlog.get_logger(__name__)


class Weeks:
    """What is known from one turn to the next: the week that is being thinned."""

    INTERVAL = 60.0  # seconds between two looks

    def __init__(self, platform: Platform, pruning: Pruning) -> None:
        self._database = platform.database
        self._policy = retention.Policy.configured(platform.settings)
        self._pruning = pruning
        self._thinning: Iterator[Thinned] | None = None

    def duties(self) -> list[Duty]:
        return [
            Duty("weeks ahead", self.INTERVAL, self.add),
            Duty("weeks of removed jobs", self.INTERVAL, self.thin, LEAST_REST, REST),
        ]

    def add(self) -> None:
        """Make the partitions that will be needed. While somebody keeps their lock there is time: it is weeks ahead."""
        with self._database.autocommit() as connection:
            mondays = partitions.missing(connection)
        for monday in mondays:
            week = f"{monday:%Y-%m-%d}"
            try:
                with self._database.begin() as connection:
                    moved = partitions.add(connection, monday)
            except partitions.TooManyRows:  # an operator has to move them; the other weeks are made
                log.warning("history.week_in_default", week=week)
            except DBAPIError as error:
                _pass_if_locked(error)
            else:
                log.info("history.week_added", week=week, moved=moved)

    def thin(self) -> bool:
        """Go on with the removal of a week of which little is kept; whether there is more to do."""
        try:
            return self._step()
        except thinning.Overtaken:
            return True
        except DBAPIError as error:  # whoever reads the history may have ended by the next time
            _pass_if_locked(error)
            return False

    def _step(self) -> bool:
        if self._thinning is None:
            if not self._pruning.is_up_to_date:  # what is about to go would be copied
                return False
            with self._database.autocommit() as connection:
                found = thinning.next_to_thin(connection, self._policy.of_most, self._policy.longest)
            if found is None:
                return False
            self._thinning = thinning.thin(self._database, found)
        going_on, self._thinning = self._thinning, None  # after an error it has to be begun again
        thinned = next(going_on)
        if not thinned.is_done:
            self._thinning = going_on
        else:
            log.info("history.week_thinned", partition=thinned.partition, kept=thinned.kept, removed=thinned.removed)
        return True


def _pass_if_locked(error: DBAPIError) -> None:
    if not is_locked(error):
        raise error
    log.info("history.busy")
