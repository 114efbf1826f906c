"""The page of the audit: who did what, from where, with what outcome; and the same as a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode
from uuid import UUID

from pydantic import ValidationError
from starlette.responses import Response

from api.dashboard.site import Visit, render
from api.dashboard.wording import spelled
from api.permissions import VIEW_AUDIT
from api.problems import invalid_by
from api.routes import audit as routes
from api.schemas.audit import AuditFilters, AuditQuery, Entry, ExportQuery
from tracking.audited import Action, Outcome
from tracking.origins import Source

SHOWN = 50  # entries on one page
FILTERS = ("actor", "action", "target", "source", "outcome", "from", "to")
MOMENTS = ("from", "to")  # as browsers have them, without a zone: they are of UTC
COLOURS = {Outcome.DONE: "succeeded", Outcome.DENIED: "failed", Outcome.REFUSED: "retrying"}
# Where the target of an action can be looked at: those with an id, and those with a name.
BY_ID = {"job": "/jobs", "bulk": "/bulk", "workflow": "/workflows", "webhook": "/webhooks"}
BY_NAME = {"template": "/templates"}
Query = TypeVar("Query", bound=AuditFilters)


@dataclass(frozen=True, slots=True)
class Line:
    """An entry, where its target can be looked at (None: nowhere), and what else it tells, in a line."""

    entry: Entry
    link: str | None
    said: str
    colour: str


def audit_page(visit: Visit) -> Response:
    """What was done and tried in the organization, newest first, as `GET /v1/audit` narrows it."""
    visit.principal.must_have(VIEW_AUDIT)
    asked = visit.request.query_params
    given = {name: asked[name] for name in FILTERS if asked.get(name)}
    lines: list[Line] = []
    following, why_not = None, None
    try:
        query = _query(AuditQuery, given, cursor=asked.get("cursor"), limit=SHOWN)
        found = routes.list_audit(visit.principal, visit.read, query)
        lines, following = [_line(entry) for entry in found.entries], found.next_cursor
    except ValidationError as error:
        why_not = str(invalid_by(error, outer=False).detail)
    return render(
        visit.request,
        "audit.html",
        200 if why_not is None else 422,
        principal=visit.principal,
        lines=lines,
        given=given,
        moments={name: given[name].removesuffix("Z") for name in MOMENTS if name in given},
        same=urlencode(given),
        following=following,
        is_first=not asked.get("cursor"),
        actions=_grouped(),
        sources=list(Source),
        outcomes=list(Outcome),
        why_not=why_not,
        now=datetime.now(UTC),
    )


def audit_file(visit: Visit) -> Response:
    """The same as a file, as `GET /v1/audit/export` writes it: its newest entries, if there are more."""
    visit.principal.must_have(VIEW_AUDIT)
    asked = visit.request.query_params
    given = {name: asked[name] for name in FILTERS if asked.get(name)}
    try:
        query = _query(ExportQuery, given, format=asked.get("format", "csv"))
    except ValidationError as error:
        raise invalid_by(error, outer=False) from None
    return routes.export_audit(visit.principal, visit.read, query)


def _query(kind: type[Query], given: Mapping[str, str], **more: Any) -> Query:
    """What a form asks for. Raises ValidationError."""
    said: dict[str, Any] = {**given, **{name: value for name, value in more.items() if value}}
    said |= {name: _in_utc(given[name]) for name in MOMENTS if name in given}
    if "action" in given:
        said["action"] = [given["action"]]
    return kind.model_validate(said)


def _in_utc(text: str) -> str:
    return text if text.endswith("Z") or "+" in text else f"{text}Z"


def _grouped() -> dict[str, list[str]]:
    """The actions by what they are done to."""
    found: dict[str, list[str]] = {}
    for action in Action:
        found.setdefault(action.partition(".")[0], []).append(str(action))
    return found


def _line(entry: Entry) -> Line:
    return Line(entry, _link(entry), _said(entry.detail), COLOURS[entry.outcome])


def _link(entry: Entry) -> str | None:
    kind = entry.action.partition(".")[0]
    if entry.target is None or entry.action in (Action.REMOVE_TEMPLATE, Action.REMOVE_WEBHOOK):
        return None
    if kind in BY_NAME:
        return f"{BY_NAME[kind]}/{quote(entry.target, safe='')}"
    return f"{BY_ID[kind]}/{entry.target}" if kind in BY_ID and _is_id(entry.target) else None


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _said(detail: Mapping[str, Any]) -> str:
    """What an entry tells beside its columns, such as `running → cancelled, jobType: sync`."""
    rest = {name: value for name, value in detail.items() if value is not None}
    before, after = rest.pop("from", None), rest.pop("to", None)
    moved = [f"{before} → {after}"] if before and after and before != after else []
    return ", ".join([*moved, *(f"{name}: {_plain(value)}" for name, value in rest.items())])


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else spelled(value)
