"""The clock that all times are of: the database's."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, text


def at_present(connection: Connection) -> datetime:
    """The time now."""
    now: datetime = connection.execute(NOW).scalar_one()
    return now


NOW = text("SELECT clock_timestamp()")
