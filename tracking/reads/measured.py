"""The platform at this moment, for its metrics: each active job is read once, however many ways it is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import Connection, text

from tracking.admission.rule import lines_of
from tracking.leadership import is_led
from tracking.reads.fleet import IS_READY, READY_SINCE
from tracking.schema import IS_WAITING
from tracking.sql import listed
from tracking.states import ACTIVE, WAITING, Hold, Status
from tracking.totals import Total, read, uncounted

MOST_READ = 100_000  # active jobs: a part of a second


class By(StrEnum):
    """What active jobs are put together by; the words are columns of `jobs`."""

    QUEUE = "queue"
    TYPE = "job_type"
    ORGANIZATION = "organization_id"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Active:
    """The jobs of one queue, type, organization or hold that are not finished; of those that workers run.

    `waiting`: those that were sent, or stand in line for a slot; `oldest`: since when the first of them could run.
    `held`: those that wait for something else. Of a hold, `total` counts also those whose work is done elsewhere.
    """

    name: str
    waiting: int
    held: int
    running: int
    total: int
    oldest: timedelta | None


@dataclass(frozen=True, slots=True)
class Served:
    """The living workers that take jobs of a queue, and how many they run at once."""

    queue: str
    workers: int
    slots: int


@dataclass(frozen=True, slots=True)
class Circuits:
    """The circuits of a type in one state, those of all organizations and keys."""

    job_type: str
    is_half_open: bool
    number: int


@dataclass(frozen=True, slots=True)
class Measured:
    """All of it. `is_capped`: more jobs are active than are read, and the numbers are of those that were.

    `unsent`: jobs that the broker has not confirmed yet, and for how long the first of them could have been sent.
    `uncounted`: what has happened and is not in the totals yet.
    """

    active: Mapping[By, Sequence[Active]]
    is_capped: bool
    served: Sequence[Served]
    alive: int
    silent: int
    circuits: Sequence[Circuits]
    is_led: bool
    unsent: int
    oldest_unsent: timedelta | None
    totals: Sequence[Total]
    uncounted: int


def measured(connection: Connection, lease_timeout: timedelta, *, most: int = MOST_READ) -> Measured:
    """Read it; those with most waiting jobs come first."""
    active: dict[By, list[Active]] = {by: [] for by in By}
    total = 0
    for row in connection.execute(ACTIVE_JOBS, {"most": most}):
        if row.by is None:
            total = row.total
        elif row.name is not None:
            active[By(row.by)].append(
                Active(row.name, row.waiting, row.held, row.running, row.total, row.oldest if row.waiting else None)
            )
    fleet = connection.execute(FLEET, {"lease_timeout": lease_timeout}).all()
    unsent = connection.execute(UNSENT, {"most": most}).one()
    return Measured(
        active=active,
        is_capped=total >= most,
        served=[Served(row.queue, row.workers, row.slots) for row in fleet if row.queue is not None],
        alive=sum(row.workers for row in fleet if row.queue is None and row.is_alive),
        silent=sum(row.workers for row in fleet if row.queue is None and not row.is_alive),
        circuits=[Circuits(row.job_type, row.is_half_open, row.number) for row in connection.execute(CIRCUITS)],
        is_led=is_led(connection),
        unsent=unsent.number,
        oldest_unsent=unsent.oldest,
        totals=read(connection),
        uncounted=uncounted(connection),
    )


_IS_OURS = f"hold IS DISTINCT FROM '{Hold.EXTERNAL}'"


def _sum(condition: str) -> str:
    return f"coalesce(sum(number) FILTER (WHERE {_IS_OURS} AND {condition}), 0)::int"


# Of each organization by itself: planned while the table was small, one scan of all active jobs would read all of it
# later. Put together first by all columns, of which there are few different ones.
ACTIVE_JOBS = text(
    f"""
    WITH RECURSIVE {lines_of(f"status IN ({listed(ACTIVE)})")},
    active AS (
        SELECT lines.organization_id, mine.*
        FROM lines CROSS JOIN LATERAL (
            SELECT queue, job_type, hold, status, {READY_SINCE} AS since FROM jobs
            WHERE jobs.organization_id = lines.organization_id AND status IN ({listed(ACTIVE)})
            LIMIT :most) AS mine
        LIMIT :most
    ), counted AS (
        SELECT {", ".join(By)}, status, count(*) AS number, min(since) AS since
        FROM active GROUP BY {", ".join(By)}, status
    )
    SELECT CASE 15 - grouping({", ".join(By)})
               WHEN 8 THEN '{By.QUEUE}' WHEN 4 THEN '{By.TYPE}' WHEN 2 THEN '{By.ORGANIZATION}' WHEN 1 THEN '{By.HOLD}'
           END AS by,
           coalesce({", ".join(By)}) AS name,
           {_sum(IS_READY)} AS waiting,
           {_sum(f"NOT {IS_READY} AND status IN ({listed(WAITING)})")} AS held,
           {_sum(f"status = '{Status.RUNNING}'")} AS running,
           coalesce(sum(number), 0)::int AS total,
           clock_timestamp() - min(since) FILTER (WHERE {_IS_OURS} AND {IS_READY}) AS oldest
    FROM counted
    GROUP BY GROUPING SETS (({By.QUEUE}), ({By.TYPE}), ({By.ORGANIZATION}), ({By.HOLD}), ())
    ORDER BY waiting DESC, held DESC, running DESC, name"""
)

FLEET = text(
    """
    WITH known AS (
        SELECT queues, concurrency, seen_at > clock_timestamp() - CAST(:lease_timeout AS interval) AS is_alive
        FROM workers
    )
    SELECT NULL AS queue, is_alive, count(*)::int AS workers, 0 AS slots FROM known GROUP BY is_alive
    UNION ALL
    SELECT queue, true, count(*)::int, sum(concurrency)::int
    FROM known CROSS JOIN LATERAL unnest(queues) AS consumed (queue)
    WHERE is_alive GROUP BY queue"""
)

CIRCUITS = text(
    """
    SELECT job_type, probe_id IS NOT NULL OR probe_at <= clock_timestamp() AS is_half_open, count(*)::int AS number
    FROM circuits GROUP BY 1, 2 ORDER BY number DESC, job_type LIMIT 200"""
)

UNSENT = text(
    f"""
    SELECT count(*)::int AS number, clock_timestamp() - min(updated_at) AS oldest
    FROM (SELECT updated_at FROM jobs WHERE {IS_WAITING} AND hold IS NULL AND dispatched_at IS NULL
          ORDER BY created_at LIMIT :most) AS unsent"""
)
