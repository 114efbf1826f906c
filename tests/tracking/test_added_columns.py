"""A migration adds columns while API and workers go on, whose connections have prepared their statements before."""

from __future__ import annotations

from psycopg.errors import FeatureNotSupported
from sqlalchemy import text

from tracking.db import Database
from tracking.rendered import statements
from tracking.schema import metadata
from tracking.sql import PARAMETER


def test_no_statement_minds_columns_that_are_added(database: Database) -> None:
    """A statement that was prepared goes on after a column was added to its tables: none returns whole rows."""
    names = {f"s{number}": name for number, (name, _) in enumerate(statements())}
    with database.autocommit() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        parameters = {short: _prepare(driver, short, sql) for short, (_, sql) in zip(names, statements(), strict=True)}
        for table in metadata.sorted_tables:
            connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN came_later int"))
        broken = [names[short] for short, given in parameters.items() if not _goes_on(driver, short, given)]
    assert broken == []


def _prepare(driver: object, short: str, sql: str) -> int:
    """Prepare a statement under this name; returns how many parameters it has."""
    names = list(dict.fromkeys(PARAMETER.findall(sql)))
    driver.execute(f"PREPARE {short} AS " + PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", sql))  # type: ignore[attr-defined]
    return len(names)


def _goes_on(driver: object, short: str, parameters: int) -> bool:
    """Whether PostgreSQL still plans it; nothing is executed."""
    given = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
    try:
        driver.execute(f"EXPLAIN EXECUTE {short}{given}")  # type: ignore[attr-defined]
    except FeatureNotSupported:  # cached plan must not change result type
        return False
    return True
