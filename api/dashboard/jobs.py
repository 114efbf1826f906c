"""The page of the jobs: what needs somebody, how many there are of each status, what ended when, and the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from starlette.responses import Response

from api.auth import CANCEL_JOBS, RETRY_JOBS
from api.dashboard.bulk import actions_of
from api.dashboard.drawing import chart
from api.dashboard.searching import PAGE_SIZE, Search, understood
from api.dashboard.site import Visit, render
from api.dashboard.wording import Surroundings, news
from api.schemas.requests import LAST_PAGE
from tracking import workers
from tracking.admission import circuits, organizations, pauses
from tracking.models import JobRecord
from tracking.reads import lists, throughput
from tracking.reads.answers import Filters, Page, Stats
from tracking.states import Status, can_cancel, can_retry

WINDOWS = {"hour": (timedelta(hours=1), 60), "day": (timedelta(days=1), 96)}
MOST_IDS = 100  # rows that a page which is open asks for again


@dataclass(frozen=True, slots=True)
class Row:
    """A job, what there is to say of it, and what its viewer can do about it."""

    job: JobRecord
    news: str
    can_cancel: bool
    can_retry: bool


@dataclass(frozen=True, slots=True)
class Need:
    """Something that needs somebody: what, in a sentence, and a search for the jobs that it is about."""

    what: str
    sentence: str
    search: str | None = None


def jobs_page(visit: Visit) -> Response:
    """The whole page, or what of it a page that is open asks for anew: `part`."""
    query = visit.request.query_params
    search, part = understood(query.get("q", "")), query.get("part")
    window = query.get("window", "hour") if query.get("window") in WINDOWS else "hour"
    around = surroundings(visit)
    values: dict[str, Any] = {"principal": visit.principal, "search": search, "window": window, "now": around.now}
    values["last_event"] = visit.last_event
    if part == "rows":
        return render(visit.request, "rows.html", **values, rows=_known(visit, query.get("ids", ""), around))
    if part != "list":
        values |= _overview(visit, window, around)
    if part == "overview":
        return render(visit.request, "overview.html", **values)
    values |= _listed(visit, search, around) | {"actions": actions_of(visit.principal)}
    return render(visit.request, "list.html" if part == "list" else "jobs.html", **values)


def surroundings(visit: Visit) -> Surroundings:
    """What the jobs of this organization wait for."""
    limits = visit.platform.limits
    alive = visit.read(workers.live, limits.lease_timeout)
    return Surroundings(
        organization=visit.read(organizations.get, visit.principal.organization, limits),
        served=frozenset(queue for worker in alive for queue in worker.queues),
        now=datetime.now(UTC),
    )


def rows(visit: Visit, jobs: Sequence[JobRecord], around: Surroundings) -> list[Row]:
    """These jobs as rows."""
    granted = visit.principal.permissions
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


def _overview(visit: Visit, window: str, around: Surroundings) -> dict[str, Any]:
    length, slices = WINDOWS[window]
    scope = visit.principal.scope
    stats = visit.read(lists.stats, scope, window=length)
    return {
        "stats": stats,
        "counts": _counts(stats),
        "organization": around.organization,
        "needs": _needs(visit, stats, around),
        "chart": chart(visit.read(throughput.finished, scope, window=length, slices=slices)),
    }


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


def _needs(visit: Visit, stats: Stats, around: Surroundings) -> list[Need]:
    organization = visit.principal.organization
    found = []
    if not around.served and stats.pending:
        found.append(Need("No worker", f"{_jobs(stats.pending)} can run, and no worker is alive."))
    for circuit in visit.read(circuits.opened, organization):
        tries = f"one tries again at {circuit.probe_at:%H:%M:%S} UTC" if circuit.state == "open" else "one tries now"
        sentence = f"The last {circuit.failures} attempts have failed. Its jobs wait; {tries}."
        found.append(Need(circuit.job_type, sentence, f"type:{circuit.job_type} status:failed"))
    for pause in visit.read(pauses.of, organization):
        who = pause.shown_by or "an operator of the platform"
        why = f": {pause.reason}" if pause.reason else ""
        sentence = f"Paused by {who} at {pause.paused_at:%H:%M} UTC{why}. What waits does not start."
        found.append(Need(pause.job_type or "All jobs", sentence))
    return found


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"


def _listed(visit: Visit, search: Search, around: Surroundings) -> dict[str, Any]:
    query = visit.request.query_params
    number = _number(query.get("page", "1"))
    cursor = query.get("cursor")
    found = _page(visit, search.filters, number, cursor)
    last = None if found.total is None else -(-found.total // PAGE_SIZE)
    return {
        "rows": rows(visit, found.jobs, around),
        "page": found,
        "number": number if cursor is None else None,
        "last": last,
        "is_live": cursor is None and number == 1,
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
