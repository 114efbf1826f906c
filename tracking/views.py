"""Saved views: searches of the list of jobs that a user keeps under a name, and shows to others of the organization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking import audit
from tracking.audit import Deed
from tracking.audited import Action
from tracking.errors import TooManyViews, ViewExists, ViewNotFound
from tracking.models import Owner, Scope
from tracking.origins import By
from tracking.sql import SCOPE, own

MOST_VIEWS = 50  # of a user: as many as a menu can hold


@dataclass(frozen=True, slots=True)
class View:
    """A row of `saved_views`; `search` as it is typed at the page of the jobs."""

    id: UUID
    organization_id: str
    user_id: str
    name: str
    search: str
    created_at: datetime


def save(connection: Connection, owner: Owner, *, view_id: UUID, name: str, search: str, by: By) -> View:
    """Keep a search under a name. Raises ViewExists, or TooManyViews. Wants a transaction."""
    whose = {"organization_id": owner.organization_id, "user_id": owner.user_id}
    connection.execute(LOCK, whose)
    if connection.execute(COUNT, whose).scalar_one() >= MOST_VIEWS:
        raise TooManyViews(f"a user has {MOST_VIEWS} saved views at most")
    row = connection.execute(SAVE, {**whose, "id": view_id, "name": name, "search": search}).first()
    if row is None:
        raise ViewExists(f"there is a view {name!r} already")
    return _told(connection, Action.SAVE_VIEW, View(*row), by)


def every(connection: Connection, owner: Owner) -> Sequence[View]:
    """The views of a user, by name."""
    whose = {"organization_id": owner.organization_id, "user_id": owner.user_id}
    return [View(*row) for row in connection.execute(EVERY, whose)]


def get(connection: Connection, view_id: UUID, organization_id: str) -> View:
    """A view of anybody of the organization: its link was given to them. Raises ViewNotFound."""
    return _found(connection.execute(GET, {"id": view_id, "organization_id": organization_id}).first())


def change(
    connection: Connection, view_id: UUID, scope: Scope, *, name: str | None, search: str | None, by: By
) -> View:
    """Rename a view, or have it find something else; None: as it is. Raises ViewNotFound, or ViewExists.

    Wants a transaction.
    """
    known = _found(connection.execute(LOCKED, {**scope.parameters, "id": view_id}).first())
    connection.execute(LOCK, {"organization_id": known.organization_id, "user_id": known.user_id})
    said = {"name": known.name if name is None else name, "search": known.search if search is None else search}
    row = connection.execute(CHANGE, {"id": view_id, "organization_id": known.organization_id, **said}).first()
    if row is None:
        raise ViewExists(f"there is a view {said['name']!r} already")
    return _told(connection, Action.CHANGE_VIEW, View(*row), by)


def remove(connection: Connection, view_id: UUID, scope: Scope, by: By) -> View:
    """Forget a view. Raises ViewNotFound. Wants a transaction."""
    removed = _found(connection.execute(REMOVE, {**scope.parameters, "id": view_id}).first())
    return _told(connection, Action.REMOVE_VIEW, removed, by)


def _found(row: Any) -> View:
    if row is None:
        raise ViewNotFound
    return View(*row)


def _told(connection: Connection, action: Action, view: View, by: By) -> View:
    detail = {"name": view.name, "search": view.search}
    audit.write(connection, by.origin, Deed(action, by.actor, view.organization_id, str(view.id), detail=detail))
    return view


_COLUMNS = "id, organization_id, user_id, name, search, created_at"
_MINE = f"{own()} AND user_id = :user_id"

# Two requests at once could both find room for one, or a name free.
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('views of ' || :user_id || ' of ' || :organization_id, 0))")

COUNT = text(f"SELECT count(*) FROM saved_views WHERE {_MINE}")

SAVE = text(
    f"""
    INSERT INTO saved_views (id, organization_id, user_id, name, search)
    VALUES (:id, :organization_id, :user_id, :name, :search)
    ON CONFLICT (organization_id, user_id, name) DO NOTHING
    RETURNING {_COLUMNS}"""
)

EVERY = text(f"SELECT {_COLUMNS} FROM saved_views WHERE {_MINE} ORDER BY name")

GET = text(f"SELECT {_COLUMNS} FROM saved_views WHERE id = :id AND {own()}")

LOCKED = text(f"SELECT {_COLUMNS} FROM saved_views WHERE id = :id AND {SCOPE} FOR UPDATE")

CHANGE = text(
    f"""
    UPDATE saved_views AS known SET name = :name, search = :search
    WHERE known.id = :id AND {own("known.organization_id")} AND NOT EXISTS (
        SELECT FROM saved_views AS other
        WHERE other.organization_id = known.organization_id AND other.user_id = known.user_id
          AND other.name = :name AND other.id <> known.id)
    RETURNING {_COLUMNS}"""
)

REMOVE = text(f"DELETE FROM saved_views WHERE id = :id AND {SCOPE} RETURNING {_COLUMNS}")
