"""What the leader cleans up by itself, and how it last went: schedules of the platform's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from tracking.columns import columns_of
from tracking.schedule_tables import clean_ups


@dataclass(frozen=True, slots=True)
class CleanUp:
    """One row of `clean_ups`. `removed`: rows; None: it has failed, and `error` says why."""

    name: str
    every_seconds: int
    began_at: datetime
    ended_at: datetime
    removed: int | None
    error: str | None

    @property
    def next_at(self) -> datetime:
        """When it looks again, about."""
        return self.ended_at + timedelta(seconds=self.every_seconds)


def note(
    connection: Connection, name: str, every_seconds: float, took: timedelta, *, removed: int | None, error: str | None
) -> None:
    """Write how it went just now."""
    parameters = {
        "name": name,
        "every_seconds": round(every_seconds),
        "took": took,
        "removed": removed,
        "error": error,
    }
    connection.execute(NOTE, parameters)


def every(connection: Connection) -> Sequence[CleanUp]:
    """All of them, by name."""
    return [CleanUp(**row._mapping) for row in connection.execute(ALL)]  # noqa: SLF001 - a public name


NOTE = text(
    """
    INSERT INTO clean_ups (name, every_seconds, began_at, removed, error)
    VALUES (:name, :every_seconds, clock_timestamp() - CAST(:took AS interval), :removed, :error)
    ON CONFLICT (name) DO UPDATE
    SET every_seconds = excluded.every_seconds, began_at = excluded.began_at, ended_at = clock_timestamp(),
        removed = excluded.removed, error = excluded.error"""
)

ALL = text(f"SELECT {columns_of(clean_ups)} FROM clean_ups ORDER BY name")
