"""What a caller may ask besides jobs: pause and resume, and how many jobs of an organization execute at once."""

from __future__ import annotations

import structlog

from tasks.catalog import handler
from tasks.platform import Platform
from tracking.admission import line, pauses, waiting
from tracking.db import Connection
from tracking.origins import Origin
from tracking.reads import seen

log = structlog.get_logger(__name__)


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


def _require_known(
    platform: Platform, connection: Connection, organization_id: str | None, job_type: str | None
) -> None:
    """Raise UnknownJobType for a slip. Of a type that only other workers have, there is a job of the organization."""
    if job_type is None or seen.has_job_type(connection, job_type, organization_id):
        return
    handler(platform.app, job_type)
