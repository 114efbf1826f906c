"""What all requests and answers have in common: an id, a log line, safe headers, a readable address, a size limit."""

from __future__ import annotations

import re
import time
import traceback
from contextlib import AbstractContextManager, nullcontext
from urllib.parse import quote, unquote_to_bytes
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.addresses import Addresses
from api.problems import Code, Problem
from tracking import traces
from tracking.tenancy import NOBODY, confined_to

MAX_BODY = 512 * 1024  # bytes: twice the largest payload, for metadata and white space
# Of many jobs, a few of which an application reads at a time.
LARGER = {"/v1/jobs/bulk": 16 * 1024 * 1024, "/v1/workflows": 4 * 1024 * 1024}
JOBS = "/v1/jobs"
FILES = "/v1/files"  # whose bodies are not held in memory
EVENTS = "/v1/events"  # whose answer does not end
HEALTH = ("/livez", "/healthz", "/readyz", "/metrics")
REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
INNERMOST_FRAMES = 10  # of a failure are logged
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

log = structlog.get_logger(__name__)


class Envelope:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get("x-request-id"))
        # Until it is known who asks, nobody's rows are seen.
        if scope["type"] == "websocket":
            with structlog.contextvars.bound_contextvars(request_id=request_id), confined_to(NOBODY):
                await self.app(scope, receive, send)
            return
        traced = _traced(request_id)
        with structlog.contextvars.bound_contextvars(request_id=request_id, **traced), confined_to(NOBODY):
            answer, method = _Answer(send, request_id), scope["method"]
            scope = {**scope, "request_id": request_id, "method": _answered_as(scope)}
            await self._serve(scope, _counted(receive, _most(scope)), answer)
            seconds = answer.age()
            scope["app"].state.metrics.answered(scope, answer.status, seconds)
            told = {"method": method, "path": _path(scope), "status": answer.status, **answer.made}
            log.info("request", **told, ms=round(seconds * 1000, 1))

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            _require_readable(scope)
            with _counted_by_address(scope):
                await self.app(scope, receive, answer.send)
        except Problem as refusal:
            await _told(refusal, scope)(scope, receive, answer.send)
        except ClientDisconnect:
            return
        except Exception as error:
            # Not the error's text, which may quote a payload.
            frames = "".join(traceback.format_tb(error.__traceback__, limit=-INNERMOST_FRAMES))
            log.error(  # noqa: TRY400 - for the reason above
                "the server failed", error=type(error).__name__, path=_path(scope), frames=frames
            )
            if answer.status is not None:
                raise  # too late for another answer: the server closes the connection
            problem = Problem(Code.INTERNAL_ERROR, f"The log tells more about request {answer.request_id}.")
            await _told(problem, scope)(scope, receive, answer.send)


class _Answer:
    """Sends the answer, with the headers that every answer has."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._began = time.monotonic()
        self.request_id = request_id
        self.status: int | None = None
        self.made: dict[str, str] = {}  # the job, for the log

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])  # a member of HTTPStatus would be told by its name
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            place, _, job_id = headers.get("Location", "").rpartition("/")
            self.made = {"job_id": job_id} if place == JOBS else {}
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    def age(self) -> float:
        """Seconds."""
        return time.monotonic() - self._began


def _told(problem: Problem, scope: Scope) -> Response:
    """The answer that a problem is, for people who look at the dashboard a page."""
    answer: Response = scope["app"].state.refused(Request(scope), problem)
    return answer


def _traced(request_id: str) -> dict[str, str]:
    """The id of the trace, for the log; in the span the id of the request, and nothing of what was searched for."""
    spans = traces.spans()
    if spans is None or spans.trace_id is None:
        return {}
    spans.say(**{"url.query": "(not kept)", "celeriac.request_id": request_id})
    return {"trace_id": spans.trace_id}


def _answered_as(scope: Scope) -> str:
    """HEAD is a GET, which probes and load balancers send: the server that has called us leaves its body out."""
    return "GET" if scope["method"] == "HEAD" and scope["path"] != EVENTS else str(scope["method"])


def _most(scope: Scope) -> int:
    """How many bytes the body of a request may have."""
    if scope["path"] == FILES and scope["method"] == "POST":
        return int(scope["app"].state.platform.settings.files_size) * 1024 * 1024
    return LARGER.get(scope["path"], MAX_BODY)


def _counted_by_address(scope: Scope) -> AbstractContextManager[None]:
    """Raises the 429 problem, except for who asks whether the process lives: that says nothing of its work."""
    if scope["path"] in HEALTH:
        return nullcontext()
    addresses: Addresses = scope["app"].state.addresses
    return addresses.asking(scope["client"][0] if scope.get("client") else None)


def _counted(receive: Receive, most: int) -> Receive:
    # The framework's own limit answers in plain text, from a place that no error handler reaches.
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise Problem(Code.BODY_TOO_LARGE, f"At most {most} bytes are read.")
        return message

    return counted


def _require_readable(scope: Scope) -> None:
    """Refuse an address with escapes that are no UTF-8 or stand for NUL, so that no route has to handle them."""
    for part in (_path(scope), scope["query_string"]):
        try:
            decoded = unquote_to_bytes(part).decode()
        except UnicodeDecodeError:
            raise Problem(Code.MALFORMED_URL, "The address is not UTF-8.") from None
        if "\x00" in decoded:
            raise Problem(Code.MALFORMED_URL, "The address contains a NUL character.")


def _path(scope: Scope) -> str:
    """The path as it came: escapes still hide line breaks from the log."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return raw.decode("ascii", "backslashreplace")


def _request_id(given: str | None) -> str:
    return given if given and REQUEST_ID.fullmatch(given) else uuid4().hex
