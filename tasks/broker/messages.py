"""From a row to its Celery message, which says no more than the broker and a worker's main process need.

What runs is what the row says: its arguments, and what follows from it, a worker gets with the claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from kombu.utils import json as kombu_json

from tasks.arguments import PASSING, payload_to_arguments
from tasks.encoding import from_header, from_plain
from tracking.identifiers import job_id_of
from tracking.models import Fence

if TYPE_CHECKING:
    from celery import Celery
    from kombu import Producer

    from tracking.models import Attempt, JobRecord, NewJob

DISPATCH_HEADER = "dispatch"
LOSSES_HEADER = "losses"  # how many workers the job has taken down; it is on messages of those that have
DISPATCHES = range(1, 2**31)  # what an integer of the database holds
OWN_ID = "task_id"  # in `delivery`: Celery's id of a job, if its sender has chosen another text than the job's id
STAMPED = ("stamped_headers", "stamps")

LINKS = {"callbacks": "link", "errbacks": "link_error", "chain": "chain", "chord": "chord"}

UNSET: tuple[Any, ...] = (None, [None, None], {})  # what Celery's headers have for them

# The body of every message of ours; to decode it takes longer than to see that it is this one.
EMPTY_BODIES = (_empty := kombu_json.dumps(((), {}, dict.fromkeys(LINKS))), _empty.encode())
JSON = "application/json"

# What AMQP lets a sender write on a message and the broker does not act upon (AMQP 0-9-1, basic properties).
PROPERTIES = ("app_id", "cluster_id", "message_id", "type")


def celery_id(job: JobRecord | NewJob) -> str:
    """Celery's id of a job, through all its dispatches and attempts."""
    return str(job.delivery.get(OWN_ID) or job.id)


def fence_of(task_id: Any, headers: Any) -> Fence | None:
    """The dispatch that a message of this id and these headers stands for; None: it is none of ours."""
    number = headers.get(DISPATCH_HEADER) if isinstance(headers, Mapping) else None
    if not isinstance(task_id, str) or type(number) is not int or number not in DISPATCHES:
        return None
    return Fence(job_id_of(task_id), number)


def publish(app: Celery, producer: Producer, record: JobRecord) -> None:
    """Put the message of a job's current dispatch on its queue. Raises the broker's errors."""
    message, options = prepare(app, record)
    app.amqp.send_task_message(producer, record.job_type, message, **options)


def prepare(app: Celery, record: JobRecord) -> tuple[Any, dict[str, Any]]:
    """The message of a job's current dispatch, and how it is to be sent."""
    delivery = record.delivery
    message = app.amqp.create_task_message(
        celery_id(record),
        record.job_type,
        [],
        {},
        expires=delivery.get("expires"),
        retries=record.retry_count,
        reply_to=delivery.get("reply_to"),
        time_limit=delivery.get("time_limit"),
        soft_time_limit=delivery.get("soft_time_limit"),
        root_id=_root_id(record, record.id),
        parent_id=str(record.parent_id) if record.parent_id else None,
        shadow=delivery.get("shadow"),
        ignore_result=bool(delivery.get("ignore_result")),
        # Not the arguments: what is written here ends up in logs and events. (It is also the dearest part.)
        argsrepr=str(record.id),
        kwargsrepr="",
        replaced_task_nesting=delivery.get("replaced_task_nesting") or 0,
    )
    stamped = {name: delivery[name] for name in STAMPED if name in delivery}
    options = {name: delivery[name] for name in PROPERTIES if name in delivery}
    options |= {"queue": record.queue, "priority": _level(record), "retry": False}
    options["headers"] = {**stamped, **(delivery.get("headers") or {}), DISPATCH_HEADER: record.dispatch}
    if record.losses:
        options["headers"][LOSSES_HEADER] = record.losses
    return message, options


def decode(message: Any) -> Any:
    """The arguments and links of a message, which it then has. Raises what kombu does."""
    is_empty = message.body in EMPTY_BODIES and message.content_type == JSON
    if is_empty and not message._decoded_cache and (message.accept is None or JSON in message.accept):  # noqa: SLF001 - as below
        message._decoded_cache = [[], {}, dict.fromkeys(LINKS)]  # noqa: SLF001 - where kombu keeps what it has decoded
        message.is_empty = True
    return message.decode()


def shortened(headers: Any) -> Any:
    """The headers of a message; of one of ours without what Celery writes for options that are not set."""
    if not isinstance(headers, Mapping) or DISPATCH_HEADER not in headers:
        return headers
    return {name: value for name, value in headers.items() if value not in UNSET}


def called(attempt: Attempt, *, takes_payload: bool) -> dict[str, Any]:
    """The call that an attempt's row describes, as Celery's context of a running task has it.

    Raises ValueError for a value that cannot be decoded.
    """
    delivery = attempt.delivery
    args, kwargs = payload_to_arguments(attempt.payload, delivery.get(PASSING), takes_payload=takes_payload)
    headers = {name: from_header(value) for name, value in (delivery.get("headers") or {}).items()}
    stamps = {name: from_header(delivery.get(name)) for name in STAMPED}
    linked = {name: from_plain(delivery[option]) for name, option in LINKS.items() if option in delivery}
    return {
        **headers,
        **stamps,
        **linked,
        **{name: delivery.get(name) for name in ("reply_to", "shadow", "expires")},
        "args": from_plain(args),
        "kwargs": from_plain(kwargs),
        "headers": {**headers, DISPATCH_HEADER: attempt.fence.dispatch},
        "group": attempt.group_id,
        "group_index": attempt.group_index,
        "retries": attempt.retry_count,
        "timelimit": [delivery.get("time_limit"), delivery.get("soft_time_limit")],
        "root_id": _root_id(attempt, attempt.job_id),
        "parent_id": str(attempt.parent_id) if attempt.parent_id else None,
        "ignore_result": bool(delivery.get("ignore_result")),
        "replaced_task_nesting": delivery.get("replaced_task_nesting", 0),
    }


def _root_id(job: JobRecord | Attempt, job_id: UUID) -> str:
    is_root = job.root_id in (None, job_id)
    return str((job.delivery.get(OWN_ID) if is_root else None) or job.root_id or job_id)


def _level(record: JobRecord) -> int:
    """The priority of a message: the job's own, unless several organizations are served in turns."""
    return record.priority if record.sent_priority is None else record.sent_priority
