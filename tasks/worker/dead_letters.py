"""Setting messages aside that no worker can run: kept in the database, and their job, if there is one, is failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import structlog

from tasks.broker.messages import fence_of
from tasks.platform import Platform
from tracking import dead_letters, jobs
from tracking.dead_letters import BODY_BYTES, NewDeadLetter
from tracking.models import Failure, Fence

log = structlog.get_logger(__name__)

# Letters that may wait for the database with their bodies, 16 MiB in all; of later ones the body is not kept.
BODIES_WAITING = 256


def set_aside(platform: Platform, message: Any, failure: Failure, *, worker: str, job_type: str | None = None) -> None:
    """Keep a message that was taken off its queue, soon and from another thread; `failure` is told to its job.

    `job_type`: a job of another type is not told: the message was forged.
    """
    letter = _letter(platform, message, failure.message, worker)
    fence = fence_of(letter.task_id, message.headers)
    log.error("message.set_aside", job_id=str(fence.job_id) if fence else None, error=failure.type)
    platform.recorder.record(lambda: _keep(platform, letter, fence, failure, job_type))


def keep_foreign(platform: Platform, message: Any, headers: Any, reason: str, *, worker: str, receipt: UUID) -> None:
    """Keep a message that is of no job. Raises SQLAlchemyError; the same receipt again changes nothing."""
    letter = _letter(platform, message, reason, worker)
    letter = replace(letter, receipt=receipt, task_name=headers.task, task_id=headers.id)
    log.error("message.set_aside", job_id=None, error="ForeignMessage", receipt=str(receipt))
    with platform.database.autocommit() as connection:
        dead_letters.keep(connection, letter)


def _keep(
    platform: Platform, letter: NewDeadLetter, fence: Fence | None, failure: Failure, job_type: str | None
) -> None:
    with platform.database.begin() as connection:
        dead_letters.keep(connection, letter)
        if fence is not None:
            told = {"actor": letter.worker, "error_type": failure.type, "message": failure.message}
            jobs.fail_waiting(connection, fence, **told, job_type=job_type)


def _letter(platform: Platform, message: Any, reason: str, worker: str) -> NewDeadLetter:
    headers = message.headers if isinstance(message.headers, Mapping) else {}
    delivery = message.delivery_info if isinstance(message.delivery_info, Mapping) else {}
    body = _bytes(message.body)
    return NewDeadLetter(
        receipt=uuid4(),
        queue=str(delivery.get("routing_key") or ""),
        worker=worker,
        reason=reason,
        task_name=_text(headers.get("task")),
        task_id=_text(headers.get("id")),
        content_type=_text(message.content_type),
        headers=dead_letters.shortened(headers),
        body=body[:BODY_BYTES] if platform.recorder.backlog < BODIES_WAITING else None,
        size=len(body),
        redelivered=bool(delivery.get("redelivered")),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _bytes(body: Any) -> bytes:
    return body.encode(errors="replace") if isinstance(body, str) else bytes(body or b"")
