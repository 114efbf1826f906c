"""Jobs whose work is done elsewhere: whoever does it says how far it is and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.errors import IllegalMove, JobChanged, JobNotFound, NotExternal, TrackingError
from tracking.external_types import LONGEST
from tracking.fingerprints import printed
from tracking.models import JobRecord, Report, Scope
from tracking.origins import Origin, origin_parameter
from tracking.sql import ACTOR, JOB, ORIGIN, WITHIN_SCOPE, jsonb, listed, logged, move, record
from tracking.states import ACTIVE, FINISHED, WAITING, Event, Hold, Status, event_of, is_legal

ABANDONED = "Abandoned"  # the error type of a job on which nobody has reported for too long

# Where a report can take a job. What runs elsewhere is repeated by a retry, which is somebody's wish.
REPORTED = (Status.RUNNING, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)


def track(
    connection: Connection,
    job_id: UUID,
    scope: Scope,
    report: Report,
    *,
    actor: str,
    unchanged_since: datetime | None = None,
    origin: Origin | None = None,
) -> JobRecord:
    """Write what is reported of a job whose work is done elsewhere; the job as it is now.

    A move that the state machine has not is made through `running` if it can be, and history has both. Raises
    JobNotFound, NotExternal for a job that workers run, JobChanged when its last change was not at `unchanged_since`,
    and IllegalMove when it is finished.
    """
    parameters = {
        "id": job_id,
        "actor": actor,
        "unchanged_since": unchanged_since,
        "status": report.status,
        "percent": report.percent,
        "message": report.message,
        "detail": jsonb(report.detail),
        "result": jsonb(report.result),
        "error_message": report.error,
        **scope.parameters,
        **origin_parameter(origin),
    }
    row = connection.execute(TRACK, parameters).first()
    if row is None:
        raise _why_not(connection, job_id, scope, unchanged_since)
    return record(row)


def abandon(
    connection: Connection, silence: timedelta, of_types: dict[str, timedelta], *, actor: str, limit: int
) -> Sequence[JobRecord]:
    """Fail the jobs on which nobody has reported for too long; those that were.

    How long that is an operator has said of their type, or `of_types` does, or else it is `silence`.
    """
    parameters = {
        "silence": silence.total_seconds(),
        "longest": LONGEST.total_seconds(),
        "of_types": jsonb({name: span.total_seconds() for name, span in of_types.items()}),
        "actor": actor,
        "limit": limit,
    }
    return [record(row) for row in connection.execute(ABANDON, parameters)]


def _why_not(connection: Connection, job_id: UUID, scope: Scope, unchanged_since: datetime | None) -> TrackingError:
    known = connection.execute(IN_SCOPE, {"id": job_id, **scope.parameters}).first()
    if known is None:
        return JobNotFound()
    if not known.external:
        return NotExternal(f"workers run the job {job_id}, a {known.job_type}: only they say how far it is")
    if unchanged_since not in (None, known.updated_at):
        return JobChanged(f"the job {job_id} has changed since it was read")
    return IllegalMove(f"the job {job_id} is {known.status}: it is finished")


def _ways() -> list[tuple[Status, Status, bool, Event]]:
    """From where a report takes a job whereto, whether it is started on the way, and what the last step is called."""
    ways: list[tuple[Status, Status, bool, Event]] = []
    for source in ACTIVE:
        for target in dict.fromkeys((source, *REPORTED)):
            if source is target:
                ways.append((source, target, False, Event.PROGRESS))
            elif target is Status.RUNNING:
                ways.append((source, target, True, Event.PROGRESS))
            elif is_legal(source, target):
                ways.append((source, target, False, event_of(source, target)))
            else:
                ways.append((source, target, True, event_of(Status.RUNNING, target)))
    return ways


_WAYS = ", ".join(
    f"('{source}', '{target}', {str(starts).lower()}, '{event}')" for source, target, starts, event in _ways()
)
_ENDS = f"target IN ({listed(FINISHED)})"
_DURATION = "round(1000 * extract(EPOCH FROM completed_at - started_at))"

# Without a status it stays where it is; but what makes progress has begun. A message alone moves nothing.
_TARGET = f"""coalesce(:status, CASE WHEN status IN ({listed(WAITING)}) AND CAST(:percent AS int) IS NOT NULL
                                          THEN '{Status.RUNNING}' ELSE status END)"""

# What the history says: that it was begun, if that was skipped; how far it is, if that was said; how it ended.
_STEPS = f"""(
        SELECT id, organization_id, user_id, job_type, attempt, dispatch, what, detail, place,
               CASE WHEN what = '{Event.PROGRESS}' AND CAST(:detail AS jsonb) IS NOT NULL
                    THEN jsonb_build_object('detail', progress_detail) ELSE '{{}}' END AS kept,
               CASE WHEN place = 3 OR place = 1 AND status = '{Status.RUNNING}' THEN {ORIGIN} END AS came,
               CASE what WHEN '{Event.STARTED}' THEN was ELSE before END AS from_status,
               CASE what WHEN '{Event.STARTED}' THEN '{Status.RUNNING}' ELSE status END AS status
        FROM moved
        CROSS JOIN LATERAL (SELECT CASE WHEN starts THEN '{Status.RUNNING}' ELSE was END AS before) AS between
        CROSS JOIN LATERAL (VALUES
            (1, '{Event.STARTED}', starts, jsonb_build_object('priority', priority, 'worker', worker)),
            (2, '{Event.PROGRESS}', status = '{Status.RUNNING}' AND tells,
             jsonb_build_object('percentage', progress, 'message', message, 'current', current_step,
                                'total', total_steps)),
            (3, event, status <> '{Status.RUNNING}' AND status <> before, jsonb_build_object(
                 'by', CASE status WHEN '{Status.CANCELLED}' THEN {ACTOR} END,
                 'reason', CASE status WHEN '{Status.CANCELLED}'
                           THEN coalesce(CAST(:error_message AS text), 'cancelled elsewhere') END,
                 'error', CASE status WHEN '{Status.FAILED}' THEN error_message END,
                 'willRetry', CASE status WHEN '{Status.FAILED}' THEN false END,
                 'duration', {_DURATION},
                 'percentage', CASE WHEN status = '{Status.SUCCEEDED}' AND reached > 0 THEN 100 END))
        ) AS step (place, what, happens, detail)
        WHERE happens) AS steps ORDER BY place"""

# Of a row that somebody has changed since the statement began, PostgreSQL checks the constraints on what it was then
# before it takes what it is. So the start comes from the locked row, as the status does.
TRACK = text(
    f"""
    WITH found AS (
        SELECT id, status AS was, progress AS reached, started_at AS began, {_TARGET} AS target
        FROM jobs
        WHERE id = :id AND {WITHIN_SCOPE} AND external
          AND (CAST(:unchanged_since AS timestamptz) IS NULL OR updated_at = :unchanged_since)
        FOR UPDATE
    ), locked AS (
        SELECT * FROM found JOIN (VALUES {_WAYS}) AS way (was, target, starts, event) USING (was, target)
    ), moved AS (
        UPDATE jobs
        SET status = target,
            hold = CASE WHEN {_ENDS} THEN NULL ELSE '{Hold.EXTERNAL}' END,
            attempt = attempt + CASE WHEN starts THEN 1 ELSE 0 END,
            worker = CASE WHEN starts THEN {ACTOR} ELSE worker END,
            started_at = CASE WHEN starts THEN clock_timestamp() ELSE began END,
            progress = CASE target WHEN '{Status.SUCCEEDED}' THEN 100
                       ELSE greatest(progress, least(99, coalesce(CAST(:percent AS int), 0))) END,
            message = coalesce(CAST(:message AS text), message),
            progress_detail = coalesce(CAST(:detail AS jsonb), progress_detail),
            result = CAST(:result AS jsonb),
            error_message = CASE WHEN target <> '{Status.CANCELLED}' THEN CAST(:error_message AS text) END,
            {printed("jobs.error_type", "CAST(:error_message AS text)", when=f"target = '{Status.FAILED}'")},
            cancel_requested_at = CASE target WHEN '{Status.CANCELLED}' THEN clock_timestamp() END,
            completed_at = CASE WHEN {_ENDS} THEN clock_timestamp() END,
            updated_at = clock_timestamp()
        FROM locked
        WHERE jobs.id = locked.id
        RETURNING {JOB}, was, starts, event, reached, coalesce(CAST(:percent AS int), 0) > 0
                  OR CAST(:message AS text) IS NOT NULL OR CAST(:detail AS jsonb) IS NOT NULL AS tells
    ), logged AS ({logged(_STEPS, "what", "detail", kept="kept", origin="came")}
    )
    SELECT * FROM moved"""
)

# Of what was made of seconds the hours are counted on beyond a day.
_SILENT = """'nobody has reported on it for ' || to_char(after, 'FMHH24 "h" FMMI "min" FMSS "s"')"""

ABANDON = text(
    move(
        Event.FAILED,
        f"""hold = NULL, error_type = '{ABANDONED}',
            error_message = {_SILENT}, {printed(f"'{ABANDONED}'", _SILENT)},
            completed_at = clock_timestamp()""",
        f"""jsonb_build_object('errorType', error_type, 'error', error_message, 'willRetry', false,
                               'duration', {_DURATION})""",
        locked=f"""SELECT jobs.id, status AS from_status, patience.after FROM jobs
        LEFT JOIN external_types ON external_types.name = jobs.job_type
        CROSS JOIN LATERAL (SELECT make_interval(secs => least(CAST(:longest AS float), coalesce(
            CAST(extract(EPOCH FROM silence) AS float), CAST(CAST(:of_types AS jsonb) ->> jobs.job_type AS float),
            CAST(:silence AS float)))) AS after) AS patience
        WHERE hold = '{Hold.EXTERNAL}' AND updated_at < clock_timestamp() - patience.after
        LIMIT :limit
        FOR UPDATE OF jobs SKIP LOCKED""",
        to=Status.FAILED,
        returning=f"{JOB}, locked.from_status",
    )
)

IN_SCOPE = text(f"SELECT status, job_type, external, updated_at FROM jobs WHERE id = :id AND {WITHIN_SCOPE}")
