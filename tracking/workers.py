"""The workers' signs of life: one row for each worker process group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, any_, delete, func, literal, select
from sqlalchemy.dialects.postgresql import insert

from tracking.schema import workers


@dataclass(frozen=True, slots=True)
class Worker:
    """One row of `workers`. `lease` is new at every start; `seen_at` is its last heartbeat."""

    lease: UUID
    name: str
    pid: int
    queues: tuple[str, ...]
    concurrency: int
    started_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Serving:
    """Of the living workers: how many consume a queue, and whether one that was asked for is among them."""

    consumers: int
    is_alive: bool


def beat(
    connection: Connection, lease: UUID, *, name: str, pid: int, queues: Sequence[str], concurrency: int
) -> datetime:
    """Say that this worker lives, what it consumes now, and how many bodies it can run. Returns the time.

    The first beat registers it.
    """
    now, offer = func.clock_timestamp(), {"queues": list(queues), "concurrency": concurrency}
    statement = (
        insert(workers)
        .values({"lease": lease, "name": name, "pid": pid, **offer})
        .on_conflict_do_update(index_elements=["lease"], set_={"seen_at": now, **offer})
        .returning(now)
    )
    at: datetime = connection.execute(statement).scalar_one()
    return at


def leave(connection: Connection, lease: UUID) -> None:
    """Remove this worker's row; the jobs that it still ran are released at the next look."""
    connection.execute(delete(workers).where(workers.c.lease == lease))


def live(connection: Connection, lease_timeout: timedelta) -> Sequence[Worker]:
    """The workers seen within `lease_timeout`."""
    statement = select(workers).where(_is_seen(lease_timeout)).order_by(workers.c.name)
    return [
        Worker(row.lease, row.name, row.pid, tuple(row.queues), row.concurrency, row.started_at, row.seen_at)
        for row in connection.execute(statement)
    ]


def is_any_live(connection: Connection, lease_timeout: timedelta) -> bool:
    """Whether a worker was seen within `lease_timeout`."""
    seen = select(workers.c.lease).where(_is_seen(lease_timeout))
    return connection.execute(seen.limit(1)).first() is not None


def served_queues(connection: Connection, lease_timeout: timedelta) -> frozenset[str]:
    """The queues that workers consume which were seen within `lease_timeout`."""
    consumed = select(func.unnest(workers.c.queues)).distinct()
    return frozenset(connection.execute(consumed.where(_is_seen(lease_timeout))).scalars())


def live_names(connection: Connection, lease_timeout: timedelta, *, most: int) -> Sequence[str]:
    """The names of the workers that were seen within `lease_timeout`, the first `most` of them in order."""
    names = select(workers.c.name).distinct().order_by(workers.c.name).limit(most)
    return connection.execute(names.where(_is_seen(lease_timeout))).scalars().all()


def serving(connection: Connection, queue: str, lease: UUID | None, lease_timeout: timedelta) -> Serving:
    """How many living workers consume a queue, and whether the one with this lease lives; None: there is none."""
    statement = select(
        func.count().filter(literal(queue) == any_(workers.c.queues)).label("consumers"),
        func.count().filter(workers.c.lease == lease).label("with_lease"),
    ).where(_is_seen(lease_timeout))
    row = connection.execute(statement).one()
    return Serving(row.consumers, is_alive=row.with_lease > 0)


def forget_dead(connection: Connection, unseen_for: timedelta) -> None:
    """Remove the rows of workers that have been silent for `unseen_for`."""
    connection.execute(delete(workers).where(workers.c.seen_at < func.clock_timestamp() - unseen_for))


def _is_seen(within: timedelta) -> ColumnElement[bool]:
    return workers.c.seen_at > func.clock_timestamp() - within
