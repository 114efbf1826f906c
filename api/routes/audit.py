"""The audit: who did what, from where, with what outcome."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api import openapi
from api.auth import Principal, Reach, requires
from api.permissions import MANAGE_PLATFORM, VIEW_AUDIT
from api.reading import ListRead, Reading
from api.schemas.audit import Audit, AuditFilters, AuditQuery, Entry, ExportQuery, as_csv, as_lines
from api.strict import StrictRoute
from tracking import audit

router = APIRouter(prefix="/v1/audit", tags=["audit"], route_class=StrictRoute)

Auditor = Annotated[Principal, requires(VIEW_AUDIT, reach=Reach.ALL)]

FORMATS = {"csv": (as_csv, "text/csv; charset=utf-8"), "jsonl": (as_lines, "application/jsonl")}
NEXT = "Next-Cursor"


@router.get("", responses=openapi.SLOW)
def list_audit(principal: Auditor, read: ListRead, query: Annotated[AuditQuery, Query()]) -> Audit:
    """What was done and tried in the organization, newest first."""
    entries, following = _found(principal, read, query, query.limit)
    return Audit(entries=entries, next_cursor=following)


@router.get("/export", response_class=Response, responses=openapi.AUDIT_EXPORT)
def export_audit(principal: Auditor, read: ListRead, query: Annotated[ExportQuery, Query()]) -> Response:
    """The same as CSV or JSON lines; when there is more, the header `Next-Cursor` says where it goes on."""
    entries, following = _found(principal, read, query, query.limit)
    write, media_type = FORMATS[query.format]
    headers = {"Content-Disposition": f'attachment; filename="audit.{query.format}"'}
    return Response(
        write(entries),
        headers=headers if following is None else {**headers, NEXT: str(following)},
        media_type=media_type,
    )


def _found(principal: Principal, read: Reading, query: AuditFilters, limit: int) -> tuple[list[Entry], int | None]:
    """At most `limit` entries, and the cursor for those that follow; None: there are none."""
    whose = None if principal.everywhere else principal.organization
    by_operator = MANAGE_PLATFORM in principal.permissions
    rows = read(audit.find, query.sought(whose, by_operator=by_operator), before_id=query.cursor, size=limit + 1)
    entries = [Entry.of(row, by_operator=by_operator) for row in rows[:limit]]
    return entries, rows[limit - 1].id if len(rows) > limit else None
