"""All workers, and what there is for them in each queue: of every organization, for the operators of the platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.sql import RUNS_THERE, listed
from tracking.states import ACTIVE, WAITING, Hold, Status


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker, and the jobs that it runs. Not `is_alive`: it has been silent, and its jobs are given to others."""

    lease: UUID
    name: str
    pid: int
    queues: Sequence[str]
    concurrency: int
    running: int
    is_alive: bool
    started_at: datetime
    seen_at: datetime
    silent_for: timedelta


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue: the living `workers` that consume it and their `slots`, and its jobs.

    `waiting`: those that were sent to it, or stand in line for a slot; `oldest`: how long the first of them has waited.
    `held`: those that wait for something else. `losses`: attempts of all these that ended with their worker.
    `paused_by`, `reason`, `paused_at`: of its pause; None: it has none.
    """

    name: str
    workers: int
    slots: int
    running: int
    waiting: int
    held: int
    oldest: timedelta | None
    losses: int = 0
    paused_by: str | None = None
    reason: str | None = None
    paused_at: datetime | None = None

    @property
    def is_unserved(self) -> bool:
        """Whether there are jobs that no living worker will take."""
        return self.waiting > 0 and not self.workers


def all_workers(connection: Connection, lease_timeout: timedelta) -> Sequence[WorkerState]:
    """Every worker that is known: a dead one until it is forgotten."""
    rows = connection.execute(WORKERS, {"lease_timeout": lease_timeout})
    return [WorkerState(**row._mapping) for row in rows]  # noqa: SLF001 - a public name


def all_queues(connection: Connection, lease_timeout: timedelta) -> Sequence[QueueState]:
    """Every queue that a living worker consumes, that has a job which is not finished, or that is paused."""
    rows = connection.execute(QUEUES, {"lease_timeout": lease_timeout})
    return [QueueState(**row._mapping) for row in rows]  # noqa: SLF001 - a public name


def is_known(connection: Connection, queue: str, lease_timeout: timedelta) -> bool:
    """Whether a living worker consumes this queue, a job which is not finished is in it, or it is paused."""
    return queue in {each.name for each in all_queues(connection, lease_timeout)}


WORKERS = text(
    f"""
    SELECT lease, name, pid, queues, concurrency, started_at, seen_at,
           seen_at > clock_timestamp() - CAST(:lease_timeout AS interval) AS is_alive,
           clock_timestamp() - seen_at AS silent_for,
           (SELECT count(*) FROM jobs WHERE jobs.lease = workers.lease AND {RUNS_THERE}) AS running
    FROM workers ORDER BY is_alive DESC, name, started_at"""
)

# SQL: whether a job was sent, or stands in line for a slot; of those that wait, the others are held.
IS_READY = f"(status IN ({listed(WAITING)}) AND coalesce(hold = '{Hold.ORGANIZATION_LIMIT}', true))"
# Since when it has been so. Not since it was created: what it has waited for before, nobody could have shortened.
READY_SINCE = "coalesce(dispatched_at, updated_at)"

QUEUES = text(
    f"""
    WITH served AS (
        SELECT queue, count(*) AS workers, sum(concurrency) AS slots
        FROM workers CROSS JOIN LATERAL unnest(queues) AS consumed (queue)
        WHERE seen_at > clock_timestamp() - CAST(:lease_timeout AS interval)
        GROUP BY queue
    ), filled AS (
        SELECT queue, count(*) FILTER (WHERE status = '{Status.RUNNING}') AS running,
               count(*) FILTER (WHERE {IS_READY}) AS waiting,
               count(*) FILTER (WHERE NOT {IS_READY} AND status IN ({listed(WAITING)})) AS held,
               clock_timestamp() - min({READY_SINCE}) FILTER (WHERE {IS_READY}) AS oldest,
               sum(losses)::int AS losses
        FROM jobs WHERE status IN ({listed(ACTIVE)}) AND hold IS DISTINCT FROM '{Hold.EXTERNAL}'
        GROUP BY queue
    )
    SELECT coalesce(served.queue, filled.queue, paused_queues.queue) AS name, coalesce(workers, 0) AS workers,
           coalesce(slots, 0)::int AS slots, coalesce(running, 0) AS running, coalesce(waiting, 0) AS waiting,
           coalesce(held, 0) AS held, oldest, coalesce(losses, 0) AS losses, paused_by, reason, paused_at
    FROM served FULL JOIN filled ON served.queue = filled.queue
         FULL JOIN paused_queues ON paused_queues.queue = coalesce(served.queue, filled.queue)
    ORDER BY 1"""
)
