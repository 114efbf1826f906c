"""What rows that were restored from a backup say of jobs, and what the leader is about to do by them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.admission.rule import lines_of
from tracking.operated import WORKED_ON
from tracking.reads.promises import ALIVE
from tracking.sql import listed
from tracking.states import WAITING, Hold, Status

MOST_COUNTED = 10_000  # events that webhooks are still to hear of


@dataclass(frozen=True, slots=True)
class Known:
    """What its row says of a job."""

    id: UUID
    dispatch: int
    attempt: int
    status: Status
    job_type: str
    organization_id: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """A schedule with due times that nobody has dealt with; `since`: the first of them."""

    id: UUID
    name: str
    organization_id: str
    since: datetime
    catch_up: str


@dataclass(frozen=True, slots=True)
class GoingOn:
    """A bulk operation that is not over."""

    id: UUID
    action: str
    organization_id: str


def newest(connection: Connection) -> datetime | None:
    """When the last thing happened that the rows know of; None: nothing has."""
    return connection.execute(NEWEST).scalar()


def known(connection: Connection, job_ids: Iterable[UUID]) -> dict[UUID, Known]:
    """What the rows say of these jobs, by their ids; those that have none are left out."""
    rows = connection.execute(KNOWN, {"ids": list(job_ids)})
    return {row.id: _known(row) for row in rows}


def sent(connection: Connection) -> Sequence[Known]:
    """The jobs that wait for a worker, as the broker has confirmed their messages."""
    return [_known(row) for row in connection.execute(SENT)]


def running(connection: Connection, lease_timeout: timedelta) -> Sequence[Known]:
    """The jobs whose body runs, or is being stopped, on workers that are not alive."""
    return [_known(row) for row in connection.execute(RUNNING, {"lease_timeout": lease_timeout})]


def overdue(connection: Connection) -> Sequence[Overdue]:
    """The schedules that are due."""
    rows = connection.execute(OVERDUE)
    return [Overdue(row.id, row.name, row.organization_id, row.next_at, row.catch_up) for row in rows]


def going_on(connection: Connection) -> Sequence[GoingOn]:
    """The bulk operations that are not over."""
    return [GoingOn(row.id, row.action, row.organization_id) for row in connection.execute(GOING_ON)]


def untold(connection: Connection) -> int:
    """How many events webhooks are still to hear of, up to MOST_COUNTED; 0 when nobody listens."""
    return int(connection.execute(UNTOLD, {"most": MOST_COUNTED}).scalar() or 0)


def organizations(connection: Connection) -> Sequence[str]:
    """All organizations that have a job or an uploaded file, by name."""
    return list(connection.execute(ORGANIZATIONS).scalars())


def _known(row: Any) -> Known:
    return Known(row.id, row.dispatch, row.attempt, Status(row.status), row.job_type, row.organization_id)


_COLUMNS = "id, dispatch, attempt, status, job_type, organization_id"

NEWEST = text("SELECT at FROM history ORDER BY id DESC LIMIT 1")

KNOWN = text(f"SELECT {_COLUMNS} FROM jobs WHERE id = ANY(CAST(:ids AS uuid[]))")

SENT = text(
    f"""
    SELECT {_COLUMNS} FROM jobs
    WHERE status IN ({listed(WAITING)}) AND hold IS NULL AND dispatched_at IS NOT NULL"""
)

RUNNING = text(
    f"""
    SELECT {_COLUMNS} FROM jobs
    WHERE (status = '{Status.RUNNING}' AND hold IS DISTINCT FROM '{Hold.EXTERNAL}' OR stopping)
      AND NOT EXISTS (SELECT FROM workers WHERE workers.lease = jobs.lease AND {ALIVE})"""
)

OVERDUE = text(
    """
    SELECT id, name, organization_id, next_at, catch_up FROM schedules
    WHERE NOT paused AND next_at <= clock_timestamp() ORDER BY next_at"""
)

GOING_ON = text(f"SELECT id, action, organization_id FROM operations WHERE state IN ({listed(WORKED_ON)}) ORDER BY id")

UNTOLD = text(
    """
    SELECT (SELECT count(*) FROM (SELECT id FROM history WHERE id > history_id ORDER BY id LIMIT :most) AS events)
    FROM webhook_position"""
)

ORGANIZATIONS = text(
    f"""
    WITH RECURSIVE {lines_of("true")}
    SELECT organization_id FROM lines WHERE organization_id IS NOT NULL
    UNION SELECT organization_id FROM files ORDER BY 1"""
)
