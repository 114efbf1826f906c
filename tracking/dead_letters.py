"""Messages that no worker could run, set aside where they can be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from tracking.schema import dead_letters
from tracking.values import bounded

BODY_BYTES = 64 * 1024
REASON_BYTES = 1024
NAME_BYTES = 255
HEADER_BYTES = 1024
HEADERS = 40  # a task message of Celery's has about twenty

# They repeat the arguments, which belong into the body alone.
QUOTING_HEADERS = frozenset({"argsrepr", "kwargsrepr"})


@dataclass(frozen=True, slots=True)
class NewDeadLetter:
    """A message to set aside; whatever is too long in it is cut when it is kept.

    `receipt` is new for every message, so that keeping it can be repeated. `task_name` and `task_id` None: not
    readable. `body`: its beginning, of `size` bytes in all; None: not kept.
    """

    receipt: UUID
    queue: str
    worker: str
    reason: str
    task_name: str | None = None
    task_id: str | None = None
    content_type: str | None = None
    headers: Mapping[str, Any] | None = None
    body: bytes | None = None
    size: int = 0
    redelivered: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was set aside. `body` holds its first 64 KiB of `size` bytes; None: not kept."""

    id: int
    at: datetime
    queue: str
    worker: str
    reason: str
    task_name: str | None
    task_id: str | None
    content_type: str | None
    headers: dict[str, Any]
    body: bytes | None
    size: int
    redelivered: bool


def keep(connection: Connection, letter: NewDeadLetter) -> None:
    """Set a message aside; the same receipt again changes nothing."""
    row = {
        "receipt": letter.receipt,
        "queue": bounded(letter.queue, NAME_BYTES),
        "worker": bounded(letter.worker, NAME_BYTES),
        "reason": bounded(letter.reason, REASON_BYTES),
        "task_name": _name(letter.task_name),
        "task_id": _name(letter.task_id),
        "content_type": _name(letter.content_type),
        "headers": shortened(letter.headers or {}),
        "body": None if letter.body is None else letter.body[:BODY_BYTES],
        "size": letter.size,
        "redelivered": letter.redelivered,
    }
    connection.execute(insert(dead_letters).values(row).on_conflict_do_nothing(index_elements=["receipt"]))


def newest(connection: Connection, limit: int) -> Sequence[DeadLetter]:
    """The messages set aside last, newest first."""
    statement = select(*_columns()).order_by(dead_letters.c.id.desc()).limit(limit)
    return [DeadLetter(*row) for row in connection.execute(statement)]


def find(connection: Connection, letter_id: int) -> DeadLetter | None:
    """One message that was set aside; None when there is none of this number."""
    row = connection.execute(select(*_columns()).where(dead_letters.c.id == letter_id)).one_or_none()
    return DeadLetter(*row) if row is not None else None


def count(connection: Connection) -> int:
    """How many messages are set aside."""
    return connection.execute(select(func.count()).select_from(dead_letters)).scalar_one()


def forget(connection: Connection, older_than: timedelta) -> int:
    """Delete the letters that are older; returns how many those were."""
    statement = delete(dead_letters).where(dead_letters.c.at < func.now() - older_than)
    return connection.execute(statement).rowcount


def shortened(headers: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a message's headers: plain values, cut, and nothing that repeats the arguments."""
    kept = [(name, value) for name, value in headers.items() if name not in QUOTING_HEADERS][:HEADERS]
    return {bounded(str(name), NAME_BYTES): _scalar(value) for name, value in kept}


def _columns() -> list[ColumnElement[Any]]:
    return [dead_letters.c[name] for name in DeadLetter.__dataclass_fields__]


def _name(text: str | None) -> str | None:
    return None if text is None else bounded(text, NAME_BYTES)


def _scalar(value: Any) -> Any:
    """What can be stored of a header; what is not a plain value may hold anything, and is only named."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return bounded(value, HEADER_BYTES)
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    return f"({type(value).__name__})"
