"""The dashboard put together: sign in, the jobs, one job, the types, the schedules, the workflows, the workers."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from api.dashboard.bulk import abort, begin, new_page, operation_page, operations_page
from api.dashboard.job import cancel, job_page, retry
from api.dashboard.jobs import jobs_page
from api.dashboard.repeating import retry_form, retry_with
from api.dashboard.schedules import pause_schedule, resume_schedule, run_schedule, schedules_page, skip_next
from api.dashboard.site import action, answering, form_of, page, render, static
from api.dashboard.types import pause_type, resume_type, types_page
from api.dashboard.workers import workers_page
from api.dashboard.workflows import cancel_workflow, retry_workflow, workflow_page, workflows_page
from api.problems import Problem
from api.visitors import (
    remember,
    require_own_page,
    sign_in_with_link,
    sign_in_with_token,
    sign_out,
    visitor,
)
from tracking.audited import Action


def routes() -> list[Route]:
    """The routes of the dashboard, for the application of the API: it has no prefix, and takes nothing else."""
    return [
        Route("/", page(jobs_page)),
        Route("/jobs/{id:uuid}", page(job_page)),
        Route("/jobs/{id:uuid}/cancel", action(cancel, Action.CANCEL_JOB), methods=["POST"]),
        Route("/jobs/{id:uuid}/retry", action(retry, Action.RETRY_JOB), methods=["POST"]),
        Route("/jobs/{id:uuid}/retry-with", page(retry_form)),
        Route("/jobs/{id:uuid}/retry-with", action(retry_with, Action.RETRY_JOB), methods=["POST"]),
        Route("/bulk", page(operations_page)),
        Route("/bulk", action(begin, Action.BULK), methods=["POST"]),
        Route("/bulk/new", page(new_page)),
        Route("/bulk/{id:uuid}", page(operation_page)),
        Route("/bulk/{id:uuid}/abort", action(abort, Action.ABORT_BULK), methods=["POST"]),
        Route("/types", page(types_page)),
        Route("/types/{jobType:path}/pause", action(pause_type, Action.PAUSE), methods=["POST"]),
        Route("/types/{jobType:path}/resume", action(resume_type, Action.RESUME), methods=["POST"]),
        Route("/schedules", page(schedules_page)),
        Route("/schedules/{id:uuid}/pause", action(pause_schedule, Action.PAUSE_SCHEDULE), methods=["POST"]),
        Route("/schedules/{id:uuid}/resume", action(resume_schedule, Action.RESUME_SCHEDULE), methods=["POST"]),
        Route("/schedules/{id:uuid}/skip-next", action(skip_next, Action.SKIP_NEXT), methods=["POST"]),
        Route("/schedules/{id:uuid}/run", action(run_schedule, Action.RUN_SCHEDULE), methods=["POST"]),
        Route("/workflows", page(workflows_page)),
        Route("/workflows/{id:uuid}", page(workflow_page)),
        Route("/workflows/{id:uuid}/cancel", action(cancel_workflow, Action.CANCEL_WORKFLOW), methods=["POST"]),
        Route("/workflows/{id:uuid}/retry", action(retry_workflow, Action.RETRY_WORKFLOW), methods=["POST"]),
        Route("/workers", page(workers_page)),
        Route("/sign-in", answering(_show_sign_in)),
        Route("/sign-in", answering(_sign_in), methods=["POST"]),
        Route("/sign-out", answering(_sign_out), methods=["POST"]),
        Route("/static/{version}/{name:path}", static),
    ]


async def _show_sign_in(request: Request) -> Response:
    ticket, back = request.query_params.get("ticket", ""), request.query_params.get("next", "/")
    if not ticket and await visitor(request) is not None:
        return RedirectResponse(_own(back), 303)
    return render(request, "sign_in.html", ticket=ticket, next=back, why_not=None)


async def _sign_in(request: Request) -> Response:
    require_own_page(request)
    form = await form_of(request)
    ticket, token = form.get("ticket", ""), form.get("token", "").strip().removeprefix("Bearer ")
    try:
        _, secret = await (sign_in_with_link(request, ticket) if ticket else sign_in_with_token(request, token))
    except Problem as refused:
        back = form.get("next", "/")
        return render(request, "sign_in.html", refused.status_code, ticket="", next=back, why_not=refused.detail)
    response = RedirectResponse(_own(form.get("next", "/")), 303)
    remember(request, response, secret)
    return response


async def _sign_out(request: Request) -> Response:
    require_own_page(request)
    await sign_out(request)
    response = RedirectResponse("/sign-in", 303)
    remember(request, response, None)
    return response


def _own(address: str) -> str:
    """An address of this server; the start for any other one."""
    is_ours = address.startswith("/") and not address.startswith(("//", "/\\")) and "\\" not in address
    return address if is_ours and address.isprintable() else "/"
