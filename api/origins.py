"""From where a request comes, and the audit of those that were denied or refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import structlog
from fastapi import Request
from starlette.concurrency import run_in_threadpool

from api.auth import ORGANIZATION, REACHING, Principal, asked_about
from api.given import OfRequest
from api.problems import UNAVAILABLE, Code, code_of
from tasks.platform import Platform
from tracking import audit
from tracking.audit import Deed
from tracking.audited import Action, Outcome
from tracking.origins import Origin, Source
from tracking.tenancy import confined_to

LONGEST_TARGET = 255  # characters

# What is audited, by the names of the operations.
ACTIONS: Mapping[str, Action] = {
    "create_job": Action.CREATE_JOB,
    "create_jobs": Action.CREATE_JOB,
    "change_job": Action.CHANGE_JOB,
    "cancel_job": Action.CANCEL_JOB,
    "retry_job": Action.RETRY_JOB,
    "create_operation": Action.BULK,
    "abort_operation": Action.ABORT_BULK,
    "pause_job_type": Action.PAUSE,
    "resume_job_type": Action.RESUME,
    "pause_organization": Action.PAUSE,
    "resume_organization": Action.RESUME,
    "pause_queue": Action.PAUSE_QUEUE,
    "resume_queue": Action.RESUME_QUEUE,
    "set_organization_limit": Action.SET_LIMIT,
    "set_waiting_limit": Action.SET_WAITING_LIMIT,
    "set_weight": Action.SET_WEIGHT,
    "put_limit": Action.PUT_LIMIT,
    "remove_limit": Action.REMOVE_LIMIT,
    "deny_tokens": Action.DENY_TOKENS,
    "allow_tokens": Action.ALLOW_TOKENS,
    "mark_error": Action.MARK_ERROR,
    "create_webhook": Action.CREATE_WEBHOOK,
    "change_webhook": Action.CHANGE_WEBHOOK,
    "remove_webhook": Action.REMOVE_WEBHOOK,
    "rotate_webhook_secret": Action.ROTATE_WEBHOOK,
    "test_webhook": Action.TEST_WEBHOOK,
    "redeliver": Action.REDELIVER,
    "create_schedule": Action.CREATE_SCHEDULE,
    "change_schedule": Action.CHANGE_SCHEDULE,
    "remove_schedule": Action.REMOVE_SCHEDULE,
    "pause_schedule": Action.PAUSE_SCHEDULE,
    "resume_schedule": Action.RESUME_SCHEDULE,
    "run_schedule": Action.RUN_SCHEDULE,
    "skip_next": Action.SKIP_NEXT,
    "create_template": Action.CREATE_TEMPLATE,
    "change_template": Action.CHANGE_TEMPLATE,
    "remove_template": Action.REMOVE_TEMPLATE,
    "create_workflow": Action.CREATE_WORKFLOW,
    "cancel_workflow": Action.CANCEL_WORKFLOW,
    "retry_workflow": Action.RETRY_WORKFLOW,
    "create_file": Action.UPLOAD_FILE,
    "remove_file": Action.REMOVE_FILE,
    "create_template_job": Action.CREATE_JOB,
    "create_view": Action.SAVE_VIEW,
    "change_view": Action.CHANGE_VIEW,
    "remove_view": Action.REMOVE_VIEW,
}
TARGETS = ("id", "name", "jobType", "organization", "fingerprint")  # parameters of a path

# What did not happen as things were. What could not even be read is nobody's deed.
REFUSED = frozenset(
    {
        *(Code.JOB_NOT_FOUND, Code.ILLEGAL_MOVE, Code.NOT_EXTERNAL, Code.JOB_CHANGED, Code.IDEMPOTENCY_CONFLICT),
        *(Code.OPERATION_NOT_FOUND, Code.OPERATION_ENDED, Code.TOO_MANY_OPERATIONS, Code.TOO_MANY_WAITING),
        *(Code.LIMIT_NOT_FOUND, Code.DENIAL_NOT_FOUND, Code.TOO_MANY_DENIALS),
        *(Code.WEBHOOK_NOT_FOUND, Code.DELIVERY_NOT_FOUND, Code.TOO_MANY_WEBHOOKS, Code.TOO_MANY_SECRETS),
        *(Code.SCHEDULE_NOT_FOUND, Code.SCHEDULE_EXISTS, Code.SCHEDULE_CHANGED, Code.SCHEDULE_UNFIT),
        Code.TOO_MANY_SCHEDULES,
        *(Code.WORKFLOW_NOT_FOUND, Code.ILLEGAL_WORKFLOW_MOVE),
        Code.ERROR_NOT_FOUND,
        *(Code.FILE_NOT_FOUND, Code.TOO_MANY_FILES),
        *(Code.VIEW_NOT_FOUND, Code.VIEW_EXISTS, Code.TOO_MANY_VIEWS),
        *(Code.TEMPLATE_NOT_FOUND, Code.TEMPLATE_EXISTS, Code.TEMPLATE_CHANGED),
    }
)

log = structlog.get_logger(__name__)


def origin_of(request: Request) -> Origin:
    """From where a request of the API comes; StrictRoute knows its caller already."""
    return came_by(request.app.state.source, request, request.state.principal)


def came_by(source: Source, request: Request, principal: Principal) -> Origin:
    """From where a request comes."""
    address = request.client.host if request.client else None
    # Whoever has the database is of no organization, whichever they ask about.
    organization = None if source is Source.CLI else principal.organization
    actor = principal.user if asked_about(request) not in (None, principal.organization) else None
    return Origin(source, organization, address, request.scope["request_id"], actor)


Came = Annotated[Origin, OfRequest(origin_of)]


def keep_denied(platform: Platform, principal: Principal, origin: Origin, job_types: Iterable[str]) -> None:
    """Write into the audit that somebody may not create jobs of these types, of many that they wanted to."""
    with platform.database.begin() as connection:
        for job_type in sorted(job_types):
            deed = Deed(
                Action.CREATE_JOB,
                principal.user,
                principal.organization,
                outcome=Outcome.DENIED,
                code=str(Code.PERMISSION_MISSING),
                detail={"jobType": job_type},
            )
            audit.write(connection, origin, deed)


async def keep_failed(request: Request, principal: Principal, action: Action, source: Source, error: Exception) -> None:
    """Write into the audit that somebody was denied something, or that it was refused.

    Without a database it is logged instead: the answer is the same.
    """
    code = code_of(error)
    outcome = Outcome.DENIED if code is Code.PERMISSION_MISSING else Outcome.REFUSED
    if code is None or (outcome is Outcome.REFUSED and code not in REFUSED):
        return
    origin = came_by(source, request, principal)
    target = next((request.path_params[name] for name in TARGETS if name in request.path_params), None)
    platform: Platform = request.app.state.platform

    deed = Deed(
        action,
        principal.user,
        principal.organization,
        target=None if target is None else str(target)[:LONGEST_TARGET],
        outcome=outcome,
        code=str(code),
        detail={ORGANIZATION: asked_about(request)} if getattr(request.state, REACHING, False) else {},
    )

    def keep() -> None:
        with confined_to(principal.sees), platform.database.autocommit() as connection:
            audit.write(connection, origin, deed)

    try:
        await run_in_threadpool(keep)
    except UNAVAILABLE as lost:
        log.warning(
            "audit.lost", action=str(action), outcome=str(outcome), user=principal.user, error=type(lost).__name__
        )
