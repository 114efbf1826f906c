"""Lines for many queues: what is asked of their workers is asked once for all queues that have the same ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text

from tests.tracked import ACME, Tracked
from tracking import workers
from tracking.admission import line
from tracking.admission.line import Ahead
from tracking.admission.rule import Limits
from tracking.db import Database
from tracking.reads.explain import explain

QUEUES = [f"queue-{number:02}" for number in range(60)]
FILL = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, queue, max_retries)
    SELECT gen_random_uuid(), organization, 'u1', 'kind', 'queued', 'organization_limit', queue, 3
    FROM unnest(CAST(:queues AS text[])) AS queue, unnest(ARRAY['acme', 'globex']) AS organization"""
READ = "SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'workers'"
FEW = 40  # rows that a look may read besides


@pytest.mark.parametrize("limits", [Limits(5), Limits(0)], ids=["limited", "unlimited"])
def test_what_a_line_costs_does_not_grow_with_the_queues_of_its_workers(
    pool: Database, tracked: Tracked, limits: Limits
) -> None:
    """Two workers share sixty queues, and both organizations wait in each: a look reads each worker once a queue."""
    registered = (QUEUES, QUEUES[:30])
    for queues in registered:
        workers.beat(tracked.connection, uuid4(), name="w", pid=1, queues=queues, concurrency=1)
    tracked.connection.execute(text(FILL), {"queues": QUEUES})
    find = text("SELECT id FROM jobs WHERE organization_id = 'acme' AND queue = :queue")
    last = tracked.connection.execute(find, {"queue": QUEUES[-1]}).scalar_one()
    looks: dict[str, Callable[[Connection], Any]] = {
        "admit": partial(line.admit, organization_id="acme", limits=limits, batch=100),
        "fill": partial(line.fill, freed={"acme": 1}, limits=limits, batch=100, ahead=Ahead(QUEUES, 4)),
        "with room": partial(line.with_room, limits=limits),
        "explain": partial(explain, job_id=last, scope=ACME, limits=limits),
    }
    read = {name: _read(pool, look) for name, look in looks.items()}
    most = len(QUEUES) * len(registered) + FEW
    assert {name: number for name, number in read.items() if number > most} == {}


def _read(pool: Database, look: Callable[[Connection], Any]) -> int:
    with pool.begin() as connection:
        before: int = connection.execute(text(READ)).scalar_one()
        look(connection)
        after: int = connection.execute(text(READ)).scalar_one()
        connection.rollback()
    return after - before
