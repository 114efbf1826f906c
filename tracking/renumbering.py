"""Numbers that no event had before the database was restored: `Last-Event-ID` would name another event otherwise."""

from __future__ import annotations

from sqlalchemy import Connection, text

AHEAD = 1_000_000_000  # events that may have happened since the backup; 2^53, JavaScript's last integer, is far


def renumber(connection: Connection) -> int:
    """Let the next event have a number that none had. Streams that resume behind an earlier one are told to begin anew.

    Returns the last number before it. Wants a transaction, and the role that owns the tables.
    """
    number = int(connection.execute(RENUMBER, {"ahead": AHEAD}).scalar_one())
    connection.execute(NOTE, {"number": number})
    return number


RENUMBER = text(
    """
    SELECT setval(sequence, coalesce(pg_sequence_last_value(sequence), 0) + :ahead)
    FROM CAST(pg_get_serial_sequence('history', 'id') AS regclass) AS sequence"""
)

# Of no organization: of all of them.
NOTE = text("INSERT INTO removals (organization_id, last_id) VALUES (NULL, :number)")
