"""Reading bulk operations, ending them before their end, and forgetting those of long ago."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select, Uuid, bindparam, func, literal, or_, select, text, tuple_

from tracking import audit
from tracking.audit import Deed
from tracking.audited import Action as Audited
from tracking.errors import OperationEnded, OperationNotFound
from tracking.models import Scope
from tracking.operated import PENDING, Outcome, State
from tracking.operation_tables import operations, outcomes
from tracking.operations.canary import STOP
from tracking.operations.values import Operation, Operations, Result, Results
from tracking.origins import Origin
from tracking.sql import owned

NEWEST_FIRST = (operations.c.created_at.desc(), operations.c.id.desc())


def get(connection: Connection, operation_id: UUID, scope: Scope) -> Operation:
    """One operation that somebody of the scope has asked for. Raises OperationNotFound."""
    row = connection.execute(_mine(scope).where(operations.c.id == operation_id)).first()
    if row is None:
        raise OperationNotFound
    return Operation.of(row)


def page(
    connection: Connection, scope: Scope, *, states: Sequence[State], cursor: UUID | None, size: int
) -> Operations:
    """The operations of the scope in these states (none: in any), newest first, that follow the one at `cursor`."""
    wanted = _mine(scope)
    if states:
        wanted = wanted.where(operations.c.state.in_(states))
    if cursor is not None:
        at = select(operations.c.created_at).where(operations.c.id == cursor).scalar_subquery()
        wanted = wanted.where(tuple_(operations.c.created_at, operations.c.id) < tuple_(at, literal(cursor)))
    rows = connection.execute(wanted.order_by(*NEWEST_FIRST).limit(size + 1)).all()
    found = [Operation.of(row) for row in rows[:size]]
    return Operations(found, found[-1].id if len(rows) > size else None)


def results(
    connection: Connection, operation_id: UUID, *, wanted: Sequence[str], cursor: UUID | None, size: int
) -> Results:
    """What became of the jobs of an operation, by their ids, that follow the one at `cursor`.

    `wanted`: words of Outcome, or PENDING; none: all of them. The caller checks who may see the operation.
    """
    statement = select(outcomes).where(outcomes.c.operation_id == operation_id)
    if wanted:
        ended = [word for word in wanted if word != PENDING]
        conditions: list[Any] = [outcomes.c.outcome.in_(ended)] if ended else []
        conditions += [outcomes.c.outcome.is_(None)] if PENDING in wanted else []
        statement = statement.where(or_(*conditions))
    if cursor is not None:
        statement = statement.where(outcomes.c.job_id > cursor)
    rows = connection.execute(statement.order_by(outcomes.c.job_id).limit(size + 1)).all()
    found = [_result(row) for row in rows[:size]]
    return Results(found, found[-1].job_id if len(rows) > size else None)


def abort(connection: Connection, operation: Operation, *, actor: str, origin: Origin | None) -> Operation:
    """End an operation that is worked on; what was done stays done. Waits for the batch that is being worked off.

    Raises OperationEnded.
    """
    parameters = {"id": operation.id, "state": State.ABORTED, "reason": f"aborted by {actor}"}
    row = connection.execute(STOP, parameters).first()
    if row is None:
        raise OperationEnded(f"the bulk operation {operation.id} has ended already")
    deed = Deed(Audited.ABORT_BULK, actor, operation.organization_id or None, target=str(operation.id))
    audit.write(connection, origin, deed)
    return Operation.of(row)


def forget(connection: Connection, older_than: timedelta, limit: int) -> int:
    """Delete at most `limit` rows of operations that ended longer ago; an operation goes with the last of its jobs.

    Returns how many rows.
    """
    old = select(operations.c.id).where(operations.c.completed_at < func.clock_timestamp() - older_than)
    operation_id = connection.execute(
        old.order_by(operations.c.completed_at).limit(1).with_for_update(skip_locked=True)
    ).scalar()
    if operation_id is None:
        return 0
    removed = connection.execute(FORGET_RESULTS, {"id": operation_id, "limit": limit}).rowcount
    if removed < limit:
        removed += connection.execute(operations.delete().where(operations.c.id == operation_id)).rowcount
    return removed


def _mine(scope: Scope) -> Select[Any]:
    found = select(operations)
    if not scope.is_everywhere:
        found = found.where(owned(operations.c.organization_id, scope.organization_id))
    return found if scope.user_id is None else found.where(operations.c.user_id == scope.user_id)


def _result(row: Any) -> Result:
    outcome = Outcome(row.outcome) if row.outcome else None
    return Result(row.job_id, outcome, row.code, row.detail, row.is_canary, row.at)


FORGET_RESULTS = text(
    """
    DELETE FROM operation_jobs
    WHERE operation_id = :id
      AND job_id IN (SELECT job_id FROM operation_jobs WHERE operation_id = :id ORDER BY job_id LIMIT :limit)"""
).bindparams(bindparam("id", type_=Uuid))
