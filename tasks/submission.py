"""What a caller outside of Celery may ask of jobs: create, cancel, retry. Each answers as soon as the row says so."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from tasks import sending
from tasks.app import app
from tasks.catalog import handler
from tasks.dispatch import dispatcher
from tracking import jobs
from tracking.db import database
from tracking.models import JobRecord, Owner, Scope, Submitted


def create(
    job_type: str,
    payload: dict[str, Any],
    *,
    owner: Owner,
    priority: int | None = None,
    max_retries: int | None = None,
    scheduled_at: datetime | None = None,
    project_id: str | None = None,
    message: str | None = None,
    metadata: dict[str, Any] | None = None,
    idempotency_key: str | None = None,
    request_hash: str | None = None,
) -> Submitted:
    """Accept a job. Raises UnknownJobType, pydantic.ValidationError, InvalidValue or IdempotencyConflict."""
    options = {
        "organization": owner.organization_id,
        "user": owner.user_id,
        "priority": priority,
        "max_retries": max_retries,
        "eta": scheduled_at,
        "project": project_id,
        "message": message,
        "metadata": metadata,
        "idempotency_key": idempotency_key,
        "request_hash": request_hash,
    }
    task = handler(job_type)
    job = sending.new_job(app, task.name, None, {"payload": payload}, task_id=None, options=options)
    return sending.submit(job)


def cancel(job_id: UUID, scope: Scope, *, actor: str, reason: str | None = None) -> JobRecord:
    """End a job, and have its body interrupted if it runs. Raises JobNotFound or IllegalMove."""
    with database().autocommit() as connection:
        cancelled = jobs.cancel(connection, job_id, scope, actor=actor, reason=reason)
    if cancelled.was_running:
        dispatcher().interrupt(cancelled.job)
    return cancelled.job


def retry(job_id: UUID, scope: Scope, *, actor: str, force: bool = False) -> JobRecord:
    """Send a failed or cancelled job again. Raises JobNotFound or IllegalMove."""
    with database().autocommit() as connection:
        job = jobs.retry(connection, job_id, scope, actor=actor, force=force)
    dispatcher().send(job)
    return job
