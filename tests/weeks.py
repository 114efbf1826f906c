"""The weeks of the history: some that are over, and what a vacuum that nobody asked for leaves out."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, exists, select, text
from sqlalchemy import table as table_clause

from tracking import partitions
from tracking.partitions import DEFAULT, WEEK, Partition

NOW = text("SELECT now()")


def add_weeks(connection: Connection, count: int) -> list[Partition]:
    """Partitions of so many weeks before those that are there, the oldest first."""
    first = partitions.partitions(connection)[0].since
    assert first is not None
    for number in range(count):
        partitions.add(connection, first - (count - number) * WEEK)
    return list(partitions.partitions(connection)[:count])


def ago(connection: Connection, age: timedelta) -> datetime:
    """That time by the clock of the database."""
    now: datetime = connection.execute(NOW).scalar_one()
    return now - age


def vacuum(connection: Connection, *tables: str) -> None:
    """As the database does by itself: of the history, the partitions that have rows."""
    for table in tables:
        parts = [DEFAULT, *(each.name for each in partitions.partitions(connection))] if table == "history" else [table]
        for name in parts:
            if connection.execute(select(exists().select_from(table_clause(name)))).scalar_one():
                connection.execute(text(f"VACUUM ANALYZE {name}"))
