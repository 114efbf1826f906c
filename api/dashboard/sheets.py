"""A payload to be written or changed: by the fields of its type's schema, or as JSON; and what that changes."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError
from starlette.responses import Response

from api.dashboard.asking import NotUnderstood, object_of
from api.dashboard.schemas import Field, fields_of, flat, payload_of, texts_of
from api.dashboard.site import Visit, render
from api.dashboard.wording import pretty, spelled
from api.problems import Problem
from tasks.catalog import handler, permission_for
from tracking.errors import TrackingError
from tracking.models import JobRecord
from tracking.reads import lists

MARKS = {"+ ": "add", "- ": "take", "  ": "same"}
Taker = Callable[[Mapping[str, Any]], Any]


class Line(NamedTuple):
    """A line of a difference; `kind` add, take or same."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """What is typed about a payload; `fields` None: it is said as JSON. `has_fields`: it could be said in fields."""

    schema: Mapping[str, Any]
    fields: Sequence[Field] | None
    has_fields: bool
    said: Mapping[str, str]

    @property
    def payload(self) -> dict[str, Any]:
        """The payload that was typed. Raises NotUnderstood."""
        return object_of(self.said, "payload") if self.fields is None else payload_of(self.fields, self.said)

    @property
    def places(self) -> dict[str, str]:
        """The fields by their places in a request."""
        return {each.name: each.name for each in flat(self.fields or ())} | {
            "payload": "payload" if self.fields is None else ""
        }


def job_with(visit: Visit, permission: str) -> JobRecord:
    """The job of a page on which its payload is changed, for whoever has this permission and that of its type."""
    visit.principal.must_have(permission)
    job = visit.read(lists.get, visit.request.path_params["id"], visit.principal.scope)
    visit.principal.must_have(permission_for(visit.platform, job))
    return job


def schema_of(visit: Visit, job: JobRecord) -> Mapping[str, Any]:
    """What the job's handler takes; any object, if this installation has none."""
    app = visit.platform.app
    return handler(app, job.job_type).payload_schema() if job.job_type in app.tasks else {"type": "object"}


def typed(schema: Mapping[str, Any], said: Mapping[str, str]) -> Sheet:
    """What somebody has typed; in JSON if they want it so, or the type does not say what is in it."""
    fields, is_json = fields_of(schema), said.get("as") == "json" or "payload" in said
    return Sheet(schema, None if is_json else fields, fields is not None, said)


def filled(schema: Mapping[str, Any], payload: Mapping[str, Any], take: Taker, *, as_json: bool = False) -> Sheet:
    """A payload to be changed; in fields if all of it is in them, as `take`, which reads it as its handler, says."""
    fields = fields_of(schema)
    if fields is not None and not as_json:
        texts = texts_of(fields, payload)
        try:
            is_whole = bool(take(payload_of(fields, texts)) == take(payload))
        except (NotUnderstood, ValidationError, Problem, TrackingError):
            is_whole = False
        if is_whole:
            return Sheet(schema, fields, has_fields=True, said=texts)
    return Sheet(schema, None, fields is not None, {"as": "json", "payload": pretty(payload)})


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Line]:
    """How two objects differ, line by line, as JSON is read."""
    # In one order at each depth: jsonb keeps none.
    one, other = (spelled(each, indent=2, sort_keys=True).splitlines() for each in (before, after))
    told = (line for line in difflib.ndiff(one, other) if line[:2] in MARKS)
    return [Line(MARKS[line[:2]], line) for line in told]


def sheet_page(
    visit: Visit,
    template: str,
    sheet: Sheet,
    said: Mapping[str, str],
    errors: Mapping[str, str],
    *,
    lines: Sequence[Line] | None = None,
    payload: Mapping[str, Any] | None = None,
    **values: Any,
) -> Response:
    """The page on which a sheet is filled in; with what a `payload` changes, as `lines`, which is to be looked at."""
    return render(
        visit.request,
        template,
        422 if errors else 200,
        principal=visit.principal,
        sheet=sheet,
        said=said,
        errors=errors,
        lines=lines,
        same=lines is not None and is_same(lines),
        sure=json.dumps(payload),
        **values,
    )


def is_same(lines: Sequence[Line]) -> bool:
    """Whether nothing differs."""
    return all(line.kind == "same" for line in lines)
