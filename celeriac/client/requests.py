"""The requests of the client: about jobs one by one, and with those of bulk.py about many."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Unpack, overload
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx

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
from celeriac.client.bulk import BulkRequests, Chosen, NewJob, filter_of, new_job
from celeriac.client.streaming import Event, Stream
from celeriac.client.telling import TellingRequests
from celeriac.client.transport import PAUSE, TOO_LATE, ApiError, given, read, retry_after, unknown, unreachable
from celeriac.client.workflows import WorkflowRequests
from tracking.states import Status


class Client(BulkRequests, TellingRequests, WorkflowRequests):
    """The API at `url`, called with `token`; may be shared by threads.

    Reads and creates are repeated for `patience` seconds while the server cannot be reached or says 503: a create
    always carries an idempotency key, so that its repetition is the same job. `timeout`: seconds to connect, and
    between two pieces of an answer. Everything raises ApiError.
    """

    def create(
        self,
        job_type: str,
        payload: Mapping[str, Any] | None = None,
        *,
        priority: int | None = None,
        max_retries: int | None = None,
        scheduled_at: datetime | None = None,
        depends_on: Sequence[UUID] = (),
        project_id: str | None = None,
        message: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Created:
        """Have a job accepted. With the `idempotency_key` of an earlier request it is that request's job."""
        job = NewJob(
            job_type=job_type,
            payload=payload,
            priority=priority,
            max_retries=max_retries,
            scheduled_at=scheduled_at,
            depends_on=depends_on,
            project_id=project_id,
            message=message,
            metadata=metadata,
        )
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return read(Created, self._repeat("POST", "/v1/jobs", json=new_job(job), headers=headers))

    def get(self, job_id: UUID) -> Job:
        return self._get(Job, f"/v1/jobs/{job_id}")

    def status(self, job_id: UUID) -> JobStatus:
        """One job, and what can be done about it now."""
        return self._get(JobStatus, f"/v1/jobs/{job_id}/status")

    def watch(self, job_id: UUID, *, within: float, every: float | None = None) -> Iterator[JobStatus]:
        """The job's status now and after each change, up to its end.

        Asks `every` so many seconds; None: when the server says that it is worth while. After `within` seconds an
        ApiError "too_late" is raised; the job goes on.
        """
        deadline = time.monotonic() + within
        tag, last = "", "unknown"
        while True:
            patience = min(self._patience, max(0.0, deadline - time.monotonic()))
            path = f"/v1/jobs/{job_id}/status"
            answer = self._repeat("GET", path, patience=patience, headers={"If-None-Match": tag} if tag else {})
            if answer.status_code != httpx.codes.NOT_MODIFIED:
                status = read(JobStatus, answer)
                tag, last = answer.headers.get("ETag", ""), status.job.status
                yield status
                if status.job.is_finished:
                    return
            pause = (retry_after(answer) or PAUSE) if every is None else every
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise ApiError(TOO_LATE, "The job did not end in time", f"{job_id} is {last} after {within:g} s")
            time.sleep(min(pause, remaining))

    def wait(self, job_id: UUID, *, within: float, every: float | None = None) -> Job:
        """The job at its end, whichever that is: look at its `status`. Like `watch` otherwise."""
        *_, last = self.watch(job_id, within=within, every=every)
        return last.job

    def events(
        self,
        *,
        job_id: UUID | None = None,
        job_type: str | None = None,
        project_id: str | None = None,
        after: int | None = None,
    ) -> Iterator[Event]:
        """What happens to the jobs that the caller sees, from now on, or from behind the event with the id `after`.

        A stream that is lost is opened again, and goes on without a gap or a repeat; ApiError "unreachable" comes when
        that does not succeed for `patience` seconds, "token_expired" when the token is over. It ends with its reader.
        """
        query = given({"jobId": job_id and str(job_id), "type": job_type, "projectId": project_id})
        stream = Stream(after)
        while True:
            last = {} if stream.last is None else {"Last-Event-ID": str(stream.last)}
            answer = self._repeat("GET", "/v1/events", params=query, headers=last, stream=True, timeout=self._silence)
            with closing(answer), suppress(httpx.TransportError):
                try:
                    yield from stream.read(answer.iter_lines())
                except ValueError:
                    raise unknown(answer, "is no event") from None
            time.sleep(PAUSE)

    def jobs(self, *, page_size: int = 100, **chosen: Unpack[Chosen]) -> Iterator[Job]:
        """The jobs that match, newest first, each once: read page by page while they are asked for."""
        matching = filter_of(chosen)
        listed = {"status": ",".join(matching["status"])} if "status" in matching else {}
        for page in self._pages(Page, "/v1/jobs", **{**matching, **listed, "pageSize": page_size, "cursor": ""}):
            yield from page.jobs

    def stats(self, *, project_id: str | None = None, window: timedelta | None = None) -> Stats:
        """How many jobs there are in each status, of all projects or one; finished ones of the last `window`."""
        path = "/v1/jobs/stats" if project_id is None else f"/v1/projects/{quote(project_id, safe='')}/jobs/stats"
        return self._get(Stats, path, **given({"window": f"PT{window.total_seconds():.0f}S" if window else None}))

    def explain(self, job_id: UUID) -> Explanation:
        """Why a job does not run, which worker runs it, or who or what ended it."""
        return self._get(Explanation, f"/v1/jobs/{job_id}/explain")

    def job_types(self) -> tuple[JobType, ...]:
        """What kinds of jobs there are."""
        return self._get(JobTypes, "/v1/job-types").job_types

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
    ) -> JobStatus:
        """Say how far a job is whose work is done elsewhere, 0-100, or how it has ended; "illegal_move" after its end.

        `result` comes with the status succeeded, `error` with failed or cancelled. Not repeated, like a cancel.
        """
        said = {"status": status, "progress": progress, "message": message, "detail": detail}
        fields = given({**said, "result": result, "error": error})
        return read(JobStatus, self._ask("PATCH", f"/v1/jobs/{job_id}", json=fields))

    def cancel(self, job_id: UUID, reason: str | None = None) -> Status:
        """End a job that is not finished; "illegal_move" when it is. Not repeated: the answer would be another."""
        return read(Moved, self._ask("POST", f"/v1/jobs/{job_id}/cancel", json=given({"reason": reason}))).status

    @overload
    def retry(self, job_id: UUID, *, priority: int | None = None, force: bool = False) -> Status: ...

    @overload
    def retry(
        self,
        job_id: UUID,
        *,
        payload: Mapping[str, Any],
        priority: int | None = None,
        force: bool = False,
        idempotency_key: str | None = None,
    ) -> UUID: ...

    def retry(
        self,
        job_id: UUID,
        *,
        payload: Mapping[str, Any] | None = None,
        priority: int | None = None,
        force: bool = False,
        idempotency_key: str | None = None,
    ) -> Status | UUID:
        """Queue a failed or cancelled job again; "illegal_move" for others, or when no retry is left (see `force`).

        With a `payload` a new job repeats it instead, whose id is returned; that is repeated like `create`.
        """
        path, body = f"/v1/jobs/{job_id}/retry", given({"payload": payload, "priority": priority, "force": force})
        if payload is None:
            return read(Moved, self._ask("POST", path, json=body)).status
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return read(Repeated, self._repeat("POST", path, json=body, headers=headers)).job_id

    def edit(
        self,
        job_id: UUID,
        *,
        payload: Mapping[str, Any] | None = None,
        priority: int | None = None,
        scheduled_at: datetime | None = None,
    ) -> JobStatus:
        """Change a job that waits; "illegal_move" for any other. What is None stays. Not repeated, like a cancel."""
        when = scheduled_at.isoformat() if scheduled_at else None
        fields = given({"payload": payload, "priority": priority, "scheduledAt": when})
        return read(JobStatus, self._ask("PATCH", f"/v1/jobs/{job_id}", json=fields))

    def download(self, url: str, target: Path, *, within: float = 300.0) -> int:
        """Fetch an export by the `downloadUrl` of a result into `target`, which is replaced when all is there.

        Returns its size in bytes. Gives up after `within` seconds with an ApiError "too_late".
        """
        if not httpx.URL(url).is_relative_url:
            raise ValueError(f"{url} is not an address below the API's, and its server shall not see the token")
        deadline = time.monotonic() + within
        partial = target.with_name(f".{target.name}.partial")
        try:
            with closing(self._repeat("GET", url, stream=True)) as answer, partial.open("wb") as file:
                for piece in _pieces(answer):
                    file.write(piece)
                    if time.monotonic() > deadline:
                        raise ApiError(TOO_LATE, "The download took too long", f"{url} after {within:g} s")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target.stat().st_size


def _pieces(answer: httpx.Response) -> Iterator[bytes]:
    try:
        yield from answer.iter_bytes()
    except httpx.RequestError as error:
        raise unreachable(error) from error
