"""From a call of Celery's to a job: the arguments become a payload, the options become columns of the row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery import Celery, current_task
from celery.app.task import Task
from celery.utils.functional import maybe_list
from uuid_utils.compat import uuid7

from tasks import running
from tasks.arguments import arguments_to_payload, to_plain
from tasks.dispatch import dispatcher
from tasks.messages import PROPERTIES
from tracking import jobs
from tracking.admission import Limits
from tracking.crashpoints import SUBMITTED, crash_point
from tracking.db import database
from tracking.errors import InvalidValue, OwnerMissing
from tracking.models import Attempt, JobRecord, NewJob, Owner, Scope, Submitted
from tracking.ownership import current_owner
from tracking.settings import settings
from tracking.states import Hold
from tracking.values import check_json, check_text

if TYPE_CHECKING:
    from tasks.base import Job

MAX_RETRIES_LIMIT = 1_000_000  # what Celery's max_retries=None, "for ever", becomes
DEFAULT_MAX_RETRIES = 3
PRIORITIES = range(10)
MOST_DEPENDENCIES = 100

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

_collected: ContextVar[list[NewJob] | None] = ContextVar("collected", default=None)


def send(app: Celery, name: str, args: Any, kwargs: Any, *, task_id: str | None, options: dict[str, Any]) -> UUID:
    """Accept a job and hand its message to the dispatcher; returns the job's id.

    Within `collecting` the job is only collected: it is accepted together with the outcome of the running one.
    """
    task = app.current_worker_task
    now = running.of(task.request) if task is not None else None
    if now is not None and task_id == str(now.attempt.task_id):
        # Task.retry sends the running task again: its row will wait for the new time, see signals.py.
        now.rewritten = arguments_to_payload(args, kwargs)
        return now.attempt.task_id
    job = new_job(app, name, args, kwargs, task_id=task_id, options=options)
    collected = _collected.get()
    if collected is not None:
        collected.append(job)
        return job.id
    return submit(job).job.id


def submit(job: NewJob, scope: Scope | None = None) -> Submitted:
    """Accept a job, then hand its message to the dispatcher. Raises IdempotencyConflict or InvalidValue.

    It may depend on jobs of this scope; None: of its organization.
    """
    with database().autocommit() as connection:
        submitted = jobs.submit(connection, job, Limits.configured(settings()), scope=scope)
    crash_point(SUBMITTED)
    if submitted.created:
        dispatch(submitted.job)
    return submitted


def dispatch(job: JobRecord) -> None:
    """Hand a job that was just accepted to the dispatcher: its message, or what its dependencies say by now."""
    if job.hold is Hold.DEPENDENCY:
        dispatcher().follow(job.depends_on[0], job.organization_id)
    else:
        dispatcher().send(job)


@contextmanager
def collecting(into: list[NewJob]) -> Iterator[list[NewJob]]:
    """Collect the jobs that are sent within the block instead of submitting them."""
    token = _collected.set(into)
    try:
        yield into
    finally:
        _collected.reset(token)


def successors_of_running_task() -> list[NewJob]:
    """The list of the running attempt in which its successors wait for its outcome."""
    now = running.of(current_task.request)
    return now.successors if now is not None else []


def new_job(app: Celery, name: str, args: Any, kwargs: Any, *, task_id: str | None, options: dict[str, Any]) -> NewJob:
    """The job that a call of send_task asks for. Raises the errors of a bad request; nothing is written."""
    handler: Job | None = app.tasks.get(name)  # type: ignore[assignment]
    options = {**(_defaults(handler) if handler is not None else {}), **_given(options)}
    parent = running_attempt(app)
    payload = arguments_to_payload(args, kwargs)
    if handler is not None and handler.payload_model is not None:
        payload = handler.validate_payload(payload)
    check_json(payload, "payload")
    identifier = _identifier(task_id)
    priority = _priority(options.get("priority"))
    due_at, delay = _due(options.get("eta"), options.get("countdown"))
    return NewJob(
        id=identifier,
        owner=_owner(options, parent),
        job_type=check_text(name, "the job type"),
        queue=_queue(app, options, name, (args, kwargs), handler),
        payload=payload,
        priority=priority,
        max_retries=_max_retries(options.get("max_retries"), handler),
        delivery=_delivery(options),
        project_id=options.get("project") or (parent.project_id if parent else None),
        metadata=check_json(options.get("metadata") or {}, "metadata"),
        message=options.get("message"),
        scheduled_at=due_at,
        delay=delay,
        depends_on=_dependencies(options.get("depends_on")),
        parent_id=_parent_id(options.get("parent_id"), parent),
        root_id=_uuid(options.get("root_id")) or (parent.root_id if parent else None),
        group_id=options.get("group_id"),
        group_index=options.get("group_index"),
        idempotency_key=options.get("idempotency_key"),
        request_hash=options.get("request_hash"),
        actor=options.get("actor"),
    )


def running_attempt(app: Celery) -> Attempt | None:
    """The attempt that runs in this thread; None outside of a job."""
    task = app.current_worker_task
    now = running.of(task.request) if task is not None else None
    return now.attempt if now is not None else None


def _defaults(handler: Task[..., Any]) -> dict[str, Any]:
    options: dict[str, Any] = handler._get_exec_options()  # type: ignore[attr-defined]  # noqa: SLF001
    return _given(options)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _owner(options: Mapping[str, Any], parent: Attempt | None) -> Owner:
    around = current_owner() or (parent.owner if parent else None)
    organization = options.get("organization") or (around.organization_id if around else None)
    user = options.get("user") or (around.user_id if around else None)
    organization, user = organization or settings().default_organization, user or settings().default_user
    if not organization or not user:
        raise OwnerMissing
    return Owner(check_text(organization, "organization"), check_text(user, "user"))


def _identifier(task_id: str | None) -> UUID:
    try:
        return UUID(task_id) if task_id is not None else uuid7()
    except ValueError:
        raise InvalidValue(f"a task id must be a UUID: {task_id!r}") from None


def _parent_id(value: Any, parent: Attempt | None) -> UUID | None:
    """The job that sends this one. Celery names it by its task id, which is another one at each dispatch."""
    given = _uuid(value)
    return parent.job_id if parent is not None and given in (None, parent.task_id) else given


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(str(value)) if value else None
    except ValueError:
        return None


def _priority(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value not in PRIORITIES:
        raise InvalidValue(f"priority must be a whole number from 0 to 9: {value!r}")
    return value


def _max_retries(value: Any, handler: Task[..., Any] | None) -> int:
    if value is None:
        if handler is None:
            return DEFAULT_MAX_RETRIES
        value = MAX_RETRIES_LIMIT if handler.max_retries is None else handler.max_retries
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_RETRIES_LIMIT:
        raise InvalidValue(f"max_retries must be a whole number from 0 to {MAX_RETRIES_LIMIT}: {value!r}")
    return value


def _due(eta: Any, countdown: Any) -> tuple[datetime | None, timedelta | None]:
    if countdown is not None:  # Celery, too, prefers it to an eta
        return None, timedelta(seconds=float(countdown)) if float(countdown) > 0 else None
    if eta is None:
        return None, None
    due = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
    if not isinstance(due, datetime):
        raise InvalidValue(f"eta must be a datetime: {eta!r}")
    return due if due.tzinfo else due.replace(tzinfo=UTC), None


def _dependencies(value: Any) -> tuple[UUID, ...]:
    given = maybe_list(value) or []
    if len(given) > MOST_DEPENDENCIES:
        raise InvalidValue(f"a job can depend on {MOST_DEPENDENCIES} others, not on {len(given)}")
    return tuple(dict.fromkeys(_identifier(str(getattr(each, "id", each))) for each in given))


def _queue(app: Celery, options: dict[str, Any], name: str, arguments: tuple[Any, Any], handler: Any) -> str:
    wishes: dict[str, Any] = {key: options[key] for key in ("queue", "exchange", "routing_key") if key in options}
    routed = app.amqp.router.route(wishes, options.get("route_name") or name, *arguments, handler)
    queue = routed.get("queue")
    return str(getattr(queue, "name", queue) or app.conf.task_default_queue)


def _delivery(options: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: options[name] for name in DELIVERED_OPTIONS if options.get(name)}
    kept |= {name: maybe_list(kept[name]) for name in ("link", "link_error") if name in kept}
    if isinstance(kept.get("expires"), int | float):
        kept["expires"] = datetime.now(UTC) + timedelta(seconds=kept["expires"])
    if isinstance(kept.get("expires"), datetime):
        kept["expires"] = kept["expires"].isoformat()
    headers = dict(options.get("headers") or {})
    stamped = options.get("stamped_headers")
    if stamped:
        kept["stamped_headers"] = list(stamped)
        kept["stamps"] = {stamp: options[stamp] for stamp in stamped if stamp in options}
    if headers:
        kept["headers"] = headers
    kept |= {name: str(options[name]) for name in PROPERTIES if options.get(name)}
    plain: dict[str, Any] = to_plain(kept)
    return check_json(plain, "the task's options", max_bytes=4 * 2**20) if plain else {}
