"""What is asked of jobs that are there: cancel, track, edit, retry. Each answers as soon as the row says so."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from tasks.platform import Platform
from tasks.submission import dispatch_created
from tracking import jobs
from tracking.crashpoints import SUBMITTED, crash_point
from tracking.models import Changes, JobRecord, Report, Scope, Submitted
from tracking.origins import Origin
from tracking.states import FINISHED


def cancel(
    platform: Platform,
    job_id: UUID,
    scope: Scope,
    *,
    actor: str,
    reason: str | None = None,
    origin: Origin | None = None,
) -> JobRecord:
    """End a job, and have its body interrupted if it runs. Raises JobNotFound or IllegalMove."""
    with platform.database.autocommit() as connection:
        cancelled = jobs.cancel(connection, job_id, scope, actor=actor, reason=reason, origin=origin)
    if cancelled.was_running:
        platform.dispatcher.interrupt(cancelled.job)
    platform.dispatcher.follow(job_id, cancelled.job.organization_id)
    return cancelled.job


def track(
    platform: Platform,
    job_id: UUID,
    scope: Scope,
    report: Report,
    *,
    actor: str,
    unchanged_since: datetime | None = None,
    origin: Origin | None = None,
) -> JobRecord:
    """Write what somebody says of a job whose work is done elsewhere, and send what waited for its end.

    Raises JobNotFound, NotExternal, JobChanged or IllegalMove.
    """
    with platform.database.autocommit() as connection:
        job = jobs.track(connection, job_id, scope, report, actor=actor, unchanged_since=unchanged_since, origin=origin)
    if job.status in FINISHED:
        platform.dispatcher.follow(job_id, job.organization_id)
    return job


def edit(
    platform: Platform,
    job_id: UUID,
    scope: Scope,
    changes: Changes,
    *,
    actor: str,
    scheduled_at: datetime | None = None,
    at_once: bool = False,
    unchanged_since: datetime | None = None,
    origin: Origin | None = None,
) -> JobRecord:
    """Change a waiting job, and send it if that lets it through. Raises JobNotFound, JobChanged or IllegalMove."""
    with platform.database.autocommit() as connection:
        job = jobs.edit(
            connection,
            job_id,
            scope,
            changes,
            actor=actor,
            limits=platform.limits,
            scheduled_at=scheduled_at,
            at_once=at_once,
            unchanged_since=unchanged_since,
            origin=origin,
        )
    if job.dispatched_at is None:
        platform.dispatcher.send(job)
        platform.dispatcher.follow(job_id, job.organization_id)
    return job


def retry(
    platform: Platform,
    job_id: UUID,
    scope: Scope,
    *,
    actor: str,
    force: bool = False,
    priority: int | None = None,
    idempotency_key: str | None = None,
    origin: Origin | None = None,
) -> Submitted:
    """Send a failed or cancelled job again; once under a key. Raises JobNotFound, IllegalMove, IdempotencyConflict."""
    with platform.database.begin() as connection:
        retried = jobs.retry(
            connection,
            job_id,
            scope,
            actor=actor,
            limits=platform.limits,
            force=force,
            priority=priority,
            idempotency_key=idempotency_key,
            origin=origin,
        )
    if retried.created:
        platform.dispatcher.send(retried.job)
        platform.dispatcher.follow(job_id, retried.job.organization_id)
    return retried


def retry_anew(
    platform: Platform,
    job_id: UUID,
    scope: Scope,
    changes: Changes,
    *,
    actor: str,
    force: bool,
    idempotency_key: str | None,
    request_hash: str | None,
    origin: Origin | None = None,
) -> Submitted:
    """Accept and send a job that repeats a failed or cancelled one with `changes`, which stays as it ended.

    Raises JobNotFound, IllegalMove or IdempotencyConflict.
    """
    with platform.database.begin() as connection:
        submitted = jobs.retry_anew(
            connection,
            job_id,
            scope,
            changes,
            actor=actor,
            limits=platform.limits,
            force=force,
            idempotency_key=idempotency_key,
            request_hash=request_hash,
            origin=origin,
        )
    crash_point(SUBMITTED)
    dispatch_created(platform, [submitted])
    return submitted
