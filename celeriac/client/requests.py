"""The requests of the client: repeated while the server cannot answer, their answers read into frozen values."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import pydantic

from celeriac.client.answers import Answer, Created, Explanation, Job, JobStatus, JobType, JobTypes, Moved, Page, Stats
from celeriac.client.streaming import Event, Stream
from tracking.states import Status

ANSWER_TIMEOUT = 10.0  # seconds to connect, and between two pieces of an answer
PATIENCE = 30.0  # seconds during which a request is repeated while the server cannot answer
SILENCE = 40.0  # seconds without a sign of life of a stream, which has one each 15 seconds
PAUSE = 0.5  # seconds between two of them, when the server does not say
DIRECT = ("127.0.0.1", "localhost", "[::1]")  # never behind a proxy of the environment

# The client's own codes, besides those of docs/errors.md.
UNREACHABLE = "unreachable"
UNKNOWN_ANSWER = "unknown_answer"
TOO_LATE = "too_late"

TEMPORARY = frozenset({502, 503, 504})  # 503 is the platform's own, the others are those of a proxy before it


class ApiError(Exception):
    """The API said no (`code` and `title` are the problem's), or gave no answer that can be used.

    `status` is None when there was no answer: `code` is then "unreachable", or "too_late" when a deadline of the caller
    passed; an answer that is not of this API is an "unknown_answer". `retry_after` is in seconds, None: not said.
    `errors` has one {"field", "message"} for each field at fault.
    """

    def __init__(
        self,
        code: str,
        title: str,
        detail: str = "",
        *,
        status: int | None = None,
        retry_after: int | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(f"{title}: {detail} ({code})" if detail else f"{title} ({code})")
        self.code = code
        self.title = title
        self.detail = detail
        self.status = status
        self.retry_after = retry_after
        self.errors = tuple(errors)

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may do better in a moment."""
        return self.code == UNREACHABLE or self.status in TEMPORARY


AnswerType = TypeVar("AnswerType", bound=Answer)


class Client:
    """The API at `url`, called with `token`; may be shared by threads.

    Reads and creates are repeated for `patience` seconds while the server cannot be reached or says 503: a create
    always carries an idempotency key, so that its repetition is the same job. `timeout`: seconds to connect, and
    between two pieces of an answer. Everything raises ApiError.
    """

    def __init__(self, url: str, token: str, *, patience: float = PATIENCE, timeout: float = ANSWER_TIMEOUT) -> None:
        self._patience = patience
        self._silence = httpx.Timeout(timeout, read=max(timeout, SILENCE))
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout,
            mounts={f"all://{host}": None for host in DIRECT},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

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
        fields = {
            "jobType": job_type,
            "payload": payload,
            "priority": priority,
            "maxRetries": max_retries,
            "scheduledAt": scheduled_at.isoformat() if scheduled_at else None,
            "dependsOn": [str(job_id) for job_id in depends_on] or None,
            "projectId": project_id,
            "message": message,
            "metadata": metadata,
        }
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return _read(Created, self._repeat("POST", "/v1/jobs", json=_given(fields), headers=headers))

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
                status = _read(JobStatus, answer)
                tag, last = answer.headers.get("ETag", ""), status.job.status
                yield status
                if status.job.is_finished:
                    return
            pause = (_retry_after(answer) or PAUSE) if every is None else every
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
        query = _given({"jobId": job_id and str(job_id), "type": job_type, "projectId": project_id})
        stream = Stream(after)
        while True:
            last = {} if stream.last is None else {"Last-Event-ID": str(stream.last)}
            answer = self._repeat("GET", "/v1/events", params=query, headers=last, stream=True, timeout=self._silence)
            with closing(answer), suppress(httpx.TransportError):
                try:
                    yield from stream.read(answer.iter_lines())
                except ValueError:
                    raise _unknown(answer, "is no event") from None
            time.sleep(PAUSE)

    def jobs(
        self,
        *,
        status: Sequence[Status] = (),
        job_type: str | None = None,
        project_id: str | None = None,
        user_id: str | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        search: str | None = None,
        page_size: int = 100,
    ) -> Iterator[Job]:
        """The jobs that match, newest first, each once: read page by page while they are asked for."""
        query = _given(
            {
                "status": ",".join(status) or None,
                "jobType": job_type,
                "projectId": project_id,
                "userId": user_id,
                "createdFrom": created_from.isoformat() if created_from else None,
                "createdTo": created_to.isoformat() if created_to else None,
                "q": search,
                "pageSize": page_size,
            }
        )
        cursor: str | None = ""
        while cursor is not None:
            page = self._get(Page, "/v1/jobs", **query, cursor=cursor)
            yield from page.jobs
            cursor = page.next_cursor

    def stats(self, *, project_id: str | None = None, window: timedelta | None = None) -> Stats:
        """How many jobs there are in each status, of all projects or one; finished ones of the last `window`."""
        path = "/v1/jobs/stats" if project_id is None else f"/v1/projects/{quote(project_id, safe='')}/jobs/stats"
        return self._get(Stats, path, **_given({"window": f"PT{window.total_seconds():.0f}S" if window else None}))

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
        fields = _given({**said, "result": result, "error": error})
        return _read(JobStatus, self._ask("PATCH", f"/v1/jobs/{job_id}", json=fields))

    def cancel(self, job_id: UUID, reason: str | None = None) -> Status:
        """End a job that is not finished; "illegal_move" when it is. Not repeated: the answer would be another."""
        return _read(Moved, self._ask("POST", f"/v1/jobs/{job_id}/cancel", json=_given({"reason": reason}))).status

    def retry(self, job_id: UUID, *, force: bool = False) -> Status:
        """Queue a failed or cancelled job again; "illegal_move" for others, or when no retry is left (see `force`)."""
        return _read(Moved, self._ask("POST", f"/v1/jobs/{job_id}/retry", json={"force": force})).status

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

    def _get(self, model: type[AnswerType], path: str, **query: Any) -> AnswerType:
        return _read(model, self._repeat("GET", path, params=query))

    def _repeat(self, method: str, path: str, *, patience: float | None = None, **request: Any) -> httpx.Response:
        """The first answer that is not a temporary no, if there is one in time."""
        deadline = time.monotonic() + (self._patience if patience is None else patience)
        while True:
            try:
                return self._ask(method, path, **request)
            except ApiError as error:
                pause = error.retry_after or PAUSE
                if not error.is_temporary or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)

    def _ask(self, method: str, path: str, *, stream: bool = False, **request: Any) -> httpx.Response:
        """The answer, if it is a yes or "not modified"; its body is left to be read when it is a `stream`."""
        try:
            answer = self._http.send(self._http.build_request(method, path, **request), stream=stream)
            if answer.is_success or answer.status_code == httpx.codes.NOT_MODIFIED:
                return answer
            with closing(answer):
                answer.read()
        except httpx.RequestError as error:
            raise _unreachable(error) from error
        raise _problem(answer)


def _pieces(answer: httpx.Response) -> Iterator[bytes]:
    try:
        yield from answer.iter_bytes()
    except httpx.RequestError as error:
        raise _unreachable(error) from error


def _unreachable(error: httpx.RequestError) -> ApiError:
    reason = str(error) or type(error).__name__
    return ApiError(UNREACHABLE, "The API gave no answer", f"{error.request.url.copy_with(query=None)}: {reason}")


def _problem(answer: httpx.Response) -> ApiError:
    try:
        body = answer.json()
        return ApiError(
            str(body["code"]),
            str(body["title"]),
            str(body["detail"]),
            status=answer.status_code,
            retry_after=_retry_after(answer),
            errors=body.get("errors") or (),
        )
    except (ValueError, LookupError, TypeError):  # a proxy's page, or another server
        return _unknown(answer, "is no problem+json")


def _read(model: type[AnswerType], answer: httpx.Response) -> AnswerType:
    try:
        return model.model_validate_json(answer.content)
    except pydantic.ValidationError as error:
        raise _unknown(answer, f"is no {model.__name__}") from error


def _unknown(answer: httpx.Response, reason: str) -> ApiError:
    place = answer.url.copy_with(query=None)
    return ApiError(
        UNKNOWN_ANSWER,
        "The answer is not that of a Celeriac API",
        f"{answer.status_code} from {place} {reason}",
        status=answer.status_code,
        retry_after=_retry_after(answer),
    )


def _retry_after(answer: httpx.Response) -> int | None:
    value = answer.headers.get("Retry-After", "")
    return int(value) if value.isascii() and value.isdigit() else None  # the other form, a date, is not ours


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
