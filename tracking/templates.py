"""Templates: jobs that are asked for by name. Each change makes a version, and all versions are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, text

from tracking import audit
from tracking.audit import Deed
from tracking.audited import Action
from tracking.errors import TemplateChanged, TemplateExists, TemplateNotFound
from tracking.models import JsonObject
from tracking.origins import Origin
from tracking.reads.places import place_of
from tracking.sql import own


@dataclass(frozen=True, slots=True)
class Content:
    """What a version says. None: as the handler says, and no permission besides the handler's own.

    `schedule`: what its schedules say unless they say it themselves, as the API has it.
    """

    payload: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)
    priority: int | None = None
    max_retries: int | None = None
    permission: str | None = None
    schedule: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Template:
    """One version of a template; `newest` is the number of the newest one."""

    id: UUID
    organization_id: str
    name: str
    job_type: str
    version: int
    newest: int
    content: Content
    changed_by: str
    changed_at: datetime
    created_at: datetime


def create(
    connection: Connection,
    content: Content,
    *,
    template_id: UUID,
    organization_id: str,
    name: str,
    job_type: str,
    actor: str,
    origin: Origin | None,
) -> Template:
    """Keep a template, as its first version. Raises TemplateExists."""
    of = {"id": template_id, "organization_id": organization_id, "name": name, "job_type": job_type, "actor": actor}
    row = connection.execute(CREATE, {**of, **_said(content)}).first()
    if row is None:
        raise TemplateExists(f"there is a template {name!r} already")
    _tell(connection, Action.CREATE_TEMPLATE, organization_id, name, 1, actor=actor, origin=origin)
    return _template(row)


def change(
    connection: Connection,
    organization_id: str,
    name: str,
    content: Content,
    *,
    known: int,
    actor: str,
    origin: Origin | None,
) -> Template:
    """Make the next version, if `known` is the newest one; of the same content, none.

    Raises TemplateNotFound or TemplateChanged.
    """
    before = get(connection, organization_id, name)
    if before.version == known and before.content == content:
        return before
    of = {"organization_id": organization_id, "name": name, "known": known, "actor": actor}
    row = connection.execute(CHANGE, {**of, **_said(content)}).first()
    if row is None:
        raise TemplateChanged(f"the template {name!r} has changed since it was read")
    _tell(connection, Action.CHANGE_TEMPLATE, organization_id, name, row.version, actor=actor, origin=origin)
    return _template(row)


def remove(connection: Connection, organization_id: str, name: str, *, actor: str, origin: Origin | None) -> None:
    """Forget a template with all its versions. Raises TemplateNotFound."""
    row = connection.execute(REMOVE, {"organization_id": organization_id, "name": name}).first()
    if row is None:
        raise TemplateNotFound(f"there is no template {name!r}")
    _tell(connection, Action.REMOVE_TEMPLATE, organization_id, name, row.version, actor=actor, origin=origin)


def get(connection: Connection, organization_id: str, name: str, version: int | None = None) -> Template:
    """A version of a template; None: the newest one. Raises TemplateNotFound."""
    of = {"organization_id": organization_id, "name": name, "version": version}
    row = connection.execute(GET, of).first()
    if row is None:
        named = f"template {name!r}" if version is None else f"version {version} of a template {name!r}"
        raise TemplateNotFound(f"there is no {named}")
    return _template(row)


def page(connection: Connection, organization_id: str, *, after: str | None, size: int) -> Sequence[Template]:
    """The newest versions of an organization's templates, by name, after this name (None: the first ones)."""
    rows = connection.execute(PAGE, {"organization_id": organization_id, "after": after, "size": size})
    return [_template(row) for row in rows]


def everywhere(connection: Connection, *, after: str | None, size: int) -> Sequence[Template]:
    """The same of all organizations, by these and by name, behind a cursor of places.py. Raises InvalidValue."""
    organization_id, name = place_of(after)
    rows = connection.execute(EVERYWHERE, {"organization_id": organization_id, "after": name, "size": size})
    return [_template(row) for row in rows]


def versions(
    connection: Connection, organization_id: str, name: str, *, before: int | None, size: int
) -> Sequence[Template]:
    """The versions of a template, newest first, before that number (None: the newest). Raises TemplateNotFound."""
    of = {"organization_id": organization_id, "name": name, "before": before, "size": size}
    found = [_template(row) for row in connection.execute(VERSIONS, of)]
    if not found:
        get(connection, organization_id, name)
    return found


def _tell(
    connection: Connection, action: Action, whose: str, name: str, version: int, *, actor: str, origin: Origin | None
) -> None:
    audit.write(connection, origin, Deed(action, actor, whose, name, detail={"version": version}))


def _template(row: Any) -> Template:
    content = Content(**{name: getattr(row, name) for name in _NAMES})
    return Template(content=content, **{name: getattr(row, name) for name in _KEPT})


def _said(content: Content) -> dict[str, Any]:
    said = {name: getattr(content, name) for name in _NAMES}
    return {name: Jsonb(dict(value)) if name in _OBJECTS else value for name, value in said.items()}


_OBJECTS = ("payload", "metadata", "schedule")
_NAMES = [each.name for each in fields(Content)]
_KEPT = [each.name for each in fields(Template) if each.name != "content"]
_COLUMNS = ", ".join(_NAMES)
_VALUES = ", ".join(f":{name}" for name in _NAMES)
_OF_TEMPLATE = "templates.id, organization_id, name, job_type, templates.created_at"
_OF_VERSION = f"made.version, {_COLUMNS}, changed_by, changed_at"
_FOUND = f"""SELECT {_OF_TEMPLATE}, templates.version AS newest, {_OF_VERSION}
    FROM templates JOIN template_versions AS made ON made.template_id = templates.id"""

_MADE = f"""made AS (
        INSERT INTO template_versions (template_id, version, {_COLUMNS}, changed_by)
        SELECT id, version, {_VALUES}, :actor FROM new
        RETURNING *
    )
    SELECT new.id, organization_id, name, job_type, new.created_at, new.version AS newest, {_OF_VERSION}
    FROM new CROSS JOIN made"""

CREATE = text(
    f"""
    WITH new AS (
        INSERT INTO templates (id, organization_id, name, job_type, version)
        VALUES (:id, :organization_id, :name, :job_type, 1)
        ON CONFLICT (organization_id, name) DO NOTHING
        RETURNING *
    ), {_MADE}"""
)

CHANGE = text(
    f"""
    WITH new AS (
        UPDATE templates SET version = version + 1
        WHERE {own()} AND name = :name AND version = :known
        RETURNING *
    ), {_MADE}"""
)

REMOVE = text(f"DELETE FROM templates WHERE {own()} AND name = :name RETURNING version")

GET = text(
    f"""
    {_FOUND}
    WHERE {own()} AND name = :name
      AND made.version = coalesce(CAST(:version AS int), templates.version)"""
)

PAGE = text(
    f"""
    {_FOUND}
    WHERE {own()} AND made.version = templates.version
      AND (CAST(:after AS text) IS NULL OR name > CAST(:after AS text))
    ORDER BY name LIMIT :size"""
)

EVERYWHERE = text(
    f"""
    {_FOUND}
    WHERE made.version = templates.version
      AND (organization_id, name) > (CAST(:organization_id AS text), CAST(:after AS text))
    ORDER BY organization_id, name LIMIT :size"""
)

VERSIONS = text(
    f"""
    {_FOUND}
    WHERE {own()} AND name = :name
      AND (CAST(:before AS int) IS NULL OR made.version < CAST(:before AS int))
    ORDER BY made.version DESC LIMIT :size"""
)
