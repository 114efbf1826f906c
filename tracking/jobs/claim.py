"""Taking a job for one attempt, and saying no to messages that may not start one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Row, text

from tracking.admission import holds
from tracking.admission.rule import is_broken, is_paused, leaves_place
from tracking.db import run
from tracking.models import Attempt, Claim, Fence, Owner, Refusal
from tracking.sql import for_driver, logged, move
from tracking.states import FINISHED, WAITING, Event, Status


def claim(connection: Connection, claims: Sequence[Claim]) -> list[Attempt | Refusal]:
    """Take queued jobs for one attempt each; an answer for each claim, in their order.

    A refused claim is written to the job's history when there is such a job.
    """
    return [_grant(connection, wish) or _refuse(connection, wish) for wish in claims]


def refuse(connection: Connection, fence: Fence, held: Fence, *, worker: str) -> Refusal:
    """Write into its job's history that a message was not run, as its worker has the message of `held` already."""
    refusal = Refusal.REPEATED if fence == held else Refusal.STALE
    return _log_refusal(connection, fence, worker, refusal)


def _grant(connection: Connection, wish: Claim) -> Attempt | None:
    whose = {"claim_id": wish.claim_id, "worker": wish.worker, "lease": wish.lease, "job_type": wish.job_type}
    row = run(connection, CLAIM, {**wish.fence.parameters, **whose})
    return _attempt(row) if row is not None else None


def _refuse(connection: Connection, wish: Claim) -> Attempt | Refusal:
    known = connection.execute(KNOWN, {"id": wish.fence.job_id}).first()
    if known is None:
        return Refusal.UNKNOWN
    is_current = known.dispatch == wish.fence.dispatch
    if is_current and known.claim_id == wish.claim_id and known.status == Status.RUNNING:
        return _attempt(known)  # granted before; the reply was lost
    if wish.job_type not in (None, known.job_type):
        return _log_refusal(connection, wish.fence, wish.worker, Refusal.OTHER_TYPE)
    if is_current and Status(known.status) in WAITING and known.hold is None:
        holds.hold_back(connection, wish.fence)
        return Refusal.HELD
    return _log_refusal(connection, wish.fence, wish.worker, _refusal(known) if is_current else Refusal.STALE)


def _refusal(known: Row[Any]) -> Refusal:
    status = Status(known.status)
    if status is Status.CANCELLED:
        return Refusal.CANCELLED
    if status is Status.RUNNING:
        return Refusal.RUNNING
    return Refusal.FINISHED if status in FINISHED else Refusal.HELD


def _log_refusal(connection: Connection, fence: Fence, worker: str, refusal: Refusal) -> Refusal:
    details = {"reason": refusal, "dispatch": fence.dispatch}
    connection.execute(LOG_REFUSAL, {"id": fence.job_id, "actor": worker, "detail": Jsonb(details)})
    return refusal


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        fence=Fence(row.id, row.dispatch),
        attempt=row.attempt,
        owner=Owner(row.organization_id, row.user_id),
        project_id=row.project_id,
        job_type=row.job_type,
        retry_count=row.retry_count,
        max_retries=row.max_retries,
        root_id=row.root_id,
        group_id=row.group_id,
        group_index=row.group_index,
        parent_id=row.parent_id,
        payload=row.payload,
        delivery=row.delivery,
        leaves_place=getattr(row, "leaves_place", False),
    )


_ATTEMPT = """dispatch, attempt, organization_id, user_id, project_id, job_type, retry_count, max_retries, root_id,
           group_id, group_index, parent_id, payload, delivery"""

# It looks for the row by its id alone and tests the rest afterwards, so that no index of a few rows can look cheaper
# while the table is small.
CLAIM = for_driver(
    move(
        Event.STARTED,
        """attempt = attempt + 1, worker = :worker, lease = :lease, claim_id = :claim_id, due_at = NULL,
            started_at = clock_timestamp(), progress = 0, progress_detail = NULL, current_step = 0,
            dispatched_at = coalesce(dispatched_at, clock_timestamp())""",
        "jsonb_build_object('priority', priority, 'worker', worker)",
        find="id = :id",
        read="hold AS held, dispatch AS from_dispatch",
        to=Status.RUNNING,
        guard=f"""from_dispatch = :dispatch AND job_type = coalesce(CAST(:job_type AS text), job_type)
          AND held IS NULL AND NOT {is_paused("jobs")} AND NOT {is_broken("jobs")}""",
        by="worker",
        returning=f"jobs.id, {_ATTEMPT}, status, priority, worker, from_status, queue",
        answer=f"SELECT id, {_ATTEMPT}, {leaves_place('moved')} AS leaves_place FROM moved",
    )
)

KNOWN = text(f"SELECT id, {_ATTEMPT}, status, hold, claim_id FROM jobs WHERE id = :id")

LOG_REFUSAL = text(
    f"""
    WITH refused AS (SELECT *, status AS from_status FROM jobs WHERE id = :id FOR NO KEY UPDATE)
    {logged("refused", Event.DUPLICATE_REFUSED, "CAST(:detail AS jsonb)")}"""
)
