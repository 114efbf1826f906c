"""The types of jobs whose work is done elsewhere that an operator has named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, text

from tracking import audit
from tracking.audit import Deed
from tracking.audited import Action
from tracking.errors import InvalidValue
from tracking.origins import Origin

# Those that there are anyway; the first is the type of a job that is given none.
BUILT_IN = ("generic", "file_processing", "document_analysis", "llm_agent")

LONGEST = timedelta(days=365)  # without a report: beyond it the database has no times, and nobody any patience


@dataclass(frozen=True, slots=True)
class ExternalType:
    """A type of jobs that no worker runs.

    `permission`: needed besides `jobs.create_jobs`; None: none. `silence`: without a report after which a job of it is
    given up; None: what the settings say.
    """

    name: str
    permission: str | None = None
    silence: timedelta | None = None


def check_silence(seconds: Any, name: str) -> None:
    """Raises InvalidValue for what is no number of seconds after which a job can be given up."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST.total_seconds():
        raise InvalidValue(f"{name} is seconds, more than 0 and {LONGEST.total_seconds():.0f} at most: {seconds!r}")


def find(connection: Connection, name: str) -> ExternalType | None:
    """The type of this name; None: no operator has named it."""
    row = connection.execute(FIND, {"name": name}).first()
    return ExternalType(row.name, row.permission, row.silence) if row is not None else None


def every(connection: Connection) -> Sequence[ExternalType]:
    """All that operators have named, by name."""
    return [ExternalType(row.name, row.permission, row.silence) for row in connection.execute(ALL)]


def put(connection: Connection, of: ExternalType, *, actor: str, origin: Origin | None = None) -> bool:
    """Add a type, or change the one of its name. Whether it is new. Raises InvalidValue, as check_silence.

    With an `origin` it wants a transaction, for the entry in the audit.
    """
    if of.silence is not None:
        check_silence(of.silence.total_seconds(), "the timeout")
    given = {"name": of.name, "permission": of.permission, "silence": of.silence, "actor": actor}
    is_new = bool(connection.execute(PUT, given).scalar())
    detail = {"permission": of.permission, "seconds": of.silence.total_seconds() if of.silence else None}
    audit.write(connection, origin, Deed(Action.PUT_TYPE, actor, None, of.name, detail=detail))
    return is_new


def remove(connection: Connection, name: str, *, actor: str, origin: Origin | None = None) -> bool:
    """Forget a type; its jobs stay what they are. False when there is none. Like `put` otherwise."""
    if connection.execute(REMOVE, {"name": name}).first() is None:
        return False
    audit.write(connection, origin, Deed(Action.REMOVE_TYPE, actor, None, name))
    return True


FIND = text("SELECT name, permission, silence FROM external_types WHERE name = :name")

ALL = text("SELECT name, permission, silence FROM external_types ORDER BY name")

PUT = text(
    """
    INSERT INTO external_types (name, permission, silence, added_by)
    VALUES (:name, :permission, CAST(:silence AS interval), :actor)
    ON CONFLICT (name) DO UPDATE SET permission = excluded.permission, silence = excluded.silence,
        added_by = excluded.added_by, added_at = clock_timestamp()
    RETURNING xmax = 0"""
)

REMOVE = text("DELETE FROM external_types WHERE name = :name RETURNING name")
