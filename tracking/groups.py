"""Canvas groups with a chord: how many members there are, so that the last one to succeed can start the body."""

from __future__ import annotations

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from tracking.schema import groups


def set_size(connection: Connection, group_id: str, size: int) -> None:
    """Record the number of members; it is known when the last one is about to be submitted."""
    statement = insert(groups).values(id=group_id, size=size)
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"size": size}))


def size(connection: Connection, group_id: str) -> int | None:
    """The number of members; None while it is not known."""
    return connection.execute(select(groups.c.size).where(groups.c.id == group_id)).scalar_one_or_none()


def lock(connection: Connection, group_id: str) -> None:
    """Let one member of the group settle at a time until the transaction ends, so that one of them is the last."""
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(group_id, 0))))
