"""Applying a verb of one job to many: its own SQL for all of them at once, and an answer for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, TextClause

from tracking.errors import TrackingError
from tracking.models import JobRecord, Scope
from tracking.sql import array, each_locked, move, record
from tracking.states import Event, Status

OPERATION = "CAST(:operation AS uuid)"
AT_ONCE = "FULL JOIN moved ON moved.id = locked.id"  # FULL: by a hash, however few the planner expects


@dataclass(frozen=True, slots=True)
class Applied:
    """What a verb made of jobs: of some the rows as they are now, of some why it was refused.

    What is in neither was locked by somebody else, and nothing was done to it.
    """

    done: Mapping[UUID, JobRecord] = field(default_factory=dict)
    refused: Mapping[UUID, TrackingError] = field(default_factory=dict)

    def with_(self, other: Applied) -> Applied:
        """What was made of the jobs of both."""
        return Applied({**self.done, **other.done}, {**self.refused, **other.refused})


def applying(
    event: Event,
    change: str,
    detail: str,
    *,
    guard: str,
    to: Status | None = None,
    given: str = "",
    among: str = "true",
    besides: str = "",
) -> str:
    """SQL: a verb for those of the jobs `:id` that nobody has locked; a row for each of them, empty unless it was done.

    Its history names `:operation`, of which the audit tells: the history does not. `given`: common table expressions
    that `among` uses, which rows of `jobs` it may lock. `besides`: those of what else it does, each after a comma.
    """
    return move(
        event,
        change,
        f"{detail} || jsonb_build_object('operation', {OPERATION})",
        given=given,
        locked=each_locked({}, "external AS was_external", among),
        guard=guard,
        to=to,
        answer=f"{besides} SELECT locked.id AS found, moved.* FROM locked {AT_ONCE}",
    )


def apply(
    connection: Connection,
    statement: TextClause,
    job_ids: Sequence[UUID],
    parameters: Mapping[str, Any],
    *,
    facts: TextClause,
    why_not: Callable[[UUID, Any], TrackingError],
    scope: Scope,
) -> Applied:
    """Run such a statement. `facts`: what `why_not` needs to know of the jobs `:ids` that it was refused for."""
    given = {**parameters, "id": array(job_ids), **scope.parameters}
    rows = connection.execute(statement, given).all()
    done = {row.id: row for row in rows if row.id is not None}
    found = {row.found for row in rows}
    refused = [job_id for job_id in found if job_id not in done]
    missing = [job_id for job_id in job_ids if job_id not in found]
    known = _known(connection, [*refused, *missing], facts, scope)
    # What exists and was not found is locked by somebody else.
    asked = [*refused, *(job_id for job_id in missing if job_id not in known)]
    return Applied(
        {job_id: record(row) for job_id, row in done.items()},
        {job_id: _reason(why_not, job_id, known.get(job_id)) for job_id in asked},
    )


def _reason(why_not: Callable[[UUID, Any], TrackingError], job_id: UUID, known: Any) -> TrackingError:
    try:
        return why_not(job_id, known)
    except TrackingError as reason:  # some of the reasons are raised where they are found
        return reason


def _known(connection: Connection, job_ids: Sequence[UUID], facts: TextClause, scope: Scope) -> dict[UUID, Any]:
    if not job_ids:
        return {}
    return {row.id: row for row in connection.execute(facts, {"ids": list(job_ids), **scope.parameters})}
