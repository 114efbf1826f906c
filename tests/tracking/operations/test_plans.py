"""A bulk operation on what a search finds reads what it finds, however many other jobs the organization has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, text

from tests.servers import Servers, new_database, patient
from tests.weeks import vacuum
from tracking.db import Database
from tracking.models import EVERYWHERE, Scope
from tracking.operations.begin import MOST_JOBS, preview
from tracking.reads.answers import Filters
from tracking.reads.matching import chosen
from tracking.schema import jobs
from tracking.states import Status

ROWS = 60_000
RARE = 60
MOST_READ = 2_000  # rows
FILL = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, queue, max_retries, error_type, error_message,
                      started_at, completed_at, created_at)
    SELECT gen_random_uuid(), CASE WHEN n % 10 = 0 THEN 'other' ELSE 'acme' END, 'u1',
           CASE WHEN n % 1000 = 1 THEN 'import_orders' ELSE 'type-' || n % 7 END, 'failed', 'default', 3,
           'ValueError', CASE WHEN n % 1000 = 2 THEN 'the quota of import is used up' ELSE 'timed out after ' || n END,
           at, at, at
    FROM generate_series(1, :rows) AS n, LATERAL (SELECT now() - n * interval '5 seconds' AS at) AS varied"""
SEARCHES = {
    "words in types and errors": (Filters(search="import"), 2 * RARE),
    "words in errors": (Filters(search="quota"), RARE),
    "words among failed ones": (Filters(search="quota", statuses=(Status.FAILED,)), RARE),
    "a type": (Filters(job_type="import_orders"), RARE),
    "a qualified type": (Filters(search="type:import_orders"), RARE),
    "the beginning of an id": (Filters(search="019aa0f3-7c1e"), 0),
}
COLUMNS = [jobs.c.id, jobs.c.job_type, jobs.c.external]


@pytest.fixture(scope="module")
def filled(servers: Servers) -> Iterator[Database]:
    """Tens of thousands of failed jobs of one organization, of which a search finds few."""
    with new_database(servers) as url:
        database = patient(url)
        with database.autocommit() as connection:
            connection.execute(text(FILL), {"rows": ROWS})
            vacuum(connection, "jobs")
        yield database
        database.close()


@pytest.mark.parametrize("scope", [Scope("acme", None), Scope("acme", "u1"), EVERYWHERE], ids=str)
@pytest.mark.parametrize("search", SEARCHES)
def test_what_a_search_does_not_find_is_not_read(filled: Database, scope: Scope, search: str) -> None:
    """The jobs of an operation are found by the index of each part of a search, each job once."""
    filters, expected = SEARCHES[search]
    with filled.autocommit() as connection:
        statement = chosen(connection, scope, filters, COLUMNS, MOST_JOBS + 1)
        found = connection.execute(statement).all()
        assert len(found) == len({row.id for row in found}) == expected
        assert preview(connection, scope, filters)[0] == expected
        compiled = statement.compile(connection.engine, compile_kwargs={"render_postcompile": True})
        assert _read(connection, compiled) < MOST_READ


def _read(connection: Connection, compiled: Any) -> int:
    """How many rows of jobs a statement reads."""
    explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}", compiled.params).scalar_one()
    [plan] = explained if isinstance(explained, list) else json.loads(explained)
    return sum(_rows(plan["Plan"]))


def _rows(node: dict[str, Any]) -> Iterator[int]:
    if node.get("Relation Name") == "jobs":
        removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        yield int((node["Actual Rows"] + removed) * node["Actual Loops"])
    for child in node.get("Plans", ()):
        yield from _rows(child)
