"""What the tables of schema.py are made of."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import DateTime, Index, MetaData, Table, text

metadata = MetaData()

EMPTY_OBJECT = text("'{}'::jsonb")
INSTANT = DateTime(timezone=True)


def one_of(column: str, values: type[StrEnum] | tuple[str, ...]) -> str:
    """SQL: whether a column is one of these words."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


def vacuumed_after(dead_rows: int) -> dict[str, str]:
    """Have a table vacuumed after so many dead rows, and without pauses: the default waits for a fifth of all rows."""
    return {
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": str(dead_rows),
        "autovacuum_vacuum_cost_delay": "0",
    }


def columns_of(table: Table, name: str = "") -> str:
    """SQL: all columns of a table, which is called `name` there, one by one.

    A statement that returns `*` is refused on every connection that has prepared it as soon as a migration adds one.
    """
    return ", ".join(f"{name or table.name}.{column.name}" for column in table.columns)


def once_by_key(table: str) -> Index:
    """The same Idempotency-Key of the same user is the same row."""
    return Index(
        f"{table}_idempotency",
        "organization_id",
        "user_id",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key IS NOT NULL"),
    )
