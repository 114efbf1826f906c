"""Changing a job that waits: what it is to do, how urgent it is, and when it is due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.admission.rule import Limits, is_uncalled, next_hold
from tracking.errors import IllegalMove, JobChanged, JobNotFound, TrackingError
from tracking.jobs.each import Applied, apply, applying
from tracking.models import Changes, JobRecord, Scope
from tracking.origins import Origin, origin_parameter
from tracking.sql import ORIGIN, WITHIN_SCOPE, jsonb, listed, move, record
from tracking.states import WAITING, Event


def edit(
    connection: Connection,
    job_id: UUID,
    scope: Scope,
    changes: Changes,
    *,
    actor: str,
    limits: Limits,
    scheduled_at: datetime | None = None,
    at_once: bool = False,
    unchanged_since: datetime | None = None,
    origin: Origin | None = None,
) -> JobRecord:
    """Change a waiting job; the job as it is now. What `changes` leaves out, and a time that is None, stay.

    `at_once` takes its time away: it is due. With another priority or time it goes through the rule again, and a
    message that was sent already counts no more. Raises JobNotFound, JobChanged when its last change was not at
    `unchanged_since`, and IllegalMove when it does not wait, waits to be called with another one's result, is done
    elsewhere, or has the results already that its new payload still names.
    """
    parameters = {
        "id": job_id,
        "actor": actor,
        "unchanged_since": unchanged_since,
        "payload": jsonb(changes.payload),
        "unresolved": changes.unresolved,
        "delivery": jsonb(changes.delivery),
        "circuit_key": changes.circuit_key,
        "priority": changes.priority,
        "scheduled_at": scheduled_at,
        "at_once": at_once,
        **scope.parameters,
        **limits.parameters,
        **origin_parameter(origin),
    }
    row = connection.execute(EDIT, parameters).first()
    if row is None:
        raise _why_not(connection, job_id, scope, unchanged_since)
    return record(row)


def reprioritize_each(
    connection: Connection,
    job_ids: Sequence[UUID],
    scope: Scope,
    *,
    actor: str,
    limits: Limits,
    force: bool,  # noqa: ARG001 - of a retry, as whose sibling it is called
    priority: int | None,
    operation: UUID,
) -> Applied:
    """Give those of the jobs that wait for a worker another priority, for a bulk operation."""
    parameters = {"actor": actor, "priority": priority, "at_once": False, "operation": operation, **limits.parameters}
    parameters |= dict.fromkeys(("payload", "unresolved", "delivery", "circuit_key", "scheduled_at"))
    return apply(connection, REPRIORITIZE_EACH, job_ids, parameters, facts=IN_SCOPE, why_not=_refusal, scope=scope)


def _why_not(connection: Connection, job_id: UUID, scope: Scope, unchanged_since: datetime | None) -> TrackingError:
    known = connection.execute(IN_SCOPE, {"ids": [job_id], **scope.parameters}).first()
    if known is not None and unchanged_since not in (None, known.updated_at):
        return JobChanged(f"the job {job_id} has changed since it was read")
    return _refusal(job_id, known)


def _refusal(job_id: UUID, known: Any) -> TrackingError:
    if known is None:
        return JobNotFound()
    if known.external:
        return IllegalMove(f"the work of the job {job_id} is done elsewhere: it does not wait for a worker")
    if known.is_uncalled:
        return IllegalMove(f"the job {job_id} waits to be called with the result of another one")
    if known.status in WAITING:
        return IllegalMove(f"the values that the job {job_id} takes from other jobs are filled in already")
    return IllegalMove(f"the job {job_id} is {known.status}: only a waiting one can be changed")


# Of the payload alone no message knows: the row says what runs.
_AT_ONCE = "CAST(:at_once AS boolean)"
_REQUEUES = f"(CAST(:priority AS int) IS NOT NULL OR CAST(:scheduled_at AS timestamptz) IS NOT NULL OR {_AT_ONCE})"


def _time(column: str) -> str:
    """SQL: the time of this column after the change."""
    return f"CASE WHEN NOT {_AT_ONCE} THEN coalesce(CAST(:scheduled_at AS timestamptz), jobs.{column}) END"


_CHANGE = f"""payload = coalesce(CAST(:payload AS jsonb), payload),
            unresolved = unresolved AND (CAST(:payload AS jsonb) IS NULL OR CAST(:unresolved AS boolean)),
            delivery = coalesce(delivery || CAST(:delivery AS jsonb), delivery),
            circuit_key = coalesce(CAST(:circuit_key AS text), circuit_key),
            limit_key = CASE WHEN CAST(:payload AS jsonb) IS NULL AND NOT {_REQUEUES} THEN limit_key END,
            priority = coalesce(CAST(:priority AS int), priority),
            scheduled_at = {_time("scheduled_at")},
            due_at = {_time("due_at")},
            dispatch = dispatch + CASE WHEN hold IS NULL AND {_REQUEUES} THEN 1 ELSE 0 END,
            hold = CASE WHEN {_REQUEUES}
                   THEN {next_hold("jobs", due_at=_time("due_at"))}
                   ELSE hold END,
            dispatched_at = CASE WHEN {_REQUEUES} THEN NULL ELSE dispatched_at END,
            sent_priority = CASE WHEN {_REQUEUES} THEN NULL ELSE sent_priority END"""
_DETAIL = f"""jsonb_build_object('payload', CASE WHEN CAST(:payload AS jsonb) IS NOT NULL THEN true END,
                              'priority', CAST(:priority AS int), 'dueAt', CAST(:scheduled_at AS timestamptz),
                              'atOnce', CASE WHEN {_AT_ONCE} THEN true END, 'hold', hold)"""
_IS_EDITABLE = f"{WITHIN_SCOPE} AND status IN ({listed(WAITING)}) AND NOT external AND NOT {is_uncalled('jobs')}"

EDIT = text(
    move(
        Event.EDITED,
        _CHANGE,
        _DETAIL,
        find=f"""id = :id AND {_IS_EDITABLE} AND (unresolved OR NOT CAST(:unresolved AS boolean))
          AND (CAST(:unchanged_since AS timestamptz) IS NULL OR updated_at = :unchanged_since)""",
        origin=ORIGIN,
    )
)
REPRIORITIZE_EACH = text(applying(Event.EDITED, _CHANGE, _DETAIL, guard=_IS_EDITABLE))

IN_SCOPE = text(
    f"""
    SELECT id, status, external, updated_at, {is_uncalled("jobs")} AS is_uncalled
    FROM jobs WHERE id = ANY(:ids) AND {WITHIN_SCOPE}"""
)
