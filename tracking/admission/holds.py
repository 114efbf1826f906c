"""Letting waiting jobs through, and holding them back again: the verbs that follow the rule (rule.py)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.admission.rule import (
    ACTOR,
    BY_ADMISSION,
    IS_GATED,
    NEXT,
    Limits,
    cannot_be_met,
    distinct,
    is_broken,
    is_dependent,
    is_paused,
    is_uncalled,
    lines_joined,
    next_hold,
)
from tracking.models import UNCALLED, JobRecord
from tracking.sql import JOB, listed, move, record
from tracking.states import WAITING, Event, Status, When

FIRST = UUID(int=0)  # before every id
# Jobs that wait for others, of which the leader looks at so many at a time: the end of what they wait for lets them
# through at once, and its look is for what that has missed.
WINDOW = 2000


def lift_due(connection: Connection, limits: Limits, batch: int) -> list[JobRecord]:
    """Lift the holds whose time has come; returns the jobs with what they wait for next. Safe to run concurrently."""
    return _records(connection, LIFT_DUE, limits, batch=batch)


def lift_gated(connection: Connection, limits: Limits, batch: int) -> list[JobRecord]:
    """The same for jobs whose pause is over or whose circuit has closed."""
    return _records(connection, LIFT_GATED, limits, batch=batch)


def lift_dependents(
    connection: Connection, limits: Limits, batch: int, job_id: UUID | None = None, after: UUID = FIRST
) -> list[JobRecord]:
    """The same for jobs whose dependencies have all ended as they have to; of one dependency, or `after` an id.

    Of the latter, a window: see `end_of_window`.
    """
    if job_id is not None:
        return _records(connection, LIFT_DEPENDENTS, limits, batch=batch, job_id=job_id)
    return _records(connection, LIFT_IN_WINDOW, limits, batch=batch, after=after, window=WINDOW)


def cancel_dependents(
    connection: Connection, batch: int, job_id: UUID | None = None, after: UUID = FIRST
) -> list[JobRecord]:
    """Cancel the jobs that wait for an end that cannot come any more, and what that means for those that follow.

    Of those that wait for one job, or of a window, as `lift_dependents`.
    """
    if job_id is None:
        found = connection.execute(CANCEL_IN_WINDOW, {"batch": batch, "after": after, "window": WINDOW})
    else:
        found = connection.execute(CANCEL_DEPENDENTS, {"batch": batch, "job_id": job_id})
    cancelled = [record(row) for row in found]
    for job in cancelled:  # which grows by those that follow each of them
        follow = connection.execute(CANCEL_DEPENDENTS, {"batch": batch, "job_id": job.id})
        cancelled += [record(row) for row in follow]
    return cancelled


def end_of_window(connection: Connection, after: UUID) -> UUID:
    """Where the next window of jobs that wait for others begins: after this id; FIRST when this one is the last."""
    end: UUID | None = connection.execute(END_OF_WINDOW, {"after": after, "before_it": WINDOW - 1}).scalar()
    return end or FIRST


def _records(connection: Connection, sql: Any, limits: Limits, **parameters: Any) -> list[JobRecord]:
    return [record(row) for row in connection.execute(sql, {**parameters, **limits.parameters})]


# The rule is asked before the UPDATE: in its condition it has the planner read the whole table. Whether others stand in
# line is looked up once for each organization and queue, not for each job.
def _lift(which: str, given: str = "") -> Any:
    return text(
        move(
            f"CASE WHEN {IS_GATED} THEN '{Event.HELD}' ELSE '{Event.DUE}' END",
            """hold = next, dispatched_at = NULL, sent_priority = NULL,
            dispatch = dispatch + CASE held WHEN 'backoff' THEN 1 ELSE 0 END""",
            f"jsonb_build_object('hold', CASE WHEN {IS_GATED} THEN hold ELSE held END, {NEXT})",
            given=f"""{given}found AS (
        SELECT * FROM jobs
        WHERE {which}
        LIMIT :batch
        FOR UPDATE SKIP LOCKED
    ), {lines_joined("found")}""",
            locked=f"""SELECT id, status AS from_status, hold AS held, {next_hold("found", joins="lines.joins")} AS next
        FROM found JOIN lines USING (organization_id, queue)""",
            guard="held IS DISTINCT FROM next",
            returning=f"{JOB}, locked.from_status, locked.held",
            by=BY_ADMISSION,
        )
    )


# The time is asked once: a condition with a function that may answer anew for each row is no bound of an index.
LIFT_DUE = _lift("hold IN ('schedule', 'backoff') AND due_at <= (SELECT clock_timestamp()) ORDER BY due_at")


def _is_still_gated(job: str) -> str:
    return f"CASE {job}.hold WHEN 'paused' THEN {is_paused(job)} ELSE {is_broken(job)} END"


# What gates look at. Of jobs that are alike in it one answer holds for all, however many they are; besides them, those
# that a circuit lets through to see whether it may close.
_BEHIND = ("hold", "organization_id", "job_type", "queue", "circuit_key")
_ALIKE_JOBS, _ALIKE_GROUPS = (", ".join(f"{of}.{name}" for name in _BEHIND) for of in ("jobs", "groups"))

_OPENED = f"""{distinct("groups", _BEHIND, IS_GATED)}, opened AS (
        (SELECT alike.id
         FROM (SELECT *, CAST('{FIRST}' AS uuid) AS id FROM groups) AS groups CROSS JOIN LATERAL (
             SELECT jobs.id FROM jobs WHERE {IS_GATED} AND ({_ALIKE_JOBS}) = ({_ALIKE_GROUPS}) LIMIT :batch) AS alike
         WHERE NOT {_is_still_gated("groups")}
         LIMIT :batch)
        UNION ALL
        SELECT probe_id FROM circuits WHERE probe_id IS NOT NULL
    ), """
LIFT_GATED = _lift(
    f"id = ANY(ARRAY(SELECT id FROM opened)) AND {IS_GATED} AND NOT {_is_still_gated('jobs')}",
    given=_OPENED,
)

_DEPENDS = "hold = 'dependency' AND depends_on @> ARRAY[CAST(:job_id AS uuid)]"
_WINDOW = "SELECT id FROM jobs WHERE hold = 'dependency' AND id > CAST(:after AS uuid) ORDER BY id"
IN_WINDOW = f"hold = 'dependency' AND jobs.id = ANY(ARRAY({_WINDOW} LIMIT :window))"
_MAY_GO_ON = f"NOT unresolved AND NOT {is_uncalled('jobs')} AND NOT {is_dependent('jobs')}"

LIFT_DEPENDENTS = _lift(f"{_DEPENDS} AND {_MAY_GO_ON}")
LIFT_IN_WINDOW = _lift(f"{IN_WINDOW} AND {_MAY_GO_ON}")

END_OF_WINDOW = text(f"{_WINDOW} LIMIT 1 OFFSET :before_it")


def _cancel(which: str) -> Any:
    return text(
        move(
            Event.CANCELLED,
            f"""hold = NULL, due_at = NULL, cancel_requested_at = clock_timestamp(), completed_at = clock_timestamp(),
                error_type = '{UNCALLED}', error_message = 'its dependency ' || broken || ' is ' || how
                    || CASE ending WHEN '{When.FAILED}' THEN ', and it waits for a failure' ELSE '' END""",
            f"jsonb_build_object('by', '{ACTOR}', 'reason', error_message, 'dependency', broken)",
            locked=f"""SELECT jobs.id, jobs.status AS from_status, broken.id AS broken, broken.status AS how, ending
            FROM jobs CROSS JOIN LATERAL (
                SELECT wanted.id, coalesce(dependency.status, 'gone') AS status, ending
                FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                LEFT JOIN jobs AS dependency ON dependency.id = wanted.id
                WHERE {cannot_be_met("dependency", "ending")}
                LIMIT 1) AS broken
            WHERE jobs.status IN ({listed(WAITING)}) AND {which}
            LIMIT :batch
            FOR UPDATE OF jobs SKIP LOCKED""",
            to=Status.CANCELLED,
            out_of=WAITING,
            returning=f"{JOB}, locked.from_status, locked.broken",
            by=BY_ADMISSION,
        )
    )


CANCEL_DEPENDENTS = _cancel(_DEPENDS)
CANCEL_IN_WINDOW = _cancel(IN_WINDOW)
