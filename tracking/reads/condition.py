"""What the database says of its own condition: its version, who holds up the tail of the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Condition:
    """The server's version as it says it, and whether it takes writes; its clock; the size of the database in bytes."""

    version: str
    is_writable: bool
    is_standby: bool
    now: datetime
    size: int
    connections: int
    most_connections: int


@dataclass(frozen=True, slots=True)
class Writer:
    """A transaction that has written history, or events, and is not over: readers of the tail wait for it."""

    pid: int
    user: str
    program: str
    state: str
    since: timedelta


def condition(connection: Connection) -> Condition:
    """How the database is."""
    return Condition(**connection.execute(CONDITION).one()._mapping)  # noqa: SLF001 - a public name


def writers(connection: Connection) -> Sequence[Writer]:
    """Who writes history or events now, longest first."""
    return [Writer(**row._mapping) for row in connection.execute(WRITERS)]  # noqa: SLF001 - as above


CONDITION = text(
    """
    SELECT current_setting('server_version') AS version,
           NOT pg_is_in_recovery() AND NOT current_setting('transaction_read_only')::bool AS is_writable,
           pg_is_in_recovery() AS is_standby,
           clock_timestamp() AS now, pg_database_size(current_database()) AS size,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
           current_setting('max_connections')::int AS most_connections"""
)
WRITERS = text(
    """
    SELECT activity.pid, coalesce(activity.usename, '') AS user, coalesce(activity.application_name, '') AS program,
           coalesce(activity.state, '') AS state, clock_timestamp() - activity.xact_start AS since
    FROM pg_locks AS held JOIN pg_stat_activity AS activity USING (pid)
    WHERE held.locktype = 'relation' AND held.relation IN (CAST('history' AS regclass), CAST('events' AS regclass))
      AND held.granted
      AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND held.mode = 'RowExclusiveLock' AND activity.pid <> pg_backend_pid()
    ORDER BY activity.xact_start"""
)
