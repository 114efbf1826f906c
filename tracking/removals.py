"""What was removed of the history and of events: of each removal the highest id, by organization, in its transaction.

A stream that resumes behind that id has missed nothing that is gone. Notes are added and removed, never changed, so
that no removal waits for another one.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from tracking.sql import own


def is_any_after(connection: Connection, organization_id: str, after: int) -> bool:
    """Whether a row with a higher id may have been removed. To be asked after the rows that are left were read."""
    return bool(connection.execute(IS_ANY, {"organization_id": organization_id, "after": after}).scalar())


def noted(removed: str) -> str:
    """Two parts of a WITH: they note the rows of `removed`, which has `organization_id` and `id`.

    Notes of which this one says more go, unless somebody else is removing them.
    """
    return f"""noted AS (
        INSERT INTO removals (organization_id, last_id)
        SELECT organization_id, max(id) FROM {removed} GROUP BY organization_id
        RETURNING organization_id, last_id
    ), needless AS (
        DELETE FROM removals WHERE ctid = ANY(ARRAY(
            SELECT removals.ctid FROM removals JOIN noted USING (organization_id)
            WHERE removals.last_id <= noted.last_id
            FOR UPDATE OF removals SKIP LOCKED))
    )"""


# The note without an organization is of the time before there were notes.
IS_ANY = text(
    f"""
    SELECT EXISTS (SELECT FROM removals WHERE {own()} AND last_id > :after)
        OR EXISTS (SELECT FROM removals WHERE organization_id IS NULL AND last_id > :after)"""
)
