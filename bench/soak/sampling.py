"""One sample of everything that could grow: processes, connections, tables, and how late live events are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import psutil
from sqlalchemy import func, select, text

from bench.chaos.members import Member
from bench.chaos.world import World
from bench.soak.judging import Measure
from tracking.db import Database
from tracking.reads.tail import Tail
from tracking.schema import jobs
from tracking.states import ACTIVE

MIB = 1 << 20
LATEST = 10.0  # seconds that live events are waited for
MEMORY = (0.08, 8.0)  # an allocator gives back what it likes

BY_DATABASE = (
    Measure("connections to the database", "", 0.0, 4),
    Measure("jobs that are not finished", "", 0.5, 150),  # a burst, and some
    Measure("dead rows of a hundred, jobs", "%", 0.2, 15),
    Measure("dead rows of a hundred, other tables", "%", 0.2, 15),
    Measure("jobs and their indexes, a row", "B", 0.05, 0),
    Measure("history and its indexes, a row", "B", 0.05, 0),
    Measure("live events are late", "ms", 0.5, 200),
)


def sample(world: World) -> dict[Measure, float]:
    """What all processes and tables take at this moment, by measure."""
    found = dict(_of_processes(world))
    with world.database.autocommit() as connection:
        row = connection.execute(TABLES).one()
        active = connection.execute(select(func.count()).where(jobs.c.status.in_(ACTIVE))).scalar_one()
    values = (row.connections, active, row.dead_jobs, row.dead_others, row.of_jobs, row.of_history)
    return found | dict(zip(BY_DATABASE, (*map(float, values), _lag(world.database) * 1000), strict=True))


def _of_processes(world: World) -> Iterator[tuple[Measure, float]]:
    members = {"API": world.api, "broker": world.broker_server}
    members |= {f"worker {number}": worker for number, worker in enumerate(world.workers, 1)}
    for name, member in members.items():
        main, children = _family(member)
        yield Measure(f"memory of {name}", "MiB", *MEMORY), main.memory_info().rss / MIB
        if name != "broker":
            yield Measure(f"descriptors of {name}", "", 0.1, 4), float(main.num_fds())
            yield Measure(f"threads of {name}", "", 0.0, 3), float(main.num_threads())
        if name.startswith("worker"):
            yield Measure(f"memory of the processes of {name}", "MiB", *MEMORY), sum(map(_memory, children)) / MIB


def _family(member: Member) -> tuple[psutil.Process, list[psutil.Process]]:
    main = psutil.Process(member.pid)
    return main, main.children(recursive=True)


def _memory(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):  # replaced meanwhile
        return float(process.memory_info().rss)
    return 0.0


def _lag(database: Database) -> float:
    """Seconds until all that was being written when it began can be read, as `celeriac doctor` has it."""
    tail, began = Tail(), time.monotonic()
    with database.autocommit() as connection:
        while tail.position is None and time.monotonic() < began + LATEST:
            tail.poll(connection)
    return time.monotonic() - began


TABLES = text(
    """
    WITH parts AS (
        SELECT relid FROM pg_partition_tree('history')
    ), tables AS (
        SELECT relname, n_dead_tup AS dead, n_live_tup AS live, pg_total_relation_size(relid) AS size,
               relid IN (SELECT relid FROM parts) AS is_history
        FROM pg_stat_user_tables
    )
    SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections,
           coalesce(sum(100 * dead) FILTER (WHERE relname = 'jobs')
             / greatest(1, sum(live + dead) FILTER (WHERE relname = 'jobs')), 0) AS dead_jobs,
           coalesce(sum(100 * dead) FILTER (WHERE relname <> 'jobs')
             / greatest(1, sum(live + dead) FILTER (WHERE relname <> 'jobs')), 0) AS dead_others,
           coalesce(sum(size) FILTER (WHERE relname = 'jobs') / (SELECT greatest(1, count(*)) FROM jobs), 0) AS of_jobs,
           coalesce(sum(size) FILTER (WHERE is_history) / (SELECT greatest(1, count(*)) FROM history), 0) AS of_history
    FROM tables"""
)
