"""Error answers: RFC 9457 problems, each with a stable code that docs/errors.md explains."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any
from uuid import UUID

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from tracking import errors
from tracking.db import DBAPIError, Outage, PoolTimeoutError, cause_of, outage, said_by

MEDIA_TYPE = "application/problem+json"
UNAVAILABLE = (DBAPIError, PoolTimeoutError)  # if `outage` says so
RETRY_AFTER = {"Retry-After": "2"}  # seconds
MOST_ERRORS = 20
LONGEST_FIELD = 200  # characters: a hostile field name is not echoed in full

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of error: its HTTP status, and a title that never changes."""

    status: HTTPStatus
    title: str


class Code(Enum):
    """Every code there is; its name in lower case is what clients see."""

    MALFORMED_URL = Kind(HTTPStatus.BAD_REQUEST, "The address or a header cannot be read")
    MALFORMED_JSON = Kind(HTTPStatus.BAD_REQUEST, "The body is not JSON")
    TOKEN_MISSING = Kind(HTTPStatus.UNAUTHORIZED, "A bearer token is needed")
    TOKEN_INVALID = Kind(HTTPStatus.UNAUTHORIZED, "The token is not valid")
    TICKET_INVALID = Kind(HTTPStatus.UNAUTHORIZED, "The ticket is not valid")
    TOKEN_DENIED = Kind(HTTPStatus.UNAUTHORIZED, "The token is taken no more")
    TOKEN_EXPIRED = Kind(HTTPStatus.UNAUTHORIZED, "The token has expired")
    FOREIGN_ORIGIN = Kind(HTTPStatus.FORBIDDEN, "The request comes from a page of another site")
    INSECURE_CONNECTION = Kind(HTTPStatus.FORBIDDEN, "A session needs https")
    PERMISSION_MISSING = Kind(HTTPStatus.FORBIDDEN, "A permission is missing")
    NOT_FOUND = Kind(HTTPStatus.NOT_FOUND, "There is nothing at this address")
    JOB_NOT_FOUND = Kind(HTTPStatus.NOT_FOUND, "There is no such job")
    OPERATION_NOT_FOUND = Kind(HTTPStatus.NOT_FOUND, "There is no such bulk operation")
    EXPORT_NOT_FOUND = Kind(HTTPStatus.NOT_FOUND, "There is no such export")
    DENIAL_NOT_FOUND = Kind(HTTPStatus.NOT_FOUND, "No tokens are denied so")
    QUEUE_NOT_FOUND = Kind(HTTPStatus.NOT_FOUND, "There is no such queue")
    LIMIT_NOT_FOUND = Kind(HTTPStatus.NOT_FOUND, "There is no such limit")
    WEBHOOK_NOT_FOUND = Kind(HTTPStatus.NOT_FOUND, "There is no such webhook")
    DELIVERY_NOT_FOUND = Kind(HTTPStatus.NOT_FOUND, "There is no such delivery")
    SCHEDULE_NOT_FOUND = Kind(HTTPStatus.NOT_FOUND, "There is no such schedule")
    WORKFLOW_NOT_FOUND = Kind(HTTPStatus.NOT_FOUND, "There is no such workflow")
    TEMPLATE_NOT_FOUND = Kind(HTTPStatus.NOT_FOUND, "There is no such template")
    ERROR_NOT_FOUND = Kind(HTTPStatus.NOT_FOUND, "No job has failed with this fingerprint")
    FILE_NOT_FOUND = Kind(HTTPStatus.NOT_FOUND, "There is no such file")
    VIEW_NOT_FOUND = Kind(HTTPStatus.NOT_FOUND, "There is no such saved view")
    METHOD_NOT_ALLOWED = Kind(HTTPStatus.METHOD_NOT_ALLOWED, "This address does not take this method")
    BODY_TOO_SLOW = Kind(HTTPStatus.REQUEST_TIMEOUT, "The body did not arrive in time")
    ILLEGAL_MOVE = Kind(HTTPStatus.CONFLICT, "The job's status does not allow this")
    ILLEGAL_WORKFLOW_MOVE = Kind(HTTPStatus.CONFLICT, "The workflow's status does not allow this")
    NOT_EXTERNAL = Kind(HTTPStatus.CONFLICT, "Workers run this job, and say how far it is")
    OPERATION_ENDED = Kind(HTTPStatus.CONFLICT, "The bulk operation has ended")
    TOO_MANY_WEBHOOKS = Kind(HTTPStatus.CONFLICT, "The organization has too many webhooks")
    TOO_MANY_SECRETS = Kind(HTTPStatus.CONFLICT, "The webhook has too many secrets that sign")
    TOO_MANY_DENIALS = Kind(HTTPStatus.CONFLICT, "As many tokens are denied as may be")
    TOO_MANY_FILES = Kind(HTTPStatus.CONFLICT, "The organization has too many uploaded files")
    TOO_MANY_SCHEDULES = Kind(HTTPStatus.CONFLICT, "The organization has too many schedules")
    SCHEDULE_EXISTS = Kind(HTTPStatus.CONFLICT, "Another schedule has this name")
    SCHEDULE_UNFIT = Kind(HTTPStatus.CONFLICT, "The schedule can make no job as things are")
    TEMPLATE_EXISTS = Kind(HTTPStatus.CONFLICT, "Another template has this name")
    VIEW_EXISTS = Kind(HTTPStatus.CONFLICT, "Another saved view has this name")
    TOO_MANY_VIEWS = Kind(HTTPStatus.CONFLICT, "The user has too many saved views")
    TEMPLATE_CHANGED = Kind(HTTPStatus.PRECONDITION_FAILED, "The template has changed since it was read")
    SCHEDULE_CHANGED = Kind(HTTPStatus.PRECONDITION_FAILED, "The schedule has changed since it was read")
    JOB_CHANGED = Kind(HTTPStatus.PRECONDITION_FAILED, "The job has changed since it was read")
    BODY_TOO_LARGE = Kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large")
    UNSUPPORTED_MEDIA_TYPE = Kind(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must be application/json")
    INVALID_REQUEST = Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The request is not valid")
    UNKNOWN_JOB_TYPE = Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "No handler is registered for this job type")
    UNKNOWN_DEPENDENCY = Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "There is no such job to depend on")
    IDEMPOTENCY_CONFLICT = Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The idempotency key belongs to another request")
    TOO_MANY_STREAMS = Kind(HTTPStatus.TOO_MANY_REQUESTS, "The user has too many live streams")
    TOO_MANY_CONNECTIONS = Kind(HTTPStatus.TOO_MANY_REQUESTS, "The address has too many requests at once")
    TOO_MANY_REQUESTS = Kind(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests in a second")
    TOO_MANY_READS = Kind(HTTPStatus.TOO_MANY_REQUESTS, "The organization has too many slow reads at once")
    TOO_MANY_WAITING = Kind(HTTPStatus.TOO_MANY_REQUESTS, "As many jobs of the organization wait as may")
    TOO_MANY_OPERATIONS = Kind(HTTPStatus.TOO_MANY_REQUESTS, "The organization has too many bulk operations at once")
    INTERNAL_ERROR = Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed")
    DATABASE_UNAVAILABLE = Kind(HTTPStatus.SERVICE_UNAVAILABLE, "The database cannot be reached")
    DATABASE_READ_ONLY = Kind(HTTPStatus.SERVICE_UNAVAILABLE, "The database takes no writes now")
    DATABASE_FULL = Kind(HTTPStatus.SERVICE_UNAVAILABLE, "The disk of the database is full")
    DATABASE_RIGHT_MISSING = Kind(HTTPStatus.SERVICE_UNAVAILABLE, "The platform lacks a right in its database")
    QUERY_TOO_SLOW = Kind(HTTPStatus.SERVICE_UNAVAILABLE, "The answer would have taken the database too long")
    KEYS_UNAVAILABLE = Kind(HTTPStatus.SERVICE_UNAVAILABLE, "The keys that check tokens cannot be fetched")
    STORAGE_UNAVAILABLE = Kind(HTTPStatus.SERVICE_UNAVAILABLE, "The storage of files cannot be used")
    OVERLOADED = Kind(HTTPStatus.SERVICE_UNAVAILABLE, "Too many requests are being served")
    NOT_READY = Kind(HTTPStatus.SERVICE_UNAVAILABLE, "The platform is not ready")

    def __str__(self) -> str:
        return self.name.lower()


CODES = tuple(str(code) for code in Code)


class Problem(HTTPException):
    """An error answer, raised anywhere below a route. `extra` holds further members of the body."""

    def __init__(
        self,
        code: Code,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(int(code.value.status), detail, dict(headers or {}))
        self.code = code
        self.extra = dict(extra or {})

    def response(self) -> Response:
        """The problem as it goes out."""
        body = {
            "type": f"urn:celeriac:error:{self.code}",
            "title": self.code.value.title,
            "status": self.status_code,
            "detail": self.detail,
            "code": str(self.code),
            **self.extra,
        }
        # json's own escapes: whatever is in a detail, it can be encoded
        return Response(json.dumps(body), self.status_code, headers=self.headers, media_type=MEDIA_TYPE)


def invalid(found: Sequence[Mapping[str, Any]], *, within: str = "", outer: bool = True) -> Problem:
    """The problem for pydantic's errors; `within` is the place of what was validated, such as "payload".

    `outer`: without it, their places begin with where a request had them.
    """
    fields = [
        {
            "field": _field(error["loc"], within, outer=outer)[:LONGEST_FIELD],
            "message": error["msg"].removeprefix("Value error, "),
        }
        for error in found[:MOST_ERRORS]
    ]
    first = f"{fields[0]['field'] or 'request'}: {fields[0]['message']}"
    return Problem(Code.INVALID_REQUEST, first, extra={"errors": fields})


def invalid_by(error: ValidationError, *, within: str = "", outer: bool = True) -> Problem:
    """The problem for what pydantic refuses, as `invalid`; it quotes nothing of it."""
    return invalid(error.errors(include_url=False, include_input=False), within=within, outer=outer)


def unknown_dependency(given: Sequence[UUID], unknown: Sequence[UUID], detail: str) -> Problem:
    """The problem of a job that depends on jobs which are not there; `given`: all those that it names."""
    places = (given.index(job_id) for job_id in unknown[:MOST_ERRORS])
    errors = [{"field": f"dependsOn.{place}", "message": "There is no such job"} for place in places]
    return Problem(Code.UNKNOWN_DEPENDENCY, detail, extra={"errors": errors})


def install(app: FastAPI) -> None:
    """Make every exception below a route a problem."""
    app.exception_handler(HTTPException)(_from_http)
    app.exception_handler(RequestValidationError)(_from_request)
    for below in (errors.TrackingError, *UNAVAILABLE):
        app.exception_handler(below)(_from_below)


REFUSALS = {
    errors.JobNotFound: Code.JOB_NOT_FOUND,
    errors.IllegalMove: Code.ILLEGAL_MOVE,
    errors.NotExternal: Code.NOT_EXTERNAL,
    errors.OperationNotFound: Code.OPERATION_NOT_FOUND,
    errors.OperationEnded: Code.OPERATION_ENDED,
    errors.OperationsTaken: Code.TOO_MANY_OPERATIONS,
    errors.TooManyWaiting: Code.TOO_MANY_WAITING,
    errors.JobChanged: Code.JOB_CHANGED,
    errors.QueueNotFound: Code.QUEUE_NOT_FOUND,
    errors.LimitNotFound: Code.LIMIT_NOT_FOUND,
    errors.DenialNotFound: Code.DENIAL_NOT_FOUND,
    errors.TooManyDenials: Code.TOO_MANY_DENIALS,
    errors.WebhookNotFound: Code.WEBHOOK_NOT_FOUND,
    errors.TooManyWebhooks: Code.TOO_MANY_WEBHOOKS,
    errors.TooManySecrets: Code.TOO_MANY_SECRETS,
    errors.ErrorNotFound: Code.ERROR_NOT_FOUND,
    errors.FileMissing: Code.FILE_NOT_FOUND,
    errors.TooManyFiles: Code.TOO_MANY_FILES,
    errors.ScheduleNotFound: Code.SCHEDULE_NOT_FOUND,
    errors.TooManySchedules: Code.TOO_MANY_SCHEDULES,
    errors.ScheduleExists: Code.SCHEDULE_EXISTS,
    errors.ScheduleUnfit: Code.SCHEDULE_UNFIT,
    errors.ScheduleChanged: Code.SCHEDULE_CHANGED,
    errors.WorkflowNotFound: Code.WORKFLOW_NOT_FOUND,
    errors.IllegalWorkflowMove: Code.ILLEGAL_WORKFLOW_MOVE,
    errors.ViewNotFound: Code.VIEW_NOT_FOUND,
    errors.ViewExists: Code.VIEW_EXISTS,
    errors.TooManyViews: Code.TOO_MANY_VIEWS,
    errors.TemplateNotFound: Code.TEMPLATE_NOT_FOUND,
    errors.TemplateExists: Code.TEMPLATE_EXISTS,
    errors.TemplateChanged: Code.TEMPLATE_CHANGED,
    errors.IdempotencyConflict: Code.IDEMPOTENCY_CONFLICT,
    errors.UnknownJobType: Code.UNKNOWN_JOB_TYPE,
    errors.InvalidValue: Code.INVALID_REQUEST,
}


def code_of(error: Exception) -> Code | None:
    """What a refusal is answered with; None: it is none, or not one of a route's."""
    return error.code if isinstance(error, Problem) else REFUSALS.get(type(error))


OUTAGES = {
    Outage.AWAY: (
        Code.DATABASE_UNAVAILABLE,
        "Try again in a moment; with its Idempotency-Key a create makes no second job.",
    ),
    Outage.BUSY: (Code.OVERLOADED, "The database has no connection, lock or resource to spare; try again in a moment."),
    Outage.FULL: (
        Code.DATABASE_FULL,
        "Reading goes on; try again when whoever runs the platform has made room for the database.",
    ),
    Outage.READ_ONLY: (Code.DATABASE_READ_ONLY, "Reading goes on; try again in a moment."),
    Outage.UNGRANTED: (
        Code.DATABASE_RIGHT_MISSING,
        "Whoever runs the platform finds in its log which, and grants it by `celeriac migrate`.",
    ),
    Outage.TOO_SLOW: (Code.QUERY_TOO_SLOW, "Ask for less, such as a shorter time, or try again in a moment."),
}
FRAMEWORK = {HTTPStatus.NOT_FOUND: Code.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED: Code.METHOD_NOT_ALLOWED}


def refused(_: Request, problem: Problem) -> Response:
    """The answer that a problem is to programs."""
    return problem.response()


def http_problem(request: Request, error: HTTPException) -> Problem:
    """The problem that an error of the framework is; one of ours is itself."""
    if isinstance(error, Problem):
        return error
    code = FRAMEWORK.get(HTTPStatus(error.status_code), Code.MALFORMED_URL)
    headers = _allowed(request) if code is Code.METHOD_NOT_ALLOWED else None
    return Problem(code, f"{request.method} {request.url.path[:LONGEST_FIELD]}", headers=headers or error.headers)


async def _from_http(request: Request, error: HTTPException) -> Response:
    return http_problem(request, error).response()


async def _from_request(_: Request, error: RequestValidationError) -> Response:
    return invalid(error.errors()).response()


async def _from_below(_: Request, error: Exception) -> Response:
    return problem_of(error).response()


def problem_of(error: Exception) -> Problem:
    """The problem that an error from below the routes is. Raises the error itself when it is a defect."""
    if isinstance(error, Problem):
        return error
    code = REFUSALS.get(type(error))
    if code is not None:
        wait = getattr(error, "retry_after", None)
        return Problem(code, str(error), headers={"Retry-After": str(wait)} if wait else None)
    kind = outage(error)
    if kind is None:
        raise error
    said = {"said": said_by(cause_of(error))} if kind is Outage.UNGRANTED else {}  # "permission denied for table jobs"
    log.warning("database unavailable", outage=kind.name.lower(), error=type(cause_of(error)).__name__, **said)
    code, detail = OUTAGES[kind]
    return Problem(code, detail, headers=RETRY_AFTER)


def _allowed(request: Request) -> dict[str, str] | None:
    """All methods of an address of the API: the framework names those of the first route that it finds."""
    route = request.scope.get("route")
    described = request.app.openapi()["paths"].get(getattr(route, "path", ""))
    if not described:
        return None
    methods = {method.upper() for method in described}
    if "GET" in methods and request.method != "HEAD":  # which is a GET wherever it is not refused itself
        methods.add("HEAD")
    return {"Allow": ", ".join(sorted(methods))}


def _field(location: Iterable[Any], within: str, *, outer: bool) -> str:
    parts = [str(part) for part in location]
    return ".".join(
        [within, *parts] if within else parts[1:] if outer else parts
    )  # FastAPI begins with "body", "query" ...
