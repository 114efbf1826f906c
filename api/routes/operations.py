"""Bulk operations: one verb for many jobs, worked off by the leading worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Response
from uuid_utils.compat import uuid7

from api import openapi
from api.auth import Principal, Reach, requires
from api.origins import Came
from api.permissions import CANCEL_JOBS, CREATE_JOBS, DELETE_JOBS, RETRY_JOBS, VIEW_JOBS
from api.problems import Code
from api.reading import Read, Served, SlowRead
from api.schemas import fields, operations
from api.schemas.answers import REPLAYED
from api.strict import StrictRoute
from tasks.catalog import outside_permissions, permission_of
from tasks.platform import Platform
from tracking.errors import UnknownJobType
from tracking.operated import Action
from tracking.operations import reads
from tracking.operations.begin import begin, preview
from tracking.operations.values import NewOperation
from tracking.operations.values import Operation as OperationRecord

router = APIRouter(prefix="/v1/bulk", tags=["bulk"], route_class=StrictRoute)

Viewer = Annotated[Principal, requires(VIEW_JOBS, reach=Reach.ALL)]
Operator = Annotated[
    Principal, requires(CANCEL_JOBS, RETRY_JOBS, CREATE_JOBS, DELETE_JOBS, reach=Reach.ALL)
]  # of one action at least
OperationId = Annotated[UUID, Path(alias="id")]

# Of the single verbs; the last one has none, and is a right of its own.
PERMISSIONS = {
    Action.CANCEL: CANCEL_JOBS,
    Action.RETRY: RETRY_JOBS,
    Action.REPRIORITIZE: CREATE_JOBS,
    Action.DELETE: DELETE_JOBS,
}
OF_THE_HANDLER = (Action.RETRY, Action.REPRIORITIZE)  # of these the permission of each job's type is needed, too
LOOK_AGAIN = 1  # seconds


@router.post("", status_code=202, response_model=operations.Operation, responses=openapi.OPERATION_CREATED)
def create_operation(
    principal: Operator,
    platform: Served,
    read: SlowRead,
    asked: operations.BulkRequest,
    *,
    origin: Came,
    response: Response,
    idempotency_key: Annotated[fields.IdempotencyKey | None, Header()] = None,
) -> Any:
    """Have one verb applied to all jobs that match now; or, with dryRun, only say which these are."""
    principal.must_have(PERMISSIONS[asked.action])
    if asked.dry_run:
        matched, sample = read(preview, principal.scope, asked.filters)
        told = operations.Preview.of(matched, list(sample))
        return Response(told.model_dump_json(by_alias=True), HTTPStatus.OK, media_type="application/json")
    new = NewOperation(
        id=uuid7(),
        action=asked.action,
        scope=principal.scope,
        user_id=principal.actor,
        asked=asked.asked,
        named=asked.ids or (),
        priority=asked.priority,
        force=asked.force,
        canary=asked.canary,
        idempotency_key=idempotency_key,
        request_hash=None if idempotency_key is None else asked.digest,
    )

    of_the_handler = asked.action in OF_THE_HANDLER
    outside = outside_permissions(platform) if of_the_handler else {}  # before a connection is held

    def judge(types: Iterable[tuple[str, bool]]) -> dict[str, str]:
        return _denied(platform, principal, types, outside) if of_the_handler else {}

    with platform.database.begin() as connection:
        begun = begin(
            connection, new, asked.filters, at_once=platform.settings.bulk_at_once, judge=judge, origin=origin
        )
    response.headers.update({"Location": f"/v1/bulk/{begun.operation.id}", **_patience(begun.operation)})
    if not begun.created:
        response.headers[REPLAYED] = "true"
    return operations.Operation.of(begun.operation)


@router.get("", responses=openapi.READ)
def list_operations(
    principal: Viewer, read: Read, query: Annotated[operations.OperationsQuery, Query()]
) -> operations.Operations:
    """The bulk operations of the caller, newest first; with jobs.view_all those of the organization."""
    page = read(reads.page, principal.scope, states=query.state, cursor=query.cursor, size=query.limit)
    return operations.Operations.of(page)


@router.get("/{id}", responses=openapi.OPERATION)  # noqa: FAST003 - OperationId is that parameter
def get_operation(principal: Viewer, read: Read, operation_id: OperationId, response: Response) -> operations.Operation:
    """One bulk operation; while it is under way, `Retry-After` says when to ask again."""
    operation = read(reads.get, operation_id, principal.scope)
    response.headers.update(_patience(operation))
    return operations.Operation.of(operation)


@router.get("/{id}/jobs", responses=openapi.OPERATION_RESULTS)  # noqa: FAST003 - as above
def list_operation_jobs(
    principal: Viewer, read: SlowRead, operation_id: OperationId, query: Annotated[operations.ResultsQuery, Query()]
) -> operations.Results:
    """What became of each of its jobs, by their ids."""
    read(reads.get, operation_id, principal.scope)
    page = read(reads.results, operation_id, wanted=query.outcome, cursor=query.cursor, size=query.limit)
    return operations.Results.of(page)


@router.post("/{id}/abort", responses=openapi.OPERATION_ABORTED)  # noqa: FAST003 - as above
def abort_operation(
    principal: Operator,
    platform: Served,
    read: Read,
    operation_id: OperationId,
    *,
    origin: Came,
) -> operations.Operation:
    """End it after the batch that is being worked off. What was done stays done; the other jobs stay as they are."""
    operation = read(reads.get, operation_id, principal.scope)
    principal.must_have(PERMISSIONS[operation.action])
    with platform.database.begin() as connection:
        aborted = reads.abort(connection, operation, actor=principal.actor, origin=origin)
    return operations.Operation.of(aborted)


def _denied(
    platform: Platform,
    principal: Principal,
    types: Iterable[tuple[str, bool]],
    outside: Mapping[str, str | None],
) -> dict[str, str]:
    """The types that the caller may not do this to, each with the code of the problem."""
    denied = {}
    for job_type, external in types:
        try:
            permission = permission_of(platform, job_type, outside if external else None)
        except UnknownJobType:
            denied[job_type] = str(Code.UNKNOWN_JOB_TYPE)
            continue
        if permission is not None and permission not in principal.permissions:
            denied[job_type] = str(Code.PERMISSION_MISSING)
    return denied


def _patience(operation: OperationRecord) -> dict[str, str]:
    return {"Retry-After": str(LOOK_AGAIN)} if operation.is_worked_on else {}
