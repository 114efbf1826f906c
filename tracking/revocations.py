"""Cancelling by remote control: the jobs that Celery names by an id, or by stamps on their messages.

No scope applies: whoever reaches the broker is an operator. A revocation that matches no job yet is kept for some
hours, as in Celery's workers, and applied to a job that is submitted meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, text

from tracking.jobs.cancel import cancelled_row, cancelling
from tracking.models import Cancelled
from tracking.origins import Origin, Source, origin_parameter
from tracking.sql import ORIGIN, in_life, listed
from tracking.states import ACTIVE, Event

BY_REMOTE_CONTROL = Origin(Source.REMOTE_CONTROL)
KEPT = timedelta(hours=3)  # Celery 5.7: CELERY_WORKER_REVOKE_EXPIRES


def revoke(
    connection: Connection, ids: Sequence[UUID], *, actor: str, reason: str, age: timedelta = timedelta(0)
) -> list[Cancelled]:
    """Cancel the jobs of these ids; returns those that were not finished.

    `age`: how long ago that was asked for; a job that was retried since then is left alone. An id of no job is
    remembered.
    """
    cancelled = [_cancel(connection, each, actor, reason, age) for each in ids]
    for unknown in connection.execute(_UNKNOWN, {"ids": list(ids)}).scalars() if ids else ():
        _remember(connection, "", str(unknown), actor)
    return [each for each in cancelled if each is not None]


def revoke_stamped(
    connection: Connection,
    stamps: Mapping[str, Sequence[Any]],
    *,
    actor: str,
    reason: str,
    age: timedelta = timedelta(0),
) -> list[Cancelled]:
    """Cancel the jobs that have one of these values in a stamp of that name, now and in the time to come."""
    for name, values in stamps.items():
        for value in values:
            _remember(connection, name, value, actor)
    found = connection.execute(_STAMPED, {"stamps": Jsonb({name: list(values) for name, values in stamps.items()})})
    cancelled = [_cancel(connection, each, actor, reason, age) for each in found.scalars().all()]
    return [each for each in cancelled if each is not None]


def forget(connection: Connection, older_than: timedelta = KEPT) -> int:
    """Delete what is remembered for longer; returns how many."""
    return connection.execute(_FORGET, {"age": older_than}).rowcount


def _cancel(connection: Connection, named: UUID, actor: str, reason: str, age: timedelta) -> Cancelled | None:
    why = {"actor": actor, "reason": reason, "age": age, **origin_parameter(BY_REMOTE_CONTROL)}
    row = connection.execute(_CANCEL, {"named": named, **why}).first()
    return cancelled_row(row) if row is not None else None


def _remember(connection: Connection, name: str, value: Any, actor: str) -> None:
    connection.execute(_REMEMBER, {"stamp": name, "value": Jsonb(value), "actor": actor})


# A worker may hear of a revocation, or reach the database, after a person has retried the job.
_CANCEL = cancelling(
    f"""id = :named
        AND NOT EXISTS (SELECT FROM history WHERE history.job_id = jobs.id AND event = '{Event.RETRIED}'
                        AND {in_life("jobs")} AND at > clock_timestamp() - CAST(:age AS interval))""",
    ORIGIN,
)

_UNKNOWN = text(
    """
    SELECT wanted.id FROM unnest(CAST(:ids AS uuid[])) AS wanted (id)
    WHERE NOT EXISTS (SELECT FROM jobs WHERE jobs.id = wanted.id)"""
)

_STAMPED = text(
    f"""
    SELECT id FROM jobs
    WHERE status IN ({listed(ACTIVE)})
      AND EXISTS (SELECT FROM jsonb_each(CAST(:stamps AS jsonb)) AS asked (name, values),
                              jsonb_array_elements(asked.values) AS wanted (value)
                  WHERE delivery -> 'stamps' -> asked.name @> wanted.value)
    ORDER BY created_at, id"""
)

_REMEMBER = text(
    """
    INSERT INTO revocations (stamp, value, revoked_by) VALUES (:stamp, :value, :actor)
    ON CONFLICT (stamp, value) DO UPDATE SET revoked_at = clock_timestamp(), revoked_by = excluded.revoked_by"""
)

_FORGET = text("DELETE FROM revocations WHERE revoked_at < clock_timestamp() - CAST(:age AS interval)")
