"""The queues in which jobs of a scope stand that nobody takes: no living worker consumes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, text

from tracking.models import Scope
from tracking.schema import COMPETES, IN_FLIGHT
from tracking.sql import SCOPE, listed, own
from tracking.states import WAITING, Hold

MOST_COUNTED = 1_000


@dataclass(frozen=True, slots=True)
class Unserved:
    """A queue without a worker, how many jobs wait for one, MOST_COUNTED at most, and the types of these."""

    queue: str
    waiting: int
    types: Sequence[str]

    @property
    def is_capped(self) -> bool:
        return self.waiting == MOST_COUNTED


def queues(connection: Connection, scope: Scope, lease_timeout: timedelta) -> Sequence[Unserved]:
    """By name; those in which only others' jobs wait are left out."""
    given = {**scope.parameters, "lease_timeout": lease_timeout, "most": MOST_COUNTED}
    return [Unserved(**row._mapping) for row in connection.execute(UNSERVED, given)]  # noqa: SLF001 - a public name


_IN_LINE = f"{own()} AND hold = '{Hold.ORGANIZATION_LIMIT}'"

# The queues of the line are walked from one to the next, since a line may have a million jobs.
UNSERVED = text(
    f"""
    WITH RECURSIVE lines (queue) AS (
        SELECT min(queue) FROM jobs WHERE {_IN_LINE}
        UNION ALL
        SELECT (SELECT min(jobs.queue) FROM jobs WHERE {_IN_LINE} AND jobs.queue > lines.queue)
        FROM lines WHERE lines.queue IS NOT NULL
    ), filled (queue) AS (
        SELECT queue FROM lines WHERE queue IS NOT NULL
        UNION
        SELECT queue FROM jobs WHERE {own()} AND {IN_FLIGHT} AND status IN ({listed(WAITING)}) AND hold IS NULL
    ), deserted (queue) AS MATERIALIZED (
        SELECT queue FROM filled
        WHERE NOT EXISTS (SELECT FROM workers
                          WHERE seen_at > clock_timestamp() - CAST(:lease_timeout AS interval)
                            AND filled.queue = ANY (workers.queues))
    )
    SELECT deserted.queue, found.waiting, found.types
    FROM deserted, LATERAL (
        SELECT count(*) AS waiting, coalesce(array_agg(DISTINCT job_type), ARRAY[]::text[]) AS types
        FROM (SELECT job_type FROM jobs
              WHERE {SCOPE} AND jobs.queue = deserted.queue AND {COMPETES} LIMIT :most) AS standing
    ) AS found
    WHERE found.waiting > 0
    ORDER BY deserted.queue"""
)
