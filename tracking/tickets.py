"""Tickets: secrets that give one request the rights of another one, once and for a short time."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, text

SECRET_BYTES = 32
MOST_REMOVED = 100  # expired tickets, with each new one


class Purpose(StrEnum):
    """What a ticket is for, and nothing else."""

    EVENTS = "events"
    SIGN_IN = "sign_in"


@dataclass(frozen=True, slots=True)
class Rights:
    """Who somebody is and what they may do. `until` None: as long as its purpose says.

    `token_id`, `issued_at`: of the token that this was got with. None: it has no id; there was none.
    """

    organization_id: str
    user_id: str
    permissions: frozenset[str]
    until: datetime | None
    token_id: str | None = None
    issued_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """A new ticket; its secret is known here alone, the database has its digest."""

    secret: str
    expires_at: datetime


def issue(connection: Connection, purpose: Purpose, rights: Rights, lifetime: timedelta) -> Ticket:
    """A new ticket for these rights."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    parameters = {
        "digest": digest(secret),
        "purpose": purpose,
        "organization_id": rights.organization_id,
        "user_id": rights.user_id,
        "permissions": listed(rights.permissions),
        "rights_until": rights.until,
        "token_id": rights.token_id,
        "issued_at": rights.issued_at,
        "lifetime": lifetime,
        "most": MOST_REMOVED,
    }
    return Ticket(secret, connection.execute(ISSUE, parameters).scalar_one())


def spend(connection: Connection, purpose: Purpose, secret: str) -> Rights | None:
    """The rights that a ticket gives, which it does once. None when it is over, spent, or no ticket of this purpose."""
    row = connection.execute(SPEND, {"digest": digest(secret), "purpose": purpose}).first()
    if row is None:
        return None
    permissions = frozenset(row.permissions)
    return Rights(row.organization_id, row.user_id, permissions, row.rights_until, row.token_id, row.issued_at)


def digest(secret: str) -> bytes:
    """What the database keeps of a secret: who reads it there cannot use it."""
    return hashlib.sha256(secret.encode()).digest()


def listed(permissions: Iterable[str]) -> list[str]:
    """Permissions in an order that does not change."""
    return sorted(permissions)


ISSUE = text(
    """
    WITH expired AS (
        DELETE FROM tickets WHERE digest IN (
            SELECT digest FROM tickets WHERE expires_at < clock_timestamp() LIMIT :most FOR UPDATE SKIP LOCKED)
    )
    INSERT INTO tickets (digest, purpose, organization_id, user_id, permissions, rights_until, expires_at,
                         token_id, issued_at)
    VALUES (:digest, :purpose, :organization_id, :user_id, CAST(:permissions AS text[]), :rights_until,
            clock_timestamp() + CAST(:lifetime AS interval), :token_id, :issued_at)
    RETURNING expires_at"""
)

SPEND = text(
    """
    DELETE FROM tickets
    WHERE digest = :digest AND purpose = :purpose AND expires_at >= clock_timestamp()
    RETURNING organization_id, user_id, permissions, rights_until, token_id, issued_at"""
)
