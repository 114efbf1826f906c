"""Schedules on a database of the tests' own: made, brought into the past, and fired; and what their rows say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text

from tests.tracked import ACME, new_job
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.models import NewJob, Owner
from tracking.origins import By
from tracking.reads import schedules as reads
from tracking.schedules import firing, keeping
from tracking.schedules.keeping import NewSchedule
from tracking.schedules.times import Cron, first_after
from tracking.schedules.values import Fired, Outcome, Plan, Schedule

U1 = By("u1")
MINUTELY = 60
OWNER = Owner("acme", "u1")

# Each due time of a schedule and the job that it has made: of those that make one.
DUE = "SELECT due_at, job_id FROM schedule_outcomes WHERE schedule_id = :id AND became = 'job' ORDER BY due_at"
PASS = """
    UPDATE schedule_outcomes SET due_at = due_at - CAST(:time AS interval),
                                 last_due_at = last_due_at - CAST(:time AS interval)
    WHERE schedule_id = :id"""
TWICE = """
    SELECT metadata ->> 'scheduleId', metadata ->> 'dueAt' FROM jobs
    GROUP BY 1, 2 HAVING count(*) > 1"""


@dataclass(frozen=True)
class Scheduled:
    """The verbs, each in a transaction of its own as the platform runs them."""

    pool: Database

    def do(self, verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self.pool.begin() as connection:
            return verb(connection, *args, **kwargs)

    def create(self, name: str = "nightly", *, owner: Owner = OWNER, paused: bool = False, **plan: Any) -> Schedule:
        """A schedule of acme's u1, due each minute unless it says when."""
        said = {"job_type": "count_words", **plan}
        if "cron" not in said:
            said.setdefault("every_seconds", MINUTELY)
        new = NewSchedule(uuid4(), owner, Plan(name, **said), granted=None, paused=paused)
        created: Schedule = self.do(keeping.create, new, U1)
        return created

    def get(self, schedule: Schedule) -> Schedule:
        """As it is now, with its newest outcomes."""
        found: Schedule = self.do(reads.get, schedule.id, replace(ACME, organization_id=schedule.owner.organization_id))
        return found

    def let_pass(self, schedule: Schedule, time: timedelta) -> Schedule:
        """Let so much time have passed since anybody looked at a schedule: all that was moves into the past."""
        self.run(PASS, id=schedule.id, time=time)
        moved = self.get(schedule)
        since, anchor = moved.since - time, moved.anchor - time
        values = {"id": schedule.id, "since": since, "anchor": anchor}
        values["next_at"] = first_after(moved.plan.rule(anchor), since)
        self.run("UPDATE schedules SET since = :since, anchor = :anchor, next_at = :next_at WHERE id = :id", **values)
        return self.get(schedule)

    def fire(self, schedule: Schedule, make: firing.Make | None = None) -> Fired | None:
        """Deal with its due times."""
        fired: Fired | None = self.do(firing.fire, schedule.id, make or job_of, UNLIMITED)
        return fired

    def outcomes(self, schedule: Schedule) -> list[Outcome]:
        """What became of its due times, oldest first."""
        found = self.do(reads.outcomes_of, schedule.id, ACME, before=None, size=1000)
        return list(reversed(found))

    def told(self, schedule: Schedule) -> list[tuple[str, int, str | None]]:
        """What became of its due times in a row, oldest first: what, of how many, and why."""
        return [(str(each.became), each.count, each.reason) for each in self.outcomes(schedule)]

    def made_at(self, schedule: Schedule) -> list[datetime]:
        """The due times that have made a job, oldest first."""
        return [row.due_at for row in self.run(DUE, id=schedule.id)]

    def run(self, sql: str, **parameters: Any) -> Any:
        """The rows of a statement."""
        with self.pool.autocommit() as connection:
            result = connection.execute(text(sql), parameters)
            return result.all() if result.returns_rows else None


def job_of(schedule: Schedule, due_at: datetime) -> NewJob:
    """A job that says what has made it."""
    names = {"scheduleId": str(schedule.id), "dueAt": due_at.isoformat()}
    return new_job(owner=schedule.owner, job_type=schedule.plan.job_type, metadata=names)


def job_ids(fired: Fired | None) -> list[UUID]:
    """The jobs that were made."""
    assert fired is not None
    return [job.id for job in fired.made]


def cron(expression: str, zone: str = "UTC") -> Cron:
    return Cron(expression, zone)
