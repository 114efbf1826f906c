"""What every statement reads where the database has not looked at its tables yet, as when a platform is new."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.sql import Literal
from sqlalchemy import make_url

from tests.crowded import as_superuser, crowd, forget, look_at
from tests.servers import Servers, new_database, patient
from tests.tracking.test_rendered_plans import numbered
from tracking.db import BY_INDEX
from tracking.rendered import statements
from tracking.sql import PARAMETER

MANY = 500  # elements of an array, as the leader takes them at once
PATIENCE = 30  # seconds, of a statement: the platform has 4, but with statistics some take as long where all is busy
TIMES_MORE, BESIDES = 5, 10_000  # pages that a statement may read without statistics, of those that it reads with them
TOO_LONG = "statement timeout"
ENDLESS = 1 << 40  # pages
NOT_TRIED = 40  # statements that refuse such values, of 344: mostly inserts of one row

IDS = """
    (SELECT id FROM jobs WHERE status = 'queued' ORDER BY id LIMIT :many / 2)
    UNION ALL (SELECT id FROM jobs WHERE status = 'running' ORDER BY id LIMIT :many / 2)"""
ONE_OF = {
    "schedules/": "SELECT id FROM schedules ORDER BY id LIMIT 1",
    "workflows/": "SELECT id FROM workflows ORDER BY id LIMIT 1",
    "operations/": "SELECT id FROM operations WHERE state = 'running' ORDER BY id LIMIT 1",
    "": "SELECT id FROM jobs WHERE organization_id = 'org-0' AND hold = 'organization_limit' ORDER BY id LIMIT 1",
}
# By name, where one of the type would not do.
WORDS = {
    "organization_id": "org-0",
    "user_id": "user-1",
    "job_type": "type-1",
    "queue": "default",
    "status": "queued",
    "group_id": "group-1",
    "limit_key": "key-1",
    "standing": "open",
    "action": "cancel",
    "state": "running",
    "outcome": "succeeded",
    "timezone": "UTC",
    "pattern": "%x%",
    "kind": "succeeded",
    "circuit_key": "",
    "after": "",
} | dict.fromkeys(("project_id", "idempotency_key", "whose", "slices", "worker"))
LISTS = {
    "queues": ["default"],
    "job_types": [f"type-{n}" for n in range(15)],
    "groups": [f"group-{n}" for n in range(100)],
    "statuses": ["queued", "running"],
    "depends_when": [None] * MANY,
    "job_type": ["type-1"] * MANY,
} | {name: [f"org-{n}" for n in range(MANY)] for name in ("organization_id", "organizations", "organization_ids")}
NUMBERS = dict.fromkeys(("limit", "batch", "most"), MANY) | {"size": 100, "after": 0, "most_counted": 10_000}
SPANS = {"window": "30 days", "age": "0", "kept": "5 days", "older_than": "0"}
BY_TYPE: dict[str, Any] = {
    "boolean": True,
    "jsonb": "{}",
    "double precision": 1.0,
    "bytea": b"x",
    "timestamp with time zone": "2026-11-01Z",
    "interval": "20 seconds",
    "text": "x",
    "uuid": None,
    **dict.fromkeys(("integer", "bigint", "smallint"), 5),
}


class Trying:
    """Every statement of rendered.sql with values that fit, in a database; nothing of what they do is kept."""

    def __init__(self, driver: psycopg.Connection[Any], ids: list[Any], ones: dict[str, Any]) -> None:
        self._driver = driver
        self._ids = ids
        self._ones = ones
        self.refused: set[str] = set()

    def all(self) -> dict[str, int]:
        """The pages that each of them reads; those that take too long read very many."""
        tried = {name: self._pages(number, name, sql) for number, (name, sql) in enumerate(statements())}
        return {name: pages for name, pages in tried.items() if pages is not None}

    def _pages(self, number: int, name: str, sql: str) -> int | None:
        try:
            with self._driver.transaction(force_rollback=True):
                self._driver.execute(f"PREPARE tried_{number} AS {numbered(sql)}")
                explained = (
                    f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE tried_{number}{self._given(number, name, sql)}"
                )
                [[plan]] = self._driver.execute(explained).fetchone() or [[{}]]
        except psycopg.Error as error:
            if TOO_LONG in str(error):
                return ENDLESS
            self.refused.add(name)
            return None
        return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])

    def _given(self, number: int, name: str, sql: str) -> str:
        asked = "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = %s"
        [types] = self._driver.execute(asked, [f"tried_{number}"]).fetchone() or [[]]
        names = list(dict.fromkeys(PARAMETER.findall(sql)))
        values = [self._value(name, each, of) for each, of in zip(names, types, strict=True)]
        literals = ", ".join("NULL" if each is None else Literal(each).as_string(self._driver) for each in values)
        return literals and f"({literals})"

    def _value(self, statement: str, name: str, of: str) -> Any:
        if of == "uuid[]":
            return self._ids
        if of == "uuid":
            first = "00000000-0000-0000-0000-000000000000"
            return first if name == "after" else self._one(statement)
        if of == "text[]":
            return LISTS.get(name, ["x"] * MANY)
        if of.endswith("[]"):
            return [BY_TYPE.get(of[:-2])] * MANY
        by_name: dict[str, dict[str, Any]] = {
            "text": WORDS,
            "interval": SPANS,
            **dict.fromkeys(("integer", "bigint"), NUMBERS),
        }
        return by_name.get(of, {}).get(name, BY_TYPE.get(of))

    def _one(self, statement: str) -> Any:
        return next(value for place, value in self._ones.items() if statement.startswith(place))


@pytest.fixture(scope="module")
def crowded(servers: Servers) -> Iterator[str]:
    """A database to copy, in which everything waits for something."""
    with new_database(servers) as url:
        database = patient(url)
        crowd(database)
        database.close()
        yield str(make_url(url).database)


@contextmanager
def connected(url: str, plans: str) -> Iterator[Trying]:
    """On a connection as the platform's."""
    options = f"{BY_INDEX} -c statement_timeout={PATIENCE}s -c timezone=UTC -c plan_cache_mode={plans}"
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True, options=options) as driver:
        ids = [row[0] for row in driver.execute(IDS.replace(":many", str(MANY)))]
        ones = {place: (driver.execute(one).fetchone() or [None])[0] for place, one in ONE_OF.items()}
        yield Trying(driver, ids, ones)


@pytest.mark.parametrize("plans", ["auto", "force_generic_plan"])
def test_no_statement_reads_much_more_where_the_database_knows_nothing_of_its_tables(
    servers: Servers, crowded: str, plans: str
) -> None:
    """Without statistics, each statement reads about as much as with them, and ends in the time that it has."""
    read = []
    for deeds in ([look_at], [look_at, forget]):
        with new_database(servers, crowded) as url:
            as_superuser(url, *deeds)
            with connected(url, plans) as trying:
                read.append(trying.all())
            assert len(trying.refused) < NOT_TRIED, sorted(trying.refused)
    with_statistics, without = read
    worse = {
        name: (with_statistics[name], pages)
        for name, pages in without.items()
        if pages > TIMES_MORE * with_statistics[name] + BESIDES
    }
    assert worse == {}
