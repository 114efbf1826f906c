"""Ending a job before its own end, and what becomes of its body meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from tracking.errors import IllegalMove, JobNotFound
from tracking.jobs.each import Applied, apply, applying
from tracking.models import Cancelled, Fence, Scope
from tracking.origins import Origin, origin_parameter
from tracking.sql import ACTOR, JOB, ORIGIN, WITHIN_SCOPE, logged, move, record
from tracking.states import Event, Status


@dataclass(frozen=True, slots=True)
class StoppingBody:
    """A job that was cancelled so long ago and whose body is not over; `seen_for` None: its worker may not know."""

    fence: Fence
    requested_for: timedelta
    seen_for: timedelta | None


def cancel(
    connection: Connection,
    job_id: UUID,
    scope: Scope,
    *,
    actor: str,
    reason: str | None = None,
    origin: Origin | None = None,
) -> Cancelled:
    """End a job that is not finished. Raises JobNotFound (also for somebody else's) or IllegalMove."""
    parameters = {"id": job_id, "actor": actor, "reason": reason, **scope.parameters, **origin_parameter(origin)}
    row = connection.execute(CANCEL, parameters).first()
    if row is None:
        raise _why_not(connection, job_id, scope)
    return cancelled_row(row)


def cancel_each(
    connection: Connection, job_ids: Sequence[UUID], scope: Scope, *, actor: str, reason: str | None, operation: UUID
) -> Applied:
    """End those of the jobs that are not finished, for a bulk operation."""
    parameters = {"actor": actor, "reason": reason, "operation": operation}
    return apply(connection, CANCEL_EACH, job_ids, parameters, facts=IN_SCOPE, why_not=_refusal, scope=scope)


def cancel_dispatch(connection: Connection, fence: Fence, *, actor: str, reason: str) -> Cancelled | None:
    """Cancel the job whose current dispatch this is, whatever its owner. None when that is over already."""
    parameters = {**fence.parameters, "actor": actor, "reason": reason}
    row = connection.execute(CANCEL_DISPATCH, parameters).first()
    return cancelled_row(row) if row is not None else None


def expire(connection: Connection, fence: Fence, *, actor: str) -> Cancelled | None:
    """Cancel a job whose time is over by its row. None when it is not, or this dispatch of it is over already."""
    row = connection.execute(EXPIRE, {**fence.parameters, "actor": actor, "reason": "expired"}).first()
    return cancelled_row(row) if row is not None else None


def stopping(connection: Connection, lease: UUID) -> list[StoppingBody]:
    """The cancelled jobs whose bodies a worker has not ended yet."""
    rows = connection.execute(STOPPING, {"lease": lease})
    return [StoppingBody(Fence(row.id, row.dispatch), row.requested_for, row.seen_for) for row in rows]


def seen(connection: Connection, fence: Fence, *, actor: str) -> bool:
    """Record that the worker of a cancelled job has heard of it. False when it had before, or the body is over."""
    return connection.execute(SEEN, {**fence.parameters, "actor": actor}).first() is not None


def stopped(connection: Connection, fence: Fence, *, actor: str, how: str) -> bool:
    """Record that the body of a cancelled job is over. False when nobody waits for that."""
    return connection.execute(STOPPED, {**fence.parameters, "actor": actor, "how": how}).first() is not None


def cancelled_row(row: Any) -> Cancelled:
    """What a cancel has changed, as a value."""
    return Cancelled(record(row), was_running=row.from_status == Status.RUNNING and not row.external)


def refused_row(job_id: UUID, known: Any) -> Any:
    """What is known of a job that a verb did not change. Raises JobNotFound, or IllegalMove while it is stopping."""
    if known is None:
        raise JobNotFound
    if known.stopping:
        raise IllegalMove(f"the job {job_id} was cancelled and its body is still stopping", retry_after=2)
    return known


def _why_not(connection: Connection, job_id: UUID, scope: Scope) -> IllegalMove:
    return _refusal(job_id, connection.execute(IN_SCOPE, {"ids": [job_id], **scope.parameters}).first())


def _refusal(job_id: UUID, known: Any) -> IllegalMove:
    known = refused_row(job_id, known)
    return IllegalMove(f"the job {job_id} is {known.status}: it is finished and cannot be cancelled")


_CHANGE = f"""hold = NULL, due_at = NULL, stopping = from_status = '{Status.RUNNING}' AND NOT external,
            cancel_requested_at = clock_timestamp(), cancel_seen_at = NULL, completed_at = clock_timestamp()"""
_DETAIL = f"jsonb_build_object('by', {ACTOR}, 'reason', CAST(:reason AS text))"


def cancelling(which: str, origin: str = "NULL") -> TextClause:
    """The cancel of a job that is not finished, by `:actor` for `:reason`; `which` finds one row."""
    return text(
        move(
            Event.CANCELLED,
            _CHANGE,
            _DETAIL,
            find=which,
            to=Status.CANCELLED,
            origin=origin,
        )
    )


CANCEL = cancelling(f"id = :id AND {WITHIN_SCOPE}", ORIGIN)
CANCEL_EACH = text(applying(Event.CANCELLED, _CHANGE, _DETAIL, guard=WITHIN_SCOPE, to=Status.CANCELLED))

# Without a scope: for a worker, of the message that it has.
CANCEL_DISPATCH = cancelling("id = :id AND dispatch = :dispatch")
EXPIRE = cancelling(
    "id = :id AND dispatch = :dispatch AND CAST(delivery ->> 'expires' AS timestamptz) <= clock_timestamp()"
)

IN_SCOPE = text(f"SELECT id, status, stopping FROM jobs WHERE id = ANY(:ids) AND {WITHIN_SCOPE}")

STOPPING = text(
    """
    SELECT id, dispatch, clock_timestamp() - cancel_requested_at AS requested_for,
           clock_timestamp() - cancel_seen_at AS seen_for
    FROM jobs WHERE lease = :lease AND stopping"""
)

_AFTER = "round(1000 * extract(EPOCH FROM clock_timestamp() - cancel_requested_at))"

SEEN = text(
    f"""
    WITH moved AS (
        UPDATE jobs SET cancel_seen_at = clock_timestamp(), updated_at = clock_timestamp()
        WHERE id = :id AND dispatch = :dispatch AND stopping AND cancel_seen_at IS NULL
        RETURNING {JOB}, status AS from_status
    ), logged AS ({logged("moved", Event.SEEN, f"jsonb_build_object('after', {_AFTER})")})
    SELECT id FROM moved"""
)

# A body that is over has seen the cancel at the latest now, unless it ended with its worker.
STOPPED = text(
    move(
        "what",
        "stopping = false, cancel_seen_at = CASE WHEN unseen THEN clock_timestamp() ELSE cancel_seen_at END",
        f"jsonb_build_object('after', {_AFTER}, 'how', CASE what WHEN '{Event.STOPPED}' THEN CAST(:how AS text) END)",
        find="id = :id AND dispatch = :dispatch AND stopping",
        read="cancel_seen_at IS NULL AND CAST(:how AS text) <> 'worker lost' AS unseen",
        returning=f"{JOB}, from_status, unseen",
        logs=f"""moved JOIN (VALUES (1, '{Event.SEEN}'), (2, '{Event.STOPPED}')) AS happened (place, what)
             ON what = '{Event.STOPPED}' OR unseen ORDER BY place""",
        answer="SELECT id FROM moved",
    )
)
