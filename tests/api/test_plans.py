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
from tracking import fingerprints, groups, jobs, retention
from tracking.admission import holds, organizations, queue_pauses
from tracking.admission.rule import Limits
from tracking.db import Database
from tracking.jobs.settle import ABANDONED_STOPS, ORPHANS
from tracking.models import EVERYWHERE, Scope
from tracking.operations.begin import MOST_JOBS, preview
from tracking.reads import explain, failures, lists, past, unserved
from tracking.reads.answers import Filters
from tracking.reads.failures import Standing
from tracking.reads.matching import chosen
from tracking.reads.measured import measured
from tracking.reads.overview import overview
from tracking.retention import Policy
from tracking.schema import jobs as table
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

PRINT = """
    UPDATE jobs SET error_message = 'fault ' || chr(97 + abs(hashtext(id::text)) % 20),
                    fingerprint = error_fingerprint(job_type, NULL, 'fault ' || chr(97 + abs(hashtext(id::text)) % 20))
    WHERE status = 'failed'"""

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
    "error": Filters(error="0123456789abcdef"),
    "error of a type": Filters(error="0123456789abcdef", job_type="type-1"),
    "then": Filters(as_of=NOW - timedelta(hours=1)),
    "failed then": Filters(as_of=NOW - timedelta(hours=1), statuses=(Status.FAILED,)),
    "active then": Filters(as_of=NOW - timedelta(hours=1), statuses=(Status.QUEUED, Status.RUNNING)),
    "of a type then": Filters(as_of=NOW - timedelta(hours=1), statuses=(Status.QUEUED,), job_type="type-1"),
    "qualified search": Filters(search="status:failed error:word type:type-1"),
    "queue": Filters(search="queue:default"),
    "worker": Filters(search="worker:worker-1"),
    "priority": Filters(search="priority:>=1"),
    "payload": Filters(search="payload.account:42"),
    "payload of a type": Filters(search="type:type-1 payload.account:42"),
    "payload of an error": Filters(search="payload.account:42 some words"),
    "payload then": Filters(search="payload.account:42", as_of=NOW - timedelta(hours=1)),
    "searched group of errors": Filters(search="error:0123456789abcdef"),
}
SCOPES = {"of a user": USER, "of an organization": ORGANIZATION, "everywhere": EVERYWHERE}


def reads(cursor: str, job_id: UUID) -> Iterator[tuple[str, Callable[[Connection], Any]]]:
    """Every read with each of its filters."""
    for whose, scope in SCOPES.items():
        yield f"get {whose}", partial(lists.get, job_id=job_id, scope=scope)
        yield f"recent {whose}", partial(lists.recent, scope=scope, limit=100)
        yield f"recent of a type {whose}", partial(lists.recent, scope=scope, limit=100, job_type="type-1")
        yield f"stats {whose}", partial(lists.stats, scope=scope)
        # With a lease of no time every queue is without a worker: that is the look that reads jobs.
        yield f"queues without a worker {whose}", partial(unserved.queues, scope=scope, lease_timeout=timedelta(0))
        yield f"pauses of queues {whose}", partial(queue_pauses.holding, scope=scope)
        yield f"stats of a project {whose}", partial(lists.stats, scope=scope, project_id="project-1")
        if not scope.is_everywhere:
            yield f"stats then {whose}", partial(past.stats, scope=scope, at=NOW, window=timedelta(hours=1))
        for name, filters in FILTERS.items():
            given: dict[str, Any] = {"scope": scope, "filters": filters}
            yield f"page {whose} by {name}", partial(lists.page, **given, number=2, size=50)
            yield f"after {whose} by {name}", partial(lists.after, **given, cursor=cursor, size=50)
            yield f"preview {whose} by {name}", partial(preview, **given)
            yield f"begin {whose} by {name}", partial(_taken, **given)
            yield f"finished {whose} by {name}", partial(lists.finished, **given, cursor=cursor, size=50)
        given = {"scope": scope, "window": timedelta(days=30), "standing": Standing.OPEN, "size": 100}
        yield f"errors {whose}", partial(failures.groups, **given)
        yield f"errors of a type {whose}", partial(failures.groups, **given, job_type="type-1")
    yield "overview", partial(overview, window=timedelta(hours=1))
    yield "find", partial(lists.find, job_id=job_id)
    yield "timeline", partial(lists.timeline, job_id=job_id)
    yield "group results", partial(groups.results, group_id="group-100")


def _taken(connection: Connection, scope: Scope, filters: Filters) -> None:
    columns = [table.c.id, table.c.job_type, table.c.external]
    connection.execute(chosen(connection, scope, filters, columns, MOST_JOBS + 1)).all()


def explanations(connection: Connection) -> Iterator[tuple[str, Callable[[Connection], Any]]]:
    """Why a job of each status and hold is where it is; the organization that it belongs to."""
    for name, job_id, organization in connection.execute(text(EXPLAINED)).all():
        given: dict[str, Any] = {"scope": Scope(organization, None), "limits": Limits(5)}
        yield f"explain {name}", partial(explain.explain, job_id=job_id, **given)
    yield "organization", partial(organizations.get, organization_id="org-5", limits=Limits(5))


def upkeep() -> Iterator[tuple[str, Callable[[Connection], Any]]]:
    """What the platform itself looks for, again and again."""
    yield "fingerprints", partial(fingerprints.take, limit=100)
    yield "due", partial(holds.lift_due, limits=Limits(5), batch=100)
    yield "undispatched", partial(jobs.undispatched, older_than=timedelta(seconds=5), limit=100)
    limits = {"timeout": timedelta(seconds=20), "limit": 100}
    yield "orphans", lambda connection: connection.execute(ORPHANS, limits).all()
    kept = Policy(dict.fromkeys(Status, timedelta(days=5)))
    yield "prune", partial(retention.prune, policy=kept, limit=200, dry_run=True)
    yield "metrics", partial(measured, lease_timeout=timedelta(seconds=20))
    yield "abandoned stops", lambda connection: connection.execute(ABANDONED_STOPS, limits).all()


@pytest.fixture
def filled(roomy: Database) -> Database:
    """20,000 jobs and 40,000 rows of history."""
    with roomy.autocommit() as connection:
        for statement in (FILL, FILL_HISTORY, FILL_WORKERS, HOLD, PRINT):
            connection.execute(text(statement))
        vacuum(connection, "jobs", "history")
    return roomy


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
