"""The page of one job, and its two buttons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from starlette.responses import Response

from api.dashboard.durations import attempt_of
from api.dashboard.editing import can_edit
from api.dashboard.jobs import is_retryable, moment, surroundings
from api.dashboard.layers import MOST, graph, of_canvas, of_workflow
from api.dashboard.site import Visit, of_one_moment, render
from api.dashboard.wording import clock, exactly, news
from api.ledger import told_of
from api.permissions import CANCEL_JOBS, DELETE_JOBS, MANAGE_PLATFORM, MANAGE_WEBHOOKS, RETRY_JOBS
from api.routes import jobs as routes
from api.schemas.webhooks import DeliveriesQuery, Delivery
from tasks.tracebacks import parts
from tracking.errors import WorkflowNotFound
from tracking.models import JobRecord, Scope
from tracking.reads import explain, failures, lists, past
from tracking.reads.answers import AttemptRecord, HistoryEntry
from tracking.reads.graphs import graph_of
from tracking.reads.types import durations_like
from tracking.states import FINISHED, Event, Status, can_cancel, sources
from tracking.workflows import reads as workflows

DONE = {
    "created": "The job was accepted.",
    "cancelled": "The job was cancelled.",
    "retried": "The job was queued again.",
    "repeated": "This is the new job.",
    "edited": "The job was changed.",
    "as-it-was": "Nothing was changed: it is as it was.",
}
THEN = "The job is shown as it was."
DELIVERIES = 50  # of the job: the ledger has all of them
REPORTS = 3  # in a row that are shown; of up to twice as many, all
INSTANT = timedelta(milliseconds=1)  # after an entry: addresses have no smaller part of a second


@dataclass(frozen=True, slots=True)
class Step:
    """A station on the way of a job: `kind` past, now or ahead."""

    name: str
    detail: str
    kind: str
    status: Status | None = None


def job_page(visit: Visit) -> Response:
    """All that is known of a job."""
    deliveries = _deliveries(visit)  # of another organization, in a way, and so by themselves
    return of_one_moment(lambda at_once: _page(at_once, deliveries))(visit)


def _page(visit: Visit, deliveries: Sequence[Delivery]) -> Response:
    job_id: UUID = visit.request.path_params["id"]
    scope, at = visit.principal.scope, moment(visit.request.query_params.get("asOf"))
    job = visit.read(lists.get, job_id, scope) if at is None else visit.read(lists.get_as_of, job_id, scope, at)
    timeline = visit.read(lists.timeline, job_id)
    timeline = timeline if at is None else past.until(timeline, at)
    attempts, around = list(lists.attempts(timeline)), surroundings(visit, at)
    reasons = [reason.sentence for reason in visit.read(explain.explain, job_id, scope, visit.platform.limits).reasons]
    usual = visit.read(durations_like, job, scope) if at is None else None  # none is known of then
    granted = visit.principal.permissions if at is None else frozenset()
    return render(
        visit.request,
        "job_body.html" if visit.request.query_params.get("part") == "body" else "job.html",
        principal=visit.principal,
        job=job,
        last_event=visit.last_event,
        now=around.now,
        at=at,
        reasons=reasons if at is None else [news(job, around) or f"It was {job.status}."],
        steps=_steps(job, timeline, attempts),
        spent=attempt_of(job, timeline, at or around.now, usual),
        attempts=[(attempt, parts(attempt.traceback)) for attempt in reversed(attempts)],
        timeline=_timeline(timeline, deliveries if at is None else ()),
        may_see_deliveries=MANAGE_WEBHOOKS in granted,
        **_belonging(visit, job),
        alike=visit.read(failures.fingerprint_of, job_id),
        repeated_by=visit.read(lists.retries, job_id, visit.principal.scope),
        can_repeat=job.status in sources(Event.RETRIED) and not job.stopping and RETRY_JOBS in granted,
        can_delete=job.status in FINISHED and DELETE_JOBS in granted,
        can_edit=at is None and can_edit(visit, job),
        can_cancel=can_cancel(job.status) and CANCEL_JOBS in granted,
        why_no_cancel=THEN if at else _why_not(CANCEL_JOBS in granted, f"It is {job.status}."),
        can_retry=is_retryable(job) and RETRY_JOBS in granted,
        why_no_retry=THEN if at else _why_not(RETRY_JOBS in granted, _why_no_retry(job)),
        flower=visit.platform.settings.flower_url if MANAGE_PLATFORM in granted else "",
        notice=DONE.get(visit.request.query_params.get("done", "")),
        is_finished=job.status in FINISHED,
    )


def _belonging(visit: Visit, job: JobRecord) -> dict[str, Any]:
    """What the job is a part of, drawn: a workflow, a canvas, or what jobs have sent. `parts` 0: of nothing."""
    scope = visit.principal.scope
    if job.root_id not in (None, job.id):
        try:
            workflow = visit.read(workflows.get, job.root_id, Scope(job.organization_id, scope.user_id))
        except WorkflowNotFound:
            pass  # a canvas, or somebody else's
        else:
            nodes = of_workflow(visit.read(workflows.jobs_of, workflow.id))
            return {"workflow": workflow, "parts": len(nodes), "graph": graph(nodes)}
    found = visit.read(graph_of, job, scope, most=MOST + 1)
    several = len(found.nodes) > 1
    return {
        "workflow": None,
        "parts": len(found.nodes) if several else 0,
        "graph": graph(of_canvas(found)) if several else None,
    }


def cancel(visit: Visit) -> Response:
    """End the job, as `POST /v1/jobs/{id}/cancel` does."""
    visit.principal.must_have(CANCEL_JOBS)
    routes.cancel_job(visit.principal, visit.platform, visit.request.path_params["id"], visit.origin)
    return _done(visit, "cancelled")


def retry(visit: Visit) -> Response:
    """Queue the job again, as `POST /v1/jobs/{id}/retry` does."""
    visit.principal.must_have(RETRY_JOBS)
    routes.retry_job(visit.principal, visit.platform, visit.read, visit.request.path_params["id"], origin=visit.origin)
    return _done(visit, "retried")


def _done(visit: Visit, what: str) -> Response:
    return visit.done(DONE[what], f"/jobs/{visit.request.path_params['id']}?done={what}")


def _why_not(is_granted: bool, otherwise: str) -> str:  # noqa: FBT001 - of two sentences
    return otherwise if is_granted else "You have no permission for it."


def _why_no_retry(job: JobRecord) -> str:
    if job.stopping:
        return "Its body is still stopping."
    if job.status in (Status.FAILED, Status.CANCELLED):
        return f"It has used {job.retry_count} of {job.max_retries} retries."
    return f"It is {job.status}."


def _steps(job: JobRecord, timeline: Sequence[HistoryEntry], attempts: Sequence[AttemptRecord]) -> list[Step]:
    """Its way: created, held, sent, its attempts, its end."""
    created = timeline[0] if timeline else None
    found = [
        Step("Created", f"{clock(job.created_at)}{f' by {created.actor}' if created else ''}", "past", Status.QUEUED)
    ]
    if created and created.detail.get("hold"):
        found.append(Step("Held", str(created.detail["hold"]).replace("_", " "), "past", Status.QUEUED))
    if job.dispatched_at and not attempts and job.status is Status.QUEUED:
        found.append(Step("Sent", f"to {job.queue}", "past", Status.QUEUED))
    if len(attempts) > 2:  # noqa: PLR2004 - the first ones in one
        earlier = attempts[:-1]
        found.append(Step(f"Attempts 1 to {len(earlier)}", _outcomes(earlier), "past", Status.RETRYING))
        attempts = attempts[-1:]
    found += [Step(f"Attempt {each.attempt}", _length(each), "past", Status.RUNNING) for each in attempts]
    last = Step(str(job.status).capitalize(), clock(job.completed_at) if job.completed_at else "", "now", job.status)
    if job.status is Status.RUNNING and found[-1].status is Status.RUNNING:
        return [*found[:-1], Step(found[-1].name, f"runs on {job.worker}", "now", Status.RUNNING)]
    return [*found, last]


def _outcomes(attempts: Sequence[AttemptRecord]) -> str:
    failed = sum(attempt.outcome is Event.FAILED for attempt in attempts)
    return f"{failed} failed" if failed else "given back"


def _length(attempt: AttemptRecord) -> str:
    length = attempt.completed_at - attempt.started_at if attempt.completed_at else None
    return f"{exactly(length)} on {attempt.worker}"


@dataclass(frozen=True, slots=True)
class Part:
    """What happened to the job at a time: entries that are shown and those that are folded away, or a delivery."""

    at: datetime
    shown: Sequence[tuple[HistoryEntry, str, datetime]] = ()
    folded: Sequence[tuple[HistoryEntry, str, datetime]] = ()
    delivery: Delivery | None = None


def _timeline(history: Sequence[HistoryEntry], deliveries: Sequence[Delivery]) -> list[Part]:
    """What happened, and which webhooks were told of it, newest first."""
    happened = [Part(shown[0].at, [*map(_told, shown)], [*map(_told, rest)]) for shown, rest in _folded(history)]
    told = [Part(each.completed_at or each.created_at, delivery=each) for each in deliveries]
    return sorted([*told, *happened], key=lambda part: part.at, reverse=True)


def _deliveries(visit: Visit) -> Sequence[Delivery]:
    """What webhooks were told of the job, the newest. Raises JobNotFound."""
    job = visit.read(lists.get, visit.request.path_params["id"], visit.principal.scope)
    return told_of(visit.read, job.organization_id, job.id, DeliveriesQuery(limit=DELIVERIES)).deliveries


def _folded(timeline: Sequence[HistoryEntry]) -> list[tuple[list[HistoryEntry], list[HistoryEntry]]]:
    """What happened, newest first, in parts: what is shown of each, and the reports before it that are folded away."""
    found = []
    for is_progress, part in groupby(reversed(timeline), lambda entry: entry.event is Event.PROGRESS):
        entries = list(part)
        shown = REPORTS if is_progress and len(entries) > 2 * REPORTS else len(entries)
        found.append((entries[:shown], entries[shown:]))
    return found


def _told(entry: HistoryEntry) -> tuple[HistoryEntry, str, datetime]:
    """An entry, what it says, and the time at which the job was as it is after it."""
    return entry, _said(entry), entry.at + INSTANT


def _said(entry: HistoryEntry) -> str:
    """What an entry of the history says, in words."""
    detail, hold = entry.detail, str(entry.detail.get("hold", "")).replace("_", " ")
    words = {
        Event.CREATED: f"priority {detail.get('priority', 0)}"
        + (f", held: {detail['hold']}" if "hold" in detail else "")
        + (f", repeats {detail['retryOf']} with another payload" if "retryOf" in detail else ""),
        Event.STARTED: f"attempt {entry.attempt} on {entry.actor}",
        Event.PROGRESS: f"{detail.get('percentage', 0)} %" + (f" · {detail['message']}" if "message" in detail else ""),
        Event.COMPLETED: f"in {exactly(timedelta(milliseconds=detail.get('duration', 0)))}",
        Event.FAILED: ": ".join(str(detail[name]) for name in ("errorType", "error") if name in detail),
        Event.CANCELLED: str(detail.get("reason", "")),
        Event.RELEASED: str(detail.get("reason", "")),
        Event.RETRIED: "forced" if detail.get("force") else "",
        Event.RETRIED_ANEW: f"as the job {detail.get('jobId', '')}, with another payload",
        Event.HELD: hold,
        Event.DUE: f"{hold} is over",
        Event.EDITED: ", ".join(name for name in ("payload", "priority", "dueAt") if name in detail),
        Event.SEEN: "its worker has heard of the cancel",
        Event.STOPPED: str(detail.get("how", "")),
        Event.DUPLICATE_REFUSED: str(detail.get("reason", "")),
    }[entry.event]
    if entry.event is Event.FAILED and detail.get("willRetry"):
        words += " · it runs again"
    if "operation" in detail and entry.event is not Event.CANCELLED:  # whose reason says it
        words = " · ".join(filter(None, (words, f"bulk operation {detail['operation']}")))
    return words
