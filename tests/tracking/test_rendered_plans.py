"""The plan of every statement of rendered.sql, as a session keeps it from the time when the tables were empty."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from bench.scale import fill
from bench.scale.fill import FINISHED, WEEKS, Size
from tests.tracking.test_admission_plans import FILL_CIRCUITS, FILL_PAUSES
from tests.weeks import vacuum
from tracking.db import Connection, Database
from tracking.rendered import statements
from tracking.sql import PARAMETER

SMALL, LARGE = Size(1000, 100), Size(25_000, 100)
IN_LINE = 1000  # a small part of the large table: whoever asks for all that is not finished should not read the rest
# Pages of a table, or more: a smaller one, such as a week that has just begun, may be read whole.
FILLED = 100
SCAN = re.compile(r"Seq Scan on (jobs|history\w*)\b")
LARGE_TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relpages > %(pages)s"


@pytest.fixture
def session(roomy: Database) -> Iterator[Any]:
    """A session that has prepared every statement while the tables were empty, without values."""
    with roomy.autocommit() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("SET plan_cache_mode = force_generic_plan")
        for number, (_name, sql) in enumerate(statements()):
            driver.execute(f"PREPARE kept_{number} AS {numbered(sql)}")
            plan(driver, number, sql)
        yield driver
        driver.execute("DEALLOCATE ALL; RESET plan_cache_mode")


def numbered(sql: str) -> str:
    """A statement with its parameters as the database numbers them."""
    names = list(dict.fromkeys(PARAMETER.findall(sql)))
    return PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", sql)


def plan(driver: Any, number: int, sql: str) -> str:
    """The plan that the session has of a statement."""
    given = ", ".join("NULL" for _ in set(PARAMETER.findall(sql)))
    return "\n".join(row[0] for row in driver.execute(f"EXPLAIN EXECUTE kept_{number}{given and f'({given})'}"))


def scanning(driver: Any) -> dict[str, set[str]]:
    """The statements that read whole tables that are not small, and which of jobs and of nearly all weeks."""
    large = {row[0] for row in driver.execute(LARGE_TABLES, {"pages": FILLED})}
    assert "jobs" in large
    assert len(large) >= WEEKS, large
    plans = {name: plan(driver, number, sql) for number, (name, sql) in enumerate(statements())}
    found = {name: large & set(SCAN.findall(of_it)) for name, of_it in plans.items()}
    return {name: tables for name, tables in found.items() if tables}


def prepare(connection: Connection) -> None:
    """Have some pauses and circuits, as statements join them."""
    for statement in (FILL_PAUSES, FILL_CIRCUITS):
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql("VACUUM ANALYZE pauses, circuits")


def add_finished(connection: Connection, size: Size) -> None:
    """Finished jobs, with their history, beside those that are there; and what a database finds out by itself."""
    given = {"first": 0, "last": size.jobs - 1, "jobs": size.jobs, "organizations": size.organizations}
    connection.execute(text(FINISHED), given)
    vacuum(connection, "jobs", "history")


def test_no_statement_that_was_planned_on_empty_or_small_tables_scans_large_ones(
    roomy: Database, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that has planned every statement on empty tables, and on small ones, scans no large table."""
    monkeypatch.setattr(fill, "IN_LINE", IN_LINE)
    fill.fill(roomy, SMALL, lambda _: None)
    with roomy.autocommit() as connection:
        prepare(connection)
        for number, (name, sql) in enumerate(statements()):
            assert "cost=" in plan(session, number, sql), name
        add_finished(connection, LARGE)
    assert scanning(session) == {}
