"""Canvas groups: how many members must succeed before a chord's body runs, and how their results belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from tracking.schema import groups, jobs
from tracking.states import Status


def begin(connection: Connection, group_ids: Sequence[str]) -> None:
    """Record that the first member of each of these groups is being sent; their sizes are not known yet."""
    if group_ids:
        rows = [{"id": group_id} for group_id in sorted(group_ids)]
        connection.execute(insert(groups).on_conflict_do_nothing(index_elements=["id"]), rows)


def is_begun(connection: Connection, group_id: str) -> bool:
    """Whether a member of the group was sent."""
    return connection.execute(select(groups.c.id).where(groups.c.id == group_id)).first() is not None


def set_size(connection: Connection, group_id: str, size: int) -> None:
    """Record the number of members; it is known when the last one is about to be submitted."""
    _put(connection, group_id, size=size)


def grow(connection: Connection, group_id: str) -> None:
    """Let the body wait for one more member."""
    statement = insert(groups).values(id=group_id, added=1)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["id"], set_={"added": groups.c.added + 1}),
    )


def size(connection: Connection, group_id: str) -> int | None:
    """The number of members; None while it is not known."""
    statement = select(groups.c.size + groups.c.added).where(groups.c.id == group_id)
    return connection.execute(statement).scalar_one_or_none()


def save(connection: Connection, group_id: str, saved: Any) -> None:
    """Keep a group's result, in Celery's tuple form: `[[id, parent], [the same of each member]]`."""
    _put(connection, group_id, saved=saved)


def restore(connection: Connection, group_id: str) -> Any:
    """What was saved of a group; None when nothing was."""
    return connection.execute(select(groups.c.saved).where(groups.c.id == group_id)).scalar_one_or_none()


def forget(connection: Connection, group_id: str) -> None:
    """Keep the saved result no longer."""
    connection.execute(groups.update().where(groups.c.id == group_id).values(saved=None))


def lock(connection: Connection, group_id: str) -> None:
    """Let one member of the group settle at a time until the transaction ends: exactly one of them is the last."""
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(group_id, 0))))


def results(connection: Connection, group_id: str) -> list[Any] | None:
    """The results of a complete group, with their types, in the shape of its header; None while one is missing."""
    succeeded = (jobs.c.group_id == group_id, jobs.c.status == Status.SUCCEEDED)
    # Each member asks, and all but the last one get their answer from an index.
    if connection.execute(select(func.count()).where(*succeeded)).scalar() != size(connection, group_id):
        return None
    statement = (
        select(jobs.c.id, func.coalesce(jobs.c.typed_result, jobs.c.result).label("result"))
        .where(*succeeded)
        .order_by(jobs.c.group_index, jobs.c.id)
    )
    members = {row.id: row.result for row in connection.execute(statement)}
    saved = restore(connection, group_id)
    return list(members.values()) if saved is None else _shaped(saved, members)


def _shaped(saved: Any, members: dict[UUID, Any]) -> Any:
    """The results of the members, nested like the saved group."""
    (identifier, _), children = saved
    return members.get(UUID(identifier)) if children is None else [_shaped(child, members) for child in children]


def _put(connection: Connection, group_id: str, **values: Any) -> None:
    statement = insert(groups).values(id=group_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))
