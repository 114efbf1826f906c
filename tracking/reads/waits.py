"""What a job waited for before one of its attempts, as its history has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.states import WAITING, Event, Hold

IN_THE_BROKER = "broker"  # it could run; its message was under way


@dataclass(frozen=True, slots=True)
class Wait:
    """`reason`: a hold, or IN_THE_BROKER."""

    reason: str
    since: datetime
    until: datetime


def before(connection: Connection, job_id: UUID, attempt: int) -> Sequence[Wait]:
    """The waits of a job between the attempt before and this one; of very many the last ones."""
    rows = connection.execute(ENTRIES, {"job_id": job_id, "attempt": attempt}).all()
    return list(_waits(reversed(rows), attempt))


def _waits(rows: Iterable[Any], attempt: int) -> Iterator[Wait]:
    since, reason = None, IN_THE_BROKER
    for row in rows:
        is_start = row.event == Event.STARTED
        if is_start and row.attempt != attempt:
            since = None
        elif is_start or row.to_status in WAITING:
            if since is not None and row.at > since:
                yield Wait(reason, since, row.at)
            since, reason = row.at, row.hold or IN_THE_BROKER
        if is_start and row.attempt == attempt:
            return


ENTRIES = text(
    f"""
    SELECT event, to_status, attempt, at,
           CASE WHEN event = '{Event.FAILED}' THEN '{Hold.BACKOFF}'
                WHEN event = '{Event.RELEASED}' AND detail ->> 'reason' = 'replaced' THEN '{Hold.DEPENDENCY}'
                ELSE detail ->> 'hold' END AS hold
    FROM history
    WHERE job_id = :job_id AND attempt IN (:attempt, :attempt - 1)
      AND at >= (SELECT created_at - INTERVAL '1 hour' FROM jobs WHERE id = :job_id)
      AND event NOT IN ('{Event.PROGRESS}', '{Event.DUPLICATE_REFUSED}', '{Event.EDITED}', '{Event.SEEN}')
    ORDER BY id DESC LIMIT 100"""
)
