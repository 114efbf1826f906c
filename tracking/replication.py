"""How far a standby is behind: positions in the write-ahead log, in bytes since its beginning."""

from __future__ import annotations

from sqlalchemy import Connection, text


def written(connection: Connection) -> int:
    """What the server has written. Raises DBAPIError on a standby, which writes nothing."""
    return int(connection.execute(WRITTEN).scalar_one())


def replayed(connection: Connection) -> int | None:
    """What a standby shows of it; None: this server is none."""
    position = connection.execute(REPLAYED).scalar_one()
    return None if position is None else int(position)


WRITTEN = text("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")

# Of a server that was promoted it says what it had replayed until then.
REPLAYED = text("SELECT CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0') END")
