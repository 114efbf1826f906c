"""The jobs of each type: how many there are, how many failed, and how long they ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, text

from tracking.models import JobRecord, Scope
from tracking.sql import SCOPE, listed, own
from tracking.states import ACTIVE, WAITING, Status


@dataclass(frozen=True, slots=True)
class TypeCounts:
    """Of one type: the active jobs, and those that finished within the window.

    `median`, `slowest`: half of those that succeeded, and 95 of 100, ran no longer; None: none has succeeded.
    """

    waiting: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    median: timedelta | None = None
    slowest: timedelta | None = None

    @property
    def failure_rate(self) -> float | None:
        """The part of those that ended by themselves; None: none has."""
        ended = self.succeeded + self.failed
        return self.failed / ended if ended else None


def by_type(connection: Connection, scope: Scope, *, window: timedelta) -> Mapping[str, TypeCounts]:
    """The counts of each type of which there is a job in scope, active or finished within the window."""
    rows = connection.execute(BY_TYPE, {**scope.parameters, "window": window})
    return {
        row.job_type: TypeCounts(
            waiting=row.waiting,
            running=row.running,
            succeeded=row.succeeded,
            failed=row.failed,
            cancelled=row.cancelled,
            median=row.median,
            slowest=row.slowest,
        )
        for row in rows
    }


@dataclass(frozen=True, slots=True)
class Durations:
    """How long jobs of a type ran: half of `number` no longer than `median`, 95 of 100 no longer than `slowest`."""

    number: int
    median: timedelta
    slowest: timedelta


def durations_like(connection: Connection, job: JobRecord, scope: Scope) -> Durations | None:
    """How long other jobs of its type ran in its organization, as far as they are in scope. None: none has succeeded.

    Of those that have ended the latest MOST_COMPARED are looked at, however many there are.
    """
    given = {"organization_id": job.organization_id, "user_id": scope.user_id, "job_type": job.job_type, "id": job.id}
    row = connection.execute(DURATIONS_LIKE, {**given, "most": MOST_COMPARED}).one()
    return Durations(row.number, row.median, row.slowest) if row.number else None


MOST_COMPARED = 300

_RAN = "WITHIN GROUP (ORDER BY completed_at - started_at)"

# now(), not clock_timestamp(): an index is searched for what stays the same throughout a statement.
BY_TYPE = text(
    f"""
    SELECT job_type,
           count(*) FILTER (WHERE status IN ({listed(WAITING)})) AS waiting,
           count(*) FILTER (WHERE status = '{Status.RUNNING}') AS running,
           count(*) FILTER (WHERE status = '{Status.SUCCEEDED}') AS succeeded,
           count(*) FILTER (WHERE status = '{Status.FAILED}') AS failed,
           count(*) FILTER (WHERE status = '{Status.CANCELLED}') AS cancelled,
           percentile_cont(0.5) {_RAN} FILTER (WHERE status = '{Status.SUCCEEDED}') AS median,
           percentile_cont(0.95) {_RAN} FILTER (WHERE status = '{Status.SUCCEEDED}') AS slowest
    FROM (
        SELECT job_type, status, CAST(NULL AS timestamptz) AS started_at, CAST(NULL AS timestamptz) AS completed_at
        FROM jobs
        WHERE {SCOPE} AND status IN ({listed(ACTIVE)})
        UNION ALL
        SELECT job_type, status, started_at, completed_at FROM jobs
        WHERE {SCOPE} AND completed_at IS NOT NULL
          AND completed_at > now() - CAST(:window AS interval)
    ) AS counted
    GROUP BY job_type"""
)

DURATIONS_LIKE = text(
    f"""
    SELECT count(*) AS number, percentile_cont(0.5) {_RAN} AS median, percentile_cont(0.95) {_RAN} AS slowest
    FROM (
        SELECT id, user_id, status, started_at, completed_at FROM jobs
        WHERE {own()} AND job_type = :job_type AND completed_at IS NOT NULL
        ORDER BY created_at DESC, id DESC LIMIT :most
    ) AS latest
    WHERE status = '{Status.SUCCEEDED}' AND started_at IS NOT NULL AND id <> :id
      AND (CAST(:user_id AS text) IS NULL OR user_id = :user_id)"""
)
