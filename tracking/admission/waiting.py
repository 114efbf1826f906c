"""How many jobs of an organization may wait at once: a bound for whoever creates them faster than they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select, text
from sqlalchemy.dialects.postgresql import insert

from tracking import audit
from tracking.audit import Deed
from tracking.audited import Action
from tracking.limit_tables import waiting_limits
from tracking.models import Owner
from tracking.origins import Origin
from tracking.sql import listed
from tracking.states import WAITING, Hold


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many jobs of an organization wait, counted up to its limit, and which of some keys are of known jobs."""

    waiting: int
    known: int


def own_limits(connection: Connection) -> Mapping[str, int]:
    """The limits of the organizations that have one of their own; 0 = any number."""
    rows = connection.execute(select(waiting_limits.c.organization_id, waiting_limits.c.most))
    return {row.organization_id: row.most for row in rows}


def own_limit(connection: Connection, organization_id: str) -> int | None:
    """The organization's own limit; None: it has none, and that of the platform counts."""
    found = select(waiting_limits.c.most).where(waiting_limits.c.organization_id == organization_id)
    return connection.execute(found).scalar()


def crowd(connection: Connection, owner: Owner, most: int, keys: Sequence[str]) -> Crowd:
    """How many jobs wait for a worker, of which `most` are counted, and how many of the keys the user has used."""
    parameters = {"organization_id": owner.organization_id, "user_id": owner.user_id, "most": most, "keys": list(keys)}
    return Crowd(**connection.execute(CROWD, parameters).one()._mapping)  # noqa: SLF001 - a public name


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


CROWD = text(
    f"""
    SELECT (SELECT count(*)
            FROM (SELECT FROM jobs
                  WHERE organization_id = :organization_id AND status IN ({listed(WAITING)})
                    AND hold IS DISTINCT FROM '{Hold.EXTERNAL}'
                  LIMIT :most) AS counted) AS waiting,
           (SELECT count(*) FROM jobs
            WHERE organization_id = :organization_id AND user_id = :user_id
              AND idempotency_key = ANY(CAST(:keys AS text[])) AND idempotency_key IS NOT NULL) AS known"""
)
