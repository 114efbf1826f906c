"""The page of errors: what failed, in groups that are alike, and the buttons that resolve, ignore and open a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.responses import Response

from api.dashboard.site import Visit, render
from api.permissions import MANAGE_JOBS, RETRY_JOBS
from api.routes import errors as routes
from api.schemas.errors import ErrorChange
from tracking.reads import failures
from tracking.reads.failures import SLICES, Group, Standing

SHOWN = 50  # groups
WINDOWS = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
}
DONE = {
    Standing.RESOLVED: "These failures are resolved. The next one like them opens the group again.",
    Standing.IGNORED: "Failures like these are ignored from now on.",
    Standing.OPEN: "The group is open again.",
}
HEIGHT, PLACE, WIDTH = 24, 6, 4.5  # of a sparkline, and of a bar in it


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a sparkline, and what it says."""

    x: float
    y: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """A group, its failures over time, and whether it has appeared within the window."""

    group: Group
    bars: Sequence[Bar]
    is_new: bool


def errors_page(visit: Visit) -> Response:
    """The groups of a window, most failures first."""
    query = visit.request.query_params
    window = query.get("window", "day") if query.get("window") in WINDOWS else "day"
    standing = Standing(query["state"]) if query.get("state") in set(Standing) else Standing.OPEN
    found = visit.read(failures.groups, visit.principal.scope, window=WINDOWS[window], standing=standing, size=SHOWN)
    return render(
        visit.request,
        "errors_body.html" if query.get("part") == "body" else "errors.html",
        principal=visit.principal,
        last_event=visit.last_event,
        lines=[_line(group, found) for group in found.groups],
        found=found,
        window=window,
        windows=WINDOWS,
        standing=standing,
        standings=list(Standing),
        can_manage=MANAGE_JOBS in visit.principal.permissions,
        can_retry=RETRY_JOBS in visit.principal.permissions,
        spark=(SLICES * PLACE, HEIGHT, WIDTH),
        notice=DONE.get(Standing(query["done"])) if query.get("done") in set(Standing) else None,
        now=datetime.now(UTC),
    )


def resolve_error(visit: Visit) -> Response:
    """Say that the failures of a group until now are resolved."""
    return _mark(visit, Standing.RESOLVED)


def ignore_error(visit: Visit) -> Response:
    """Say that failures like these are to be ignored."""
    return _mark(visit, Standing.IGNORED)


def open_error(visit: Visit) -> Response:
    """Take back what was said of a group."""
    return _mark(visit, Standing.OPEN)


def _mark(visit: Visit, standing: Standing) -> Response:
    visit.principal.must_have(MANAGE_JOBS)
    name = visit.request.path_params["fingerprint"]
    body = ErrorChange(state=standing)
    routes.mark_error(visit.principal, visit.platform, origin=visit.origin, fingerprint=name, body=body)
    return visit.done(DONE[standing], f"/errors?done={standing}")


def _line(group: Group, found: failures.Groups) -> Line:
    return Line(group, _bars(group.counts, found), group.first_seen >= found.since)


def _bars(counts: Sequence[int], found: failures.Groups) -> list[Bar]:
    most = max(counts)
    bars = []
    for place, number in enumerate(counts):
        height = max(1.5, round((HEIGHT - 2) * number / most, 1)) if number else 0
        start = found.since + place * found.width
        bars.append(Bar(place * PLACE, HEIGHT - height, height, f"from {start:%d %b %H:%M} UTC: {number:,}"))
    return [bar for bar in bars if bar.height]
