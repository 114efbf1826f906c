"""What `celeriac verify` says of rows, and rows that have lived through everything."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import text

from tests.tracked import SITUATIONS, Tracked, wish
from tracking import jobs
from tracking.admission.rule import UNLIMITED, Limits
from tracking.db import Database
from tracking.models import Progress
from tracking.reads.invariants import CHECKS, Finding, verify

NAMES = [check.name for check in CHECKS]


def broken(database: Database, limits: Limits = UNLIMITED) -> dict[str, int | None]:
    """What does not hold, with the number of violations."""
    return {finding.name: finding.violations for finding in findings(database, limits) if not finding.holds}


def findings(database: Database, limits: Limits = UNLIMITED, **options: Any) -> list[Finding]:
    """What verify finds, where succeeded jobs are kept for 30 days."""
    return list(verify(database, limits, kept=timedelta(days=30), **options))


def live_through_everything(tracked: Tracked, times: int) -> None:
    """Jobs in every situation, some of which went through more than it takes to get there."""
    for number in range(times):
        for situation in SITUATIONS:
            tracked.put_into(situation)
        again = tracked.start(tracked.retry(tracked.put_into("failed")))
        jobs.report(tracked.connection, Progress(again.fence, again.attempt, percent=40))
        jobs.report(tracked.connection, Progress(again.fence, again.attempt, percent=30))
        tracked.end(tracked.start(tracked.end(tracked.start(tracked.submit()), "released")))
        tracked.end(tracked.start(tracked.end(tracked.start(tracked.submit()), "lost")))
        tracked.start(tracked.retry(tracked.put_into("cancelled")))
        jobs.claim(tracked.connection, [wish(tracked.run().fence)])
        jobs.fail_waiting(tracked.connection, tracked.submit().fence, actor="upkeep", error_type="E", message="m")
        stopping = tracked.put_into("stopping")
        jobs.stopped(tracked.connection, stopping.fence, actor="worker-1", how="at a step")
        tracked.submit(idempotency_key=f"k{number}", request_hash="h")


OLD_WORKER = """
    INSERT INTO workers (lease, name, pid, queues, concurrency, started_at)
    VALUES (gen_random_uuid(), 'worker-1', 1, '{default}', 2, clock_timestamp() - interval '1 hour')"""


def a_worker_runs_them(tracked: Tracked) -> None:
    """One that has lived for an hour runs what runs."""
    tracked.connection.execute(text(OLD_WORKER))
    tracked.connection.execute(text("UPDATE jobs SET lease = (SELECT lease FROM workers) WHERE status = 'running'"))


def an_hour_passes(tracked: Tracked) -> None:
    for table, columns in AGING.items():
        aged = ", ".join(f"{column} = {column} - interval '1 hour'" for column in columns)
        tracked.connection.execute(text(f"UPDATE {table} SET {aged}"))  # noqa: S608 - of our own names


AGING = {
    "jobs": ("created_at", "started_at", "completed_at", "updated_at", "due_at"),
    "history": ("at",),
    "organizations": ("changed_at",),
}
