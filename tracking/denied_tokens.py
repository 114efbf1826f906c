"""Tokens that are taken no more before they expire: one by its id, or those of a user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert

from tracking import audit
from tracking.access_tables import denied_tokens
from tracking.audit import Deed
from tracking.audited import Action
from tracking.errors import DenialNotFound, TooManyDenials
from tracking.origins import By
from tracking.values import LATEST, in_milliseconds

DENIALS = 0x64656E69  # "deni": the lock of whoever adds one; any constant will do
MOST = 10_000  # that are kept at a time: each API process has all of them, and reads them every second


@dataclass(frozen=True, slots=True)
class Denied:
    """Which tokens: that of `token_id`, or those of `user_id`, of which older than `issued_before` (None: all of them).

    `organization_id` None: in any organization.
    """

    organization_id: str | None
    token_id: str | None
    user_id: str | None
    issued_before: datetime | None


@dataclass(frozen=True, slots=True)
class NewDenial(Denied):
    """Tokens that somebody wants to be taken no more."""

    id: UUID
    reason: str | None


@dataclass(frozen=True, slots=True)
class Denial(Denied):
    """Tokens that are taken no more. `expires_at` None: until somebody takes it back."""

    id: UUID
    expires_at: datetime | None
    reason: str | None
    denied_by: str
    denied_at: datetime


def listed_denials(connection: Connection) -> list[Denial]:
    """All that hold, the newest first."""
    rows = connection.execute(
        select(*_COLUMNS).where(_HOLDS).order_by(denied_tokens.c.denied_at.desc(), denied_tokens.c.id)
    )
    return [Denial(**row._mapping) for row in rows]  # noqa: SLF001 - a public name


def put(connection: Connection, new: NewDenial, life: timedelta, by: By) -> Denial:
    """Take these tokens no more, in the place of what was said of the same token or user.

    `life`: the longest that what such a token gives may last after it was made. Raises TooManyDenials.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:space)"), {"space": DENIALS})
    connection.execute(delete(denied_tokens).where(~_HOLDS))
    last = LATEST - timedelta(days=1)
    if new.user_id is None:
        expires: object = func.clock_timestamp() + life
    else:
        expires = None if new.issued_before is None else min(new.issued_before, last - life) + life
    said = {name: getattr(new, name) for name in Denied.__dataclass_fields__}
    changed = {"expires_at": expires, "reason": new.reason, "denied_by": by.actor, "denied_at": func.clock_timestamp()}
    statement = insert(denied_tokens).values(id=new.id, **said, **changed)
    statement = statement.on_conflict_do_update(constraint="denied_tokens_once", set_={**said, **changed})
    denial = Denial(**connection.execute(statement.returning(*_COLUMNS)).one()._mapping)  # noqa: SLF001 - a public name
    if connection.execute(select(func.count()).select_from(denied_tokens)).scalar_one() > MOST:
        raise TooManyDenials(f"{MOST} are kept at a time: deny a user's tokens together, by a time")
    _audit(connection, Action.DENY_TOKENS, denial, by)
    return denial


def remove(connection: Connection, denial_id: UUID, by: By) -> Denial:
    """Take these tokens again, as far as they have not expired. Raises DenialNotFound."""
    statement = delete(denied_tokens).where(denied_tokens.c.id == denial_id).returning(*_COLUMNS)
    row = connection.execute(statement).one_or_none()
    if row is None:
        raise DenialNotFound(f"no tokens are denied under the id {denial_id}")
    denial = Denial(**row._mapping)  # noqa: SLF001 - a public name
    _audit(connection, Action.ALLOW_TOKENS, denial, by)
    return denial


def _audit(connection: Connection, action: Action, denial: Denial, by: By) -> None:
    said = {
        "token": denial.token_id,
        "user": denial.user_id,
        "issuedBefore": denial.issued_before and in_milliseconds(denial.issued_before),
        "reason": denial.reason,
    }
    detail = {name: value for name, value in said.items() if value is not None}
    audit.write(connection, by.origin, Deed(action, by.actor, denial.organization_id, str(denial.id), detail=detail))


_COLUMNS: Sequence[Any] = tuple(denied_tokens.c[name] for name in Denial.__dataclass_fields__)
_HOLDS = or_(denied_tokens.c.expires_at.is_(None), denied_tokens.c.expires_at > func.clock_timestamp())
