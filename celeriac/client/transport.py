"""How the client's requests go out and come back: repeated while the server cannot answer, errors as exceptions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Self, TypeVar

import httpx
import pydantic

from celeriac.client.answers import Answer, Paged

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
PageType = TypeVar("PageType", bound=Paged)


class Transport:
    """Sends requests with a token, and repeats them while the server cannot answer."""

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

    def _get(self, model: type[AnswerType], path: str, **query: Any) -> AnswerType:
        return read(model, self._repeat("GET", path, params=query))

    def _pages(self, model: type[PageType], path: str, **query: Any) -> Iterator[PageType]:
        """A list page by page, each asked for when the one before has been read."""
        while True:
            page = self._get(model, path, **query)
            yield page
            if page.next_cursor is None:
                return
            query["cursor"] = str(page.next_cursor)

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
            raise unreachable(error) from error
        raise problem(answer)


def unreachable(error: httpx.RequestError) -> ApiError:
    """The error for a request that got no answer."""
    reason = str(error) or type(error).__name__
    return ApiError(UNREACHABLE, "The API gave no answer", f"{error.request.url.copy_with(query=None)}: {reason}")


def problem(answer: httpx.Response) -> ApiError:
    """The error for an answer that says no."""
    try:
        body = answer.json()
        return ApiError(
            str(body["code"]),
            str(body["title"]),
            str(body["detail"]),
            status=answer.status_code,
            retry_after=retry_after(answer),
            errors=body.get("errors") or (),
        )
    except (ValueError, LookupError, TypeError):  # a proxy's page, or another server
        return unknown(answer, "is no problem+json")


def read(model: type[AnswerType], answer: httpx.Response) -> AnswerType:
    """The value that an answer holds. Raises ApiError for one that is no such."""
    try:
        return model.model_validate_json(answer.content)
    except pydantic.ValidationError as error:
        raise unknown(answer, f"is no {model.__name__}") from error


def unknown(answer: httpx.Response, reason: str) -> ApiError:
    """The error for an answer that is not of this API."""
    place = answer.url.copy_with(query=None)
    return ApiError(
        UNKNOWN_ANSWER,
        "The answer is not that of a Celeriac API",
        f"{answer.status_code} from {place} {reason}",
        status=answer.status_code,
        retry_after=retry_after(answer),
    )


def retry_after(answer: httpx.Response) -> int | None:
    """In how many seconds to ask again; None: it is not said."""
    value = answer.headers.get("Retry-After", "")
    return int(value) if value.isascii() and value.isdigit() else None  # the other form, a date, is not ours


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}
