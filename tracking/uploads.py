"""Uploaded files: whose they are, and until when they are kept. What is in them is in a store, by their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking import audit
from tracking.audit import Deed
from tracking.audited import Action
from tracking.errors import FileMissing, TooManyFiles
from tracking.models import Owner, Scope
from tracking.origins import By
from tracking.sql import own


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file whose content is in the store: `size` in bytes, `sha256` in hexadecimal."""

    id: UUID
    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class File:
    """A row of `files`."""

    id: UUID
    organization_id: str
    user_id: str
    name: str
    size: int
    sha256: str
    created_at: datetime
    expires_at: datetime


def add(connection: Connection, owner: Owner, new: NewFile, *, most: int, lifetime: timedelta, by: By) -> File:
    """Keep a file for `lifetime`. Raises TooManyFiles when the organization has `most`. Wants a transaction."""
    connection.execute(LOCK, {"organization_id": owner.organization_id})
    parameters = {
        "id": new.id,
        "organization_id": owner.organization_id,
        "user_id": owner.user_id,
        "name": new.name,
        "size": new.size,
        "checksum": new.sha256,
        "most": most,
        "lifetime": lifetime,
    }
    row = connection.execute(ADD, parameters).first()
    if row is None:
        raise TooManyFiles(f"an organization has {most} uploaded files at most (CELERIAC_FILES_COUNT)")
    file = File(*row)
    _tell(connection, Action.UPLOAD_FILE, file, by)
    return file


def get(connection: Connection, file_id: UUID, scope: Scope) -> File:
    """A file that the scope shows and that has not expired. Raises FileMissing."""
    return _found(connection.execute(GET, _scoped(scope, id=file_id)).first())


def every(connection: Connection, scope: Scope) -> Sequence[File]:
    """The files that the scope shows and that have not expired, newest first."""
    return [File(*row) for row in connection.execute(EVERY, _scoped(scope))]


def everywhere(connection: Connection, *, before: UUID | None, size: int) -> Sequence[File]:
    """Those of all organizations, newest first, that were brought before this one (None: the newest ones)."""
    return [File(*row) for row in connection.execute(EVERYWHERE, {"before": before, "size": size})]


def remove(connection: Connection, file_id: UUID, scope: Scope, by: By) -> File:
    """Forget a file; its content is for the caller to remove. Raises FileMissing. Wants a transaction."""
    file = _found(connection.execute(REMOVE, _scoped(scope, id=file_id)).first())
    _tell(connection, Action.REMOVE_FILE, file, by)
    return file


def known(connection: Connection, organization_id: str) -> Sequence[tuple[UUID, bool]]:
    """The ids of all files of an organization, and whether each has expired."""
    rows = connection.execute(KNOWN, {"organization_id": organization_id})
    return [(row.id, row.has_expired) for row in rows]


def forget(connection: Connection, organization_id: str, file_ids: Iterable[UUID]) -> int:
    """Remove the rows of files that have expired or whose content is gone. Returns how many."""
    return connection.execute(FORGET, {"organization_id": organization_id, "ids": list(file_ids)}).rowcount


def _scoped(scope: Scope, **more: Any) -> dict[str, Any]:
    return {"organization_id": scope.organization_id, "user_id": scope.user_id, **more}


def _found(row: Any) -> File:
    if row is None:
        raise FileMissing("there is no such file")
    return File(*row)


def _tell(connection: Connection, action: Action, file: File, by: By) -> None:
    detail = {"name": file.name, "size": file.size}
    audit.write(connection, by.origin, Deed(action, by.actor, file.organization_id, str(file.id), detail=detail))


_COLUMNS = "id, organization_id, user_id, name, size, sha256, created_at, expires_at"
_SHOWN = f"""{own()} AND user_id = coalesce(CAST(:user_id AS text), user_id)
      AND expires_at >= clock_timestamp()"""

LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('files of ' || :organization_id, 0))")

ADD = text(
    f"""
    INSERT INTO files (id, organization_id, user_id, name, size, sha256, expires_at)
    SELECT CAST(:id AS uuid), CAST(:organization_id AS text), CAST(:user_id AS text), CAST(:name AS text),
           CAST(:size AS bigint), CAST(:checksum AS text), clock_timestamp() + CAST(:lifetime AS interval)
    WHERE (SELECT count(*) FROM files WHERE organization_id = :organization_id) < CAST(:most AS integer)
    RETURNING {_COLUMNS}"""
)

GET = text(f"SELECT {_COLUMNS} FROM files WHERE id = :id AND {_SHOWN}")

EVERY = text(f"SELECT {_COLUMNS} FROM files WHERE {_SHOWN} ORDER BY created_at DESC, id DESC")

# Ids are in the order in which they were made.
EVERYWHERE = text(
    f"""
    SELECT {_COLUMNS} FROM files
    WHERE (CAST(:before AS uuid) IS NULL OR id < CAST(:before AS uuid)) AND expires_at >= clock_timestamp()
    ORDER BY id DESC LIMIT :size"""
)

REMOVE = text(f"DELETE FROM files WHERE id = :id AND {_SHOWN} RETURNING {_COLUMNS}")

KNOWN = text(
    """
    SELECT id, expires_at < clock_timestamp() AS has_expired FROM files
    WHERE organization_id = :organization_id ORDER BY created_at, id"""
)

FORGET = text("DELETE FROM files WHERE organization_id = :organization_id AND id = ANY(CAST(:ids AS uuid[]))")
