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
    is_broken,
    is_dependent,
    is_paused,
    is_uncalled,
    joins_line,
    next_hold,
)
from tracking.models import UNCALLED, JobRecord
from tracking.sql import listed, move, record
from tracking.states import WAITING, Event, Status, When


def lift_due(connection: Connection, limits: Limits, batch: int) -> list[JobRecord]:
    """Lift the holds whose time has come; returns the jobs with what they wait for next. Safe to run concurrently."""
    return _records(connection, LIFT_DUE, limits, batch=batch)


def lift_gated(connection: Connection, limits: Limits, batch: int) -> list[JobRecord]:
    """The same for jobs whose pause is over or whose circuit has closed."""
    return _records(connection, LIFT_GATED, limits, batch=batch)


def lift_dependents(connection: Connection, limits: Limits, batch: int, job_id: UUID | None = None) -> list[JobRecord]:
    """The same for jobs whose dependencies have all ended as they have to; of one dependency, or of all."""
    return _records(connection, LIFT_DEPENDENTS, limits, batch=batch, job_id=job_id)


def cancel_dependents(connection: Connection, batch: int, job_id: UUID | None = None) -> list[JobRecord]:
    """Cancel the jobs that wait for an end that cannot come any more, and what that means for those that follow."""
    cancelled: list[JobRecord] = []
    roots: list[UUID | None] = [job_id]
    while roots:
        parameters = {"batch": batch, "job_id": roots.pop()}
        found = [record(row) for row in connection.execute(CANCEL_DEPENDENTS, parameters)]
        cancelled += found
        roots += [job.id for job in found]
    return cancelled


def _records(connection: Connection, sql: Any, limits: Limits, **parameters: Any) -> list[JobRecord]:
    return [record(row) for row in connection.execute(sql, {**parameters, **limits.parameters})]


# The rule is asked before the UPDATE: in its condition it has the planner read the whole table. Whether others stand in
# line is looked up once for each organization, not for each job.
def _lift(which: str) -> Any:
    return text(
        move(
            f"CASE WHEN {IS_GATED} THEN '{Event.HELD}' ELSE '{Event.DUE}' END",
            """hold = next, dispatched_at = NULL, sent_priority = NULL,
            dispatch = dispatch + CASE held WHEN 'backoff' THEN 1 ELSE 0 END""",
            f"jsonb_build_object('hold', CASE WHEN {IS_GATED} THEN hold ELSE held END, {NEXT})",
            given=f"""found AS (
        SELECT * FROM jobs
        WHERE {which}
        LIMIT :batch
        FOR UPDATE SKIP LOCKED
    ), lines AS MATERIALIZED (
        SELECT organization_id, {joins_line("whose.organization_id")} AS joins
        FROM (SELECT DISTINCT organization_id FROM found) AS whose
    )""",
            locked=f"""SELECT id, status AS from_status, hold AS held, {next_hold("found", joins="lines.joins")} AS next
        FROM found JOIN lines USING (organization_id)""",
            guard="held IS DISTINCT FROM next",
            returning="jobs.*, locked.from_status, locked.held",
            by=BY_ADMISSION,
        )
    )


LIFT_DUE = _lift("hold IN ('schedule', 'backoff') AND due_at <= clock_timestamp() ORDER BY due_at")

LIFT_GATED = _lift(
    f"""hold IN ('circuit', 'paused')
          AND NOT CASE hold WHEN 'paused' THEN {is_paused("jobs")} ELSE {is_broken("jobs")} END"""
)

_DEPENDS = """hold = 'dependency'
          AND (CAST(:job_id AS uuid) IS NULL OR depends_on @> ARRAY[CAST(:job_id AS uuid)])"""

LIFT_DEPENDENTS = _lift(f"{_DEPENDS} AND NOT unresolved AND NOT {is_uncalled('jobs')} AND NOT {is_dependent('jobs')}")

CANCEL_DEPENDENTS = text(
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
        WHERE jobs.status IN ({listed(WAITING)}) AND {_DEPENDS}
        LIMIT :batch
        FOR UPDATE OF jobs SKIP LOCKED""",
        to=Status.CANCELLED,
        out_of=WAITING,
        returning="jobs.*, locked.from_status, locked.broken",
        by=BY_ADMISSION,
    )
)
