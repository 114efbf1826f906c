"""What lets jobs through runs on indexes, however much is finished and however long the lines are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text

from tests.api.test_plans import FILL_HISTORY, _plans, _scanning
from tests.weeks import vacuum
from tracking.admission import circuits, holds, line, organizations, within
from tracking.admission.rule import Limits
from tracking.db import Database
from tracking.jobs.claim import CLAIM, HOLD_BACK
from tracking.jobs.settle import SUCCEED
from tracking.jobs.submit import SUBMIT, submission
from tracking.models import NewJob, Owner
from tracking.sql import array

# 100,000 finished jobs of 50 organizations; 10,000 in line in 10 of them, 800 behind each other gate, and 800 that wait
# for limits, with 20 keys.
FILL = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, queue, max_retries, progress,
                      depends_on, due_at, started_at, completed_at, created_at, updated_at, limit_key)
    SELECT id, 'org-' || CASE hold WHEN 'organization_limit' THEN n % 10 ELSE n % 50 END, 'user', 'type-' || n % 5,
           CASE WHEN hold IS NULL THEN 'succeeded' ELSE 'queued' END, hold, 'default', 3,
           CASE WHEN hold IS NULL THEN 100 ELSE 0 END,
           CASE hold WHEN 'dependency' THEN ARRAY[md5('wanted' || n % 50)::uuid] ELSE '{}' END,
           CASE hold WHEN 'schedule' THEN now() + interval '1 hour' END,
           CASE WHEN hold IS NULL THEN at END, CASE WHEN hold IS NULL THEN at END, at, at,
           CASE WHEN hold = 'limit' AND n % 3 > 0 THEN 'key-' || n % 20 END
    FROM generate_series(1, 114000) AS n,
         LATERAL (SELECT gen_random_uuid() AS id, now() - n * interval '1 second' AS at,
                         CASE WHEN n > 14000 THEN NULL WHEN n > 4000 THEN 'organization_limit'
                              ELSE (ARRAY['dependency', 'paused', 'circuit', 'schedule', 'limit'])[1 + n % 7 % 5]
                         END AS hold) AS new"""
FILL_WANTED = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, queue, max_retries)
    SELECT md5('wanted' || n)::uuid, 'org-' || n, 'user', 'wanted', 'queued', 'default', 3
    FROM generate_series(0, 49) AS n"""
FILL_PAUSES = "INSERT INTO pauses (job_type, paused_by) SELECT 'type-' || n, 'admin' FROM generate_series(0, 3) AS n"
FILL_CIRCUITS = """
    INSERT INTO circuits (job_type, organization_id, key, failures, pause, probe_at)
    SELECT 'type-' || n, '', '', 5, '1 minute', now() + interval '1 hour' * (n - 2) FROM generate_series(0, 3) AS n"""
FILL_LIMITS = """
    INSERT INTO job_limits (id, job_type, per, key_path, concurrency, rate, period, changed_by)
    SELECT gen_random_uuid(), 'type-' || n, per, CASE per WHEN 'key' THEN 'account' END, 5, 100, interval '1 second',
           'admin'
    FROM generate_series(0, 4) AS n, unnest(ARRAY['platform', 'organization', 'key']) AS per"""

FIVE = Limits(5)
SOME = UUID(int=1)
# The arrays of the verbs that change many jobs at once: of one.
ONE: dict[str, str | int | UUID | None] = {
    "id": SOME,
    "dispatch": 1,
    "place": 0,
    "worker": "w",
    "lease": None,
    "claim_id": SOME,
    "job_type": None,
    "attempt": 1,
    "result": None,
    "actor": "w",
}
OF_ONE = {name: array([value]) for name, value in ONE.items()}


def looks() -> Iterator[tuple[str, Callable[[Connection], Any]]]:
    """What is asked and done after every attempt, or again and again."""
    batch: dict[str, Any] = {"limits": FIVE, "batch": 100}
    yield "lift due", partial(holds.lift_due, **batch)
    yield "lift gated", partial(holds.lift_gated, **batch)
    yield "lift dependents of all", partial(holds.lift_dependents, **batch)
    yield "lift dependents of one", partial(holds.lift_dependents, **batch, job_id=SOME)
    yield "cancel dependents of all", partial(holds.cancel_dependents, batch=100)
    yield "cancel dependents of one", partial(holds.cancel_dependents, batch=100, job_id=SOME)
    yield "with room", partial(line.with_room, limits=FIVE)
    yield "admit", partial(line.admit, organization_id="org-4", **batch)
    yield "admit into gates", partial(line.admit, organization_id="org-1", **batch)
    yield "overbooked", partial(line.overbooked, limits=FIVE)
    yield "take back excess", partial(line.take_back_excess, organization_id="org-1", limits=FIVE)
    yield "take back unserved", partial(line.take_back_unserved, **batch)
    yield "set limit", partial(line.set_limit, organization_id="org-2", concurrency=3, actor="admin")
    yield "choose within limits", partial(within.choose, organization_id="org-1", parameters=FIVE.parameters, most=100)
    yield "count", partial(within.count, sent=[SOME])
    yield "within limits", partial(within.with_room, parameters=FIVE.parameters, most=100)
    yield "within shared limits", partial(within.with_room, parameters=FIVE.parameters, most=4, is_shared=True)
    yield "bounds", partial(within.bounds, job_id=SOME)
    yield "judge", circuits.judge
    yield "probe", partial(circuits.probe, limits=FIVE)
    yield "trip", partial(circuits.trip, job_id=SOME, failures=5, pause=timedelta(minutes=1))
    yield "organization", partial(organizations.get, organization_id="org-1", limits=FIVE)


@pytest.fixture
def filled(roomy: Database) -> Database:
    """Many finished jobs, long lines."""
    with roomy.autocommit() as connection:
        for statement in (FILL, FILL_WANTED, FILL_PAUSES, FILL_CIRCUITS, FILL_LIMITS, FILL_HISTORY):
            connection.execute(text(statement))
        vacuum(connection, "jobs", "history", "pauses", "circuits")
    return roomy


def test_no_look_of_admission_scans_the_tables(filled: Database) -> None:
    """No statement of admission scans a table."""
    plans: dict[str, list[str]] = {}
    times: dict[str, float] = {}
    with filled.begin() as connection:
        for name, sql in (("claim", CLAIM), ("hold back", HOLD_BACK), ("succeed", SUCCEED)):
            plans[name] = [_plan(connection, sql, OF_ONE)]
        new = NewJob(uuid4(), Owner("org-1", "user"), "another", "default", depends_on=[SOME])
        plans["submit"] = [_plan(connection, SUBMIT, {**submission(new), **FIVE.parameters})]
        for name, look in looks():
            began = time.monotonic()
            plans[name] = _plans(connection, look)
            times[name] = 1000 * (time.monotonic() - began) / max(1, len(plans[name]))  # of a statement
        for name, organization_id in (("admit", "org-4"), ("admit into gates", "org-1")):
            others = {"within": [SOME], "ahead": 10, "queues": array(["default"])}
            values = {"organizations": array([organization_id]), "batch": 100, **others, **FIVE.parameters}
            plans[name].append(_plan(connection, line.ADMIT, values))
    figures = {name: f"{spent:.1f} ms" for name, spent in times.items()}
    print(figures)  # noqa: T201 - worth a look (pytest -rP)
    assert _scanning(plans) == {}
    assert max(times.values()) < 2000, figures


def _plan(connection: Connection, sql: str, values: dict[str, Any]) -> str:
    driver: Any = connection.connection.driver_connection
    return "\n".join(line for (line,) in driver.execute(f"EXPLAIN {sql}", values).fetchall())
