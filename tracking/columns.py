"""What the tables of schema.py are made of."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import DateTime, MetaData, text

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
