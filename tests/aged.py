"""Jobs that came to their end long ago, and the removal of a batch of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.tracked import Tracked
from tracking.db import Database
from tracking.models import JobRecord
from tracking.retention import Kind, Policy, Pruned, prune
from tracking.states import Status

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
POLICY = Policy({Status.SUCCEEDED: 30 * DAY, Status.FAILED: 90 * DAY, Status.CANCELLED: 90 * DAY})
ENDS = [("succeeded", 30 * DAY), ("failed", 90 * DAY), ("cancelled", 90 * DAY)]


def removed(pool: Database, limit: int | None = None, policy: Policy = POLICY, *, dry_run: bool = False) -> Pruned:
    """One batch, in a transaction of its own."""
    with pool.begin() as connection:
        return prune(connection, policy, limit=limit, dry_run=dry_run)


def aged(tracked: Tracked, situation: str, age: timedelta, **changes: Any) -> JobRecord:
    """A job that came to its end that long ago."""
    return tracked.finished_ago(tracked.bring(tracked.submit(**changes), situation), age)


def kind(situation: str, job_type: str = "count_words") -> Kind:
    return Kind(job_type, Status(situation))
