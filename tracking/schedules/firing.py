"""Making the jobs of due times: each makes one, whoever looks, how many of them, and wherever one of them dies.

The schedule's row is locked, the job and its outcome are written, and the next due time is set, in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from tracking import jobs
from tracking.admission.rule import Limits
from tracking.clock import at_present
from tracking.crashpoints import DUE, crash_point
from tracking.errors import IllegalMove, JobNotFound, ScheduleUnfit, TooManyWaiting
from tracking.models import JobRecord, NewJob, Scope, Submitted
from tracking.origins import By
from tracking.schedules.keeping import MOVE, locked, tell_run
from tracking.schedules.outcomes import note, note_job
from tracking.schedules.planning import deal
from tracking.schedules.rows import SCHEDULE, schedule_of
from tracking.schedules.times import first_after
from tracking.schedules.values import Became, Fired, Overlap, Schedule, Why
from tracking.sql import listed
from tracking.states import ACTIVE

MOST_LOOKED_AT = 100  # jobs of a schedule, the newest, that may not have ended yet

Make = Callable[[Schedule, datetime], NewJob]


def waiting(connection: Connection, limit: int) -> Sequence[UUID]:
    """The schedules that are due: of each organization first the one that has been for longest, then the second."""
    return list(connection.execute(WAITING, {"limit": limit}).scalars())


def fire(connection: Connection, schedule_id: UUID, make: Make, limits: Limits) -> Fired | None:
    """Deal with the due times of a schedule that have come, and set the next one.

    `make` says which job a due time makes; what it raises as ScheduleUnfit or TooManyWaiting is kept as the outcome.
    None: it is not due any more, or somebody else is at it.
    """
    row = connection.execute(TAKE, {"id": schedule_id}).first()
    if row is None:
        return None
    schedule = schedule_of(row)
    dealt = deal(schedule.rule, schedule.since, row.now, schedule.plan.catch_up)
    note(connection, schedule.id, dealt.skipped, Became.SKIPPED, reason=Why.LATE, actor=None)
    turn = _Turn(connection, schedule, make, limits)
    for due_at in dealt.made:
        turn.at(due_at)
    crash_point(DUE)
    moved = connection.execute(MOVE, {"id": schedule.id, "since": dealt.until, "next_at": dealt.next_at}).one()
    skipped = len(dealt.skipped) + turn.skipped
    return Fired(schedule_of(moved), turn.made, turn.cancelled, skipped, turn.failed, dealt.more)


def run_now(
    connection: Connection,
    schedule_id: UUID,
    scope: Scope,
    make: Make,
    limits: Limits,
    *,
    by: By,
    idempotency_key: str | None = None,
) -> Submitted:
    """Make a job of a schedule, whatever its times and earlier jobs are; with a key, once.

    Raises ScheduleNotFound, ScheduleUnfit, or IdempotencyConflict when its owner has used the key for something else.
    """
    schedule = locked(connection, schedule_id, scope)
    now = at_present(connection)
    asked = None if idempotency_key is None else f"run of schedule {schedule.id}"
    new = replace(make(schedule, now), idempotency_key=idempotency_key, request_hash=asked)
    submitted = jobs.submit(connection, new, limits)
    if submitted.created:
        note_job(connection, schedule.id, now, new.id, actor=by.actor)
        tell_run(connection, schedule, new.id, by)
    return submitted


def recompute(connection: Connection, after: UUID | None, limit: int) -> tuple[int, UUID | None]:
    """Set the next due time of schedules with a zone anew, which is another one when its rules have changed.

    `after`: the last schedule that was looked at; None: begin. How many have changed, and the last one that was looked
    at; None: there are no more.
    """
    rows = connection.execute(WITH_ZONE, {"after": after, "limit": limit}).all()
    changed = 0
    for schedule in map(schedule_of, rows):
        next_at = first_after(schedule.rule, schedule.since)
        if next_at != schedule.next_at:
            asked = {"id": schedule.id, "since": schedule.since, "next_at": next_at, "version": schedule.version}
            changed += connection.execute(RECOMPUTE, asked).rowcount
    return changed, rows[-1].id if len(rows) == limit else None


class _Turn:
    """The due times of one schedule, one after the other."""

    def __init__(self, connection: Connection, schedule: Schedule, make: Make, limits: Limits) -> None:
        self._connection = connection
        self._schedule = schedule
        self._make = make
        self._limits = limits
        self.made: list[JobRecord] = []
        self.cancelled: list[tuple[JobRecord, bool]] = []
        self.skipped = self.failed = 0

    def at(self, due_at: datetime) -> None:
        """Make its job, or write why there is none."""
        earlier = self._unfinished()
        if earlier and self._schedule.plan.overlap is Overlap.SKIP:
            self._note(due_at, Became.SKIPPED, Why.OVERLAP)
            self.skipped += 1
            return
        try:
            new, earlier = self._made(due_at, earlier)
        except (ScheduleUnfit, TooManyWaiting) as error:
            self._note(due_at, Became.FAILED, str(error))
            self.failed += 1
            return
        if not note_job(self._connection, self._schedule.id, due_at, new.id, actor=None):
            return
        for job_id in earlier:
            self._cancel(job_id)
        self.made.append(jobs.submit(self._connection, new, self._limits).job)

    def _made(self, due_at: datetime, earlier: Sequence[UUID]) -> tuple[NewJob, Sequence[UUID]]:
        """The job, and the earlier ones that are to be cancelled yet: without room beside them they go first.

        They stay when there is no room even then.
        """
        try:
            return self._make(self._schedule, due_at), earlier
        except TooManyWaiting:
            if not earlier:
                raise
        before = len(self.cancelled)
        try:
            with self._connection.begin_nested():
                for job_id in earlier:
                    self._cancel(job_id)
                return self._make(self._schedule, due_at), ()
        except Exception:
            del self.cancelled[before:]
            raise

    def _unfinished(self) -> Sequence[UUID]:
        if self._schedule.plan.overlap is Overlap.ALLOW:
            return ()
        asked = {"id": self._schedule.id, "most": MOST_LOOKED_AT}
        return list(self._connection.execute(UNFINISHED, asked).scalars())

    def _cancel(self, job_id: UUID) -> None:
        scope, reason = Scope(self._schedule.owner.organization_id, None), "the next one of its schedule is due"
        try:
            cancelled = jobs.cancel(self._connection, job_id, scope, actor=actor_of(self._schedule), reason=reason)
        except (IllegalMove, JobNotFound):  # it has just ended
            return
        self.cancelled.append((cancelled.job, cancelled.was_running))

    def _note(self, due_at: datetime, became: Became, reason: str) -> None:
        note(self._connection, self._schedule.id, [due_at], became, reason=reason, actor=None)


def actor_of(schedule: Schedule) -> str:
    """Who makes the jobs of due times, as their history says."""
    return f"schedule {schedule.plan.name}"


# Organizations take turns: whoever has a thousand schedules that are due each second holds up only these.
WAITING = text(
    """
    SELECT id
    FROM (SELECT id, next_at, row_number() OVER (PARTITION BY organization_id ORDER BY next_at) AS place
          FROM schedules WHERE NOT paused AND next_at <= clock_timestamp()) AS due
    ORDER BY place, next_at
    LIMIT :limit"""
)

TAKE = text(
    f"""
    SELECT {SCHEDULE}, clock_timestamp() AS now FROM schedules
    WHERE id = :id AND NOT paused AND next_at <= clock_timestamp()
    FOR UPDATE SKIP LOCKED"""
)

# A cancelled job whose body is still stopping has not ended.
UNFINISHED = text(
    f"""
    SELECT jobs.id
    FROM (SELECT job_id FROM schedule_outcomes WHERE schedule_id = :id AND job_id IS NOT NULL
          ORDER BY due_at DESC LIMIT :most) AS made
    JOIN jobs ON jobs.id = made.job_id
    WHERE status IN ({listed(ACTIVE)}) OR stopping
    ORDER BY jobs.id"""
)

WITH_ZONE = text(
    f"""
    SELECT {SCHEDULE} FROM schedules
    WHERE cron IS NOT NULL AND (CAST(:after AS uuid) IS NULL OR id > CAST(:after AS uuid))
    ORDER BY id LIMIT :limit"""
)

RECOMPUTE = text(
    """
    UPDATE schedules SET next_at = :next_at, updated_at = clock_timestamp()
    WHERE id = :id AND since = :since AND version = :version"""
)
