"""Jobs: create, read, cancel, retry."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Header, Path, Query, Response
from pydantic import ValidationError

from api import openapi
from api.auth import Principal, Reach, requires
from api.ledger import told_of
from api.origins import Came
from api.permissions import CANCEL_JOBS, CREATE_JOBS, RETRY_JOBS, VIEW_JOBS
from api.problems import Code, Problem, invalid_by, unknown_dependency
from api.reading import ListRead, Read, Reading, Served, SlowRead
from api.schemas import answers, fields, requests
from api.schemas.answers import REPLAYED
from api.schemas.explanation import Explanation
from api.schemas.graphs import JobGraph
from api.schemas.webhooks import Deliveries, JobDeliveriesQuery
from api.strict import StrictRoute
from tasks import submission, verbs, workflows
from tasks.catalog import offered, permission_for
from tasks.platform import Platform
from tracking.errors import UnknownDependency
from tracking.models import JobRecord, Scope, Submitted, Wishes
from tracking.origins import Origin
from tracking.reads import explain, graphs, lists, past

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)  # checks the token, reads strict JSON

Viewer = Annotated[Principal, requires(VIEW_JOBS, reach=Reach.ALL)]
JobId = Annotated[UUID, Path(alias="id")]
RETRIED = "Job retry initiated successfully"


@router.post("", status_code=202, responses=openapi.CREATED, openapi_extra=openapi.HANDLERS)
def create_job(
    principal: Annotated[Principal, requires(CREATE_JOBS)],
    platform: Served,
    new: requests.NewJob,
    *,
    origin: Came,
    response: Response,
    idempotency_key: Annotated[fields.IdempotencyKey | None, Header()] = None,
) -> answers.Created:
    """Accept a job. Once this has answered, the job is kept until it ends, whatever breaks in between."""
    submitted = submit(platform, principal, new, new.wishes(idempotency_key), origin)
    response.headers.update(answers.created_headers(submitted))
    return answers.Created.of(submitted.job)


@router.get("", responses=openapi.SLOW)
def list_jobs(principal: Viewer, read: ListRead, query: Annotated[requests.ListQuery, Query()]) -> answers.JobList:
    """The jobs that the caller sees, newest first."""
    return list_page(principal, read, query, project_id=query.project_id)


@router.get("/recent", responses=openapi.SLOW)
def recent_jobs(
    principal: Viewer, read: SlowRead, query: Annotated[requests.RecentQuery, Query()]
) -> answers.RecentJobs:
    """Active jobs, then those finished in the last hour: more urgent first, then oldest active, newest finished."""
    found = read(lists.recent, principal.scope, limit=query.limit, job_type=query.type, status=query.status)
    return answers.RecentJobs.of(found)


@router.get("/stats", responses=openapi.SLOW)
def job_stats(principal: Viewer, read: ListRead, query: Annotated[requests.StatsQuery, Query()]) -> answers.JobStats:
    """Counts of active jobs, and of those that finished in the window."""
    return stats_of(principal, read, query, project_id=None)


@router.get("/history", responses=openapi.SLOW)
def job_history(principal: Viewer, read: ListRead, query: Annotated[requests.HistoryQuery, Query()]) -> answers.History:
    """Finished jobs, last finished first."""
    page = read(lists.finished, principal.scope, query.filters, cursor=query.cursor or None, size=query.limit)
    return answers.History.of(page)


@router.get("/{id}", responses=openapi.READ_ONE)  # noqa: FAST003 - JobId is that parameter
def get_job(
    principal: Viewer, read: Read, job_id: JobId, query: Annotated[requests.JobQuery, Query()]
) -> answers.JobWithDetails:
    """One job; its attempts and its timeline are included when asked for."""
    scope, at = principal.scope, query.as_of
    job = read(lists.get, job_id, scope) if at is None else read(lists.get_as_of, job_id, scope, at)
    timeline = read(lists.timeline, job_id) if {"attempts", "history"} & set(query.include) else ()
    timeline = timeline if at is None else past.until(timeline, at)
    retries = read(lists.retries, job_id, principal.scope) if "retries" in query.include else ()
    return answers.JobWithDetails.with_details(job, timeline, retries, query.include)


@router.get("/{id}/status", response_model=answers.JobStatus, responses=openapi.STATUS)  # noqa: FAST003 - as above
def get_job_status(
    principal: Viewer,
    read: Read,
    job_id: JobId,
    response: Response,
    if_none_match: Annotated[str, Header()] = "",
) -> Any:
    """One job, what can be done about it, and in `Retry-After` when to ask again."""
    job = read(lists.get, job_id, principal.scope)
    headers = answers.polling_headers(job)
    if headers["ETag"].removeprefix("W/") in if_none_match or if_none_match == "*":
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return answers.JobStatus.of(job)


@router.get("/{id}/deliveries", responses=openapi.SLOW_ONE)  # noqa: FAST003 - as above
def list_job_deliveries(
    principal: Viewer, read: SlowRead, job_id: JobId, query: Annotated[JobDeliveriesQuery, Query()]
) -> Deliveries:
    """What webhooks were told of a job, newest first."""
    job = read(lists.get, job_id, principal.scope)
    return told_of(read, job.organization_id, job_id, query)


@router.get("/{id}/graph", responses=openapi.SLOW_ONE)  # noqa: FAST003 - as above
def get_job_graph(principal: Viewer, read: SlowRead, job_id: JobId) -> JobGraph:
    """The canvas or the workflow to which a job belongs: its jobs, and what waits for what."""
    job = read(lists.get, job_id, principal.scope)
    return JobGraph.model_validate(read(graphs.graph_of, job, principal.scope))


@router.get("/{id}/explain", responses=openapi.SLOW_ONE)  # noqa: FAST003 - as above
def explain_job(principal: Viewer, platform: Served, read: SlowRead, job_id: JobId) -> Explanation:
    """Why a job does not run, which worker runs it, or who or what ended it."""
    scope = principal.scope
    if scope.is_everywhere:  # what it waits for is in its own organization
        scope = Scope(read(lists.get, job_id, scope).organization_id, None)
    found = read(explain.explain, job_id, scope, platform.limits)
    return Explanation.of(found)


@router.post("/{id}/cancel", responses=openapi.CANCELLED)  # noqa: FAST003 - JobId is that parameter
def cancel_job(
    principal: Annotated[Principal, requires(CANCEL_JOBS, reach=Reach.ALL)],
    platform: Served,
    job_id: JobId,
    origin: Came,
    body: Annotated[requests.CancelRequest | None, Body()] = None,
) -> answers.Moved:
    """End a job that is not finished. From now on it does not start, and a result of its body does not count."""
    reason = body.reason if body else None
    job = verbs.cancel(platform, job_id, principal.scope, actor=principal.actor, reason=reason, origin=origin)
    return answers.Moved(message="Job cancelled successfully", status=job.status)


@router.post("/{id}/retry", response_model=answers.Moved, responses=openapi.RETRIED, openapi_extra=openapi.HANDLERS)  # noqa: FAST003 - as above
def retry_job(
    principal: Annotated[Principal, requires(RETRY_JOBS, reach=Reach.ALL)],
    platform: Served,
    read: Read,
    job_id: JobId,
    *,
    origin: Came,
    body: Annotated[requests.RetryRequest | None, Body()] = None,
    idempotency_key: Annotated[fields.IdempotencyKey | None, Header()] = None,
) -> Any:
    """Queue a failed or cancelled job again; with a payload, a new job that repeats it is made instead."""
    job, said = read(lists.get, job_id, principal.scope), body or requests.RetryRequest()
    principal.must_have(permission_for(platform, job))
    if said.payload is not None:
        submitted = _retry_anew(platform, principal, job, said, idempotency_key=idempotency_key, origin=origin)
        moved = answers.Moved(message=RETRIED, status=submitted.job.status, job_id=submitted.job.id)
        return _retried(moved, HTTPStatus.ACCEPTED, answers.created_headers(submitted))
    retried = verbs.retry(
        platform,
        job_id,
        principal.scope,
        actor=principal.actor,
        force=said.force,
        priority=said.priority,
        idempotency_key=idempotency_key,
        origin=origin,
    )
    moved = answers.Moved(message=RETRIED, status=retried.job.status)
    return _retried(moved, HTTPStatus.OK, {} if retried.created else {REPLAYED: "true"})


def list_page(
    principal: Principal, read: Reading, query: requests.ProjectListQuery, *, project_id: str | None
) -> answers.JobList:
    """A page by number, or what follows a cursor."""
    filters, size = query.filters(project_id), _size_of(query)
    if query.cursor is None:
        page = read(lists.page, principal.scope, filters, number=query.page, size=size)
        return answers.JobList.of(page, number=query.page, size=size)
    page = read(lists.after, principal.scope, filters, cursor=query.cursor or None, size=size)
    return answers.JobList.of(page, number=None, size=size)


def _size_of(query: requests.ProjectListQuery) -> int:
    """How many jobs a page has at most: whoever asks for a hundred that they know wants these."""
    return query.page_size if "page_size" in query.model_fields_set else max(query.page_size, len(query.ids))


def stats_of(
    principal: Principal, read: Reading, query: requests.StatsQuery, *, project_id: str | None
) -> answers.JobStats:
    """Counts, now or as they were. Raises Problem for those of all organizations as they were."""
    if query.as_of is None:
        return answers.JobStats.of(read(lists.stats, principal.scope, window=query.window, project_id=project_id))
    if principal.scope.is_everywhere:
        raise Problem(Code.INVALID_REQUEST, "asOf: this is counted in one organization at a time")
    then = read(past.stats, principal.scope, query.as_of, window=query.window, project_id=project_id)
    return answers.JobStats.of(then)


def submit(platform: Platform, principal: Principal, new: requests.NewJob, wishes: Wishes, origin: Origin) -> Submitted:
    """Accept a job for a caller who may create such; `wishes`: what it says, and its key. Raises Problem."""
    task = offered(platform, new.job_type)
    principal.must_have(task.permission)
    try:
        job = task.accept(new.payload, principal.owner, **wishes)
        return submission.submit(platform, replace(job, origin=origin), principal.scope)
    except ValidationError as error:
        raise invalid_by(error, within="payload") from None
    except UnknownDependency as error:
        detail = f"There is no job {error.job_ids[0]}."
        raise unknown_dependency(new.depends_on, error.job_ids, detail) from None


def _retried(moved: answers.Moved, status: HTTPStatus, headers: dict[str, str]) -> Response:
    return Response(moved.model_dump_json(by_alias=True), status, headers, media_type="application/json")


def _retry_anew(
    platform: Platform,
    principal: Principal,
    job: JobRecord,
    said: requests.RetryRequest,
    *,
    idempotency_key: str | None,
    origin: Origin,
) -> Submitted:
    try:
        changes = workflows.anew(platform, job, said.payload or {})
    except ValidationError as error:
        raise invalid_by(error, within="payload") from None
    return verbs.retry_anew(
        platform,
        job.id,
        principal.scope,
        replace(changes, priority=said.priority),
        actor=principal.actor,
        force=said.force,
        idempotency_key=idempotency_key,
        request_hash=None if idempotency_key is None else said.digest,
        origin=origin,
    )
