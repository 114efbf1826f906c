"""What the OpenAPI description says beyond types: error answers, and the headers that matter."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from api.description import complete
from api.problems import MEDIA_TYPE, Code
from api.schemas.answers import REPLAYED, Moved
from api.schemas.operations import Preview
from tasks.catalog import handlers
from tasks.exports.formats import COMPRESSED, FORMATS
from tracking.external_types import BUILT_IN

PERMISSIONS, OF_HANDLER = "x-permissions", "x-handler-permission"  # of an operation
HANDLERS: dict[str, Any] = {OF_HANDLER: True}  # it takes the permission of the job's handler as well
SECURED: dict[str, Any] = {"security": [{"HTTPBearer": []}]}  # an operation
BEARER: dict[str, Any] = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "A JWT; `celeriac token` makes one.",
}
TEXT: dict[str, Any] = {"schema": {"type": "string"}}
SECONDS: dict[str, Any] = {"schema": {"type": "integer"}, "description": "Seconds to wait."}
REPLAY: dict[str, Any] = {
    "schema": {"type": "string", "const": "true"},
    "description": "There when an earlier request with this Idempotency-Key has made the job.",
}
RETRY_AFTER = {"Retry-After": SECONDS}

EXPORTED = sorted({*(form.media_type for form in FORMATS.values()), COMPRESSED})

Responses = dict[int | str, dict[str, Any]]


class DescribedApi(FastAPI):
    """FastAPI with an OpenAPI description that is exact enough to generate clients and requests from."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            described = super().openapi()
            described["components"]["securitySchemes"] = {"HTTPBearer": BEARER}
            complete(described, list(handlers(self.state.platform.app)), BUILT_IN)
        return super().openapi()


def operation_id(route: APIRoute) -> str:
    """The function's name: a good name for a client's method."""
    return route.name


def problems(*codes: Code) -> Responses:
    """The responses that are these problems, and those that any route under /v1 can answer."""
    described: Responses = {}
    for code in (Code.TOKEN_MISSING, Code.TOKEN_INVALID, Code.TOKEN_EXPIRED, Code.TOKEN_DENIED, *codes, *EVERYWHERE):
        response = described.setdefault(code.value.status, {"description": "", "content": PROBLEM})
        named = f"`{code}`: {code.value.title}."
        response["description"] = f"{response['description']} {named}".strip()
        if code.value.status in (409, 503) or code in (Code.TOO_MANY_WAITING, Code.TOO_MANY_REQUESTS):
            response["headers"] = RETRY_AFTER
    return described


EVERYWHERE = (
    *(Code.MALFORMED_URL, Code.INVALID_REQUEST, Code.TOO_MANY_REQUESTS, Code.TOO_MANY_CONNECTIONS),
    *(Code.DATABASE_UNAVAILABLE, Code.QUERY_TOO_SLOW, Code.OVERLOADED, Code.KEYS_UNAVAILABLE),
)
PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
BODY = (Code.MALFORMED_JSON, Code.BODY_TOO_SLOW, Code.BODY_TOO_LARGE, Code.UNSUPPORTED_MEDIA_TYPE)

READ = problems(Code.PERMISSION_MISSING)
READ_ONE = problems(Code.PERMISSION_MISSING, Code.JOB_NOT_FOUND)
SLOW = problems(Code.PERMISSION_MISSING, Code.TOO_MANY_READS)
SLOW_ONE = problems(Code.PERMISSION_MISSING, Code.JOB_NOT_FOUND, Code.TOO_MANY_READS)
STATUS: Responses = {
    200: {"headers": {"ETag": TEXT, **RETRY_AFTER}},
    304: {"description": "Nothing has changed since `If-None-Match`.", "headers": {"ETag": TEXT, **RETRY_AFTER}},
    **READ_ONE,
}
CREATED: Responses = {
    202: {"headers": {"Location": TEXT, REPLAYED: REPLAY}},
    **problems(
        *(Code.PERMISSION_MISSING, *BODY),
        *(Code.UNKNOWN_JOB_TYPE, Code.UNKNOWN_DEPENDENCY, Code.IDEMPOTENCY_CONFLICT, Code.TOO_MANY_WAITING),
    ),
}
BULK_CREATED = problems(
    *(Code.PERMISSION_MISSING, *BODY),
    *(Code.UNKNOWN_JOB_TYPE, Code.UNKNOWN_DEPENDENCY, Code.IDEMPOTENCY_CONFLICT, Code.TOO_MANY_WAITING),
)
CANCELLED = problems(Code.PERMISSION_MISSING, Code.JOB_NOT_FOUND, Code.ILLEGAL_MOVE, *BODY)
RETRIED: Responses = {
    200: {"headers": {REPLAYED: REPLAY}},
    202: {
        "model": Moved,
        "description": "A new job that repeats this one with the payload of the request.",
        "headers": {"Location": TEXT, REPLAYED: REPLAY},
    },
    **problems(
        *(Code.PERMISSION_MISSING, Code.JOB_NOT_FOUND, Code.ILLEGAL_MOVE, Code.UNKNOWN_JOB_TYPE, *BODY),
        Code.IDEMPOTENCY_CONFLICT,
    ),
}
CHANGED: Responses = {
    200: {"headers": {"ETag": TEXT, **RETRY_AFTER}},
    **problems(
        *(Code.PERMISSION_MISSING, Code.JOB_NOT_FOUND, Code.ILLEGAL_MOVE, Code.NOT_EXTERNAL, Code.JOB_CHANGED),
        *(Code.UNKNOWN_JOB_TYPE, *BODY),
    ),
}
OPERATION: Responses = {200: {"headers": RETRY_AFTER}, **problems(Code.PERMISSION_MISSING, Code.OPERATION_NOT_FOUND)}
OPERATION_RESULTS = problems(Code.PERMISSION_MISSING, Code.OPERATION_NOT_FOUND, Code.TOO_MANY_READS)
OPERATION_ABORTED = problems(Code.PERMISSION_MISSING, Code.OPERATION_NOT_FOUND, Code.OPERATION_ENDED, *BODY)
OPERATION_CREATED: Responses = {
    200: {"model": Preview, "description": "Of a dry run."},
    202: {"headers": {"Location": TEXT, REPLAYED: REPLAY, **RETRY_AFTER}},
    **problems(
        *(Code.PERMISSION_MISSING, *BODY),
        *(Code.IDEMPOTENCY_CONFLICT, Code.TOO_MANY_OPERATIONS, Code.TOO_MANY_READS),
    ),
}
QUEUE_MANAGED = problems(Code.PERMISSION_MISSING, Code.QUEUE_NOT_FOUND, *BODY)
QUEUE = problems(Code.PERMISSION_MISSING, Code.QUEUE_NOT_FOUND)
LIMIT = problems(Code.PERMISSION_MISSING, Code.LIMIT_NOT_FOUND)
DENIAL = problems(Code.PERMISSION_MISSING, Code.DENIAL_NOT_FOUND)
DENIED = problems(Code.PERMISSION_MISSING, Code.TOO_MANY_DENIALS, *BODY)
WEBHOOK = problems(Code.PERMISSION_MISSING, Code.WEBHOOK_NOT_FOUND)
WEBHOOK_ROTATED = problems(Code.PERMISSION_MISSING, Code.WEBHOOK_NOT_FOUND, Code.TOO_MANY_SECRETS)
WEBHOOK_CREATED: Responses = {
    201: {"headers": {"Location": TEXT}},
    **problems(Code.PERMISSION_MISSING, Code.TOO_MANY_WEBHOOKS, *BODY),
}
WEBHOOK_CHANGED = problems(Code.PERMISSION_MISSING, Code.WEBHOOK_NOT_FOUND, *BODY)
WEBHOOK_DELIVERIES = problems(Code.PERMISSION_MISSING, Code.WEBHOOK_NOT_FOUND, Code.TOO_MANY_READS)
DELIVERY = problems(Code.PERMISSION_MISSING, Code.WEBHOOK_NOT_FOUND, Code.DELIVERY_NOT_FOUND)
REDELIVERED = problems(Code.PERMISSION_MISSING, Code.WEBHOOK_NOT_FOUND, Code.DELIVERY_NOT_FOUND, Code.ILLEGAL_MOVE)
SCHEDULE = problems(Code.PERMISSION_MISSING, Code.SCHEDULE_NOT_FOUND)
SCHEDULE_TOLD = problems(Code.PERMISSION_MISSING, Code.SCHEDULE_NOT_FOUND, Code.TOO_MANY_READS)
SCHEDULE_CREATED: Responses = {
    201: {"headers": {"Location": TEXT, "ETag": TEXT}},
    **problems(
        *(Code.PERMISSION_MISSING, Code.SCHEDULE_EXISTS, Code.TOO_MANY_SCHEDULES),
        *(Code.TEMPLATE_NOT_FOUND, Code.UNKNOWN_JOB_TYPE, *BODY),
    ),
}
WORKFLOW = problems(Code.PERMISSION_MISSING, Code.WORKFLOW_NOT_FOUND, Code.TOO_MANY_READS)
WORKFLOW_CREATED: Responses = {
    202: {"headers": {"Location": TEXT, REPLAYED: REPLAY}},
    **problems(Code.PERMISSION_MISSING, Code.IDEMPOTENCY_CONFLICT, *BODY),
}
WORKFLOW_MOVED = problems(Code.PERMISSION_MISSING, Code.WORKFLOW_NOT_FOUND, Code.ILLEGAL_WORKFLOW_MOVE, *BODY)
TEMPLATE = problems(Code.PERMISSION_MISSING, Code.TEMPLATE_NOT_FOUND)
TEMPLATE_READ: Responses = {200: {"headers": {"ETag": TEXT}}, **TEMPLATE}
TEMPLATE_CREATED: Responses = {
    201: {"headers": {"Location": TEXT, "ETag": TEXT}},
    **problems(*(Code.PERMISSION_MISSING, Code.TEMPLATE_EXISTS, Code.UNKNOWN_JOB_TYPE, *BODY)),
}
TEMPLATE_CHANGED: Responses = {
    200: {"headers": {"ETag": TEXT}},
    **problems(
        *(Code.PERMISSION_MISSING, Code.TEMPLATE_NOT_FOUND, Code.TEMPLATE_CHANGED, Code.UNKNOWN_JOB_TYPE, *BODY)
    ),
}
TEMPLATE_USED: Responses = {
    202: {"headers": {"Location": TEXT, REPLAYED: REPLAY}},
    **problems(
        *(Code.PERMISSION_MISSING, Code.TEMPLATE_NOT_FOUND, *BODY),
        *(Code.UNKNOWN_JOB_TYPE, Code.UNKNOWN_DEPENDENCY, Code.IDEMPOTENCY_CONFLICT, Code.TOO_MANY_WAITING),
    ),
}
SCHEDULE_CHANGED: Responses = {
    200: {"headers": {"ETag": TEXT}},
    **problems(
        *(Code.PERMISSION_MISSING, Code.SCHEDULE_NOT_FOUND, Code.SCHEDULE_EXISTS, Code.SCHEDULE_CHANGED),
        *(Code.UNKNOWN_JOB_TYPE, Code.TEMPLATE_NOT_FOUND, *BODY),
    ),
}
SCHEDULE_READ: Responses = {200: {"headers": {"ETag": TEXT}}, **SCHEDULE}
SCHEDULE_RUN: Responses = {
    202: {"headers": {"Location": TEXT, REPLAYED: REPLAY}},
    **problems(
        *(Code.PERMISSION_MISSING, Code.SCHEDULE_NOT_FOUND, Code.TEMPLATE_NOT_FOUND, Code.SCHEDULE_UNFIT),
        *(Code.UNKNOWN_JOB_TYPE, Code.IDEMPOTENCY_CONFLICT, Code.TOO_MANY_WAITING),
    ),
}
MANAGED = problems(Code.PERMISSION_MISSING, *BODY)
TYPE_MANAGED = problems(Code.PERMISSION_MISSING, Code.UNKNOWN_JOB_TYPE, *BODY)
FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "description": "The file, whatever it is.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
ERROR_MARKED = problems(Code.PERMISSION_MISSING, Code.ERROR_NOT_FOUND, *BODY)
VIEW = problems(Code.PERMISSION_MISSING, Code.VIEW_NOT_FOUND)
VIEW_CREATED: Responses = {
    201: {"headers": {"Location": TEXT}},
    **problems(Code.PERMISSION_MISSING, Code.VIEW_EXISTS, Code.TOO_MANY_VIEWS, *BODY),
}
VIEW_CHANGED = problems(Code.PERMISSION_MISSING, Code.VIEW_NOT_FOUND, Code.VIEW_EXISTS, *BODY)
FILE = problems(Code.PERMISSION_MISSING, Code.FILE_NOT_FOUND)
FILE_CREATED: Responses = {
    201: {"headers": {"Location": TEXT}},
    **problems(
        *(Code.PERMISSION_MISSING, Code.TOO_MANY_FILES, Code.STORAGE_UNAVAILABLE),
        *(Code.BODY_TOO_SLOW, Code.BODY_TOO_LARGE),
    ),
}
LIMIT_PUT = TYPE_MANAGED
EXPORT: Responses = {
    200: {"description": "The file.", "content": {kind: {} for kind in EXPORTED}},
    307: {
        "description": "The file is in a bucket: an address where anybody may fetch it for a minute.",
        "headers": {"Location": TEXT},
    },
    **problems(Code.PERMISSION_MISSING, Code.EXPORT_NOT_FOUND, Code.STORAGE_UNAVAILABLE),
}
STREAM: Responses = {
    200: {
        "description": "Events until the token ends: `id`, `event` and JSON as `data`, as docs/events.md has them.",
        "content": {"text/event-stream": {}},
    },
    **problems(Code.TICKET_INVALID, Code.PERMISSION_MISSING, Code.JOB_NOT_FOUND, Code.TOO_MANY_STREAMS),
}
AUDIT_EXPORT: Responses = {
    200: {
        "description": "The entries.",
        "content": {kind: {} for kind in ("text/csv; charset=utf-8", "application/jsonl")},
        "headers": {"Next-Cursor": {"schema": {"type": "integer"}, "description": "There is more, from here on."}},
    },
    **SLOW,
}
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
METRICS: Responses = {
    200: {"description": "Metrics in Prometheus's text format.", "content": {PROMETHEUS: {}}},
    401: {
        "description": f"`{Code.TOKEN_MISSING}` or `{Code.TOKEN_INVALID}`: a token was set, and this is not it.",
        "content": PROBLEM,
    },
}
READY: Responses = {
    503: {"description": f"`{Code.NOT_READY}`: `checks` says why.", "content": PROBLEM, "headers": RETRY_AFTER}
}
