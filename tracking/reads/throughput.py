"""How many jobs ended and how long they had waited, minute by minute: what a chart of an hour or day is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from tracking.models import Scope
from tracking.sql import SCOPE
from tracking.states import Status


@dataclass(frozen=True, slots=True)
class Slice:
    """The jobs that ended in a part of the window, which begins at `start`.

    `median`, `slowest`: half of them, and 95 of 100, had waited no longer before they started; None: none tells.
    """

    start: datetime
    succeeded: int
    failed: int
    cancelled: int
    median: timedelta | None = None
    slowest: timedelta | None = None

    @property
    def total(self) -> int:
        return self.succeeded + self.failed + self.cancelled


def finished(connection: Connection, scope: Scope, *, window: timedelta, slices: int) -> Sequence[Slice]:
    """The ends of the jobs in scope, in that many equal parts of the window, the oldest first, until now.

    Parts begin at round times, so that a bar does not change while another one grows. Waits are those of jobs that
    could run when they were wanted and needed one attempt, of the last MOST_WAITS that ended in a part.
    """
    parameters = {**scope.parameters, "width": window / slices, "slices": slices, "most": MOST_WAITS}
    return [Slice(*row) for row in connection.execute(FINISHED, parameters)]


MOST_WAITS = 100

# The bounds are written out where the jobs are searched: a join with them would read the jobs of all time.
_NEWEST = "date_bin(CAST(:width AS interval), now(), timestamptz '2000-01-01Z')"
_OLDEST = f"{_NEWEST} - (:slices - 1) * CAST(:width AS interval)"

FINISHED = text(
    f"""
    WITH counted AS (
        SELECT date_bin(CAST(:width AS interval), completed_at, timestamptz '2000-01-01Z') AS start, status,
               count(*) AS number
        FROM jobs
        WHERE {SCOPE} AND completed_at IS NOT NULL AND completed_at >= {_OLDEST}
        GROUP BY 1, 2
    ), parts AS (
        SELECT part.start,
               coalesce(sum(number) FILTER (WHERE status = '{Status.SUCCEEDED}'), 0)::int AS succeeded,
               coalesce(sum(number) FILTER (WHERE status = '{Status.FAILED}'), 0)::int AS failed,
               coalesce(sum(number) FILTER (WHERE status = '{Status.CANCELLED}'), 0)::int AS cancelled
        FROM generate_series({_OLDEST}, {_NEWEST}, CAST(:width AS interval)) AS part (start)
        LEFT JOIN counted USING (start)
        GROUP BY part.start
    )
    SELECT start, succeeded, failed, cancelled, median, slowest
    FROM parts LEFT JOIN LATERAL (
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY waited) AS median,
               percentile_cont(0.95) WITHIN GROUP (ORDER BY waited) AS slowest
        FROM (
            SELECT started_at - greatest(created_at, scheduled_at) AS waited, attempt, depends_on, external
            FROM jobs
            WHERE {SCOPE} AND completed_at IS NOT NULL AND completed_at >= parts.start
              AND completed_at < parts.start + CAST(:width AS interval)
            ORDER BY completed_at DESC, id DESC LIMIT :most) AS latest
        WHERE waited >= interval '0' AND attempt = 1 AND depends_on = '{{}}' AND NOT external
    ) AS waits ON succeeded + failed + cancelled > 0
    ORDER BY start"""
)
