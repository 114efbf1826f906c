"""Changing a schedule: when it is due, and what it makes; another payload is looked at before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from api.dashboard.asking import NotMade, NotUnderstood, made, whole
from api.dashboard.sheets import Sheet, difference, filled, sheet_page, typed
from api.dashboard.site import Visit
from api.permissions import MANAGE_SCHEDULES
from api.problems import invalid_by
from api.routes import schedules as routes
from api.schemas.schedules import ScheduleChange
from tasks import scheduling
from tasks.catalog import takers
from tasks.templating import resolved
from tracking.reads import schedules as reads
from tracking.schedules.values import CatchUp, Overlap, Schedule

TEXTS = {"name": "name", "cron": "cron", "timezone": "timezone", "catchUp": "catch_up", "overlap": "overlap"}
NUMBERS = {"everySeconds": "every_seconds", "priority": "priority", "maxRetries": "max_retries"}
CHOICES = {"catchUp": tuple(CatchUp), "overlap": tuple(Overlap)}
PLACES = {name: name for name in (*TEXTS, *NUMBERS)}
NEEDED = ("name", "catchUp", "overlap")  # an empty one is left as it is, and refused if it was emptied


def edit_schedule_form(visit: Visit) -> Response:
    """What can be changed of a schedule."""
    known = _known(visit)
    as_json = visit.request.query_params.get("as") == "json"
    sheet = filled(
        _schema(visit, known), known.plan.payload, lambda payload: _taken(visit, known, payload), as_json=as_json
    )
    return _form(visit, known, sheet, {**sheet.said, **_texts(known), "state": routes.tag(known)}, {})


def edit_schedule(visit: Visit) -> Response:
    """Change it, as `PATCH /v1/schedules/{id}` does; with another payload, show first what that changes."""
    known, said = _known(visit), visit.form
    sheet = typed(_schema(visit, known), said)
    places = sheet.places | PLACES
    try:
        change, payload = made(lambda: _asked(known, sheet), places)
        if change.payload is not None and said.get("sure") != json.dumps(payload):
            made(lambda: _taken(visit, known, payload), places)
            return _form(visit, known, sheet, said, {}, lines=difference(known.plan.payload, payload), payload=payload)
        made(lambda: _change(visit, known, change), places)
    except NotMade as why:
        return _form(visit, known, sheet, said, why.errors)
    return RedirectResponse("/schedules?done=changed", 303)


def _known(visit: Visit) -> Schedule:
    visit.principal.must_have(MANAGE_SCHEDULES)
    return visit.read(reads.get, visit.request.path_params["id"], visit.principal.schedule_scope)


def _schema(visit: Visit, known: Schedule) -> Mapping[str, Any]:
    """What its handler takes; nothing is said of what is put on top of a template, which has a part of it."""
    taker = takers(visit.platform).get(known.plan.job_type)
    return taker.payload_schema() if taker is not None and known.plan.template is None else {"type": "object"}


def _taken(visit: Visit, known: Schedule, payload: Mapping[str, Any]) -> Any:
    """The payload as its handler takes it. Raises Problem for one that it does not take."""
    taker = takers(visit.platform).get(known.plan.job_type)
    if taker is None:
        return payload
    together, _ = resolved(visit.platform, known.owner.organization_id, replace(known.plan, payload=dict(payload)))
    try:
        return scheduling.accepted(taker, together, known.owner, {}).payload
    except ValidationError as error:
        raise invalid_by(error, within="payload") from None


def _texts(known: Schedule) -> dict[str, str]:
    plan = known.plan
    return {
        name: "" if (value := getattr(plan, field)) is None else str(value)
        for name, field in {**TEXTS, **NUMBERS}.items()
    }


def _asked(known: Schedule, sheet: Sheet) -> tuple[ScheduleChange, Mapping[str, Any]]:
    """What differs from the schedule as it is. Raises what `made` tells."""
    said, payload, before = sheet.said, sheet.payload, _texts(known)
    texts = {name: said.get(name, "").strip() for name in (*TEXTS, *NUMBERS)}
    if not texts["cron"] and not texts["everySeconds"]:
        raise NotUnderstood("cron", "Say when it is due: by cron, or by an interval.")
    changed = {name: text for name, text in texts.items() if name in said and text != before[name]}
    values: dict[str, Any] = {
        name: whole(text) if name in NUMBERS else text if name in NEEDED else text or None
        for name, text in changed.items()
    }
    if payload != known.plan.payload:
        values["payload"] = payload
    return ScheduleChange.model_validate(values), payload


def _change(visit: Visit, known: Schedule, change: ScheduleChange) -> Any:
    return routes.change_schedule(
        visit.principal,
        visit.platform,
        visit.read,
        known.id,
        change,
        origin=visit.origin,
        response=Response(),
        if_match=visit.form.get("state") or "*",
    )


def _form(
    visit: Visit,
    known: Schedule,
    sheet: Sheet,
    said: Mapping[str, str],
    errors: Mapping[str, str],
    **looked_at: Any,
) -> Response:
    return sheet_page(
        visit,
        "edit_schedule.html",
        sheet,
        said,
        errors,
        **looked_at,
        schedule=known,
        choices=CHOICES,
    )
