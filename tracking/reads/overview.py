"""What waits, runs and fails, by organization, type and queue: of all organizations, for the operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import Connection, text

from tracking.admission.rule import lines_of
from tracking.reads.fleet import IS_READY, READY_SINCE
from tracking.sql import listed
from tracking.states import ACTIVE, WAITING, Hold, Status

MOST_READ = 100_000  # active jobs, and as many that have ended: a part of a second


class By(StrEnum):
    """What jobs are put together by; the words are columns of `jobs`."""

    ORGANIZATION = "organization_id"
    TYPE = "job_type"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True)
class Load:
    """The jobs of one organization, type or queue; `name` None: all of them.

    `waiting`: those that were sent, or stand in line for a slot; `oldest`: for how long the first of them has done so.
    `held`: those that wait for something else. The others ended within the window.
    """

    by: By | None
    name: str | None
    waiting: int
    held: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    oldest: timedelta | None

    @property
    def failure_rate(self) -> float | None:
        """The part of those that ended by themselves; None: none has."""
        ended = self.succeeded + self.failed
        return self.failed / ended if ended else None


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it; `is_capped`: there are more jobs than are read, and the numbers are of those that were."""

    loads: Sequence[Load]
    is_capped: bool


def overview(connection: Connection, *, window: timedelta) -> Overview:
    """The jobs that are active, and those that ended within the window; those with most waiting first."""
    rows = connection.execute(OVERVIEW, {"window": window, "most": MOST_READ}).all()
    loads = [
        Load(
            by=By(row.by) if row.by else None,
            name=row.name,
            waiting=row.waiting,
            held=row.held,
            running=row.running,
            succeeded=row.succeeded,
            failed=row.failed,
            cancelled=row.cancelled,
            oldest=row.oldest,
        )
        for row in rows
    ]
    total = next(load for load in loads if load.by is None)
    active, ended = total.waiting + total.held + total.running, total.succeeded + total.failed + total.cancelled
    return Overview(loads, is_capped=max(active, ended) >= MOST_READ)


_COLUMNS = (*By, "status", "hold", "dispatched_at", "updated_at")


def _count(condition: str) -> str:
    return f"count(*) FILTER (WHERE {condition})"


def _of_each(condition: str) -> str:
    """SQL: the jobs of all organizations that are so, by the index of each; at most :most."""
    return f"""
        SELECT {", ".join(f"mine.{column}" for column in _COLUMNS)}
        FROM lines CROSS JOIN LATERAL (
            SELECT {", ".join(_COLUMNS)} FROM jobs
            WHERE jobs.organization_id = lines.organization_id AND {condition}
            LIMIT :most) AS mine
        LIMIT :most"""


OVERVIEW = text(
    f"""
    WITH RECURSIVE {lines_of("true")},
    active AS ({_of_each(f"status IN ({listed(ACTIVE)}) AND hold IS DISTINCT FROM '{Hold.EXTERNAL}'")}
    ), ended AS ({_of_each("completed_at IS NOT NULL AND completed_at > now() - CAST(:window AS interval)")}
    )
    SELECT CASE 7 - grouping({", ".join(By)})
               WHEN 4 THEN '{By.ORGANIZATION}' WHEN 2 THEN '{By.TYPE}' WHEN 1 THEN '{By.QUEUE}' END AS by,
           coalesce({", ".join(By)}) AS name,
           {_count(IS_READY)} AS waiting,
           {_count(f"NOT {IS_READY} AND status IN ({listed(WAITING)})")} AS held,
           {_count(f"status = '{Status.RUNNING}'")} AS running,
           {_count(f"status = '{Status.SUCCEEDED}'")} AS succeeded,
           {_count(f"status = '{Status.FAILED}'")} AS failed,
           {_count(f"status = '{Status.CANCELLED}'")} AS cancelled,
           clock_timestamp() - min({READY_SINCE}) FILTER (WHERE {IS_READY}) AS oldest
    FROM (SELECT * FROM active UNION ALL SELECT * FROM ended) AS read
    GROUP BY GROUPING SETS (({By.ORGANIZATION}), ({By.TYPE}), ({By.QUEUE}), ())
    ORDER BY waiting DESC, failed DESC, running DESC, name"""
)
