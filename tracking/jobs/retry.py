"""Running a job again that had ended, because somebody wants it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, text

from tracking.admission.rule import Limits, is_uncalled, next_hold
from tracking.errors import IllegalMove
from tracking.jobs.cancel import refused_row
from tracking.models import JobRecord, Scope
from tracking.origins import Origin, origin_parameter
from tracking.sql import ACTOR, ORIGIN, SCOPE, listed, move, record
from tracking.states import ACTIVE, Event, Status, sources


def retry(
    connection: Connection,
    job_id: UUID,
    scope: Scope,
    *,
    actor: str,
    limits: Limits,
    force: bool = False,
    origin: Origin | None = None,
) -> JobRecord:
    """Queue a failed or cancelled job again, for a new dispatch; under a limit it joins its organization's line.

    `force` lifts the limit of max_retries. Raises JobNotFound, or IllegalMove: not failed or cancelled, no retry
    left, or its cancelled body is still stopping (then `retry_after` of the error is set, in seconds).
    """
    parameters = {"id": job_id, "actor": actor, "force": force, **scope.parameters, **limits.parameters}
    parameters |= origin_parameter(origin)
    row = connection.execute(RETRY, parameters).first()
    if row is None:
        raise _why_not(connection, job_id, scope)
    return record(row)


def _why_not(connection: Connection, job_id: UUID, scope: Scope) -> IllegalMove:
    known = refused_row(job_id, connection.execute(IN_SCOPE, {"id": job_id, **scope.parameters}).first())
    if known.why_uncalled is not None:
        return IllegalMove(f"the job {job_id} was never called, and lacks arguments: {known.why_uncalled}")
    if known.status in sources(Event.RETRIED):
        return IllegalMove(
            f"the job {job_id} has used {known.retry_count} of {known.max_retries} retries; force it to retry anyway"
        )
    return IllegalMove(f"the job {job_id} is {known.status}: it cannot be retried")


_FOLLOWED = """(followed.id = jobs.follows
                                    OR followed.group_id = jobs.follows_group AND followed.id <> jobs.id)"""

# An uncalled job is called when what it waits for succeeds: that is under way, and no part of it has ended otherwise.
_MAY_BE_CALLED = f"""EXISTS (SELECT FROM jobs AS followed WHERE followed.status IN ({listed(ACTIVE)}) AND {_FOLLOWED})
          AND NOT EXISTS (SELECT FROM jobs AS followed
                          WHERE followed.status IN ('{Status.FAILED}', '{Status.CANCELLED}') AND {_FOLLOWED})"""

RETRY = text(
    move(
        Event.RETRIED,
        f"""dispatch = dispatch + 1, retry_count = retry_count + 1, losses = 0,
            hold = {next_hold("jobs", due_at="CAST(NULL AS timestamptz)")}, delivery = delivery - 'expires',
            due_at = NULL, dispatched_at = NULL, sent_priority = NULL, result = NULL, typed_result = NULL,
            error_type = NULL, error_message = NULL, message = NULL, progress = 0, progress_detail = NULL,
            current_step = 0, cancel_requested_at = NULL, cancel_seen_at = NULL, started_at = NULL,
            completed_at = NULL""",
        f"jsonb_build_object('by', {ACTOR}, 'force', CAST(:force AS boolean))",
        find=f"""id = :id AND {SCOPE} AND NOT stopping AND (retry_count < max_retries OR :force)
          AND (NOT {is_uncalled("jobs")} OR ({_MAY_BE_CALLED}))""",
        to=Status.QUEUED,
        origin=ORIGIN,
    )
)

IN_SCOPE = text(
    f"""
    SELECT status, stopping, retry_count, max_retries,
           CASE WHEN {is_uncalled("jobs")} AND NOT ({_MAY_BE_CALLED}) THEN error_message END AS why_uncalled
    FROM jobs WHERE id = :id AND {SCOPE}"""
)
