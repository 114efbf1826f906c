"""Every read runs on an index, however long the history is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, event, text

from tests.weeks import vacuum
from tracking import groups, jobs, retention
from tracking.admission import holds, organizations
from tracking.admission.rule import Limits
from tracking.db import Database
from tracking.jobs.settle import ABANDONED_STOPS, ORPHANS
from tracking.models import EVERYWHERE, Scope
from tracking.reads import explain, lists
from tracking.reads.answers import Filters
from tracking.reads.overview import overview
from tracking.retention import Policy
from tracking.settings import settings
from tracking.states import Status

# 40 organizations of 500 jobs each: 9 of 10 finished, over ten days.
FILL = """
    INSERT INTO jobs (id, organization_id, user_id, project_id, job_type, status, queue, max_retries,
                      progress, payload, group_id, lease, dispatched_at, started_at, completed_at, created_at)
    SELECT gen_random_uuid(), 'org-' || n % 40, 'user-' || n / 40 % 10, 'project-' || n / 40 % 20,
           'type-' || n / 40 % 5, status, 'default', 3, CASE status WHEN 'succeeded' THEN 100 ELSE 0 END,
           jsonb_build_object('text', repeat('x', 200)), CASE WHEN n % 100 = 0 THEN 'group-' || n END,
           CASE status WHEN 'running' THEN gen_random_uuid() END, at, at,
           CASE WHEN status IN ('succeeded', 'failed', 'cancelled') THEN at END, at
    FROM generate_series(0, 19999) AS n,
         LATERAL (SELECT now() - n * interval '43 seconds' AS at,
                         (ARRAY['queued', 'running', 'succeeded', 'failed', 'cancelled', 'succeeded', 'succeeded',
                                'succeeded', 'succeeded', 'succeeded'])[CASE WHEN n / 40 % 10 = 0 THEN 1 + n / 400 % 2
                                                                        ELSE 3 + n % 8 END] AS status) AS varied"""
FILL_HISTORY = """
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt, dispatch,
                         actor)
    SELECT id, organization_id, user_id, job_type, 'created', CASE n WHEN 2 THEN 'running' END,
           CASE n WHEN 1 THEN 'queued' ELSE status END, 0, 1, 'user'
    FROM jobs, generate_series(1, 2) AS n"""
FILL_WORKERS = """
    INSERT INTO workers (lease, name, pid, queues, concurrency)
    VALUES (gen_random_uuid(), 'worker-1', 1, ARRAY['default'], 4)"""

# Of two of these organizations all waiting jobs are held.
HOLD = """
    UPDATE jobs SET hold = CASE organization_id WHEN 'org-5' THEN 'organization_limit' ELSE 'dependency' END,
                    dispatched_at = NULL,
                    depends_on = CASE organization_id WHEN 'org-5' THEN '{}' ELSE ARRAY[gen_random_uuid(), id] END
    WHERE organization_id IN ('org-5', 'org-6') AND status = 'queued'"""
EXPLAINED = """
    SELECT DISTINCT ON (status, hold) concat_ws(' ', status, hold), id, organization_id FROM jobs"""

NOW = datetime.now(UTC)
USER = Scope("org-1", "user-1")
ORGANIZATION = Scope("org-1", None)
FILTERS = {
    "none": Filters(),
    "status": Filters(statuses=(Status.FAILED,)),
    "active": Filters(statuses=(Status.QUEUED, Status.RUNNING)),
    "type": Filters(job_type="type-1"),
    "failed of a type": Filters(job_type="type-1", statuses=(Status.FAILED,)),
    "active of a type": Filters(job_type="type-1", statuses=(Status.QUEUED, Status.RUNNING)),
    "project": Filters(project_id="project-1"),
    "user": Filters(user_id="user-1"),
    "created": Filters(created_from=NOW - timedelta(days=1), created_to=NOW),
    "completed": Filters(completed_from=NOW - timedelta(days=1), completed_to=NOW),
    "search": Filters(search="x%_"),
    "search for a type": Filters(search="e-1"),
    "search for an id": Filters(search="019aa0f3-7c1e"),
    "qualified search": Filters(search="status:failed error:word type:type-1"),
}
SCOPES = {"of a user": USER, "of an organization": ORGANIZATION, "everywhere": EVERYWHERE}


def reads(cursor: str, job_id: UUID) -> Iterator[tuple[str, Callable[[Connection], Any]]]:
    """Every read with each of its filters."""
    for whose, scope in SCOPES.items():
        yield f"get {whose}", partial(lists.get, job_id=job_id, scope=scope)
        yield f"recent {whose}", partial(lists.recent, scope=scope, limit=100)
        yield f"recent of a type {whose}", partial(lists.recent, scope=scope, limit=100, job_type="type-1")
        yield f"recent of a project {whose}", partial(lists.recent, scope=scope, limit=100, project_id="project-1")
        yield f"stats {whose}", partial(lists.stats, scope=scope)
        yield f"stats of a project {whose}", partial(lists.stats, scope=scope, project_id="project-1")
        for name, filters in FILTERS.items():
            given: dict[str, Any] = {"scope": scope, "filters": filters}
            yield f"page {whose} by {name}", partial(lists.page, **given, number=2, size=50)
            yield f"after {whose} by {name}", partial(lists.after, **given, cursor=cursor, size=50)
            yield f"finished {whose} by {name}", partial(lists.finished, **given, cursor=cursor, size=50)
    yield "overview", partial(overview, window=timedelta(hours=1))
    yield "find", partial(lists.find, job_id=job_id)
    yield "timeline", partial(lists.timeline, job_id=job_id)
    yield "group results", partial(groups.results, group_id="group-100")


def explanations(connection: Connection) -> Iterator[tuple[str, Callable[[Connection], Any]]]:
    """Why a job of each status and hold is where it is; the organization that it belongs to."""
    for name, job_id, organization in connection.execute(text(EXPLAINED)).all():
        given: dict[str, Any] = {"scope": Scope(organization, None), "limits": Limits(5)}
        yield f"explain {name}", partial(explain.explain, job_id=job_id, **given)
    yield "organization", partial(organizations.get, organization_id="org-5", limits=Limits(5))


def upkeep() -> Iterator[tuple[str, Callable[[Connection], Any]]]:
    """What the platform itself looks for, again and again."""
    yield "due", partial(holds.lift_due, limits=Limits(5), batch=100)
    yield "undispatched", partial(jobs.undispatched, older_than=timedelta(seconds=5), limit=100)
    limits = {"timeout": timedelta(seconds=20), "limit": 100}
    yield "orphans", lambda connection: connection.execute(ORPHANS, limits).all()
    kept = Policy(dict.fromkeys(Status, timedelta(days=5)))
    yield "prune", partial(retention.prune, policy=kept, limit=200, dry_run=True)
    yield "abandoned stops", lambda connection: connection.execute(ABANDONED_STOPS, limits).all()


@pytest.fixture
def filled(database_url: str) -> Iterator[Database]:
    """20,000 jobs and 40,000 rows of history; filling may take longer than a statement of the platform."""
    database = Database(database_url, settings().model_copy(update={"statement_timeout": 120}))
    with database.autocommit() as connection:
        for statement in (FILL, FILL_HISTORY, FILL_WORKERS, HOLD):
            connection.execute(text(statement))
        vacuum(connection, "jobs", "history")
    yield database
    database.close()


def test_no_read_scans_the_tables(filled: Database) -> None:
    """No read of the API scans a table, whatever its filters."""
    with filled.autocommit() as connection:
        page = lists.page(connection, USER, number=1, size=10)
        assert page.next_cursor is not None
        plans = {name: _plans(connection, read) for name, read in reads(page.next_cursor, page.jobs[0].id)}
    assert _scanning(plans) == {}


def test_no_explanation_scans_the_tables(filled: Database) -> None:
    """No explanation scans a table, whatever the job waits for."""
    with filled.autocommit() as connection:
        plans = {name: _plans(connection, read) for name, read in explanations(connection)}
    assert len(plans) == 8
    assert _scanning(plans) == {}


def test_no_look_of_upkeep_scans_the_tables(filled: Database) -> None:
    """No statement of upkeep scans a table."""
    with filled.autocommit() as connection:
        plans = {name: _plans(connection, look) for name, look in upkeep()}
    assert _scanning(plans) == {}


def _scanning(plans: dict[str, list[str]]) -> dict[str, list[str]]:
    assert all(plans.values())
    return {
        name: of_read
        for name, of_read in plans.items()
        if any(f"Seq Scan on {table}" in plan for plan in of_read for table in ("jobs", "history"))
    }


def _plans(connection: Connection, read: Callable[[Connection], Any]) -> list[str]:
    """The plans of the statements that a read executes."""
    with _recorded(connection) as executed:
        read(connection)
    return ["\n".join(connection.exec_driver_sql(f"EXPLAIN {sql}", given).scalars()) for sql, given in executed]


@contextmanager
def _recorded(connection: Connection) -> Iterator[list[tuple[str, Any]]]:
    executed: list[tuple[str, Any]] = []

    def record(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        executed.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", record)
    try:
        yield executed
    finally:
        event.remove(connection, "before_cursor_execute", record)
