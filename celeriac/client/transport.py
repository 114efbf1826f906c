"""How the clients' requests are repeated while the server cannot answer; answers as values, errors as exceptions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit
from uuid import uuid4

import httpx2
import pydantic

from celeriac.client.answers import Answer, Paged
from celeriac.client.calling import Ask, Flow, Give, Item, Pause, Steps
from tasks.authorities import Authorities
from tracking.values import KEY, KEYS

ANSWER_TIMEOUT = 10.0  # seconds to connect, and between two pieces of an answer
PATIENCE = 30.0  # seconds during which a request is repeated while the server cannot answer
SILENCE = 40.0  # seconds without a sign of life of a stream, which has one each 15 seconds
PAUSE = 0.5  # seconds between two of them, when the server does not say
DIRECT = ("127.0.0.1", "localhost", "[::1]")  # never behind a proxy of the environment

EVENTS = "/v1/events"

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

    def __reduce__(self) -> tuple[Any, ...]:
        """How it goes from one process to another."""
        return type(self), (self.code, self.title, self.detail), vars(self)

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may do better in a moment."""
        return self.code == UNREACHABLE or self.status in TEMPORARY


AnswerType = TypeVar("AnswerType", bound=Answer)
PageType = TypeVar("PageType", bound=Paged)


class Requests:
    """The base of what both clients ask for. Those of theirs say for how long a request is repeated."""

    patience: float
    timeout: float

    def _ask(self, model: type[AnswerType], method: str, path: str, **request: Any) -> Steps[AnswerType]:
        """Once: a repetition would have another answer."""
        return read(model, (yield Ask(method, path, request)))

    def _tell(self, method: str, path: str, **request: Any) -> Steps[None]:
        """The same, of which nothing comes back."""
        yield Ask(method, path, request)

    def _get(self, model: type[AnswerType], path: str, **query: Any) -> Steps[AnswerType]:
        return self._repeat(model, "GET", path, params=query)

    def _repeat(self, model: type[AnswerType], method: str, path: str, **request: Any) -> Steps[AnswerType]:
        return read(model, (yield from self._repeated(Ask(method, path, request))))

    def _create(
        self, model: type[AnswerType], path: str, body: Mapping[str, Any], idempotency_key: str | None
    ) -> Steps[AnswerType]:
        """With a key, by which a repetition has the same answer."""
        key = str(uuid4()) if idempotency_key is None else idempotency_key
        if not KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no Idempotency-Key: one has {KEYS}")
        headers = {"Idempotency-Key": key}
        return self._repeat(model, "POST", path, json=body, headers=headers)

    def _pages(
        self, model: type[PageType], path: str, items: Callable[[PageType], Iterable[Item]], **query: Any
    ) -> Flow[Item]:
        """What is on the pages of a list, each asked for when the one before has been read."""
        while True:
            page = yield from self._get(model, path, **query)
            for item in items(page):
                yield Give(item)
            if page.next_cursor is None:
                return
            query["cursor"] = str(page.next_cursor)

    def _repeated(self, ask: Ask, patience: float | None = None) -> Steps[httpx2.Response]:
        """The first answer that is not a temporary no, if there is one in time."""
        deadline = time.monotonic() + (self.patience if patience is None else patience)
        while True:
            try:
                answer: httpx2.Response = yield ask
            except ApiError as error:
                pause = error.retry_after or PAUSE
                is_asked_later = error.status == httpx2.codes.TOO_MANY_REQUESTS and error.retry_after is not None
                if not (error.is_temporary or is_asked_later) or time.monotonic() + pause > deadline:
                    raise
            else:
                return answer
            yield Pause(pause)


def parts_of(url: str) -> SplitResult:
    """The parts of the address of an API. Raises ValueError for what is none, as a page of it with what it is asked."""
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
    except ValueError:  # of half an IPv6 address
        is_one = False
    if not is_one:
        raise ValueError(f"{url!r} is no address such as https://jobs.example.org")
    return parts


def authorized(url: str, token: str) -> dict[str, str]:
    """The headers of every request. Raises ValueError for what is no address, or cannot be a token, which it hides."""
    parts_of(url)
    token = token.strip()
    if not token or not token.isascii() or any(not letter.isprintable() or letter.isspace() for letter in token):
        raise ValueError("that is no token: one is not empty, and has neither spaces nor line breaks in it")
    return {"Authorization": f"Bearer {token}"}


def connecting(url: str, token: str, transport: object) -> dict[str, Any]:
    """What either client of httpx2 is made with. Raises ValueError as `authorized` does."""
    mounts = {f"all://{host}": transport for host in DIRECT}
    headers = authorized(url, token)
    return {"base_url": url, "headers": headers, "transport": transport, "mounts": mounts, "verify": Authorities()}


def silence(timeout: float) -> httpx2.Timeout:
    """For a stream: it has a sign of life each 15 seconds."""
    return httpx2.Timeout(timeout, read=max(timeout, SILENCE))


def is_fine(answer: httpx2.Response) -> bool:
    """Whether it is a yes, or says that nothing has changed."""
    return answer.is_success or answer.status_code == httpx2.codes.NOT_MODIFIED


@contextmanager
def errors_told() -> Iterator[None]:
    """Within: no answer is an ApiError."""
    try:
        yield
    except httpx2.RequestError as error:
        raise unreachable(error) from error


def unreachable(error: httpx2.RequestError) -> ApiError:
    """The error for a request that got no answer."""
    reason = str(error) or type(error).__name__
    return ApiError(UNREACHABLE, "The API gave no answer", f"{error.request.url.copy_with(query=None)}: {reason}")


def problem(answer: httpx2.Response) -> ApiError:
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
        # A token is sent nowhere but to the address that it is for, such as from http to https.
        elsewhere = answer.next_request and answer.next_request.url.copy_with(query=None, fragment=None)
        return unknown(answer, f"leads to {elsewhere}" if elsewhere else "is no problem+json")


def read(model: type[AnswerType], answer: httpx2.Response) -> AnswerType:
    """The value that an answer holds. Raises ApiError for one that is no such."""
    try:
        return model.model_validate_json(answer.content)
    except pydantic.ValidationError as error:
        raise unknown(answer, f"is no {model.__name__}") from error


def unknown(answer: httpx2.Response, reason: str) -> ApiError:
    """The error for an answer that is not of this API."""
    place = answer.url.copy_with(query=None)
    return ApiError(
        UNKNOWN_ANSWER,
        "The answer is not that of a Celeriac API",
        f"{answer.status_code} from {place} {reason}",
        status=answer.status_code,
        retry_after=retry_after(answer),
    )


def retry_after(answer: httpx2.Response) -> int | None:
    """In how many seconds to ask again; None: it is not said."""
    value = answer.headers.get("Retry-After", "")
    return int(value) if value.isascii() and value.isdigit() else None  # the other form, a date, is not ours


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}
