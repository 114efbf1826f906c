"""Organizations that have reached their own limit: the leader, who looks at all of them, soon leaves them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text

from tests.tracked import Tracked
from tracking import workers
from tracking.admission import line, within
from tracking.admission.rule import Limits
from tracking.db import Database

ORGANIZATIONS = 30
KINDS = [f"kind-{number:02}" for number in range(20)]  # of each organization, each with a queue of its own
MOST = 5  # probes of an index for each organization
OF_ONE = 5 * len(KINDS)  # and for the one that has a slot left
ONE = Limits(1)
LOOKS: dict[str, Callable[[Connection], Any]] = {
    "limit": partial(within.with_room, parameters=ONE.parameters, most=100),
    "organization_limit": partial(line.with_room, limits=ONE),
}
FILL = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, queue, max_retries, limit_key)
    SELECT gen_random_uuid(), 'org-' || n, 'u1', kind, 'queued', :hold, kind, 3, CASE :hold WHEN 'limit' THEN '' END
    FROM generate_series(1, :organizations) AS n, unnest(CAST(:kinds AS text[])) AS kind"""
RUNNING = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, queue, max_retries, dispatched_at, started_at,
                      created_at)
    SELECT gen_random_uuid(), 'org-' || n, 'u1', 'kind', 'running', 'default', 3, now(), now(), now()
    FROM generate_series(2, :organizations) AS n"""
PROBES = text("SELECT coalesce(idx_scan, 0) FROM pg_stat_xact_user_tables WHERE relname = 'jobs'")


@pytest.mark.parametrize("hold", LOOKS)
def test_what_an_organization_without_a_slot_costs_does_not_grow_with_its_kinds_of_jobs(
    pool: Database, tracked: Tracked, hold: str
) -> None:
    """Of each organization the slots in use are counted first; where none is left, nothing is asked of what waits."""
    workers.beat(tracked.connection, uuid4(), name="w", pid=1, queues=KINDS, concurrency=1000)
    about = {"organizations": ORGANIZATIONS, "kinds": KINDS, "hold": hold}
    tracked.connection.execute(text(FILL), about)
    assert len(_look(pool, hold)[0]) == ORGANIZATIONS
    tracked.connection.execute(text(RUNNING), about)
    found, probes = _look(pool, hold)
    in_lines = ORGANIZATIONS * len(KINDS) if hold == "organization_limit" else 0  # which are found by their queues
    assert (found, probes <= in_lines + MOST * ORGANIZATIONS + OF_ONE) == (["org-1"], True), probes


def _look(pool: Database, hold: str) -> tuple[list[str], int]:
    with pool.begin() as connection:
        before: int = connection.execute(PROBES).scalar_one()
        found: list[str] = LOOKS[hold](connection)
        return found, connection.execute(PROBES).scalar_one() - before
