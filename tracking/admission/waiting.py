"""How many jobs of an organization may wait at once: a bound for whoever creates them faster than they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, delete, select, text
from sqlalchemy.dialects.postgresql import insert

from tracking import audit
from tracking.audit import Deed
from tracking.audited import Action
from tracking.limit_tables import waiting_limits
from tracking.models import NewJob
from tracking.origins import Origin
from tracking.sql import listed
from tracking.states import WAITING, Hold


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many jobs of an organization wait, counted up to its limit, and how many of those that are asked for are new.

    What follows a job counts with it.
    """

    waiting: int
    new: int


def own_limits(connection: Connection) -> Mapping[str, int]:
    """The limits of the organizations that have one of their own; 0 = any number."""
    rows = connection.execute(select(waiting_limits.c.organization_id, waiting_limits.c.most))
    return {row.organization_id: row.most for row in rows}


def own_limit(connection: Connection, organization_id: str) -> int | None:
    """The organization's own limit; None: it has none, and that of the platform counts."""
    found = select(waiting_limits.c.most).where(waiting_limits.c.organization_id == organization_id)
    return connection.execute(found).scalar()


def crowd(connection: Connection, organization_id: str, asked: Sequence[NewJob], most: int) -> Crowd:
    """How many jobs wait for a worker, of which `most` are counted, and how many of these would be new.

    Until the end of the transaction nobody else gets an answer for the organization.
    """
    connection.execute(LOCK, {"organization_id": organization_id})
    sizes = {_identity(job): 1 + len(job.successors) for job in asked}
    parameters = {
        "organization_id": organization_id,
        "most": most,
        "ids": [job.id for job in asked],
        "users": [job.owner.user_id for job in asked if job.idempotency_key is not None],
        "keys": [job.idempotency_key for job in asked if job.idempotency_key is not None],
    }
    for row in connection.execute(KNOWN, parameters):
        sizes.pop((row.user_id, row.idempotency_key), None)
        sizes.pop(row.id, None)
    waiting = connection.execute(WAIT, parameters).scalar_one()
    return Crowd(waiting, sum(sizes.values()))


def _identity(job: NewJob) -> UUID | tuple[str, str]:
    return job.id if job.idempotency_key is None else (job.owner.user_id, job.idempotency_key)


def set_limit(
    connection: Connection, organization_id: str, most: int | None, *, actor: str, origin: Origin | None
) -> None:
    """Let so many jobs of an organization wait at once: 0 = any number, None = as many as by default.

    What waits beyond it stays. With an `origin` it wants a transaction, for the entry in the audit.
    """
    if most is None:
        connection.execute(delete(waiting_limits).where(waiting_limits.c.organization_id == organization_id))
    else:
        row = {"organization_id": organization_id, "most": most, "changed_by": actor}
        changed = {"most": most, "changed_by": actor, "changed_at": text("clock_timestamp()")}
        given = insert(waiting_limits).values(row)
        connection.execute(given.on_conflict_do_update(index_elements=["organization_id"], set_=changed))
    deed = Deed(Action.SET_WAITING_LIMIT, actor, organization_id, organization_id, detail={"limit": most})
    audit.write(connection, origin, deed)


LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('waiting jobs of ' || :organization_id, 0))")

WAIT = text(
    f"""
    SELECT count(*)
    FROM (SELECT FROM jobs
          WHERE organization_id = :organization_id AND status IN ({listed(WAITING)})
            AND hold IS DISTINCT FROM '{Hold.EXTERNAL}'
          LIMIT :most) AS counted"""
)

KNOWN = text(
    """
    SELECT id, user_id, idempotency_key FROM jobs
    WHERE organization_id = :organization_id AND id = ANY(CAST(:ids AS uuid[]))
    UNION ALL
    SELECT jobs.id, jobs.user_id, jobs.idempotency_key
    FROM unnest(CAST(:users AS text[]), CAST(:keys AS text[])) AS asked (user_id, key)
    JOIN jobs ON organization_id = :organization_id AND jobs.user_id = asked.user_id
             AND idempotency_key = asked.key AND idempotency_key IS NOT NULL"""
)
