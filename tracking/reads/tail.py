"""The history as it grows: every committed row once, in the order of the ids, whatever was written at the same time.

An id is drawn before its row is committed, so that `id > last` leaves out what commits late. But INSERT takes a lock on
the table before it draws an id, and lets it go when its rows can be seen: rows up to a number that the sequence had are
all there once everybody has let go who held that lock then. It is how CREATE INDEX CONCURRENTLY waits. Transactions
elsewhere, in other tables or databases, hold nothing up.

What happens to workflows and schedules is in a table of its own, `events`, whose ids are of the same sequence: who
writes it is waited for as well, and its rows come in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking import removals
from tracking.columns import columns_of
from tracking.event_tables import EventType, events
from tracking.models import Scope
from tracking.sql import own
from tracking.states import Event, Status

BATCH = 1000  # rows of one read
MOST_MARKS = 64  # that wait at a time; while there are so many, the newest one stands for later ones too
MOST_SCANNED = 10_000  # rows of an organization that a resumed stream is looked up among


class SequenceReset(Exception):
    """The numbers of the history are lower than they were: the database is another one, or was restored."""


@dataclass(frozen=True, slots=True)
class Happening:
    """A row of the history, and whose job it is about. `project_id` None: it has none, or was removed since."""

    id: int
    job_id: UUID
    organization_id: str
    user_id: str
    project_id: str | None
    job_type: str
    event: Event
    to_status: Status
    attempt: int
    actor: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A row of `events`: what happened to a workflow, or to a due time of a schedule.

    `subject_id`: which of them. `job_type`: that the schedule makes; None for a workflow, which is of no one type.
    """

    id: int
    at: datetime
    organization_id: str
    user_id: str
    project_id: str | None
    job_type: str | None
    event: EventType
    subject_id: UUID
    detail: dict[str, Any]
    job_id: None = None  # it is of no one job


@dataclass(frozen=True, slots=True)
class Narrowed:
    """Which happenings a caller wants to hear of; None narrows nothing."""

    job_type: str | None = None
    project_id: str | None = None
    job_id: UUID | None = None

    def wants(self, happening: Happening | Occurrence) -> bool:
        """Whether it is one of those."""
        return (
            self.job_id in (None, happening.job_id)
            and self.job_type in (None, happening.job_type)
            and self.project_id in (None, happening.project_id)
        )


@dataclass(frozen=True, slots=True)
class _Mark:
    """A number that the sequence had, and the transactions that may still commit rows up to it."""

    number: int
    writers: frozenset[str]


class Tail:
    """Follows the history, by `poll`; `position`: every row up to this id has been returned, None: not begun yet."""

    def __init__(self, position: int | None = None) -> None:
        self.position = position
        self._safe = position or 0
        self._marks: deque[_Mark] = deque()

    @property
    def is_held(self) -> bool:
        """Whether rows may be there that cannot be returned yet, because an older transaction is not over."""
        return bool(self._marks)

    def poll(self, connection: Connection, *, is_wanted: bool = True) -> Sequence[Happening | Occurrence]:
        """The next rows, at most BATCH: fewer means that there are no more now. Wants autocommit: no snapshot may last.

        The first call begins behind what is committed, and returns nothing. Not `is_wanted`: they are passed by without
        being read. Raises SequenceReset.
        """
        self._mark(connection)
        if self.position is None:
            if self._safe or not self._marks:  # what was being written at first is over, or nothing was ever written
                self.position = self._safe
            return ()
        if self._safe <= self.position:
            return ()
        if not is_wanted:
            self.position = self._safe
            return ()
        asked = {"after": self.position, "until": self._safe, "most": BATCH}
        found = _merged(
            [_happening(row) for row in connection.execute(ROWS, asked)],
            [_occurrence(row) for row in connection.execute(EVENTS, asked)],
        )[:BATCH]
        self.position = found[-1].id if len(found) == BATCH else self._safe
        return found

    def _mark(self, connection: Connection) -> None:
        """Three statements, in this order: who writes is asked after the number, what is read after both."""
        number = connection.execute(LAST_NUMBER).scalar_one()
        writers = frozenset(connection.execute(WRITERS).scalars())
        if number < self._safe:
            raise SequenceReset
        newest = self._marks[-1].number if self._marks else self._safe
        if number > newest and len(self._marks) < MOST_MARKS:
            self._marks.append(_Mark(number, writers))
        waiting = [_Mark(mark.number, mark.writers & writers) for mark in self._marks]
        while waiting and not waiting[0].writers:
            self._safe = waiting.pop(0).number
        self._marks = deque(waiting)


def missed(
    connection: Connection, scope: Scope, narrowed: Narrowed, *, after: int, until: int
) -> Sequence[Happening | Occurrence] | None:
    """What happened in scope after one id and up to another, in their order.

    None: that cannot be told without a gap. It is too much, or some of it may have been removed.
    """
    if after >= until:
        return ()
    parameters = {
        **scope.parameters,
        "after": after,
        "until": until,
        "most": MOST_SCANNED + 1,
        "job_type": narrowed.job_type,
        "project_id": narrowed.project_id,
        "job_id": narrowed.job_id,
    }
    scanned = connection.execute(SCANNED, parameters).scalar_one()
    if scanned > MOST_SCANNED:
        return None
    occurrences: Sequence[Occurrence] = ()
    if narrowed.job_id is None:
        occurrences = [_occurrence(row) for row in connection.execute(MISSED_EVENTS, parameters)]
    found = _merged([_happening(row) for row in connection.execute(MISSED, parameters)], occurrences)
    # After all reads: what is removed from now on was found.
    is_removed = narrowed.project_id is not None and connection.execute(HAS_LOST_JOBS, parameters).scalar()
    if is_removed or removals.is_any_after(connection, scope.organization_id, after):
        return None
    return found


def last_number(connection: Connection) -> int:
    """The last id that a row of the history can have now."""
    return int(connection.execute(LAST_NUMBER).scalar_one())


def holders(connection: Connection) -> Sequence[int]:
    """The processes of the database that write to what is followed now, those that have done so longest first."""
    return connection.execute(HOLDERS).scalars().all()


def _merged(happenings: Sequence[Happening], occurrences: Sequence[Occurrence]) -> Sequence[Happening | Occurrence]:
    """Both in the order of their ids, in which each of them is already."""
    return sorted([*happenings, *occurrences], key=attrgetter("id")) if occurrences else happenings


def _happening(row: Any) -> Happening:
    return Happening(
        id=row.id,
        job_id=row.job_id,
        organization_id=row.organization_id,
        user_id=row.user_id,
        project_id=row.project_id,
        job_type=row.job_type,
        event=Event(row.event),
        to_status=Status(row.to_status),
        attempt=row.attempt,
        actor=row.actor,
        detail=row.detail,
    )


def _occurrence(row: Any) -> Occurrence:
    return Occurrence(
        id=row.id,
        at=row.at,
        organization_id=row.organization_id,
        user_id=row.user_id,
        project_id=row.project_id,
        job_type=row.job_type,
        event=EventType(row.event),
        subject_id=row.subject_id,
        detail=row.detail,
    )


LAST_NUMBER = text(
    "SELECT coalesce(pg_sequence_last_value(CAST(pg_get_serial_sequence('history', 'id') AS regclass)), 0)"
)

_WRITING = """FROM pg_locks
    WHERE locktype = 'relation' AND relation IN (CAST('history' AS regclass), CAST('events' AS regclass))
      AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND mode = 'RowExclusiveLock' AND granted"""

WRITERS = text(f"SELECT virtualtransaction {_WRITING}")

HOLDERS = text(
    f"""
    SELECT pid FROM (SELECT pid {_WRITING} AND pid IS NOT NULL) AS writing JOIN pg_stat_activity USING (pid)
    ORDER BY xact_start"""
)

_COLUMNS = """happened.id, happened.job_id, happened.organization_id, happened.user_id, happened.job_type,
           happened.event, happened.to_status, happened.attempt, happened.actor,
           happened.detail - 'traceback' - 'exception' - 'children' AS detail,
           (SELECT project_id FROM jobs WHERE jobs.id = happened.job_id) AS project_id"""

ROWS = text(
    f"""
    SELECT {_COLUMNS} FROM history AS happened
    WHERE id > :after AND id <= :until ORDER BY id LIMIT :most"""
)

EVENTS = text(f"SELECT {columns_of(events)} FROM events WHERE id > :after AND id <= :until ORDER BY id LIMIT :most")

_BETWEEN = f"{own()} AND id > :after AND id <= :until"

_READ = "(SELECT count(*) FROM (SELECT FROM {} WHERE {} LIMIT :most) AS scanned)"

SCANNED = text(f"SELECT {_READ.format('history', _BETWEEN)} + {_READ.format('events', _BETWEEN)}")

MISSED = text(
    f"""
    SELECT * FROM (
        SELECT {_COLUMNS} FROM history AS happened
        WHERE {_BETWEEN}
          AND (CAST(:user_id AS text) IS NULL OR user_id = :user_id)
          AND (CAST(:job_type AS text) IS NULL OR job_type = :job_type)
          AND (CAST(:job_id AS uuid) IS NULL OR job_id = :job_id)
    ) AS found
    WHERE CAST(:project_id AS text) IS NULL OR project_id = :project_id
    ORDER BY id"""
)

# Of which project a job was goes with its row, which may be gone before its history.
HAS_LOST_JOBS = text(
    f"""
    SELECT EXISTS (SELECT FROM history WHERE {_BETWEEN} AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = job_id))"""
)

MISSED_EVENTS = text(
    f"""
    SELECT {columns_of(events)} FROM events
    WHERE {_BETWEEN}
      AND (CAST(:user_id AS text) IS NULL OR user_id = :user_id)
      AND (CAST(:job_type AS text) IS NULL OR job_type = :job_type)
      AND (CAST(:project_id AS text) IS NULL OR project_id = :project_id)
    ORDER BY id"""
)
