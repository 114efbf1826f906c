"""The advisory lock of the leading worker: it belongs to a database session, and ends with it."""

from __future__ import annotations

from sqlalchemy import Connection, text

LEADER_LOCK = 0x63656C65_72696163  # "celeriac"; any constant will do, it only has to be ours
SILENCE = text("SELECT set_config('idle_session_timeout', :milliseconds, false)")


def try_to_lead(connection: Connection) -> bool:
    """Take the lock, unless another session has it."""
    return bool(connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LEADER_LOCK}).scalar_one())


def is_led(connection: Connection) -> bool:
    """Whether some session has the lock."""
    return bool(connection.execute(HELD, {"high": LEADER_LOCK >> 32, "low": LEADER_LOCK & 0xFFFFFFFF}).scalar_one())


def lose_it_after(connection: Connection, silence: float) -> None:
    """Let PostgreSQL end the session, and the lock with it, after so many seconds without a statement."""
    connection.execute(SILENCE, {"milliseconds": str(round(1000 * silence))})


def resign(connection: Connection) -> None:
    """Give the lock back, if the session is still there."""
    if not connection.invalidated:
        connection.execute(SILENCE, {"milliseconds": "0"})
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LEADER_LOCK})


# How PostgreSQL shows the key of 64 bits, see its manual on pg_locks.
HELD = text(
    """
    SELECT EXISTS (SELECT FROM pg_locks
                   WHERE locktype = 'advisory' AND CAST(classid AS bigint) = :high AND CAST(objid AS bigint) = :low
                     AND objsubid = 1 AND granted
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""
)
