"""The leader's look for schedules that are due."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import structlog

from tasks import submission
from tasks.failures import alone
from tasks.platform import Platform
from tasks.refusals import reason_of
from tasks.scheduling import job_of, with_room
from tracking.crashpoints import FIRED, crash_point
from tracking.db import DBAPIError, outage
from tracking.errors import ScheduleUnfit
from tracking.models import NewJob
from tracking.schedules import firing
from tracking.schedules.firing import Make
from tracking.schedules.values import Fired, Schedule

log = structlog.get_logger(__name__)

BATCH = 100  # schedules, each in a transaction of its own
ZONES_BATCH = 500


class Scheduling:
    """Makes the jobs of due times, and sends them."""

    INTERVAL = 1.0  # seconds between two looks at schedules that are due
    ZONES_INTERVAL = 3600.0  # at the rules of time zones, which come with other processes: at first when one leads

    def __init__(self, platform: Platform, batch: int = BATCH) -> None:
        self._platform = platform
        self._batch = batch

    def turn(self) -> bool:
        """Deal with a batch of the schedules that are due; whether there may be more. One that fails, fails alone."""
        with self._platform.database.autocommit() as connection:
            waiting = firing.waiting(connection, self._batch)
        more = len(waiting) >= self._batch
        for schedule_id in waiting:
            with alone("schedule.failed", schedule_id=str(schedule_id)):
                more = self._one(schedule_id) or more
        return more

    def zones(self) -> None:
        """Set anew when schedules are due whose zones have other rules now."""
        after: UUID | None = None
        changed = 0
        while True:
            with self._platform.database.autocommit() as connection:
                number, after = firing.recompute(connection, after, ZONES_BATCH)
            changed += number
            if after is None:
                break
        if changed:
            log.info("schedules.zones_changed", schedules=changed)

    def _one(self, schedule_id: UUID) -> bool:
        try:
            fired = self._fire(schedule_id, self._job_of)
        except DBAPIError as error:
            if outage(error) is not None:
                raise
            # The database refuses what it makes, and always will: that becomes of these due times.
            fired = self._fire(schedule_id, _refusing(error))
        if fired is None:
            return False
        crash_point(FIRED)
        self._send(fired)
        return fired.more

    def _fire(self, schedule_id: UUID, make: Make) -> Fired | None:
        with self._platform.database.begin() as connection:
            may = with_room(self._platform, connection, make)
            return firing.fire(connection, schedule_id, may, self._platform.limits)

    def _job_of(self, schedule: Schedule, due_at: datetime) -> NewJob:
        return job_of(self._platform, schedule, due_at)

    def _send(self, fired: Fired) -> None:
        for job, was_running in fired.cancelled:
            if was_running:
                self._platform.dispatcher.interrupt(job)
            self._platform.dispatcher.follow(job.id, job.organization_id)
        for job in fired.made:
            submission.dispatch(self._platform, job)
        if fired.failed:
            log.warning("schedule.unfit", schedule_id=str(fired.schedule.id), due_times=fired.failed)


def _refusing(error: Exception) -> Make:
    reason = reason_of(error).message

    def refuse(_: Schedule, __: datetime) -> NewJob:
        raise ScheduleUnfit(reason)

    return refuse
