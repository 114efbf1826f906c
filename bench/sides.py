"""What is compared: the same no-op job as bare Celery, as Celery with its database result backend, and as Celeriac.

Celeriac's in two types: one like any other, and one whose jobs go to a process in bundles.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

from bench import variables
from bench.servers import Broker, Servers

CONCURRENCY = 2  # bodies at once of a worker; a solo one has its single body whatever is asked for


@dataclass(frozen=True)
class Workers:
    """So many workers of a side, each with a pool of that kind."""

    pool: str = "prefork"
    count: int = 1

    def __str__(self) -> str:
        of_each = "solo" if self.pool == "solo" else f"{self.pool} with {CONCURRENCY}"
        return of_each if self.count == 1 else f"{self.count} workers, each {of_each}"


# How many of the jobs are done, once each.
DONE_ROWS = text("""
    SELECT count(*) FROM jobs
    WHERE queue = :queue AND status = 'succeeded' AND attempt = 1 AND ARRAY['created', 'started', 'completed'] = (
        SELECT array_agg(event ORDER BY id) FROM history WHERE job_id = jobs.id)""")
# Celery's rows do not say the queue; their times are UTC without saying so.
DONE_RESULTS = text("""
    SELECT count(*) FROM celery_taskmeta
    WHERE status = 'SUCCESS' AND date_done >= to_timestamp(:since) AT TIME ZONE 'UTC'""")


@dataclass(frozen=True)
class Side:
    """One of the compared. `key` names it in reports and logs, `title` in the table, `handler` its task."""

    key: str
    title: str
    handler: str = "bench.noop"
    is_tracked: bool = False

    def environment(self, servers: Servers, broker: Broker, log_level: str) -> dict[str, str]:
        """What its processes need to know."""
        if self.is_tracked:
            return {
                "DATABASE_URL": servers.tracked_url,
                "BROKER_URL": broker.url,
                "CELERIAC_IMPORTS": "bench.handlers",
                "CELERIAC_DATA_DIR": str(servers.directory),
                "CELERIAC_LOG_LEVEL": log_level,
                # Celery has no such limit; under one, a queue of thousands would wait in the rows instead.
                "CELERIAC_ORGANIZATION_LIMIT": "0",
            }
        backend = f"db+{servers.results_url}" if self.key == "results" else ""
        return {variables.BROKER: broker.url, variables.RESULTS: backend}

    def worker(self, name: str, queue: str, log_level: str, pool: str) -> list[str]:
        """The command of a worker: `name` before the @, reading one queue."""
        if self.is_tracked:
            options = ["--queues", queue, "--concurrency", str(CONCURRENCY), "--name", name, "--pool", pool]
            return [sys.executable, "-m", "celeriac", "worker", *options]
        options = ["-Q", queue, "-c", str(CONCURRENCY), "-n", f"{name}@%h", "-l", log_level, "-P", pool]
        return [sys.executable, "-m", "celery", "-A", "bench.plain", "worker", *options]

    def filler(self, counts: Mapping[str, int]) -> list[str]:
        """The command that fills queues, each with so many jobs."""
        kind = "tracked" if self.is_tracked else "plain"
        wanted = [f"{queue}={count}" for queue, count in counts.items()]
        return [sys.executable, "-m", "bench.fill", kind, self.handler, *wanted]

    def database_url(self, servers: Servers) -> str | None:
        """The database that the side writes to; None for none."""
        return servers.tracked_url if self.is_tracked else {"results": servers.results_url}.get(self.key)

    def count_done(self, connection: Connection, queue: str, since: float) -> int:
        """How many jobs of the queue its database shows as done, once each; their bodies began at `since` or later."""
        ask = DONE_ROWS if self.is_tracked else DONE_RESULTS
        return int(connection.execute(ask, {"queue": queue, "since": since}).scalar_one())


BARE = Side("bare", "Celery, bare")
RESULT_BACKEND = Side("results", "Celery, db+postgresql results")
TRACKED = Side("tracked", "Celeriac, tracked", is_tracked=True)
BUNDLED = Side("bundled", "Celeriac, tracked, bundle=True", "bench.bundled", is_tracked=True)
SIDES = (BARE, RESULT_BACKEND, TRACKED, BUNDLED)
