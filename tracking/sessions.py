"""Sessions of people who have signed in at the dashboard, each with the rights that it was opened with."""

from __future__ import annotations

import secrets
from datetime import timedelta

from sqlalchemy import Connection, text

from tracking.tickets import SECRET_BYTES, Rights, digest, listed

LONGEST = timedelta(hours=12)
IDLE = timedelta(hours=1)  # without any request
MOST_REMOVED = 100  # sessions that are over, with each new one


def begin(connection: Connection, rights: Rights) -> str:
    """A new session, which lasts as long as the rights, and LONGEST at most; the secret that its cookie holds."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    parameters = {
        "digest": digest(secret),
        "organization_id": rights.organization_id,
        "user_id": rights.user_id,
        "permissions": listed(rights.permissions),
        "until": rights.until,
        "longest": LONGEST,
        "idle": IDLE,
        "most": MOST_REMOVED,
    }
    connection.execute(BEGIN, parameters)
    return secret


def find(connection: Connection, secret: str) -> Rights | None:
    """Whose session this is, and until when; None: it is over, or none. To be asked about is to be in use."""
    row = connection.execute(FIND, {"digest": digest(secret), "idle": IDLE}).first()
    if row is None:
        return None
    return Rights(row.organization_id, row.user_id, frozenset(row.permissions), row.expires_at)


def end(connection: Connection, secret: str) -> None:
    """Sign out; what is over already stays over."""
    connection.execute(END, {"digest": digest(secret)})


_IS_ALIVE = "expires_at > clock_timestamp() AND seen_at > clock_timestamp() - CAST(:idle AS interval)"

BEGIN = text(
    f"""
    WITH over AS (
        DELETE FROM sessions WHERE digest IN (
            SELECT digest FROM sessions WHERE NOT ({_IS_ALIVE}) LIMIT :most FOR UPDATE SKIP LOCKED)
    )
    INSERT INTO sessions (digest, organization_id, user_id, permissions, expires_at)
    VALUES (:digest, :organization_id, :user_id, CAST(:permissions AS text[]),
            least(CAST(:until AS timestamptz), clock_timestamp() + CAST(:longest AS interval)))"""
)

# Its use is written once a minute at most: pages that are live ask several times a second.
FIND = text(
    f"""
    WITH seen AS (
        UPDATE sessions SET seen_at = clock_timestamp()
        WHERE digest = :digest AND {_IS_ALIVE} AND seen_at < clock_timestamp() - interval '1 minute'
    )
    SELECT organization_id, user_id, permissions, expires_at FROM sessions WHERE digest = :digest AND {_IS_ALIVE}"""
)

END = text("DELETE FROM sessions WHERE digest = :digest")
