"""Working off a bulk operation, a batch of its jobs in a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from tracking import jobs
from tracking.admission.rule import Limits
from tracking.columns import columns_of
from tracking.db import cause_of, is_away, said_by
from tracking.errors import IllegalMove, JobNotFound, TrackingError
from tracking.jobs import Applied
from tracking.operated import WORKED_ON, Action, Outcome, State
from tracking.operation_tables import operations
from tracking.operations.canary import judge
from tracking.operations.values import Operation, Result
from tracking.sql import array, listed

NIL = UUID(int=0)
LATER = timedelta(seconds=10)
AGAIN = timedelta(seconds=1)  # to what somebody else had locked, or to jobs that have not ended

# What an outcome says of the reason, as the API's problems are called.
CODES: dict[type[TrackingError], str] = {IllegalMove: "illegal_move", JobNotFound: "job_not_found"}
DENIED = {
    "permission_missing": "whoever asked for it lacks the permission of its type",
    "unknown_job_type": "no handler is registered for its type",
}


def next_one(connection: Connection) -> Operation | None:
    """The operation whose turn it is, locked until the caller's transaction ends; None: none is due.

    Organizations take turns, and so do the operations of one. One that somebody else works on is passed over.
    """
    row = connection.execute(NEXT).first()
    return Operation.of(row) if row is not None else None


def postpone(connection: Connection, operation: Operation) -> None:
    """Let an operation whose batch could not be written wait for LATER: meanwhile the others have their turns."""
    connection.execute(POSTPONE, {"id": operation.id, "later": LATER})


def work(connection: Connection, operation: Operation, limits: Limits, size: int, patience: timedelta) -> Applied:
    """Do the next jobs of a locked operation, at most `size`, and write what became of them, and how far it is.

    A job that somebody else has locked comes again in the next round. `patience`: how long the jobs that are retried
    first may take to end, from the retry of the last of them. Wants a transaction. Returns what was done.
    """
    if operation.state is State.CANARY and operation.canary_until is not None:
        judge(connection, operation, again=AGAIN)
        return Applied()
    is_canary = operation.state is State.CANARY
    most = min(size, (operation.canary or 0) - operation.succeeded) if is_canary else size
    rows = connection.execute(BATCH, {"id": operation.id, "after": operation.worked_to or NIL, "size": most}).all()
    denied = {row.job_id: operation.denied[row.job_type] for row in rows if row.job_type in operation.denied}
    applied, failed = _apply(connection, operation, limits, [row.job_id for row in rows if row.job_id not in denied])
    results = [
        *(Result(job_id, Outcome.SUCCEEDED, is_canary=is_canary) for job_id in applied.done),
        *(Result(job_id, Outcome.REFUSED, CODES[type(why)], str(why)) for job_id, why in applied.refused.items()),
        *(Result(job_id, Outcome.REFUSED, code, DENIED[code]) for job_id, code in denied.items()),
        *(Result(job_id, Outcome.FAILED, "internal_error", why) for job_id, why in failed.items()),
    ]
    _write(connection, operation, results)
    _move_on(connection, operation, results, rows, patience=patience)
    return applied


def _apply(
    connection: Connection, operation: Operation, limits: Limits, job_ids: Sequence[UUID]
) -> tuple[Applied, dict[UUID, str]]:
    """Apply the verb; what cannot be done together is done in halves, down to the job that the database refuses."""
    if not job_ids:
        return Applied(), {}
    savepoint = connection.begin_nested()
    try:
        applied = _verb(connection, operation, limits, job_ids)
    except DBAPIError as error:
        if is_away(error):
            raise
        savepoint.rollback()
        if len(job_ids) == 1:
            return Applied(), {job_ids[0]: said_by(cause_of(error)) or type(cause_of(error)).__name__}
        middle = len(job_ids) // 2
        first, failed = _apply(connection, operation, limits, job_ids[:middle])
        second, also_failed = _apply(connection, operation, limits, job_ids[middle:])
        return first.with_(second), failed | also_failed
    savepoint.commit()
    return applied, {}


def _verb(connection: Connection, operation: Operation, limits: Limits, job_ids: Sequence[UUID]) -> Applied:
    actor, number = operation.user_id, operation.id
    if operation.action is Action.DELETE:
        return jobs.delete_each(connection, job_ids, operation.scope)
    if operation.action is Action.CANCEL:
        reason = f"bulk operation {number}"
        return jobs.cancel_each(connection, job_ids, operation.scope, actor=actor, reason=reason, operation=number)
    verb = jobs.retry_each if operation.action is Action.RETRY else jobs.reprioritize_each
    return verb(
        connection,
        job_ids,
        operation.scope,
        actor=actor,
        limits=limits,
        force=operation.force,
        priority=operation.priority,
        operation=number,
    )


def _write(connection: Connection, operation: Operation, results: Sequence[Result]) -> None:
    if results:
        parameters = {
            "operation": operation.id,
            "job_id": array(each.job_id for each in results),
            "outcome": array(each.outcome for each in results),
            "code": array(each.code for each in results),
            "detail": array(each.detail for each in results),
            "is_canary": array(str(each.is_canary) for each in results),
        }
        connection.execute(WRITE, parameters)


def _move_on(
    connection: Connection,
    operation: Operation,
    results: Sequence[Result],
    rows: Sequence[Any],
    *,
    patience: timedelta,
) -> None:
    """Write how far it is. At the end of a round another one begins, until there is no job without an outcome."""
    count = {str(outcome): sum(each.outcome is outcome for each in results) for outcome in Outcome}
    is_over, is_canary = operation.done + len(results) == operation.matched, operation.state is State.CANARY
    is_tried = is_canary and (is_over or operation.succeeded + count[Outcome.SUCCEEDED] == operation.canary)
    parameters = {
        "id": operation.id,
        **count,
        "worked_to": rows[-1].job_id if rows else None,
        "wait": timedelta(0) if rows or is_over else AGAIN,
        "patience": patience if is_tried else None,
        "is_over": is_over and not is_canary,
    }
    connection.execute(MOVE_ON, parameters)


# Organizations take turns, those that were waiting longest first.
NEXT = text(
    f"""
    SELECT {columns_of(operations, "operation")} FROM operations AS operation
    WHERE state IN ({listed(WORKED_ON)}) AND due_at <= clock_timestamp()
    ORDER BY (SELECT max(worked_at) FROM operations AS others
              WHERE others.organization_id = operation.organization_id AND others.state IN ({listed(WORKED_ON)}))
             NULLS FIRST,
             worked_at NULLS FIRST, created_at, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED"""
)

POSTPONE = text("UPDATE operations SET due_at = clock_timestamp() + CAST(:later AS interval) WHERE id = :id")

BATCH = text(
    """
    SELECT job_id, job_type
    FROM (SELECT job_id FROM operation_jobs
          WHERE operation_id = :id AND job_id > :after AND outcome IS NULL
          ORDER BY job_id
          LIMIT :size) AS next
    LEFT JOIN jobs ON jobs.id = job_id
    ORDER BY job_id"""
)

# Each row is looked up by itself: of a table that has just been filled the planner knows nothing, and would read all of
# the operation's rows for each. What this transaction has locked the operation for, nobody else moves.
WRITE = text(
    """
    UPDATE operation_jobs
    SET outcome = told.outcome, code = told.code, detail = told.detail, is_canary = told.is_canary,
        at = clock_timestamp()
    FROM unnest(CAST(:job_id AS uuid[]), CAST(:outcome AS text[]), CAST(:code AS text[]), CAST(:detail AS text[]),
                CAST(:is_canary AS boolean[])) AS told (job_id, outcome, code, detail, is_canary)
    CROSS JOIN LATERAL (SELECT found.ctid AS place FROM operation_jobs AS found
                        WHERE found.operation_id = :operation AND found.job_id = told.job_id AND found.outcome IS NULL
                        LIMIT 1) AS found
    WHERE operation_jobs.ctid = found.place"""
)

MOVE_ON = text(
    f"""
    UPDATE operations
    SET succeeded = succeeded + :succeeded, refused = refused + :refused, failed = failed + :failed,
        worked_to = :worked_to, worked_at = clock_timestamp(), updated_at = clock_timestamp(),
        due_at = clock_timestamp() + CAST(:wait AS interval),
        canary_until = coalesce(canary_until, clock_timestamp() + CAST(:patience AS interval)),
        state = CASE WHEN :is_over THEN '{State.COMPLETED}' ELSE state END,
        completed_at = CASE WHEN :is_over THEN clock_timestamp() END
    WHERE id = :id"""
)
