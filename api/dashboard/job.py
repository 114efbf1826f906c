"""The page of one job, and its two buttons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from starlette.responses import JSONResponse, RedirectResponse, Response

from api.auth import CANCEL_JOBS, RETRY_JOBS
from api.dashboard.jobs import is_retryable, surroundings
from api.dashboard.site import Visit, render
from api.dashboard.wording import clock, exactly
from api.routes import jobs as routes
from tracking.models import JobRecord
from tracking.reads import explain, lists
from tracking.reads.answers import AttemptRecord, HistoryEntry
from tracking.states import FINISHED, Event, Status, can_cancel, sources

DONE = {
    "cancelled": "The job was cancelled.",
    "retried": "The job was queued again.",
    "repeated": "This is the new job.",
}
OWN_FRAME = "File "
LIBRARIES = ("/site-packages/", "/lib/python")


@dataclass(frozen=True, slots=True)
class Step:
    """A station on the way of a job: `kind` past, now or ahead."""

    name: str
    detail: str
    kind: str
    status: Status | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """A part of a traceback; `is_own`: not of a library."""

    text: str
    is_own: bool

    @property
    def count(self) -> int:
        """How many calls it shows."""
        return sum(line.strip().startswith(OWN_FRAME) for line in self.text.splitlines())


def job_page(visit: Visit) -> Response:
    """All that is known of a job."""
    job_id: UUID = visit.request.path_params["id"]
    job = visit.read(lists.get, job_id, visit.principal.scope)
    timeline = visit.read(lists.timeline, job_id)
    explained = visit.read(explain.explain, job_id, visit.principal.scope, visit.platform.limits)
    attempts = list(lists.attempts(timeline))
    around = surroundings(visit)
    granted = visit.principal.permissions
    return render(
        visit.request,
        "job_body.html" if visit.request.query_params.get("part") == "body" else "job.html",
        principal=visit.principal,
        job=job,
        last_event=visit.last_event,
        now=around.now,
        reasons=explained.reasons,
        steps=_steps(job, timeline, attempts),
        attempts=[(attempt, _frames(attempt.traceback)) for attempt in reversed(attempts)],
        timeline=[(entry, _said(entry)) for entry in reversed(timeline)],
        repeated_by=visit.read(lists.retries, job_id, visit.principal.scope),
        can_repeat=job.status in sources(Event.RETRIED) and not job.stopping and RETRY_JOBS in granted,
        can_cancel=can_cancel(job.status) and CANCEL_JOBS in granted,
        why_no_cancel=_why_not(CANCEL_JOBS in granted, f"It is {job.status}."),
        can_retry=is_retryable(job) and RETRY_JOBS in granted,
        why_no_retry=_why_not(RETRY_JOBS in granted, _why_no_retry(job)),
        notice=DONE.get(visit.request.query_params.get("done", "")),
        is_finished=job.status in FINISHED,
    )


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
    if "text/html" not in visit.request.headers.get("accept", ""):
        return JSONResponse({"message": DONE[what]})
    return RedirectResponse(f"/jobs/{visit.request.path_params['id']}?done={what}", 303)


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


def _frames(traceback: str | None) -> list[Frame]:
    """A traceback in parts: those of libraries can be passed over."""
    if not traceback:
        return []
    found: list[Frame] = []
    is_own = True
    for line in traceback.splitlines():
        if line.strip().startswith(OWN_FRAME):
            is_own = not any(library in line for library in LIBRARIES)
        elif line and not line.startswith(" "):
            is_own = True
        if found and found[-1].is_own is is_own:
            found[-1] = Frame(f"{found[-1].text}\n{line}", is_own)
        else:
            found.append(Frame(line, is_own))
    return found


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
