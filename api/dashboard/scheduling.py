"""The page that makes a schedule: what it makes by the schema of its type, and when it is due."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import RedirectResponse, Response

from api.dashboard.asking import NotMade, NotUnderstood, made, whole
from api.dashboard.rescheduling import CHOICES, NUMBERS, PLACES, TEXTS
from api.dashboard.sheets import Sheet, typed
from api.dashboard.site import Visit, render
from api.permissions import MANAGE_SCHEDULES
from api.routes import schedules as routes
from api.schemas.schedules import NewSchedule, Schedule
from tasks.attempt.job import Job
from tasks.catalog import handlers
from tracking.schedules.values import CatchUp, Overlap

UNLESS_SAID = {"catchUp": str(CatchUp.ONCE), "overlap": str(Overlap.ALLOW)}


def new_schedule_form(visit: Visit) -> Response:
    """The types of which the visitor may make schedules, and the form of the chosen one."""
    visit.principal.must_have(MANAGE_SCHEDULES)
    asked = visit.request.query_params
    return _show(visit, {**UNLESS_SAID, "jobType": asked.get("type", ""), "as": asked.get("as", "")}, {})


def create_schedule(visit: Visit) -> Response:
    """Have jobs made at these times, as `POST /v1/schedules` does; what is wrong is said at its field."""
    visit.principal.must_have(MANAGE_SCHEDULES)
    said = visit.form
    taker = _offered(visit).get(said.get("jobType", ""))
    sheet = typed(taker.payload_schema() if taker else {}, said)

    def make() -> Schedule:
        wanted, response = NewSchedule.model_validate(_asked(said, sheet)), Response()
        return routes.create_schedule(
            visit.principal, visit.platform, visit.read, wanted, origin=visit.origin, response=response
        )

    try:
        made(make, sheet.places | PLACES)
    except NotMade as why:
        return _show(visit, said, why.errors)
    return RedirectResponse("/schedules?done=created", 303)


def _asked(said: Mapping[str, str], sheet: Sheet) -> dict[str, Any]:
    if not said.get("cron", "").strip() and not said.get("everySeconds", "").strip():
        raise NotUnderstood("cron", "Say when it is due: by cron, or by an interval.")
    texts = {name: said.get(name, "").strip() for name in (*TEXTS, *NUMBERS)}
    values = {name: whole(text) if name in NUMBERS else text for name, text in texts.items() if text}
    return {**values, "jobType": said.get("jobType", ""), "payload": sheet.payload}


def _offered(visit: Visit) -> dict[str, Job]:
    """The types that workers run of which the visitor may create jobs."""
    granted = visit.principal.permissions
    known = handlers(visit.platform.app).items()
    return {
        name: each
        for name, each in known
        if not each.external and (each.permission is None or each.permission in granted)
    }


def _show(visit: Visit, said: Mapping[str, str], errors: Mapping[str, str]) -> Response:
    offered, chosen = _offered(visit), said.get("jobType", "")
    taker = offered.get(chosen)
    if chosen and taker is None:
        errors = {"": f"There is no type {chosen} that you may make schedules of."}
    return render(
        visit.request,
        "new_schedule.html",
        422 if errors else 200,
        principal=visit.principal,
        types=sorted(offered),
        chosen=chosen if taker else None,
        sheet=typed(taker.payload_schema() if taker else {}, said),
        said=said,
        errors=errors,
        choices=CHOICES,
    )
