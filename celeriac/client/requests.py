"""What both clients ask for: about jobs one by one, and with the requests of bulk.py about many."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Unpack
from urllib.parse import quote
from uuid import UUID

import httpx2

from celeriac.client.answers import (
    Created,
    Explanation,
    Job,
    JobStatus,
    JobType,
    JobTypes,
    Moved,
    Page,
    Repeated,
    Stats,
)
from celeriac.client.bulk import BulkRequests, Chosen, Said, filter_of, said_of
from celeriac.client.calling import Ask, AwaitNews, Flow, Give, Pause, ReadOn, Steps, Watch, call, listing, picked
from celeriac.client.denied_tokens import DenialRequests
from celeriac.client.failures import FailureRequests
from celeriac.client.files import FileRequests
from celeriac.client.limits import LimitRequests
from celeriac.client.looking import LookingRequests
from celeriac.client.streaming import Event, Stream
from celeriac.client.telling import TellingRequests
from celeriac.client.transport import (
    EVENTS,
    PAUSE,
    TOO_LATE,
    ApiError,
    errors_told,
    given,
    read,
    retry_after,
    silence,
    unknown,
)
from celeriac.client.views import ViewRequests
from celeriac.client.workflows import WorkflowRequests
from tracking.states import Status

BETWEEN = 0.05  # seconds from one look to the next, however fast a job reports


class AllRequests(
    BulkRequests,
    DenialRequests,
    FailureRequests,
    FileRequests,
    LimitRequests,
    LookingRequests,
    TellingRequests,
    ViewRequests,
    WorkflowRequests,
):
    """All requests of both clients."""

    @call
    def create(self, job_type: str, payload: Mapping[str, Any] | None = None, **said: Unpack[Said]) -> Steps[Created]:
        """Have a job accepted. With the `idempotency_key` of an earlier request it is that request's job."""
        body = {"jobType": job_type, **said_of(payload, said)}
        return self._create(Created, "/v1/jobs", body, said.get("idempotency_key"))

    @call
    def get(self, job_id: UUID) -> Steps[Job]:
        return self._get(Job, f"/v1/jobs/{job_id}")

    @call
    def status(self, job_id: UUID) -> Steps[JobStatus]:
        """One job, and what can be done about it now."""
        return self._get(JobStatus, f"/v1/jobs/{job_id}/status")

    @listing
    def watch(self, job_id: UUID, *, within: float, every: float | None = None) -> Flow[JobStatus]:
        """The job's status now and after each change, up to its end.

        Looks when an event says that something has happened; all who wait with this client share one stream of events.
        Where there is none, it looks when the server says that it is worth while, or `every` so many seconds. After
        `within` seconds an ApiError "too_late" is raised; the job goes on.
        """
        looks = Looks(self, job_id, within, every)
        while not looks.are_over:
            status = yield from looks.next()
            if status is not None:
                yield Give(status)

    @call
    def wait(self, job_id: UUID, *, within: float, every: float | None = None) -> Steps[Job]:
        """The job at its end, whichever that is: look at its `status`. Like `watch` otherwise."""
        looks = Looks(self, job_id, within, every)
        last: JobStatus | None = None
        while last is None or not looks.are_over:
            last = (yield from looks.next()) or last
        return last.job

    @listing
    def events(
        self,
        *,
        job_id: UUID | None = None,
        job_type: str | None = None,
        project_id: str | None = None,
        after: int | None = None,
    ) -> Flow[Event]:
        """What happens to the jobs that the caller sees, from now on, or from behind the event with the id `after`.

        A stream that is lost is opened again, and goes on without a gap or a repeat; ApiError "unreachable" comes when
        that does not succeed for `patience` seconds, "token_expired" when the token is over. It ends with its reader.
        """
        query = given({"jobId": job_id and str(job_id), "type": job_type, "projectId": project_id})
        stream = Stream(after)
        while True:
            asked = {"params": query, "headers": stream.headers, "timeout": silence(self.timeout)}
            answer = yield from self._repeated(Ask("GET", EVENTS, asked, is_stream=True, by_lines=True))
            with suppress(httpx2.TransportError):
                while (line := (yield ReadOn())) is not None:
                    try:
                        event = stream.read(line)
                    except ValueError:
                        raise unknown(answer, "is no event") from None
                    if event is not None:
                        yield Give(event)
            yield Pause(PAUSE)

    @listing
    def jobs(self, *, page_size: int = 100, **chosen: Unpack[Chosen]) -> Flow[Job]:
        """The jobs that match, newest first, each once: read page by page while they are asked for."""
        matching = filter_of(chosen)
        listed = {"status": ",".join(matching["status"])} if "status" in matching else {}
        query = {**matching, **listed, "pageSize": page_size, "cursor": ""}
        return self._pages(Page, "/v1/jobs", lambda page: page.jobs, **query)

    @call
    def stats(self, *, project_id: str | None = None, window: timedelta | None = None) -> Steps[Stats]:
        """How many jobs there are in each status, of all projects or one; finished ones of the last `window`."""
        path = "/v1/jobs/stats" if project_id is None else f"/v1/projects/{quote(project_id, safe='')}/jobs/stats"
        return self._get(Stats, path, **given({"window": f"PT{window.total_seconds():.0f}S" if window else None}))

    @call
    def explain(self, job_id: UUID) -> Steps[Explanation]:
        """Why a job does not run, which worker runs it, or who or what ended it."""
        return self._get(Explanation, f"/v1/jobs/{job_id}/explain")

    @call
    def job_types(self) -> Steps[tuple[JobType, ...]]:
        """What kinds of jobs there are."""
        return picked(self._get(JobTypes, "/v1/job-types"), lambda answer: answer.job_types)

    @call
    def report(
        self,
        job_id: UUID,
        *,
        status: Status | None = None,
        progress: int | None = None,
        message: str | None = None,
        detail: Mapping[str, Any] | None = None,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Steps[JobStatus]:
        """Say how far a job is whose work is done elsewhere, 0-100, or how it has ended; "illegal_move" after its end.

        `result` comes with the status succeeded, `error` with failed or cancelled. Not repeated, like a cancel.
        """
        said = {"status": status, "progress": progress, "message": message, "detail": detail}
        fields = given({**said, "result": result, "error": error})
        return self._ask(JobStatus, "PATCH", f"/v1/jobs/{job_id}", json=fields)

    @call
    def cancel(self, job_id: UUID, reason: str | None = None) -> Steps[Status]:
        """End a job that is not finished; "illegal_move" when it is. Not repeated: the answer would be another."""
        moved = self._ask(Moved, "POST", f"/v1/jobs/{job_id}/cancel", json=given({"reason": reason}))
        return picked(moved, lambda answer: answer.status)

    @call
    def retry(
        self, job_id: UUID, *, priority: int | None = None, force: bool = False, idempotency_key: str | None = None
    ) -> Steps[Status]:
        """Queue a failed or cancelled job again; "illegal_move" for others, or when no retry is left (see `force`).

        Repeated like `create`.
        """
        body = given({"priority": priority, "force": force})
        repeated = self._create(Moved, f"/v1/jobs/{job_id}/retry", body, idempotency_key)
        return picked(repeated, lambda answer: answer.status)

    @call
    def retry_with(
        self,
        job_id: UUID,
        payload: Mapping[str, Any],
        *,
        priority: int | None = None,
        force: bool = False,
        idempotency_key: str | None = None,
    ) -> Steps[UUID]:
        """Have a new job with this payload repeat a failed or cancelled one; its id. Repeated like `create`."""
        body = given({"payload": payload, "priority": priority, "force": force})
        repeated = self._create(Repeated, f"/v1/jobs/{job_id}/retry", body, idempotency_key)
        return picked(repeated, lambda answer: answer.job_id)

    @call
    def edit(
        self,
        job_id: UUID,
        *,
        payload: Mapping[str, Any] | None = None,
        priority: int | None = None,
        scheduled_at: datetime | None = None,
    ) -> Steps[JobStatus]:
        """Change a job that waits; "illegal_move" for any other. What is None stays. Not repeated, like a cancel."""
        when = scheduled_at.isoformat() if scheduled_at else None
        fields = given({"payload": payload, "priority": priority, "scheduledAt": when})
        return self._ask(JobStatus, "PATCH", f"/v1/jobs/{job_id}", json=fields)

    @call
    def download(self, url: str, target: Path, *, within: float = 300.0) -> Steps[int]:
        """Fetch an export by the `downloadUrl` of a result into `target`, which is replaced when all is there.

        Returns its size in bytes. Gives up after `within` seconds with an ApiError "too_late".
        """
        if not httpx2.URL(url).is_relative_url:
            raise ValueError(f"{url} is not an address below the API's, and its server shall not see the token")
        deadline = time.monotonic() + within
        partial = target.with_name(f".{target.name}.partial")
        try:
            yield from self._repeated(Ask("GET", url, is_stream=True))
            with errors_told(), partial.open("wb") as file:
                while (piece := (yield ReadOn())) is not None:
                    file.write(piece)
                    if time.monotonic() > deadline:
                        raise ApiError(TOO_LATE, "The download took too long", f"{url} after {within:g} s")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target.stat().st_size


class Looks:
    """The looks at a job of somebody who waits for it; its status each time that it has changed."""

    def __init__(self, requests: AllRequests, job_id: UUID, within: float, every: float | None) -> None:
        self._requests, self._job_id, self._within, self._every = requests, job_id, within, every
        self._deadline = time.monotonic() + within
        self._looked: float | None = None  # the last time
        self._pace = PAUSE
        self._tag, self._last = "", "unknown"
        self.are_over = False

    def next(self) -> Steps[JobStatus | None]:
        """Wait until it is worth while, and look; None: nothing has changed. Raises ApiError "too_late"."""
        if self._looked is None:
            yield Watch(self._job_id)
        else:
            yield from self._wait(self._looked)
        self._looked = now = time.monotonic()
        patience = min(self._requests.patience, max(0.0, self._deadline - now))
        unless = {"If-None-Match": self._tag} if self._tag else {}
        ask = Ask("GET", f"/v1/jobs/{self._job_id}/status", {"headers": unless})
        answer = yield from self._requests._repeated(ask, patience)  # noqa: SLF001 - a part of theirs
        self._pace = retry_after(answer) or PAUSE
        if answer.status_code == httpx2.codes.NOT_MODIFIED:
            return None
        status = read(JobStatus, answer)
        self._tag, self._last = answer.headers.get("ETag", ""), status.job.status
        self.are_over = status.job.is_finished
        return status

    def _wait(self, looked: float) -> Steps[None]:
        remaining = self._deadline - time.monotonic()
        if not remaining > 0:  # nor is NaN
            told = f"{self._job_id} is {self._last} after {self._within:g} s"
            raise ApiError(TOO_LATE, "The job did not end in time", told)
        yield AwaitNews(remaining, self._pace if self._every is None else self._every)
        yield Pause(max(0.0, looked + BETWEEN - time.monotonic()))
