"""The page of the jobs: what needs somebody, how many there are of each status, what ended when, and the rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from api.dashboard.asking import moment as moment_of
from api.dashboard.bulk import actions_of
from api.dashboard.completing import completions
from api.dashboard.drawing import chart
from api.dashboard.needs import needs
from api.dashboard.searching import PAGE_SIZE, Search, understood
from api.dashboard.site import Visit, of_one_moment, render
from api.dashboard.wording import Surroundings, news
from api.permissions import CANCEL_JOBS, RETRY_JOBS
from api.problems import invalid_by
from api.schemas.requests import LAST_PAGE, AsOf
from tracking import views, workers
from tracking.admission import organizations
from tracking.models import JobRecord
from tracking.reads import lists, past, throughput
from tracking.reads.answers import Filters, Page, Stats
from tracking.reads.throughput import By
from tracking.states import Status, can_cancel, can_retry
from tracking.values import in_milliseconds

WINDOWS = {"hour": (timedelta(hours=1), 60), "day": (timedelta(days=1), 96)}
DAY = 24 * 60  # minutes
MOST_IDS = 100  # rows that a page which is open asks for again


@dataclass(frozen=True, slots=True)
class Row:
    """A job, what there is to say of it, and what its viewer can do about it."""

    job: JobRecord
    news: str
    can_cancel: bool
    can_retry: bool


@of_one_moment
def jobs_page(visit: Visit) -> Response:
    """The whole page, or what of it a page that is open asks for anew: `part`."""
    query = visit.request.query_params
    if {"since", "until"} & query.keys() and "part" not in query:
        return _narrowed(query)
    search, part = understood(query.get("q", "")), query.get("part")
    window = query.get("window", "hour") if query.get("window") in WINDOWS else "hour"
    at = moment(query.get("asOf"))
    around = surroundings(visit, at)
    by = By(query["by"]) if query.get("by") in tuple(By) else None
    values: dict[str, Any] = {"principal": visit.principal, "search": search, "window": window, "now": around.now}
    values |= {"by": by, "groupings": tuple(By), "kept": _kept(query), "most_grouped": throughput.MOST_GROUPED}
    values |= {"at": at, "then": f"&asOf={quote(in_milliseconds(at))}" if at else "", "back": _minutes_back(at)}
    values |= {"last_event": visit.last_event, "actions": actions_of(visit.principal) if at is None else {}}
    if part == "rows":
        return render(visit.request, "rows.html", **values, rows=_known(visit, query.get("ids", ""), around))
    if part != "list":
        values |= _overview(visit, search, window, by, around) if at is None else _overview_then(visit, window, around)
    if part == "overview":
        return render(visit.request, "overview.html", **values)
    if part != "list":
        values |= {"views": visit.read(views.every, visit.principal.owner), "done": query.get("done")}
        values["completions"] = completions(visit, around.served)
    values |= _listed(visit, search, around, at)
    return render(visit.request, "list.html" if part == "list" else "jobs.html", **values)


def moment(text: str | None) -> datetime | None:
    """A time that is over, which an address names, in UTC unless it says its zone; None: it names none, it is now.

    Raises Problem for any other, as the API does.
    """
    try:
        return AsOf.model_validate({"asOf": moment_of(text)}).as_of
    except ValidationError as error:
        raise invalid_by(error, outer=False) from None


def surroundings(visit: Visit, at: datetime | None = None) -> Surroundings:
    """What the jobs of this organization wait for; `at`: the time at which they are looked at, None: now."""
    limits = visit.platform.limits
    return Surroundings(
        organization=visit.read(organizations.slots, visit.principal.organization, limits),
        served=visit.read(workers.served_queues, limits.lease_timeout),
        now=at or datetime.now(UTC),
    )


def rows(visit: Visit, jobs: Sequence[JobRecord], around: Surroundings, *, are_past: bool = False) -> list[Row]:
    """These jobs as rows; `are_past`: as they were, and nothing can be done about that."""
    granted = frozenset() if are_past else visit.principal.permissions
    return [
        Row(
            job,
            news(job, around),
            CANCEL_JOBS in granted and can_cancel(job.status),
            RETRY_JOBS in granted and is_retryable(job),
        )
        for job in jobs
    ]


def is_retryable(job: JobRecord) -> bool:
    """Whether a retry is accepted now, without force."""
    return can_retry(job.status, job.retry_count, job.max_retries) and not (job.stopping or job.ended_uncalled)


def _narrowed(query: Mapping[str, str]) -> Response:
    """To the search with a range of time, which a form or a chart has asked for: ended between `since` and `until`."""
    since, until = (moment_of(query.get(name)) or "" for name in ("since", "until"))
    rest = understood(query.get("q", "")).without("ended")
    text = f"{rest} ended:{since}..{until}".strip() if since or until else rest
    return RedirectResponse(f"/?{urlencode({'q': text, **_kept(query)})}", 303)


def _kept(query: Mapping[str, str]) -> dict[str, str]:
    """What of an address says how the chart is drawn, and stays when another search is made."""
    known: dict[str, Collection[str]] = {"window": WINDOWS, "by": tuple(By)}
    return {name: query[name] for name, values in known.items() if query.get(name) in values}


def _overview(visit: Visit, search: Search, window: str, by: By | None, around: Surroundings) -> dict[str, Any]:
    length, slices = WINDOWS[window]
    scope, filters = visit.principal.scope, search.filters or Filters()
    ended = visit.read(throughput.finished, scope, window=length, slices=slices)
    apart = None if by is None else visit.read(throughput.grouped, scope, by, window=length, slices=slices)
    stats = visit.read(lists.stats, scope, window=length)
    return {
        "stats": stats,
        "counts": _counts(stats),
        "organization": around.organization,
        "needs": needs(visit, is_served=bool(around.served)),
        "chart": chart(ended, length / slices, filters.completed_from, filters.completed_to, apart),
    }


def _overview_then(visit: Visit, window: str, around: Surroundings) -> dict[str, Any]:
    stats = visit.read(past.stats, visit.principal.scope, around.now, window=WINDOWS[window][0])
    return {
        "stats": stats,
        "counts": _counts(stats),
        "organization": around.organization,
        "needs": [],
        "chart": None,
    }


def _minutes_back(at: datetime | None) -> int:
    """Where the bar stands on which the time is dragged: as far as a day."""
    return 0 if at is None else max(-DAY, -int((datetime.now(UTC) - at) / timedelta(minutes=1)))


def _counts(stats: Stats) -> dict[Status, int]:
    queued = stats.total_active - stats.running - stats.retrying
    return {
        Status.QUEUED: queued,
        Status.RUNNING: stats.running,
        Status.RETRYING: stats.retrying,
        Status.SUCCEEDED: stats.completed,
        Status.FAILED: stats.failed,
        Status.CANCELLED: stats.cancelled,
    }


def _listed(visit: Visit, search: Search, around: Surroundings, at: datetime | None) -> dict[str, Any]:
    query = visit.request.query_params
    number = _number(query.get("page", "1"))
    cursor = query.get("cursor")
    filters = search.filters
    found = _page(visit, replace(filters, as_of=at) if filters is not None else None, number, cursor)
    last = None if found.total is None else -(-found.total // PAGE_SIZE)
    return {
        "rows": rows(visit, found.jobs, around, are_past=at is not None),
        "page": found,
        "number": number if cursor is None else None,
        "last": last,
        "is_live": cursor is None and number == 1 and at is None,
    }


def _page(visit: Visit, filters: Filters | None, number: int, cursor: str | None) -> Page:
    if filters is None:
        return Page((), 0, None)
    if cursor:
        return visit.read(lists.after, visit.principal.scope, filters, cursor=cursor, size=PAGE_SIZE)
    return visit.read(lists.page, visit.principal.scope, filters, number=number, size=PAGE_SIZE)


def _known(visit: Visit, ids: str, around: Surroundings) -> list[Row]:
    wanted = [UUID(each) for each in ids.split(",")[:MOST_IDS] if _is_id(each)]
    if not wanted:
        return []
    found = visit.read(lists.after, visit.principal.scope, Filters(ids=wanted), cursor=None, size=MOST_IDS)
    return rows(visit, found.jobs, around)


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> int:
    return min(int(text), LAST_PAGE) if text.isascii() and text.isdigit() and len(text) < 10 and int(text) else 1  # noqa: PLR2004
