"""What a row keeps of a call so that its message can be built again at every dispatch: options, headers, stamps."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from celery import current_task
from celery.app.amqp import AMQP
from celery.app.task import Context
from celery.utils.functional import maybe_list

from tasks import canvases
from tasks.arguments import PASSING, Arguments
from tasks.broker.messages import DISPATCH_HEADER, PROPERTIES
from tasks.encoding import to_header, to_headers, to_plain
from tracking.values import MAX_DEPTH, check_headers, check_json, check_moment, check_name, check_seconds

CANVAS_LIMITS = {"max_bytes": 4 * 2**20, "max_depth": 4 * MAX_DEPTH}

# Options of Celery's that a message is built from again at every dispatch (celery.app.amqp, as_task_v2).
DELIVERED_OPTIONS = (
    "link",
    "link_error",
    "chain",
    "chord",
    "time_limit",
    "soft_time_limit",
    "expires",
    "reply_to",
    "shadow",
    "replaced_task_nesting",
    "ignore_result",
)

# Those that belong to one job of a canvas, or to one call, and not to a job that repeats it.
ITS_OWN = ("link", "link_error", "chain", "chord", "expires", "reply_to", "replaced_task_nesting")

# What the platform adds to a message's headers, and what an earlier version has added.
OUR_HEADERS = frozenset({DISPATCH_HEADER, "job_id"})
# What Celery's protocol and its context of a running task call their own, and these.
RESERVED_HEADERS = frozenset(
    {name for name in dir(Context) if not name.startswith("__")}
    | set(inspect.signature(AMQP.as_task_v2).parameters)
    | OUR_HEADERS
    | {"id", "task", "lang", "group", "timelimit", "origin", "stamps", "compression"}
)


def delivered(options: Mapping[str, Any], arguments: Arguments | None) -> dict[str, Any]:
    """What a row keeps of a call for its messages, besides the arguments. Raises InvalidValue."""
    kept = {name: options[name] for name in DELIVERED_OPTIONS if options.get(name)}
    if options.get("expires") is not None:
        kept["expires"] = options["expires"]  # 0 has a meaning, too
    if arguments is not None and arguments.passing is not None:
        kept[PASSING] = arguments.passing
    kept |= {name: maybe_list(kept[name]) for name in ("link", "link_error") if name in kept}
    if "expires" in kept:
        kept["expires"] = _expiry(kept["expires"]).isoformat()
    for name in ("time_limit", "soft_time_limit"):
        if name in kept:
            check_seconds(kept[name], name)
    for name in ("reply_to", "shadow"):
        if name in kept:
            check_name(kept[name], name)
    kept |= {name: check_name(str(options[name]), name) for name in PROPERTIES if options.get(name)}
    plain: dict[str, Any] = {**to_plain(kept), **_headers(options)}
    known = {"chain"} if isinstance(options.get("chain"), canvases.Rest) else set()
    check_json(
        {name: value for name, value in plain.items() if name not in known}, "the task's options", **CANVAS_LIMITS
    )
    return plain


def _headers(options: Mapping[str, Any]) -> dict[str, Any]:
    """The headers and stamps, as messages have them."""
    encoded: dict[str, Any] = {}
    headers = to_headers(_own_headers(options.get("headers") or {}))
    if headers:
        encoded["headers"] = check_headers(headers, "headers", RESERVED_HEADERS)
    stamped = maybe_list(options.get("stamped_headers"))
    if stamped:
        stamps = {stamp: options[stamp] for stamp in stamped if stamp in options}
        check_headers(to_headers(stamps), "the stamps", RESERVED_HEADERS)
        encoded |= {"stamped_headers": list(stamped), "stamps": to_header(stamps)}
    return encoded


def _own_headers(headers: Any) -> Any:
    """The headers without those that Celery copies from the running task when it sends another in its place."""
    copied = getattr(current_task.request, "headers", None) if current_task else None
    if not copied or not isinstance(headers, Mapping):
        return headers
    return {name: value for name, value in headers.items() if name not in RESERVED_HEADERS or copied.get(name) != value}


def _expiry(value: Any) -> datetime:
    if isinstance(value, str | datetime):
        return check_moment(value, "expires")
    return datetime.now(UTC) + check_seconds(value, "expires")
