"""Which queues are paused: nothing of them starts, whoever has sent it. A queue is the platform's, and no tenant's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select, text
from sqlalchemy.dialects.postgresql import insert

from tracking import audit
from tracking.audit import Deed
from tracking.audited import Action
from tracking.limit_tables import paused_queues
from tracking.models import Scope
from tracking.origins import Origin
from tracking.sql import SCOPE
from tracking.states import Hold


@dataclass(frozen=True, slots=True)
class QueuePause:
    """One row of `paused_queues`."""

    queue: str
    paused_by: str
    reason: str | None
    paused_at: datetime


def pause(connection: Connection, *, queue: str, actor: str, reason: str | None, origin: Origin | None = None) -> bool:
    """From now on no job of the queue starts; running ones go on. False when it was paused already: it stays so.

    With an `origin` it wants a transaction, for the entry in the audit.
    """
    values = {"queue": queue, "paused_by": actor, "reason": reason}
    statement = insert(paused_queues).values(values).on_conflict_do_nothing().returning(paused_queues.c.paused_at)
    if connection.execute(statement).first() is None:
        return False
    why = {"reason": reason} if reason else {}
    audit.write(connection, origin, Deed(Action.PAUSE_QUEUE, actor, None, queue, detail=why))
    return True


def resume(connection: Connection, *, queue: str, actor: str, origin: Origin | None = None) -> bool:
    """End that pause. False when there was none. With an `origin` it wants a transaction, like `pause`."""
    ended = delete(paused_queues).where(paused_queues.c.queue == queue).returning(paused_queues.c.paused_at)
    if connection.execute(ended).first() is None:
        return False
    audit.write(connection, origin, Deed(Action.RESUME_QUEUE, actor, None, queue))
    return True


def of(connection: Connection, queue: str) -> QueuePause | None:
    """The pause of a queue; None: it is not paused."""
    row = connection.execute(select(paused_queues).where(paused_queues.c.queue == queue)).first()
    return QueuePause(**row._mapping) if row is not None else None  # noqa: SLF001 - a public name


def holding(connection: Connection, scope: Scope) -> Sequence[QueuePause]:
    """The pauses of queues for whose end jobs of this scope wait, by name."""
    return [QueuePause(**row._mapping) for row in connection.execute(HOLDING, scope.parameters)]  # noqa: SLF001 - public


HOLDING = text(
    f"""
    SELECT queue, paused_by, reason, paused_at FROM paused_queues
    WHERE EXISTS (SELECT FROM jobs WHERE {SCOPE} AND hold = '{Hold.PAUSED}' AND jobs.queue = paused_queues.queue)
    ORDER BY queue"""
)
