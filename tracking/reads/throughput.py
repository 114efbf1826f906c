"""How many jobs ended and how long they had waited, minute by minute: what a chart of an hour or day is drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, TextClause, text

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


class By(StrEnum):
    """What jobs are told apart by."""

    TYPE = "type"
    QUEUE = "queue"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Group:
    """The jobs of one type, queue or worker that ended; how many by the start of each part in which any did.

    `name`: None of all that are in no group of their own; "" of those that no worker had.
    """

    name: str | None
    ended: Mapping[datetime, int]

    @property
    def total(self) -> int:
        return sum(self.ended.values())


@dataclass(frozen=True, slots=True)
class Grouped:
    """The groups with most jobs, those first, and last all others. `is_partial`: earlier ends were not counted."""

    groups: Sequence[Group]
    is_partial: bool


def grouped(connection: Connection, scope: Scope, by: By, *, window: timedelta, slices: int) -> Grouped:
    """The ends of the jobs in scope by group, in the parts that `finished` has, of the last MOST_GROUPED that ended."""
    parameters = {"width": window / slices, "slices": slices, "most": MOST_GROUPED, "groups": MOST_GROUPS}
    found: dict[str | None, dict[datetime, int]] = {}
    for start, name, number in connection.execute(GROUPED[by], {**scope.parameters, **parameters}):
        found.setdefault(name, {})[start] = number
    others = found.pop(None, None)
    groups = sorted((Group(name, ended) for name, ended in found.items()), key=lambda each: (-each.total, each.name))
    groups += [] if others is None else [Group(None, others)]
    return Grouped(groups, is_partial=sum(each.total for each in groups) >= MOST_GROUPED)


MOST_WAITS = 100
MOST_GROUPED = 20_000  # jobs: of each the row is read, since no index has its queue and its worker
MOST_GROUPS = 5

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


def _by(column: str) -> TextClause:
    return text(
        f"""
    WITH ended AS (
        SELECT date_bin(CAST(:width AS interval), completed_at, timestamptz '2000-01-01Z') AS start,
               coalesce({column}, '') AS name
        FROM jobs
        WHERE {SCOPE} AND completed_at IS NOT NULL AND completed_at >= {_OLDEST}
        ORDER BY completed_at DESC, id DESC LIMIT :most
    ), largest AS (
        SELECT name FROM ended GROUP BY name ORDER BY count(*) DESC, name LIMIT :groups
    )
    SELECT ended.start, largest.name, count(*)::int AS number
    FROM ended LEFT JOIN largest ON largest.name = ended.name
    GROUP BY ended.start, largest.name"""
    )


BY_TYPE, BY_QUEUE, BY_WORKER = _by("job_type"), _by("queue"), _by("worker")
GROUPED = {By.TYPE: BY_TYPE, By.QUEUE: BY_QUEUE, By.WORKER: BY_WORKER}
