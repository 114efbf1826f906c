"""Workflows: their jobs as they are asked for, filled in with earlier results, retried and cancelled."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError

from tasks import calls
from tasks.attempt.job import Job
from tasks.catalog import handler, offered, taker
from tasks.external import External
from tasks.failures import alone
from tasks.platform import Platform
from tasks.scheduling import said
from tracking import jobs
from tracking.admission import holds
from tracking.crashpoints import SUBMITTED, crash_point
from tracking.db import SQLAlchemyError
from tracking.errors import IllegalWorkflowMove, InvalidValue, UnknownJobType
from tracking.models import Cancelled, Changes, JobRecord, JsonObject, NewJob, Owner, Scope
from tracking.origins import By
from tracking.states import FINISHED, IN_LINE
from tracking.values import check_json
from tracking.workflows import filling, keeping, reads
from tracking.workflows.filling import ACTOR, Unfilled
from tracking.workflows.graph import Problem, in_order, misplaced, problems
from tracking.workflows.references import Place, Reference, filled, references
from tracking.workflows.values import Begun, NewWorkflow, Node, Workflow

log = structlog.get_logger(__name__)

BATCH = 200  # jobs whose payloads are filled in at a time
UNFIT = "UnfitPayload"  # the error type of a job whose payload its handler does not take as it was filled in

# Why a reference cannot stand in the payload of a job that repeats one of a workflow.
ALONE = "nothing is filled in here: say the value, or retry the workflow"

# What the metadata of a job says of the workflow to which it belongs.
WORKFLOW_ID = "workflowId"
WORKFLOW_KEY = "workflowKey"

Takers = Mapping[str, Job | External]


@dataclass(frozen=True, slots=True)
class Draft:
    """The jobs of a workflow, in order, or all that is wrong with them."""

    jobs: Sequence[tuple[Node, NewJob]] = ()
    problems: Sequence[Problem] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """For whom jobs are drafted. `known`: the jobs that there are already, of those that the others wait for."""

    workflow_id: UUID
    owner: Owner
    project_id: str | None
    actor: str
    known: Mapping[str, UUID] = field(default_factory=dict)


def takers_of(platform: Platform, nodes: Iterable[Node], *, also_of_code: bool = False) -> dict[str, Job | External]:
    """Who takes the jobs of these types, of those that are known. `also_of_code`: of types that only code creates."""
    found: dict[str, Job | External] = {}
    for job_type in dict.fromkeys(node.job_type for node in nodes):
        try:
            found[job_type] = (taker if also_of_code else offered)(platform, job_type)
        except UnknownJobType:
            continue
    return found


def draft(takers: Takers, nodes: Sequence[Node], asked: Asked) -> Draft:
    """The new jobs of a workflow."""
    found = [*problems(nodes), *(problem for node in nodes for problem in _of_type(node, takers))]
    if found:
        return Draft(problems=found)
    return drafted(takers, in_order(nodes), asked)


def drafted(takers: Takers, nodes: Sequence[Node], asked: Asked) -> Draft:
    """The same for those of a graph without problems of which some may be there already; `nodes` are in order."""
    ids: dict[str, UUID] = dict(asked.known)
    made: list[tuple[Node, NewJob]] = []
    found: list[Problem] = []
    for node in nodes:
        try:
            job = _accepted(takers[node.job_type], node, asked)
        except ValidationError as error:
            found += _problems_of(node, error)
        except InvalidValue as error:
            found.append(Problem(f"jobs.{node.key}", str(error)))
        else:
            depends_on = [ids.get(after.key, job.id) for after in node.after]
            ids[node.key] = job.id
            when = [after.when for after in node.after]
            made.append((node, replace(job, depends_on=depends_on, depends_when=when or None)))
    return Draft(problems=found) if found else Draft(made)


def create(platform: Platform, new: NewWorkflow, *, by: By) -> Begun:
    """Accept a workflow, and send what waits for nothing. Raises IdempotencyConflict or TooManyWaiting."""
    with platform.database.begin() as connection:
        if not keeping.is_known(connection, new):
            platform.crowding.require_room(connection, [job for _, job in new.jobs])
        begun = keeping.create(connection, new, platform.limits, by=by)
    crash_point(SUBMITTED)
    _send(platform, begun.jobs.values())
    return begun


def cancel(platform: Platform, workflow_id: UUID, scope: Scope, *, reason: str | None, by: By) -> Workflow:
    """End all that a workflow has not ended. Raises WorkflowNotFound or IllegalWorkflowMove."""
    with platform.database.begin() as connection:
        workflow, cancelled = keeping.cancel(connection, workflow_id, scope, reason=reason, by=by)
    _stop(platform, cancelled, workflow.owner.organization_id)
    return workflow


def retry(platform: Platform, takers: Takers, workflow_id: UUID, scope: Scope, *, whole: bool, by: By) -> Begun:
    """Run a workflow that is over again, the whole or what has failed and follows that, by new jobs.

    `takers`: of all its types; the caller has asked for their permissions. Raises WorkflowNotFound, or
    IllegalWorkflowMove, also when a handler takes a payload no more.
    """
    with platform.database.begin() as connection:
        known = keeping.to_retry(connection, workflow_id, scope, whole=whole)
        workflow = reads.get(connection, workflow_id, scope)
        part = keeping.chosen(known, whole=whole)
        there = {job.node.key: job.job_id for job in known if job.node.key not in part}
        asked = Asked(workflow_id, workflow.owner, workflow.project_id, by.actor, there)
        nodes = [job.node for job in known if job.node.key in part]
        wrong = [problem for node in nodes for problem in _of_type(node, takers)]
        again = Draft(problems=wrong) if wrong else drafted(takers, nodes, asked)
        if again.problems:
            raise IllegalWorkflowMove(f"{again.problems[0].place}: {again.problems[0].message}")
        new = {node.key: job for node, job in again.jobs}
        begun = keeping.retry(connection, workflow_id, scope, new, platform.limits, by=by)
    crash_point(SUBMITTED)
    _send(platform, begun.jobs.values())
    fresh = {job.id for job in new.values()}
    for job in new.values():
        if job.unresolved and fresh.isdisjoint(job.depends_on):  # nothing that comes fills it in
            platform.dispatcher.follow(job.depends_on[0], job.owner.organization_id)
    return begun


def edits(platform: Platform, job: JobRecord, payload: JsonObject) -> Changes:
    """What another payload changes of a waiting job; that of a workflow's may name the results of earlier ones.

    Raises pydantic.ValidationError or InvalidValue.
    """
    takes = handler(platform.app, job.job_type)
    found = _found(platform, job, payload)
    if found is None:
        return calls.edits(takes, payload)
    nodes, key = found
    _refuse(takes, misplaced(nodes, key, payload))
    _check_the_rest(takes, payload, [each.place for each in references(payload)])
    return Changes(payload=payload, unresolved=True)


def anew(platform: Platform, job: JobRecord, payload: JsonObject) -> Changes:
    """What differs in a new job that repeats one with this payload, alone: nothing is filled in. Raises as `edits`."""
    runs_here = not job.external or job.job_type in platform.app.tasks
    takes = handler(platform.app, job.job_type) if runs_here else None
    if takes is not None and _found(platform, job, payload) is not None:
        _refuse(takes, [(each.place, ALONE) for each in references(payload)])
    return calls.anew(takes, payload)


def _found(platform: Platform, job: JobRecord, payload: JsonObject) -> tuple[Sequence[Node], str] | None:
    """The jobs of the workflow of which this is one, and its key; None: it is of none, or the payload names nothing."""
    if job.root_id is None or next(references(payload), None) is None:
        return None
    with platform.database.autocommit() as connection:
        states = reads.jobs_of(connection, job.root_id)
    return next((([each.node for each in states], one.node.key) for one in states if one.job_id == job.id), None)


def _refuse(takes: Job, wrong: Sequence[tuple[Place, str]]) -> None:
    """Raise ValidationError for what is wrong with a payload at these places."""
    details: list[Any] = [{"type": "value_error", "loc": place, "ctx": {"error": why}} for place, why in wrong]
    if details:
        raise ValidationError.from_exception_data(takes.name, details, hide_input=True)


def fill_in(platform: Platform, job_id: UUID | None = None, after: UUID = holds.FIRST) -> bool:
    """Fill in the payloads of jobs that wait for nothing else, of what waits for this job or of a window `after` an id.

    One that its handler does not take fails with the reason. Whether there may be more.
    """
    with platform.database.autocommit() as connection:
        waiting = filling.unfilled(connection, BATCH, job_id, after)
    for each in waiting:
        with alone("workflow.not_filled", job_id=str(each.fence.job_id)):
            _fill_in(platform, each)
    return len(waiting) >= BATCH


def _fill_in(platform: Platform, waiting: Unfilled) -> None:
    found = [each for each in references(waiting.payload) if isinstance(each, Reference)]
    with platform.database.autocommit() as connection:
        told = filling.told(connection, waiting.workflow_id, {each.key for each in found})
    try:
        changes = _filled(platform, waiting, told)
    except SQLAlchemyError:
        raise
    except Exception as error:  # noqa: BLE001 - a validator of the handler's own may raise anything
        reason = str(error) if isinstance(error, InvalidValue) else said(error)
        _fail(platform, waiting, f"{reason} (filled in from {', '.join(sorted({each.key for each in found}))})")
        return
    with platform.database.autocommit() as connection:
        filling.fill(connection, waiting, changes)


def _filled(platform: Platform, waiting: Unfilled, told: Mapping[str, Mapping[str, Any]]) -> Changes:
    """The payload with its values. Raises what a handler raises for one that does not fit, or InvalidValue."""
    payload = check_json(filled(waiting.payload, told), "payload")
    try:
        takes = handler(platform.app, waiting.job_type)
    except UnknownJobType:  # it is another worker's, who checks it before the body
        return Changes(payload=payload)
    return calls.edits(takes, payload)


def _fail(platform: Platform, waiting: Unfilled, reason: str) -> None:
    with platform.database.autocommit() as connection:
        failed = jobs.fail_waiting(connection, waiting.fence, actor=ACTOR, error_type=UNFIT, message=reason)
    if failed:
        log.warning("workflow.unfit", job_id=str(waiting.fence.job_id), job_type=waiting.job_type)
        platform.dispatcher.follow(waiting.fence.job_id, waiting.organization_id)


def _accepted(takes: Job | External, node: Node, asked: Asked) -> NewJob:
    """Raises pydantic.ValidationError or InvalidValue."""
    about = {WORKFLOW_ID: str(asked.workflow_id), WORKFLOW_KEY: node.key}
    wishes: dict[str, Any] = {
        "priority": node.priority,
        "max_retries": node.max_retries,
        "scheduled_at": node.scheduled_at,
        "project_id": asked.project_id,
        "message": node.message,
        "metadata": {**node.metadata, **about},
    }
    places = [each.place for each in references(node.payload)]
    if places and isinstance(takes, Job):
        _check_the_rest(takes, node.payload, places)
        job = calls.accept_unfilled(takes, node.payload, asked.owner, **wishes)
    else:
        job = takes.accept(node.payload, asked.owner, **wishes)
    return replace(job, root_id=asked.workflow_id, actor=asked.actor)


def _of_type(node: Node, takers: Takers) -> Iterator[Problem]:
    takes = takers.get(node.job_type)
    if takes is None:
        reason = f"no handler is registered for {node.job_type!r}, or it is not offered here"
        yield Problem(f"jobs.{node.key}.jobType", reason)
    elif takes.external and node.after:
        reason = f"the work of a {node.job_type} is done elsewhere: it waits for nothing"
        yield Problem(f"jobs.{node.key}.after", reason)


def _problems_of(node: Node, error: ValidationError) -> Iterator[Problem]:
    for each in error.errors(include_url=False, include_input=False):
        place = ".".join(map(str, ("jobs", node.key, "payload", *each["loc"])))
        yield Problem(place, each["msg"].removeprefix("Value error, "))


def _check_the_rest(takes: Job, payload: JsonObject, places: Collection[Place]) -> None:
    """Raise ValidationError or InvalidValue for what is wrong whatever will stand at these places."""
    try:
        calls.edits(takes, payload)
    except InvalidValue:
        return  # of the whole, which is not there yet
    except ValidationError as error:
        wrong = [each for each in error.errors(include_url=False) if not _may_be_right(each, payload, places)]
        _refuse(takes, [(each["loc"], each["msg"]) for each in wrong])


def _may_be_right(error: Mapping[str, Any], payload: JsonObject, places: Collection[Place]) -> bool:
    """Whether other values at these places may mend what pydantic says of a payload.

    It names fields by their aliases, and the branches of unions beside them: what leads nowhere is left out.
    """
    found: Any = payload
    way: list[str | int] = []
    steps: list[str | int] = list(error["loc"]) or [""]
    if error["type"] == "missing":
        steps.pop()
    strayed = False
    for step in steps:
        inner = found.get(step, found) if isinstance(found, Mapping) else _element(found, step)
        if inner is found:
            strayed = True
            continue
        way.append(step)
        found = inner
    at = tuple(way)
    if error["type"] == "missing":  # nothing is filled in where nothing stands, but within a union or a reference
        return any(at[: len(place)] == place or (strayed and place[: len(at)] == at) for place in places)
    return any(at[: len(place)] == place or place[: len(at)] == at for place in places)


def _element(found: Any, step: str | int) -> Any:
    """The element of a list; without such a one, what was given."""
    return found[step] if isinstance(found, list) and isinstance(step, int) and step < len(found) else found


def _send(platform: Platform, made: Iterable[JobRecord]) -> None:
    """Send those that wait for nothing; what waits for others comes with their ends."""
    found = list(made)
    platform.dispatcher.send_all([job for job in found if job.status not in FINISHED])
    for organization_id in {job.organization_id for job in found if job.hold in IN_LINE}:
        platform.dispatcher.refill(organization_id)


def _stop(platform: Platform, cancelled: Sequence[Cancelled], organization_id: str) -> None:
    """Interrupt their bodies, and fill their slots; other jobs that wait for these, the leader finds anyway."""
    for each in cancelled:
        if each.was_running:
            platform.dispatcher.interrupt(each.job)
    platform.dispatcher.refill(organization_id)
