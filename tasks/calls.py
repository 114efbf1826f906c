"""The new job that a call of Celery's asks for: here alone Celery's words for it are known, and here they end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, Unpack
from uuid import UUID

from celery.app.task import Task
from celery.utils.functional import maybe_list
from uuid_utils.compat import uuid7

from tasks import canvases, current
from tasks.arguments import PASSING, Arguments, arguments_of, arguments_to_payload, from_outside, payload_to_arguments
from tasks.broker.messages import OWN_ID
from tasks.delivery import CANVAS_LIMITS, DELIVERED_OPTIONS, ITS_OWN, delivered
from tasks.encoding import from_plain, to_plain
from tasks.options import check_options
from tracking.errors import InvalidValue, OwnerMissing
from tracking.external_types import BUILT_IN
from tracking.identifiers import TRACE, job_id_of
from tracking.models import Attempt, Changes, Failure, JsonObject, NewJob, Owner, Wishes
from tracking.ownership import current_owner
from tracking.values import (
    MAX_DEPTH,
    MESSAGE_BYTES,
    MOST_DEPENDENCIES,
    check_json,
    check_moment,
    check_name,
    check_seconds,
    check_segment,
    check_text,
    storable_text,
)

if TYPE_CHECKING:
    from tasks.app import JobApp
    from tasks.attempt.job import Job

Kept = TypeVar("Kept")

MAX_RETRIES_LIMIT = 1_000_000  # what Celery's max_retries=None, "for ever", becomes
DEFAULT_MAX_RETRIES = 3
PRIORITIES = range(10)
# What is handed on from one job to the next is no payload of a caller's: it holds results, each within its own limits,
# as arguments. All that goes with a message must stay below the 16 MiB that RabbitMQ 4 takes by default.
HANDED_ON = {"max_bytes": 8 * 2**20, "max_depth": MAX_DEPTH + 8}
# What needs a worker, or somebody who sends the job when its time has come.
NOT_ELSEWHERE = ("chain", "chord", "countdown", "depends_on", "eta", "group_id", "link", "link_error")
MOST_KEPT = 1020  # bytes of a name that stays in the row: the 255 characters of the API, of four bytes each


def new_job(
    app: JobApp,
    name: str,
    args: Any,
    kwargs: Any,
    *,
    task_id: str | None,
    options: dict[str, Any],
    is_handed_on: bool = False,
    bodies: Iterable[tuple[str, Mapping[str, Any]]] = (),
) -> NewJob:
    """The job that a call of send_task asks for. Raises the errors of a bad request; nothing is written.

    `is_handed_on`: what the running job has as results may be among the arguments. `bodies`: of the chords, by the ids
    of their groups, whose first job this is.
    """
    check_options(options)
    handler: Job | None = app.tasks.get(name)  # type: ignore[assignment]
    options = _routed(app, options, name, (args, kwargs), handler)
    now = running_now(app)
    parent = now.attempt if now is not None else None
    arguments = arguments_of(handler, args, kwargs, HANDED_ON if is_handed_on else {})
    priority = _priority(options.get("priority"))
    due_at, delay = _due(options.get("eta"), options.get("countdown"))
    job = NewJob(
        id=_identifier(task_id),
        owner=_owner(app, options, parent),
        job_type=check_name(name, "the job type"),
        queue=options["queue"],
        payload=arguments.payload,
        priority=priority,
        max_retries=_max_retries(options.get("max_retries"), handler),
        delivery={**delivered(options, arguments), **_own_id(task_id)},
        project_id=_project(options.get("project")) or (parent.project_id if parent else None),
        metadata=check_json(options.get("metadata") or {}, "metadata"),
        message=_message(options.get("message")),
        scheduled_at=due_at,
        delay=delay,
        depends_on=_dependencies(options.get("depends_on")),
        parent_id=_parent_id(options.get("parent_id"), parent),
        root_id=_named(options.get("root_id")) or (parent.root_id if parent else None),
        group_id=check_name(options["group_id"], "group_id") if "group_id" in options else None,
        group_index=options.get("group_index"),
        idempotency_key=_name(options, "idempotency_key"),
        request_hash=_name(options, "request_hash"),
        circuit_key=handler.circuit_of(arguments.payload) if handler is not None else "",
        external=_external(name, handler, options),
        actor=_name(options, "actor"),
        begins=tuple(group_id for group_id, _ in bodies),
        joins=now is not None and task_id in now.joining,
    )
    steps = [step for each in bodies for step in canvases.body(*each)]
    return _with_successors(app, job, steps) if steps else job


def refused(
    app: JobApp,
    name: str,
    args: Any,
    kwargs: Any,
    *,
    task_id: str | None,
    options: dict[str, Any],
    failure: Failure,
    bodies: Iterable[tuple[str, Mapping[str, Any]]] = (),
) -> NewJob:
    """What can be kept of a call that is not accepted, for a row that says why. Raises OwnerMissing."""
    now = running_now(app)
    parent = now.attempt if now is not None else None
    given = _given(options)
    errbacks = {name: given[name] for name in ("link_error",) if name in given}
    owner = _owner(app, {}, parent)
    job = NewJob(
        id=_or_else(uuid7(), lambda: _identifier(task_id)),
        owner=_or_else(owner, lambda: _owner(app, given, parent)),
        job_type=storable_text(name, MOST_KEPT),
        queue=app.conf.task_default_queue,
        payload=_or_else({}, lambda: check_json(arguments_to_payload(args, kwargs).payload, "payload")),
        delivery=_or_else({}, lambda: {**delivered(errbacks, None), **_own_id(task_id)}),
        parent_id=_or_else(None, lambda: _parent_id(given.get("parent_id"), parent)),
        root_id=_or_else(None, lambda: _named(given.get("root_id"))) or (parent.root_id if parent else None),
        group_id=_or_else(None, lambda: check_name(given["group_id"], "group_id")),
        begins=tuple(group_id for group_id, _ in bodies),
        joins=now is not None and task_id in now.joining,
        refused=failure,
    )
    chain = canvases.after(job.id, given.get("chain") or ())
    return _or_else(
        job, lambda: _with_successors(app, job, [*chain, *(step for each in bodies for step in canvases.body(*each))])
    )


def _or_else(otherwise: Kept, make: Callable[[], Kept]) -> Kept:
    try:
        return make()
    except Exception:  # noqa: BLE001 - of a call that is refused anything may be wrong, and nothing else is lost with it
        return otherwise


def accept(handler: Job, payload: JsonObject, owner: Owner, **wishes: Unpack[Wishes]) -> NewJob:
    """The job that somebody outside of Celery asks a handler for. Raises pydantic.ValidationError or InvalidValue.

    The payload is JSON within the limits, and so are the wishes: what is unsaid is as the handler says.
    """
    return _asked_for(handler, from_outside(handler, payload), owner, wishes)


def accept_unfilled(handler: Job, payload: JsonObject, owner: Owner, **wishes: Unpack[Wishes]) -> NewJob:
    """The same while its payload still names results of other jobs: it is checked when these are there."""
    return replace(_asked_for(handler, Arguments(dict(payload)), owner, wishes), unresolved=True, circuit_key="")


def _asked_for(handler: Job, arguments: Arguments, owner: Owner, wishes: Wishes) -> NewJob:
    call = payload_to_arguments(arguments.payload, arguments.passing, takes_payload=handler.takes_payload)
    defaults = _routed(handler.app, {}, handler.name, call, handler)
    said: dict[str, Any] = {name: value for name, value in wishes.items() if value is not None}
    said["depends_on"] = tuple(dict.fromkeys(said.get("depends_on", ())))
    return replace(
        NewJob(
            id=uuid7(),
            owner=Owner(_kept(owner.organization_id, "organization"), _kept(owner.user_id, "user")),
            job_type=handler.name,
            queue=defaults["queue"],
            payload=arguments.payload,
            priority=_priority(defaults.get("priority")),
            max_retries=_max_retries(None, handler),
            delivery=delivered(defaults, arguments),
            circuit_key=handler.circuit_of(arguments.payload),
            external=_external(handler.name, handler, wishes),
        ),
        **said,
    )


def edits(handler: Job, payload: JsonObject) -> Changes:
    """What another payload changes of a waiting job. Raises pydantic.ValidationError or InvalidValue."""
    arguments = from_outside(handler, payload)
    circuit_key = handler.circuit_of(arguments.payload)
    return Changes(payload=arguments.payload, circuit_key=circuit_key, delivery={PASSING: arguments.passing})


def anew(handler: Job | None, payload: JsonObject) -> Changes:
    """What differs in a new job that repeats another one with this payload; None: it has no handler. Raises as `edits`.

    What was to follow the other one in its canvas follows it still.
    """
    changed = Changes(payload=payload, circuit_key="") if handler is None else edits(handler, payload)
    own = dict.fromkeys((*ITS_OWN, OWN_ID, TRACE))
    return replace(changed, delivery={**own, **(changed.delivery or {})})


def with_successors(app: JobApp, job: NewJob) -> NewJob:
    """The same job with the rows of what follows it in its chain. Raises the errors of a bad request."""
    chain = job.delivery.get("chain")
    return job if not chain else _with_successors(app, job, canvases.after(job.id, from_plain(chain)))


def _with_successors(app: JobApp, job: NewJob, steps: Iterable[canvases.Step]) -> NewJob:
    now = running_now(app)
    joining = now.joining if now is not None else set()
    return replace(job, successors=[*job.successors, *(_successor(app, job, step, joining) for step in steps)])


def running_now(app: JobApp) -> current.Running | None:
    """The attempt for which this thread works; None outside of a job. Raises UnknownThread."""
    task = app.current_worker_task
    now = current.of(task.request) if task is not None else None
    return now or current.anywhere()


def _successor(app: JobApp, job: NewJob, step: canvases.Step, joining: Collection[str]) -> NewJob:
    """The row of a task that waits for its call: what is known of it now. Raises the errors of a bad request."""
    name, args, kwargs = (step.signature[part] for part in ("task", "args", "kwargs"))
    handler: Any = app.tasks.get(name)
    options = _routed(app, step.options, name, (args, kwargs), handler)
    follows = step.before if isinstance(step.before, UUID) else None
    organization, user = options.get("organization"), options.get("user")
    errbacks, task_id = to_plain([dict(each) for each in step.errbacks]), step.options["task_id"]
    delivery = check_json({"link_error": errbacks}, "link_error", **CANVAS_LIMITS) if errbacks else {}
    return NewJob(
        id=_identifier(task_id),
        owner=Owner(
            _kept(organization or job.owner.organization_id, "organization"), _kept(user or job.owner.user_id, "user")
        ),
        job_type=check_name(name, "the job type"),
        queue=options["queue"],
        payload=check_json(arguments_to_payload(args, kwargs).payload, "payload"),
        priority=_priority(options.get("priority")),
        max_retries=_max_retries(options.get("max_retries"), handler),
        delivery={**delivery, **_own_id(task_id)},
        project_id=job.project_id,
        follows=follows,
        follows_group=None if follows else str(step.before),
        parent_id=follows,
        root_id=job.root_id or job.id,
        group_id=options.get("group_id") or step.group,
        group_index=options.get("group_index"),
        actor=job.actor,
        joins=task_id in joining,
    )


def changes(app: JobApp, name: str, args: Any, kwargs: Any, asked: current.Asked) -> Changes:
    """What a retry changes of its row: nothing but what the body named."""
    named = _given(asked.options)
    handler: Any = app.tasks.get(name)
    arguments = arguments_of(handler, args, kwargs, HANDED_ON) if asked.has_arguments else None
    delivery: dict[str, Any] = {each: None for each in asked.options if each in DELIVERED_OPTIONS}
    delivery |= delivered(named, None)
    if arguments is not None:
        delivery[PASSING] = arguments.passing
    moved = {"queue", "exchange", "routing_key"} & named.keys()
    return Changes(
        payload=arguments.payload if arguments is not None else None,
        circuit_key=handler.circuit_of(arguments.payload) if arguments is not None and handler is not None else None,
        delivery=delivery or None,
        queue=_routed(app, named, name, (args, kwargs), handler)["queue"] if moved else None,
        priority=_priority(named["priority"]) if "priority" in named else None,
        max_retries=None if asked.max_retries is None else _max_retries(asked.max_retries, handler),
    )


def _external(name: str, handler: Job | None, options: Mapping[str, Any]) -> bool | None:
    """Whether the work of such a job is done elsewhere; None: the database knows. Raises InvalidValue."""
    external = name in BUILT_IN if handler is None else handler.external
    unfit = sorted(option for option in NOT_ELSEWHERE if options.get(option))
    if external and unfit:
        raise InvalidValue(f"{unfit[0]} is for jobs that workers run: the work of a {name} is done elsewhere")
    return None if handler is None and not external and not unfit else external


def _project(value: Any) -> str | None:
    return None if value is None else check_segment(_kept(value, "project"), "project")


def _defaults(handler: Task[..., Any]) -> dict[str, Any]:
    options: dict[str, Any] = handler._get_exec_options()  # type: ignore[attr-defined]  # noqa: SLF001
    return _given(options)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _owner(app: JobApp, options: Mapping[str, Any], parent: Attempt | None) -> Owner:
    around = current_owner() or (parent.owner if parent else None)
    organization = options.get("organization") or (around.organization_id if around else None)
    user = options.get("user") or (around.user_id if around else None)
    if not organization or not user:
        defaults = app.platform.settings
        organization, user = organization or defaults.default_organization, user or defaults.default_user
    if not organization or not user:
        raise OwnerMissing
    return Owner(_kept(organization, "organization"), _kept(user, "user"))


def _name(options: Mapping[str, Any], name: str) -> str | None:
    value = options.get(name)
    return None if value is None else _kept(value, name)


def _kept(value: Any, name: str) -> str:
    return check_name(value, name, max_bytes=MOST_KEPT)


def _message(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value.encode(errors="replace")) > MESSAGE_BYTES:
        raise InvalidValue(f"message must be text of at most {MESSAGE_BYTES} bytes")
    return check_text(value, "message")


def _identifier(task_id: str | None) -> UUID:
    return uuid7() if task_id is None else job_id_of(check_name(task_id, "the task id"))


def _own_id(task_id: str | None) -> dict[str, str]:
    """What the row keeps of a task id that is not spelled as its own."""
    return {} if task_id is None or task_id == str(job_id_of(task_id)) else {OWN_ID: task_id}


def _parent_id(value: Any, parent: Attempt | None) -> UUID | None:
    """The job that sends this one."""
    return _named(value) or (parent.job_id if parent is not None else None)


def _named(value: Any) -> UUID | None:
    return job_id_of(check_name(str(value), "the id of another task")) if value else None


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
        delay = check_seconds(countdown, "countdown")
        return None, delay if delay > timedelta(0) else None
    return (check_moment(eta, "eta"), None) if eta is not None else (None, None)


def _dependencies(value: Any) -> tuple[UUID, ...]:
    given = maybe_list(value) or []
    if len(given) > MOST_DEPENDENCIES:
        raise InvalidValue(f"a job can depend on {MOST_DEPENDENCIES} others, not on {len(given)}")
    return tuple(dict.fromkeys(_identifier(str(getattr(each, "id", each))) for each in given))


def _routed(
    app: JobApp, given: Mapping[str, Any], name: str, arguments: tuple[Any, Any], handler: Any
) -> dict[str, Any]:
    """The options of a call: those given go before those of its task, and these before what its route says.

    A route may say any option, such as a priority; what it says of the queue is a name here.
    """
    options = {**(_defaults(handler) if handler is not None else {}), **_given(given)}
    routed = app.amqp.router.route(dict(options), options.get("route_name") or name, *arguments, handler)
    queue = routed.get("queue")
    named = str(getattr(queue, "name", queue) or app.conf.task_default_queue)
    return {**_given(routed), "queue": check_name(named, "the queue's name")}
