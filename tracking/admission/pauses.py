"""What is paused: a job type, an organization, or a type of one organization. Its waiting jobs do not start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, or_, select
from sqlalchemy.dialects.postgresql import insert

from tracking import audit
from tracking.audit import Deed
from tracking.audited import Action
from tracking.origins import Origin
from tracking.schema import pauses


@dataclass(frozen=True, slots=True)
class Pause:
    """One row of `pauses`; `organization_id` or `job_type` None stands for all of them."""

    organization_id: str | None
    job_type: str | None
    paused_by: str
    reason: str | None
    paused_at: datetime

    @property
    def everywhere(self) -> bool:
        """Whether it concerns all organizations."""
        return self.organization_id is None

    @property
    def shown_by(self) -> str | None:
        """The name of who has paused, as the organization may see it; None: an operator, whose name is not shown."""
        return None if self.everywhere else self.paused_by


def pause(
    connection: Connection,
    *,
    organization_id: str | None,
    job_type: str | None,
    actor: str,
    reason: str | None,
    origin: Origin | None = None,
) -> bool:
    """From now on no such job starts; running ones go on. False when it was paused already.

    With an `origin` it wants a transaction, for the entry in the audit.
    """
    values = {"organization_id": organization_id, "job_type": job_type, "paused_by": actor, "reason": reason}
    statement = insert(pauses).values(values).on_conflict_do_nothing().returning(pauses.c.paused_at)
    if connection.execute(statement).first() is None:
        return False
    why = {"reason": reason} if reason else {}
    audit.write(connection, origin, Deed(Action.PAUSE, actor, organization_id, job_type, detail=why))
    return True


def resume(
    connection: Connection,
    *,
    organization_id: str | None,
    job_type: str | None,
    actor: str,
    origin: Origin | None = None,
) -> bool:
    """End that pause. False when there was none. With an `origin` it wants a transaction, like `pause`."""
    same = (
        pauses.c.organization_id.is_not_distinct_from(organization_id),
        pauses.c.job_type.is_not_distinct_from(job_type),
    )
    if connection.execute(delete(pauses).where(*same).returning(pauses.c.paused_at)).first() is None:
        return False
    audit.write(connection, origin, Deed(Action.RESUME, actor, organization_id, job_type))
    return True


def of(connection: Connection, organization_id: str, job_type: str | None = None) -> Sequence[Pause]:
    """The pauses that concern an organization, and when given this type of jobs, the oldest first."""
    concerned = or_(pauses.c.organization_id == organization_id, pauses.c.organization_id.is_(None))
    statement = select(pauses).where(concerned).order_by(pauses.c.paused_at)
    if job_type is not None:
        statement = statement.where(or_(pauses.c.job_type == job_type, pauses.c.job_type.is_(None)))
    return [Pause(**row._mapping) for row in connection.execute(statement)]  # noqa: SLF001 - a public name
