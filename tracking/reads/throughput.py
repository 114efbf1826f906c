"""How many jobs ended, minute by minute: what a chart of the last hour or day is drawn from."""

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
    """The jobs that ended in a part of the window, which begins at `start`."""

    start: datetime
    succeeded: int
    failed: int
    cancelled: int

    @property
    def total(self) -> int:
        return self.succeeded + self.failed + self.cancelled


def finished(connection: Connection, scope: Scope, *, window: timedelta, slices: int) -> Sequence[Slice]:
    """The ends of the jobs in scope, in that many equal parts of the window, the oldest first, until now.

    Parts begin at round times, so that a bar does not change while another one grows.
    """
    parameters = {**scope.parameters, "width": window / slices, "slices": slices}
    return [
        Slice(row.start, row.succeeded, row.failed, row.cancelled) for row in connection.execute(FINISHED, parameters)
    ]


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
    )
    SELECT part.start,
           coalesce(sum(number) FILTER (WHERE status = '{Status.SUCCEEDED}'), 0)::int AS succeeded,
           coalesce(sum(number) FILTER (WHERE status = '{Status.FAILED}'), 0)::int AS failed,
           coalesce(sum(number) FILTER (WHERE status = '{Status.CANCELLED}'), 0)::int AS cancelled
    FROM generate_series({_OLDEST}, {_NEWEST}, CAST(:width AS interval)) AS part (start)
    LEFT JOIN counted USING (start)
    GROUP BY part.start ORDER BY part.start"""
)
