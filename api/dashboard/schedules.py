"""The page of the schedules: when each is due, what became of its last due times, and its buttons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from api.dashboard.site import Visit, render
from api.dashboard.wording import when
from api.permissions import MANAGE_PLATFORM, MANAGE_SCHEDULES
from api.routes import schedules as routes
from tasks.words import in_words
from tracking import clean_ups
from tracking.clean_ups import CleanUp
from tracking.reads import schedules as reads
from tracking.schedules.values import Became, Outcome, Plan, Schedule, Why
from tracking.tenancy import confined_to

MOST = 100  # on one page
DONE = {
    "paused": "It makes no job until it is resumed.",
    "resumed": "It is due again from now on.",
    "run": "A job of it was made.",
    "skipped": "Its next due time makes no job.",
    "changed": "The schedule was changed.",
    "created": "The schedule was made.",
    "removed": "The schedule was removed; the jobs that it has made stay.",
}
SKIPPED = {
    Why.OVERLAP: "an earlier job had not ended",
    Why.LATE: "no worker has looked in time",
    Why.ASKED: "somebody wanted it so",
}


@dataclass(frozen=True, slots=True)
class Badge:
    """What became of a due time: how it looks (`kind`, a status), and in words."""

    kind: str
    text: str
    why: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Line:
    """A schedule; `due` is what its column says when no time is to come."""

    schedule: Schedule
    words: str
    due: str
    badges: list[Badge]


def schedules_page(visit: Visit) -> Response:
    """The schedules that the visitor sees, by name, a hundred to a page."""
    asked = visit.request.query_params
    found = visit.read(reads.page, visit.principal.schedule_scope, after=asked.get("after") or None, size=MOST + 1)
    now = datetime.now(UTC)
    is_operator = MANAGE_PLATFORM in visit.principal.permissions
    return render(
        visit.request,
        "schedules_body.html" if asked.get("part") == "body" else "schedules.html",
        principal=visit.principal,
        last_event=visit.last_event,
        lines=[_line(each, now) for each in found[:MOST]],
        after=found[MOST - 1].plan.name if len(found) > MOST else None,
        clean_ups=_clean_ups(visit) if is_operator else [],
        can_manage=MANAGE_SCHEDULES in visit.principal.permissions,
        notice=DONE.get(asked.get("done", "")),
        now=now,
    )


def pause_schedule(visit: Visit) -> Response:
    """Let it make no job, as `POST /v1/schedules/{id}/pause` does."""
    return _act(visit, "paused", routes.pause_schedule, read=visit.read)


def resume_schedule(visit: Visit) -> Response:
    """Let it be due again, as `POST /v1/schedules/{id}/resume` does."""
    return _act(visit, "resumed", routes.resume_schedule, read=visit.read)


def skip_next(visit: Visit) -> Response:
    """Let its next due time make no job, as `POST /v1/schedules/{id}/skip-next` does."""
    return _act(visit, "skipped", routes.skip_next, read=visit.read)


def run_schedule(visit: Visit) -> Response:
    """Make a job of it now, as `POST /v1/schedules/{id}/run` does."""
    return _act(visit, "run", routes.run_schedule, read=visit.read, response=Response())


def remove_schedule(visit: Visit) -> Response:
    """Forget it, as `DELETE /v1/schedules/{id}` does."""
    return _act(visit, "removed", routes.remove_schedule)


def _act(visit: Visit, what: str, route: Callable[..., Any], **given: Any) -> Response:
    visit.principal.must_have(MANAGE_SCHEDULES)
    schedule_id = visit.request.path_params["id"]
    route(visit.principal, visit.platform, schedule_id=schedule_id, origin=visit.origin, **given)
    return visit.done(DONE[what], f"/schedules?done={what}")


def _clean_ups(visit: Visit) -> list[tuple[CleanUp, str]]:
    """Each with its interval in words."""
    with confined_to(None):  # those of the platform
        found = visit.read(clean_ups.every)
    return [(each, in_words(Plan(each.name, "", every_seconds=each.every_seconds))) for each in found]


def _line(schedule: Schedule, now: datetime) -> Line:
    due = "paused" if schedule.paused else when(schedule.next_at, now) if schedule.next_at else "never"
    return Line(schedule, in_words(schedule.plan), due, [_badge(each) for each in schedule.last])


def _badge(outcome: Outcome) -> Badge:
    if outcome.became is Became.FAILED:
        return Badge("failed", "no job", outcome.reason or "", outcome)
    if outcome.became is Became.SKIPPED:
        times = f" {outcome.count:,} times" if outcome.count > 1 else ""
        return Badge("skipped", f"skipped{times}", SKIPPED[Why(outcome.reason or Why.ASKED)], outcome)
    by = f"run by {outcome.actor}" if outcome.actor else "made when it was due"
    return Badge(outcome.status or "skipped", outcome.status or "removed", by, outcome)
