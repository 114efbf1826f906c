"""What a caller outside of Celery may ask of jobs: create, cancel, retry. Each answers as soon as the row says so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from tasks import sending
from tasks.app import app
from tasks.broker.dispatcher import dispatcher
from tasks.catalog import offered
from tracking import jobs
from tracking.admission.holds import Limits
from tracking.db import database
from tracking.models import JobRecord, Owner, Scope, Submitted
from tracking.settings import settings


def create(
    job_type: str,
    payload: dict[str, Any],
    *,
    owner: Owner,
    scope: Scope,
    priority: int | None = None,
    max_retries: int | None = None,
    scheduled_at: datetime | None = None,
    depends_on: Sequence[UUID] = (),
    project_id: str | None = None,
    message: str | None = None,
    metadata: dict[str, Any] | None = None,
    idempotency_key: str | None = None,
    request_hash: str | None = None,
) -> Submitted:
    """Accept a job, which may depend on those of `scope`.

    Raises UnknownJobType, pydantic.ValidationError, InvalidValue or IdempotencyConflict.
    """
    options = {
        "organization": owner.organization_id,
        "user": owner.user_id,
        "priority": priority,
        "max_retries": max_retries,
        "eta": scheduled_at,
        "depends_on": depends_on,
        "project": project_id,
        "message": message,
        "metadata": metadata,
        "idempotency_key": idempotency_key,
        "request_hash": request_hash,
    }
    task = offered(job_type)
    args, kwargs = task.outside_arguments(payload)
    job = sending.new_job(app, task.name, args, kwargs, task_id=None, options=options)
    return sending.submit(job, scope)


def cancel(job_id: UUID, scope: Scope, *, actor: str, reason: str | None = None) -> JobRecord:
    """End a job, and have its body interrupted if it runs. Raises JobNotFound or IllegalMove."""
    with database().autocommit() as connection:
        cancelled = jobs.cancel(connection, job_id, scope, actor=actor, reason=reason)
    if cancelled.was_running:
        dispatcher().interrupt(cancelled.job)
    dispatcher().follow(job_id, cancelled.job.organization_id)
    return cancelled.job


def retry(job_id: UUID, scope: Scope, *, actor: str, force: bool = False) -> JobRecord:
    """Send a failed or cancelled job again. Raises JobNotFound or IllegalMove."""
    with database().autocommit() as connection:
        job = jobs.retry(connection, job_id, scope, actor=actor, force=force, limits=Limits.configured(settings()))
    dispatcher().send(job)
    dispatcher().follow(job_id, job.organization_id)
    return job
