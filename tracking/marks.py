"""What people say of the failures with one fingerprint: that they are resolved, or to be ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from tracking import audit
from tracking.audit import Deed
from tracking.audited import Action
from tracking.error_tables import IS_FAILED, Marked
from tracking.errors import ErrorNotFound
from tracking.origins import Origin


@dataclass(frozen=True, slots=True)
class Mark:
    """What is said of the failures with this fingerprint, by whom and since when; `state` None: nothing any more."""

    fingerprint: str
    state: Marked | None
    marked_by: str
    marked_at: datetime


def mark(
    connection: Connection,
    organization_id: str,
    fingerprint: str,
    state: Marked | None,
    *,
    actor: str,
    origin: Origin | None = None,
) -> Mark:
    """Say it of an organization's failures, in the place of what was said before; None: nothing.

    Raises ErrorNotFound when no job of the organization has failed so, and nothing was said. Wants a transaction, for
    the entry in the audit.
    """
    given = {"organization_id": organization_id, "fingerprint": fingerprint, "state": state, "actor": actor}
    row = connection.execute(CLEAR if state is None else MARK, given).first()
    if row is None:
        raise ErrorNotFound
    detail: Mapping[str, str] = {"state": str(state or "open")}
    audit.write(connection, origin, Deed(Action.MARK_ERROR, actor, organization_id, fingerprint, detail=detail))
    return Mark(fingerprint, state, actor, row.at)


_IS_KNOWN = f"""(EXISTS (SELECT FROM jobs
                         WHERE organization_id = :organization_id AND fingerprint = :fingerprint AND {IS_FAILED})
             OR EXISTS (SELECT FROM error_marks
                        WHERE organization_id = :organization_id AND fingerprint = :fingerprint))"""

MARK = text(
    f"""
    INSERT INTO error_marks (organization_id, fingerprint, state, marked_by)
    SELECT :organization_id, :fingerprint, :state, :actor WHERE {_IS_KNOWN}
    ON CONFLICT (organization_id, fingerprint) DO UPDATE
    SET state = excluded.state, marked_by = excluded.marked_by, marked_at = clock_timestamp()
    RETURNING marked_at AS at"""
)

CLEAR = text(
    f"""
    WITH cleared AS (
        DELETE FROM error_marks WHERE organization_id = :organization_id AND fingerprint = :fingerprint
    )
    SELECT clock_timestamp() AS at WHERE {_IS_KNOWN}"""
)
