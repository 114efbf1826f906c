"""What a list of jobs is narrowed to, and what the reads answer beside a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from tracking.models import JobRecord
from tracking.states import Event, Status


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One row of `history`."""

    id: int
    job_id: UUID
    event: Event
    from_status: Status | None
    to_status: Status
    attempt: int
    dispatch: int
    actor: str
    detail: dict[str, Any]
    at: datetime

    @classmethod
    def of(cls, row: Any) -> Self:
        """The entry of a row with these columns."""
        known = {name: getattr(row, name) for name in cls.__dataclass_fields__}
        from_status = Status(row.from_status) if row.from_status else None
        named = {"event": Event(row.event), "from_status": from_status, "to_status": Status(row.to_status)}
        return cls(**{**known, **named})


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt of a job, put together from its history; `outcome` None while it runs."""

    attempt: int
    dispatch: int
    worker: str
    started_at: datetime
    completed_at: datetime | None = None
    outcome: Event | None = None
    error_type: str | None = None
    error_message: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list. `next_cursor` None means that nothing follows; `total` None with a cursor.

    `total_is_capped`: there may be more jobs than `total`, at which numbered pages end; the cursor goes on.
    `looked_until`: the job, by its time and id, at which the look for what no index has ended; None: it saw all.
    """

    jobs: Sequence[JobRecord]
    total: int | None
    next_cursor: str | None
    total_is_capped: bool = False
    looked_until: tuple[datetime, UUID] | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of jobs; the finished ones are of the window. Ages and durations in the database's time.

    `pending`: sent, or in line for a slot; `scheduled`: due later. What waits for another job, a pause or a circuit
    is neither: it counts in `total_active`, `total` and `held`; work that nobody has begun elsewhere not in `held`.
    """

    total: int
    total_active: int
    pending: int
    scheduled: int
    running: int
    retrying: int
    completed: int
    failed: int
    cancelled: int
    held: int
    oldest_pending_age: timedelta | None
    average_duration: timedelta | None


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is narrowed to; None and () narrow nothing. `search`: what reads/search.py takes.

    `error`: the fingerprint of those that failed alike. `as_of`: the jobs as they were then, by their statuses of then.
    `deliveries`: in a list of all organizations, those of their webhooks as well, which are nobody's work.
    """

    statuses: Sequence[Status] = ()
    job_type: str | None = None
    project_id: str | None = None
    user_id: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    completed_from: datetime | None = None
    completed_to: datetime | None = None
    search: str | None = None
    ids: Sequence[UUID] = ()
    schedule_id: UUID | None = None
    error: str | None = None
    as_of: datetime | None = None
    deliveries: bool = True
