"""What a caller may ask besides jobs: pause and resume, and how many jobs execute at once, or in a time."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from tasks.catalog import handler
from tasks.platform import Platform
from tracking.admission import job_limits, line, pauses, queue_pauses, waiting, weights
from tracking.admission.job_limits import JobLimit, Per, Wanted
from tracking.db import Connection
from tracking.errors import InvalidValue, QueueNotFound
from tracking.origins import Origin
from tracking.reads import fleet, seen

log = structlog.get_logger(__name__)

IN_PAYLOAD = "payload."  # as a key may begin, that everybody sees where it is looked for


def pause(
    platform: Platform,
    organization_id: str | None,
    job_type: str | None,
    *,
    actor: str,
    reason: str | None,
    origin: Origin,
) -> None:
    """From now on no such job starts; None stands for all. What is paused already stays so, as it was.

    Raises UnknownJobType.
    """
    which = {"organization_id": organization_id, "job_type": job_type}
    with platform.database.begin() as connection:
        _require_known(platform, connection, organization_id, job_type)
        pauses.pause(connection, **which, actor=actor, reason=reason, origin=origin)
    log.warning("jobs.paused", organization=organization_id, job_type=job_type, actor=actor)


def resume(
    platform: Platform, organization_id: str | None, job_type: str | None, *, actor: str, origin: Origin
) -> None:
    """End that pause, if there is one, and send what waited for it.

    Raises UnknownJobType, unless jobs of that type were paused.
    """
    which = {"organization_id": organization_id, "job_type": job_type}
    with platform.database.begin() as connection:
        was_paused = pauses.resume(connection, **which, actor=actor, origin=origin)
        if not was_paused:
            _require_known(platform, connection, organization_id, job_type)
    if was_paused:
        log.warning("jobs.resumed", organization=organization_id, job_type=job_type, actor=actor)
        platform.dispatcher.resume()


def pause_queue(platform: Platform, queue: str, *, actor: str, reason: str | None, origin: Origin) -> None:
    """From now on no job of this queue starts. Raises QueueNotFound."""
    with platform.database.begin() as connection:
        _require_queue(platform, connection, queue)
        queue_pauses.pause(connection, queue=queue, actor=actor, reason=reason, origin=origin)
    log.warning("queue.paused", queue=queue, actor=actor)


def resume_queue(platform: Platform, queue: str, *, actor: str, origin: Origin) -> None:
    """End that pause, if there is one, and send what waited for it. Raises QueueNotFound, unless it was paused."""
    with platform.database.begin() as connection:
        was_paused = queue_pauses.resume(connection, queue=queue, actor=actor, origin=origin)
        if not was_paused:
            _require_queue(platform, connection, queue)
    if was_paused:
        log.warning("queue.resumed", queue=queue, actor=actor)
        platform.dispatcher.resume()


def set_limit(platform: Platform, organization_id: str, concurrency: int | None, *, actor: str, origin: Origin) -> None:
    """Let this many jobs of an organization execute at once: 0 = any number, None = as many as by default."""
    with platform.database.begin() as connection:
        if concurrency is None:
            back = line.reset_limit(connection, organization_id, platform.limits, actor=actor, origin=origin)
        else:
            back = line.set_limit(connection, organization_id, concurrency, actor=actor, origin=origin)
    log.warning(
        "organization.limited", organization=organization_id, limit=concurrency, actor=actor, back_in_line=len(back)
    )
    platform.dispatcher.resume(organization_id)


def set_waiting_limit(
    platform: Platform, organization_id: str, most: int | None, *, actor: str, origin: Origin
) -> None:
    """Let so many jobs of an organization wait at once: 0 = any number, None = as many as by default."""
    with platform.database.begin() as connection:
        waiting.set_limit(connection, organization_id, most, actor=actor, origin=origin)
    platform.crowding.forget()
    log.warning("organization.waiting_limited", organization=organization_id, limit=most, actor=actor)


def set_weight(platform: Platform, organization_id: str, weight: int | None, *, actor: str, origin: Origin) -> None:
    """Let an organization have a greater share of busy workers, 1-100 of its jobs for one of another; None: 1."""
    with platform.database.begin() as connection:
        weights.set_weight(connection, organization_id, weight, actor=actor, origin=origin)
    log.warning("organization.weighed", organization=organization_id, weight=weight, actor=actor)


def put_job_limit(platform: Platform, wanted: Wanted, *, actor: str, origin: Origin) -> JobLimit:
    """Set a limit; a key that is not said is that of the handler.

    Raises UnknownJobType, and InvalidValue when the handler names no key.
    """
    with platform.database.begin() as connection:
        _require_known(platform, connection, wanted.organization_id, wanted.job_type)
        limit = job_limits.put(connection, uuid7(), _with_key(platform, wanted), actor=actor, origin=origin)
    return _changed(platform, limit, "limit.put", actor)


def remove_job_limit(platform: Platform, limit_id: UUID, *, actor: str, origin: Origin) -> JobLimit:
    """Take a limit away, and send what waited for it. Raises LimitNotFound."""
    with platform.database.begin() as connection:
        limit = job_limits.remove(connection, limit_id, actor=actor, origin=origin)
    return _changed(platform, limit, "limit.removed", actor)


def _require_queue(platform: Platform, connection: Connection, queue: str) -> None:
    """Raise QueueNotFound for a slip."""
    if not fleet.is_known(connection, queue, platform.limits.lease_timeout):
        raise QueueNotFound(f"no living worker consumes the queue {queue!r}, and no job waits in it")


def _with_key(platform: Platform, wanted: Wanted) -> Wanted:
    if wanted.per is not Per.KEY or wanted.key_path is not None:
        return wanted
    named = getattr(platform.app.tasks.get(wanted.job_type or ""), "concurrency_key", None)
    if named is None:
        raise InvalidValue(
            f"no handler here names a concurrency_key for {wanted.job_type!r}: say the key of the payload"
        )
    return replace(wanted, key_path=str(named).removeprefix(IN_PAYLOAD))


def _changed(platform: Platform, limit: JobLimit, event: str, actor: str) -> JobLimit:
    about = {
        "limit": str(limit.id),
        "organization": limit.organization_id,
        "job_type": limit.job_type,
        "per": limit.per,
    }
    log.warning(event, **about, concurrency=limit.concurrency, rate=limit.rate, actor=actor)
    platform.limiting.forget()
    platform.dispatcher.resume()
    return limit


def _require_known(
    platform: Platform, connection: Connection, organization_id: str | None, job_type: str | None
) -> None:
    """Raise UnknownJobType for a slip. Of a type that only other workers have, there is a job of the organization."""
    if job_type is None or seen.has_job_type(connection, job_type, organization_id):
        return
    handler(platform.app, job_type)
