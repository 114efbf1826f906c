"""The client's requests that look at lists: finished jobs, workers, queues, the organization, the audit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from celeriac.client.answers import Answer, Job, Paged, Pause
from celeriac.client.calling import Flow, Steps, call, listing, picked
from celeriac.client.transport import Requests, given
from tracking.states import Event, Status
from tracking.values import Instant

EXAMINATION = 60.0  # seconds for an answer of the doctor


class Attempt(Answer):
    """One claimed execution of a job; `outcome` None: it runs."""

    attempt: int
    dispatch: int
    worker: str
    started_at: Instant
    completed_at: Instant | None
    outcome: Event | None
    error_type: str | None
    error_message: str | None
    traceback: str | None


class TimelineEntry(Answer):
    """Something that happened to a job; its `id` is that of the live event. `came_from` None: it was created."""

    id: int
    event: Event
    came_from: Status | None = Field(alias="from")
    to: Status
    attempt: int
    dispatch: int
    actor: str
    detail: dict[str, Any]
    at: Instant


class JobWithDetails(Job):
    """A job with its attempts and its timeline, each in the order in which it happened."""

    attempts: tuple[Attempt, ...] = ()
    history: tuple[TimelineEntry, ...] = ()


class FinishedJob(Answer):
    """A job that has ended."""

    job_id: UUID
    type: str
    priority: int
    payload: dict[str, Any]
    status: Status
    error: str | None
    retry_count: int
    created_at: Instant
    started_at: Instant | None
    completed_at: Instant
    duration_ms: int | None


class History(Paged):
    """Some of the finished jobs; `next_cursor` None: the last ones."""

    history: tuple[FinishedJob, ...]


class RecentJobs(Answer):
    """Active jobs, then those that have ended within the last hour."""

    jobs: tuple[Job, ...]


class Worker(Answer):
    """A worker. `is_alive` False: it has been silent for too long, and its jobs are given to others."""

    name: str
    pid: int
    queues: tuple[str, ...]
    concurrency: int
    running: int
    is_alive: bool
    started_at: Instant
    seen_at: Instant


class Workers(Answer):
    """All workers, those that live first."""

    workers: tuple[Worker, ...]


class QueuePause(Answer):
    """A pause of a queue, of which nothing starts."""

    paused_by: str
    reason: str | None
    paused_at: Instant


class QueueHeld(Answer):
    """Whether a queue is paused; `pause` None: it is not."""

    name: str
    pause: QueuePause | None


class Queue(Answer):
    """A queue: its living workers with their slots, and the jobs of all organizations that wait and run.

    `pause` None: it is not paused.
    """

    name: str
    workers: int
    slots: int
    running: int
    waiting: int
    held: int
    oldest_waiting_age_ms: int | None
    pause: QueuePause | None = None


class Queues(Answer):
    """All queues."""

    queues: tuple[Queue, ...]


class Organization(Answer):
    """How many jobs of an organization may execute at once, and how many do; a limit of 0 is any number."""

    id: str
    limit: int
    is_default_limit: bool
    executing: int
    in_line: int
    waiting_limit: int
    pauses: tuple[Pause, ...]


class Entry(Answer):
    """Something that somebody did, or tried to do. `actor` None: an operator of the platform."""

    id: int
    at: Instant
    organization_id: str | None
    actor: str | None
    action: str
    target: str | None
    source: str
    address: str | None
    request_id: str | None
    outcome: str
    code: str | None
    detail: dict[str, Any]


class Audit(Paged):
    """Some of the audit, newest first; `next_cursor` None: the last ones."""

    entries: tuple[Entry, ...]


class Finding(Answer):
    """What a check of the platform has found: its `health` is ok, warning, failed, or skipped."""

    check: str
    health: str
    reason: str
    mend: str | None
    took_ms: int


class Examination(Answer):
    """What all checks have found; `healthy`: none has failed."""

    healthy: bool
    findings: tuple[Finding, ...]


class LookingRequests(Requests):
    """Requests that change nothing."""

    @call
    def details(self, job_id: UUID) -> Steps[JobWithDetails]:
        """One job with its attempts, their errors and tracebacks, and its timeline."""
        return self._get(JobWithDetails, f"/v1/jobs/{job_id}", include="attempts,history")

    @listing
    def history(
        self,
        *,
        job_type: str | None = None,
        status: Status | None = None,
        finished_from: datetime | None = None,
        finished_to: datetime | None = None,
        page_size: int = 100,
    ) -> Flow[FinishedJob]:
        """The finished jobs, newest first, each once; `finished_to` is not included."""
        query = {"type": job_type, "status": status, "limit": page_size}
        times = {"from": _moment(finished_from), "to": _moment(finished_to)}
        return self._pages(History, "/v1/jobs/history", lambda page: page.history, **given({**query, **times}))

    @call
    def recent(self, *, limit: int = 100) -> Steps[tuple[Job, ...]]:
        """Active jobs, the most urgent first, then those that have ended within the last hour."""
        return picked(self._get(RecentJobs, "/v1/jobs/recent", limit=limit), lambda answer: answer.jobs)

    @call
    def organization(self) -> Steps[Organization]:
        """The caller's organization: its limits, and what is paused."""
        return self._get(Organization, "/v1/organization")

    @call
    def workers(self) -> Steps[tuple[Worker, ...]]:
        """Every worker of the platform; this and `queues` take jobs.manage_platform."""
        return picked(self._get(Workers, "/v1/workers"), lambda answer: answer.workers)

    @call
    def queues(self) -> Steps[tuple[Queue, ...]]:
        return picked(self._get(Queues, "/v1/queues"), lambda answer: answer.queues)

    @call
    def examination(self) -> Steps[Examination]:
        """What is wrong with the platform, proved by canaries; up to half a minute. It takes jobs.manage_platform."""
        return self._repeat(Examination, "GET", "/v1/doctor", timeout=EXAMINATION)

    @listing
    def audit(
        self,
        *,
        actor: str | None = None,
        action: Sequence[str] = (),
        target: str | None = None,
        after: datetime | None = None,
        before: datetime | None = None,
        page_size: int = 100,
    ) -> Flow[Entry]:
        """What was done and tried in the organization, newest first, each once."""
        query = {"actor": actor, "action": ",".join(action) or None, "target": target, "limit": page_size}
        times = {"from": _moment(after), "to": _moment(before)}
        return self._pages(Audit, "/v1/audit", lambda page: page.entries, **given({**query, **times}))


def _moment(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
