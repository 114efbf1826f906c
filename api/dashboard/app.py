"""The dashboard put together: how to sign in, and the routes of all pages with their buttons."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI
from starlette.routing import Route

from api.dashboard.audit import audit_file, audit_page
from api.dashboard.bulk import abort, begin, new_page, operation_page, operations_page
from api.dashboard.creating import create_job, new_job_page
from api.dashboard.editing import edit, edit_form
from api.dashboard.errors import errors_page, ignore_error, open_error, resolve_error
from api.dashboard.job import cancel, job_page, retry
from api.dashboard.jobs import jobs_page
from api.dashboard.organizations import (
    organization_page,
    organizations_page,
    put_limit,
    remove_limit,
    set_limit,
    set_waiting_limit,
    set_weight,
)
from api.dashboard.repeating import retry_form, retry_with
from api.dashboard.rescheduling import edit_schedule, edit_schedule_form
from api.dashboard.schedules import (
    pause_schedule,
    remove_schedule,
    resume_schedule,
    run_schedule,
    schedules_page,
    skip_next,
)
from api.dashboard.scheduling import create_schedule, new_schedule_form
from api.dashboard.signing_in import CALLBACK, come_back, go_to_provider, sign_in, sign_in_page, sign_out_here
from api.dashboard.site import action, answering, lost, page, refused, static
from api.dashboard.templating import run_template, template_page, templates_page
from api.dashboard.types import pause_all, pause_type, resume_all, resume_type, types_page
from api.dashboard.views import change_view, open_view, remove_view, save_view, views_page
from api.dashboard.webhooks import (
    delivery_page,
    disable_webhook,
    enable_webhook,
    redeliver,
    test_webhook,
    webhook_page,
    webhooks_page,
)
from api.dashboard.workers import pause_queue, resume_queue, workers_page
from api.dashboard.workflows import cancel_workflow, retry_workflow, workflow_page, workflows_page
from tracking.audited import Action


def install(app: FastAPI) -> None:
    """Its routes, and a page for people for whom there is none, or it fails; programs get their problem."""
    app.router.routes.extend(routes())
    for nothing in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        app.exception_handler(nothing)(lost)
    app.state.refused = refused


def routes() -> list[Route]:
    """The routes of the dashboard, for the application of the API: it has no prefix, and takes nothing else."""
    return [
        Route("/", page(jobs_page)),
        Route("/jobs/{id:uuid}", page(job_page)),
        Route("/jobs/{id:uuid}/cancel", action(cancel, Action.CANCEL_JOB), methods=["POST"]),
        Route("/jobs/{id:uuid}/retry", action(retry, Action.RETRY_JOB), methods=["POST"]),
        Route("/jobs/{id:uuid}/edit", page(edit_form)),
        Route("/jobs/{id:uuid}/edit", action(edit, Action.CHANGE_JOB), methods=["POST"]),
        Route("/jobs/{id:uuid}/retry-with", page(retry_form)),
        Route("/jobs/{id:uuid}/retry-with", action(retry_with, Action.RETRY_JOB), methods=["POST"]),
        Route("/new", page(new_job_page)),
        Route("/new", action(create_job, Action.CREATE_JOB), methods=["POST"]),
        Route("/bulk", page(operations_page)),
        Route("/bulk", action(begin, Action.BULK), methods=["POST"]),
        Route("/bulk/new", page(new_page)),
        Route("/bulk/{id:uuid}", page(operation_page)),
        Route("/bulk/{id:uuid}/abort", action(abort, Action.ABORT_BULK), methods=["POST"]),
        Route("/types", page(types_page)),
        Route("/types-all/pause", action(pause_all, Action.PAUSE), methods=["POST"]),
        Route("/types-all/resume", action(resume_all, Action.RESUME), methods=["POST"]),
        Route("/types/{jobType:path}/pause", action(pause_type, Action.PAUSE), methods=["POST"]),
        Route("/types/{jobType:path}/resume", action(resume_type, Action.RESUME), methods=["POST"]),
        Route("/errors", page(errors_page)),
        Route("/errors/{fingerprint}/resolve", action(resolve_error, Action.MARK_ERROR), methods=["POST"]),
        Route("/errors/{fingerprint}/ignore", action(ignore_error, Action.MARK_ERROR), methods=["POST"]),
        Route("/errors/{fingerprint}/open", action(open_error, Action.MARK_ERROR), methods=["POST"]),
        Route("/schedules", page(schedules_page)),
        Route("/schedules/new", page(new_schedule_form)),
        Route("/schedules/new", action(create_schedule, Action.CREATE_SCHEDULE), methods=["POST"]),
        Route("/schedules/{id:uuid}/remove", action(remove_schedule, Action.REMOVE_SCHEDULE), methods=["POST"]),
        Route("/schedules/{id:uuid}/edit", page(edit_schedule_form)),
        Route("/schedules/{id:uuid}/edit", action(edit_schedule, Action.CHANGE_SCHEDULE), methods=["POST"]),
        Route("/schedules/{id:uuid}/pause", action(pause_schedule, Action.PAUSE_SCHEDULE), methods=["POST"]),
        Route("/schedules/{id:uuid}/resume", action(resume_schedule, Action.RESUME_SCHEDULE), methods=["POST"]),
        Route("/schedules/{id:uuid}/skip-next", action(skip_next, Action.SKIP_NEXT), methods=["POST"]),
        Route("/schedules/{id:uuid}/run", action(run_schedule, Action.RUN_SCHEDULE), methods=["POST"]),
        Route("/workflows", page(workflows_page)),
        Route("/workflows/{id:uuid}", page(workflow_page)),
        Route("/workflows/{id:uuid}/cancel", action(cancel_workflow, Action.CANCEL_WORKFLOW), methods=["POST"]),
        Route("/workflows/{id:uuid}/retry", action(retry_workflow, Action.RETRY_WORKFLOW), methods=["POST"]),
        Route("/templates", page(templates_page)),
        Route("/templates/{name}", page(template_page)),
        Route("/templates/{name}/run", action(run_template, Action.CREATE_JOB), methods=["POST"]),
        Route("/views", page(views_page)),
        Route("/views", action(save_view, Action.SAVE_VIEW), methods=["POST"]),
        Route("/views/{id:uuid}", page(open_view)),
        Route("/views/{id:uuid}/change", action(change_view, Action.CHANGE_VIEW), methods=["POST"]),
        Route("/views/{id:uuid}/remove", action(remove_view, Action.REMOVE_VIEW), methods=["POST"]),
        Route("/webhooks", page(webhooks_page)),
        Route("/webhooks/{id:uuid}", page(webhook_page)),
        Route("/webhooks/{id:uuid}/test", action(test_webhook, Action.TEST_WEBHOOK), methods=["POST"]),
        Route("/webhooks/{id:uuid}/enable", action(enable_webhook, Action.CHANGE_WEBHOOK), methods=["POST"]),
        Route("/webhooks/{id:uuid}/disable", action(disable_webhook, Action.CHANGE_WEBHOOK), methods=["POST"]),
        Route("/webhooks/{id:uuid}/deliveries/{deliveryId:uuid}", page(delivery_page)),
        Route(
            "/webhooks/{id:uuid}/deliveries/{deliveryId:uuid}/redeliver",
            action(redeliver, Action.REDELIVER),
            methods=["POST"],
        ),
        Route("/workers", page(workers_page, of_all=True)),
        Route(
            "/queues/{queue:path}/pause",
            action(pause_queue, Action.PAUSE_QUEUE, of_all=True),
            methods=["POST"],
        ),
        Route(
            "/queues/{queue:path}/resume",
            action(resume_queue, Action.RESUME_QUEUE, of_all=True),
            methods=["POST"],
        ),
        Route("/organizations", page(organizations_page, of_all=True)),
        Route(
            "/organizations/{organization:path}/limit",
            action(set_limit, Action.SET_LIMIT, of_all=True),
            methods=["POST"],
        ),
        Route(
            "/organizations/{organization:path}/waiting-limit",
            action(set_waiting_limit, Action.SET_WAITING_LIMIT, of_all=True),
            methods=["POST"],
        ),
        Route(
            "/organizations/{organization:path}/weight",
            action(set_weight, Action.SET_WEIGHT, of_all=True),
            methods=["POST"],
        ),
        Route("/organizations/{organization:path}", page(organization_page, of_all=True)),
        Route("/limits", action(put_limit, Action.PUT_LIMIT, of_all=True), methods=["POST"]),
        Route("/limits/{id:uuid}/remove", action(remove_limit, Action.REMOVE_LIMIT, of_all=True), methods=["POST"]),
        Route("/audit", page(audit_page)),
        Route("/audit/export", page(audit_file)),
        Route("/sign-in", answering(sign_in_page)),
        Route("/sign-in", answering(sign_in), methods=["POST"]),
        Route("/sign-in/oidc", answering(go_to_provider)),
        Route(CALLBACK, answering(come_back)),
        Route("/sign-out", answering(sign_out_here), methods=["POST"]),
        Route("/static/{version}/{name:path}", static),
    ]
