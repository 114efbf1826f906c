"""The frozen values of schedules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from tracking.models import JobRecord, JsonObject, Owner
from tracking.schedules.times import Cron, Every, Rule
from tracking.states import Status


class CatchUp(StrEnum):
    """Which due times that nobody has looked at in time make a job after all."""

    SKIP = "skip"
    ONCE = "once"  # the latest of them, unless one is due just now
    ALL = "all"  # the latest hundred


class Overlap(StrEnum):
    """What happens at a due time while an earlier job of the schedule has not ended."""

    ALLOW = "allow"
    SKIP = "skip"
    CANCEL_PREVIOUS = "cancel_previous"


class Became(StrEnum):
    """What became of a due time."""

    JOB = "job"
    SKIPPED = "skipped"
    FAILED = "failed"


class Why(StrEnum):
    """Why a due time was skipped. ASKED: by a person; LATE: nobody has looked in time."""

    OVERLAP = "overlap"
    LATE = "late"
    ASKED = "asked"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a schedule makes, and when: what people say of it.

    `priority` and `max_retries` None: as the handler says. Either `cron` and `timezone`, or `every_seconds`.
    `template`: the name of one, of the same type, on top of whose newest version this is said.
    """

    name: str
    job_type: str
    payload: JsonObject = field(default_factory=dict)
    priority: int | None = None
    max_retries: int | None = None
    project_id: str | None = None
    metadata: JsonObject = field(default_factory=dict)
    cron: str | None = None
    timezone: str | None = None
    every_seconds: int | None = None
    catch_up: CatchUp = CatchUp.ONCE
    overlap: Overlap = Overlap.ALLOW
    template: str | None = None

    def rule(self, anchor: datetime) -> Rule:
        """When it is due; an interval is counted from `anchor`."""
        if self.cron is not None and self.timezone is not None:
            return Cron(self.cron, self.timezone)
        assert self.every_seconds is not None, self  # noqa: S101 - of the table, which holds either
        return Every(self.every_seconds, anchor)

    def is_due_as(self, other: Plan) -> bool:
        """Whether both are due at the same times."""
        mine, others = ((each.cron, each.timezone, each.every_seconds) for each in (self, other))
        return mine == others


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a due time, or of several in a row (`count`, `last_due_at`) to which the same has happened.

    `job_id`, and its `status` (None: the job was removed); or the `reason`, one of Why for those that were skipped.
    `actor`: who has asked for it; None: it was due. What somebody runs by hand is due when they ask for it.
    """

    due_at: datetime
    last_due_at: datetime
    count: int
    became: Became
    job_id: UUID | None
    status: Status | None
    reason: str | None
    actor: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Schedule:
    """One row of `schedules`.

    `since`: the due times until then are dealt with; `next_at`: the first one after it, None when there is none.
    `granted`, `granted_template`: the permissions of the handler's and of its template's that whoever set it has shown.
    `version` grows with each change that
    people make. `last`: the newest outcomes, newest first, where they were asked for.
    """

    id: UUID
    owner: Owner
    plan: Plan
    granted: str | None
    granted_template: str | None
    anchor: datetime
    since: datetime
    next_at: datetime | None
    paused: bool
    paused_by: str | None
    paused_at: datetime | None
    version: int
    changed_by: str
    created_at: datetime
    updated_at: datetime
    last: Sequence[Outcome] = ()

    @property
    def rule(self) -> Rule:
        return self.plan.rule(self.anchor)

    @property
    def shown_next_at(self) -> datetime | None:
        """When it is due next; None while it is paused."""
        return None if self.paused else self.next_at


@dataclass(frozen=True, slots=True)
class Fired:
    """What was made at due times that have come: jobs to send, and earlier ones that were cancelled for them.

    `cancelled` says of each whether a body must still be stopped. `more`: further due times have come already.
    """

    schedule: Schedule
    made: Sequence[JobRecord] = ()
    cancelled: Sequence[tuple[JobRecord, bool]] = ()
    skipped: int = 0
    failed: int = 0
    more: bool = False
