"""What a running body says of itself."""

from __future__ import annotations

from psycopg.types.json import Jsonb
from sqlalchemy import Connection

from tracking.db import run
from tracking.models import Progress
from tracking.sql import JOB, for_driver, in_life, jsonb, logged
from tracking.states import Event, Status


def report(connection: Connection, progress: Progress) -> bool:
    """Record progress of a running attempt. False when the attempt is not the job's current one any more."""
    parameters = {
        **progress.fence.parameters,
        "attempt": progress.attempt,
        "percent": progress.percent,
        "message": progress.message,
        "detail": jsonb(progress.detail),
        "current_step": progress.current_step,
        "total_steps": progress.total_steps,
        "moved_on": progress.moved_on,
        "milestones": Jsonb(
            [
                {
                    "percentage": milestone.percent,
                    "message": milestone.message,
                    "current": milestone.current_step,
                    "total": milestone.total_steps,
                    "ago": milestone.ago.total_seconds(),
                }
                for milestone in progress.milestones
            ]
        ),
    }
    # What is told later comes after all that the history has by then. A statement that has waited for the row itself
    # does not see that.
    late = [(LOCK, progress.fence.parameters)] if progress.milestones else []
    *_, moved = run(connection, *late, (REPORT, parameters))
    return bool(moved)


LOCK = for_driver("SELECT id FROM jobs WHERE id = :id AND dispatch = :dispatch FOR UPDATE")

# When the last entry of the job's history was written: a milestone that is told later comes after it, as its id does.
_LAST = f"""(SELECT at FROM history WHERE history.job_id = moved.id AND {in_life("moved")}
             ORDER BY history.id DESC LIMIT 1)"""

REPORT = for_driver(
    f"""
    WITH moved AS (
        UPDATE jobs
        SET progress = greatest(progress, least(99, coalesce(CAST(:percent AS int), 0))),
            message = coalesce(:message, message),
            progress_detail = coalesce(CAST(:detail AS jsonb), progress_detail),
            current_step = greatest(current_step, CAST(:current_step AS int)),
            total_steps = greatest(total_steps, CAST(:total_steps AS int)),
            updated_at = clock_timestamp()
        WHERE id = :id AND dispatch = :dispatch AND attempt = :attempt AND status = '{Status.RUNNING}'
        RETURNING {JOB}, status AS from_status
    ), told AS (
        SELECT place, milestone - 'ago' AS point, make_interval(secs => CAST(milestone ->> 'ago' AS float)) AS ago
        FROM jsonb_array_elements(CAST(:milestones AS jsonb)) WITH ORDINALITY AS told (milestone, place)
        UNION ALL
        SELECT 1 + jsonb_array_length(CAST(:milestones AS jsonb)),
               jsonb_build_object('percentage', progress, 'message', message, 'current', current_step,
                                  'total', total_steps, 'detail', progress_detail),
               interval '0'
        FROM moved
        WHERE :moved_on
    ), logged AS ({
        logged(
            "moved CROSS JOIN told ORDER BY place",
            Event.PROGRESS,
            "point - 'detail'",
            by="worker",
            kept="CASE WHEN jsonb_typeof(point -> 'detail') <> 'null'"
            " THEN jsonb_build_object('detail', point -> 'detail') ELSE '{}' END",
            at=f"CASE WHEN ago > interval '0' THEN greatest({_LAST}, clock_timestamp() - ago)"
            " ELSE clock_timestamp() END",
        )
    })
    SELECT id FROM moved"""
)
