"""Sessions of people who have signed in at the dashboard, each with the rights that it was opened with."""

from __future__ import annotations

import secrets
from collections.abc import Collection
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
        "token_id": rights.token_id,
        "issued_at": rights.issued_at,
        "longest": LONGEST,
        "idle": IDLE,
        "most": MOST_REMOVED,
    }
    connection.execute(BEGIN, parameters)
    return secret


def find(connection: Connection, secret: str) -> Rights | None:
    """Whose session this is, and until when; None: it is over, or none. To be asked about is to be in use.

    `issued_at` is when it began, if it was opened with no token.
    """
    row = connection.execute(FIND, {"digest": digest(secret), "idle": IDLE}).first()
    if row is None:
        return None
    permissions = frozenset(row.permissions)
    return Rights(row.organization_id, row.user_id, permissions, row.expires_at, row.token_id, row.issued_at)


def end(connection: Connection, secret: str) -> None:
    """Sign out; what is over already stays over."""
    connection.execute(END, {"digest": digest(secret)})


def alive(connection: Connection, digests: Collection[bytes]) -> set[bytes]:
    """Which of these sessions are not over. To be asked so is not to be in use."""
    return set(connection.execute(ALIVE, {"digests": list(digests), "idle": IDLE}).scalars())


_IS_ALIVE = "expires_at > clock_timestamp() AND seen_at > clock_timestamp() - CAST(:idle AS interval)"

BEGIN = text(
    f"""
    WITH over AS (
        DELETE FROM sessions WHERE digest IN (
            SELECT digest FROM sessions WHERE NOT ({_IS_ALIVE}) LIMIT :most FOR UPDATE SKIP LOCKED)
    )
    INSERT INTO sessions (digest, organization_id, user_id, permissions, expires_at, token_id, issued_at)
    VALUES (:digest, :organization_id, :user_id, CAST(:permissions AS text[]),
            least(CAST(:until AS timestamptz), clock_timestamp() + CAST(:longest AS interval)),
            :token_id, :issued_at)"""
)

# Its use is written once a minute at most: pages that are live ask several times a second.
FIND = text(
    f"""
    WITH seen AS (
        UPDATE sessions SET seen_at = clock_timestamp()
        WHERE digest = :digest AND {_IS_ALIVE} AND seen_at < clock_timestamp() - interval '1 minute'
    )
    SELECT organization_id, user_id, permissions, expires_at, token_id, coalesce(issued_at, created_at) AS issued_at
    FROM sessions WHERE digest = :digest AND {_IS_ALIVE}"""
)

END = text("DELETE FROM sessions WHERE digest = :digest")

ALIVE = text(f"SELECT digest FROM sessions WHERE digest = ANY(CAST(:digests AS bytea[])) AND {_IS_ALIVE}")
