"""Deleting finished jobs before their time, with their history; the audit keeps what people did to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.errors import IllegalMove, JobNotFound, TrackingError
from tracking.jobs.cancel import refused_row
from tracking.jobs.each import Applied
from tracking.models import Scope
from tracking.retention import remove
from tracking.sql import JOB, WITHIN_SCOPE, array, each_locked, listed, record
from tracking.states import ACTIVE, FINISHED, Status
from tracking.values import LATEST


def delete_each(connection: Connection, job_ids: Sequence[UUID], scope: Scope) -> Applied:
    """Delete those of the jobs that are finished and that nobody waits for, for a bulk operation; as they were.

    Wants a transaction: they are locked first, so that their whole history is seen.
    """
    rows = connection.execute(LOCK_EACH, {"id": array(job_ids), **scope.parameters}).all()
    known = {row.id: row for row in rows}
    existing = set(connection.execute(EXISTING, {"ids": list(job_ids)}).scalars())
    going = {job_id: record(row) for job_id, row in known.items() if _may_go(row)}
    for status in FINISHED:
        remove(connection, [job_id for job_id, job in going.items() if job.status is status], status, until=LATEST)
    refused: dict[UUID, TrackingError] = {
        job_id: _refusal(job_id, row) for job_id, row in known.items() if job_id not in going
    }
    return Applied(going, refused=refused | {job_id: JobNotFound() for job_id in job_ids if job_id not in existing})


def _may_go(known: Any) -> bool:
    return (
        known.is_mine
        and known.status in FINISHED
        and not (known.stopping or known.is_awaited or known.is_needed or known.is_of_workflow)
    )


def _refusal(job_id: UUID, known: Any) -> TrackingError:
    if not known.is_mine:
        return JobNotFound()
    try:
        refused_row(job_id, known)
    except IllegalMove as stopping:
        return stopping
    if known.status not in FINISHED:
        return IllegalMove(f"the job {job_id} is {known.status}: only a finished one can be deleted")
    waits = "its chord may still need it"
    if known.is_awaited:
        waits = "a job that is not finished depends on it"
    elif known.is_of_workflow:
        waits = "its workflow goes on"
    return IllegalMove(f"the job {job_id} cannot be deleted: {waits}")


# As retention has it: what an active job depends on, and what a chord counts, stays.
_IS_AWAITED = f"""EXISTS (SELECT FROM jobs AS dependent
                           WHERE dependent.status IN ({listed(ACTIVE)}) AND dependent.depends_on <> '{{}}'
                             AND dependent.depends_on @> ARRAY[jobs.id])"""
_IS_NEEDED = f"""(status = '{Status.SUCCEEDED}' AND group_id IS NOT NULL
                   AND EXISTS (SELECT FROM jobs AS member
                               WHERE member.group_id = jobs.group_id AND member.status <> '{Status.SUCCEEDED}'))"""
_IS_OF_WORKFLOW = "EXISTS (SELECT FROM workflows WHERE workflows.id = jobs.root_id AND workflows.completed_at IS NULL)"

LOCK_EACH = text(
    each_locked(
        {},
        f"({WITHIN_SCOPE}) AS is_mine, {_IS_AWAITED} AS is_awaited, {_IS_NEEDED} AS is_needed,"
        f" {_IS_OF_WORKFLOW} AS is_of_workflow, {JOB}",
    ).replace("SELECT given.*, found.*", "SELECT found.*")
)

EXISTING = text("SELECT id FROM jobs WHERE id = ANY(:ids)")
