"""Whether the jobs of an operation that were retried first let it go on with the others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, text

from tracking.columns import columns_of
from tracking.operated import State
from tracking.operation_tables import operations
from tracking.operations.values import Operation
from tracking.states import FINISHED, Status


def judge(connection: Connection, operation: Operation, *, again: timedelta) -> None:
    """Let a locked operation go on, stop it, or look `again` later, by how its first jobs have ended.

    They have all to succeed, in time.
    """
    found = connection.execute(FIRST, {"id": operation.id}).all()
    ended_badly = [row for row in found if row.status not in (None, Status.SUCCEEDED) and row.status in FINISHED]
    gone = [row for row in found if row.status is None]
    waiting = [row for row in found if row.status is not None and row.status not in FINISHED]
    reason = _why_not(ended_badly, gone, len(found))
    if reason is None and waiting and found[0].is_late:
        reason = f"{len(waiting)} of the {len(found)} jobs that were tried first had not ended in time"
    if reason is None and waiting:
        connection.execute(LOOK_AGAIN, {"id": operation.id, "again": again})
    elif reason is None:
        connection.execute(GO_ON, {"id": operation.id})
    else:
        connection.execute(STOP, {"id": operation.id, "state": State.STOPPED, "reason": reason})


def _why_not(ended_badly: Sequence[Any], gone: Sequence[Any], count: int) -> str | None:
    if ended_badly:
        first = ended_badly[0]
        error = f": {first.error_message}" if first.error_message else ""
        others = f" ({len(ended_badly)} of the {count} that were tried first)" if len(ended_badly) > 1 else ""
        return f"the job {first.job_id} is {first.status}{others}{error}"
    return f"the job {gone[0].job_id} was removed before anybody saw how it ended" if gone else None


FIRST = text(
    """
    SELECT job_id, status, error_message, clock_timestamp() > canary_until AS is_late
    FROM operation_jobs JOIN operations ON operations.id = operation_id LEFT JOIN jobs ON jobs.id = job_id
    WHERE operation_id = :id AND is_canary
    ORDER BY job_id"""
)

LOOK_AGAIN = text(
    """
    UPDATE operations SET due_at = clock_timestamp() + CAST(:again AS interval), worked_at = clock_timestamp()
    WHERE id = :id"""
)

GO_ON = text(
    f"""
    UPDATE operations SET state = '{State.RUNNING}', updated_at = clock_timestamp(), worked_at = clock_timestamp()
    WHERE id = :id"""
)

# Of one that is worked on, so that an end is not written twice.
STOP = text(
    f"""
    UPDATE operations
    SET state = :state, reason = :reason, completed_at = clock_timestamp(), updated_at = clock_timestamp()
    WHERE id = :id AND completed_at IS NULL
    RETURNING {columns_of(operations)}"""
)
