"""The circuit breaker of each job type: after too many failures in a row its jobs wait, and one of them tries first.

A type without a row is closed. Failures are counted from the history, not in a counter; whether the probe was a
success is read from its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, func, or_, select, text

from tracking.admission import Limits
from tracking.rule import is_paused, limit_of, room_of
from tracking.schema import ENDED_BY_BODY, circuits


@dataclass(frozen=True, slots=True)
class Circuit:
    """A circuit that is not closed: open until `probe_at`, then half open until the job `probe_id` has tried."""

    job_type: str
    failures: int
    pause: timedelta
    opened_at: datetime
    probe_at: datetime
    probe_id: UUID | None
    is_half_open: bool

    @property
    def state(self) -> Literal["open", "half_open"]:
        """Which of the two."""
        return "half_open" if self.is_half_open else "open"


def trip(connection: Connection, job_type: str, *, failures: int, pause: timedelta) -> bool:
    """Open the circuit when the last `failures` attempts of this type have all failed. False when not, or open."""
    parameters = {"job_type": job_type, "failures": failures, "pause": pause}
    return connection.execute(TRIP, parameters).first() is not None


def judge(connection: Connection) -> list[str]:
    """Close the circuits whose probe has succeeded, and return their types; keep those open whose probe has failed."""
    return list(connection.execute(JUDGE).scalars())


def probe(connection: Connection, limits: Limits) -> list[UUID]:
    """For each circuit that has been open long enough, name the job that may try; returns these jobs.

    It is one that nothing else holds: not paused, and its organization has a free slot.
    """
    return list(connection.execute(PROBE, limits.parameters).scalars())


def opened(connection: Connection, job_type: str | None = None) -> Sequence[Circuit]:
    """The circuits that are not closed, of one type or of all."""
    is_half_open = or_(circuits.c.probe_id.is_not(None), circuits.c.probe_at <= func.clock_timestamp())
    statement = select(circuits, is_half_open.label("is_half_open"))
    found = statement if job_type is None else statement.where(circuits.c.job_type == job_type)
    return [Circuit(**row._mapping) for row in connection.execute(found)]  # noqa: SLF001 - a public name


TRIP = text(
    f"""
    INSERT INTO circuits (job_type, failures, pause, probe_at)
    SELECT :job_type, :failures, :pause, clock_timestamp() + CAST(:pause AS interval)
    FROM (SELECT event FROM history WHERE job_type = :job_type AND {ENDED_BY_BODY} ORDER BY id DESC LIMIT :failures)
         AS latest
    HAVING count(*) FILTER (WHERE event = 'failed') = :failures
    ON CONFLICT DO NOTHING
    RETURNING job_type"""
)

# A probe that was cancelled or removed, or has to wait for something else, has not tried: another one may, at once.
# For its slot it waits a moment, between the lifting of its hold and the giving away of slots.
JUDGE = text(
    """
    WITH judged AS (
        SELECT circuits.job_type, probe.status,
               probe.status = 'failed' OR probe.hold = 'backoff' AS has_failed,
               probe.status IS NULL OR probe.status = 'cancelled' OR probe.hold = 'paused'
               OR probe.hold = 'organization_limit' AND probe.updated_at < clock_timestamp() - interval '5 seconds'
                   AS is_void
        FROM circuits LEFT JOIN jobs AS probe ON probe.id = circuits.probe_id
        WHERE circuits.probe_id IS NOT NULL
        FOR UPDATE OF circuits
    ), kept AS (
        UPDATE circuits
        SET probe_id = NULL,
            opened_at = CASE WHEN has_failed THEN clock_timestamp() ELSE opened_at END,
            probe_at = CASE WHEN has_failed THEN clock_timestamp() + pause ELSE probe_at END
        FROM judged
        WHERE circuits.job_type = judged.job_type AND (has_failed OR is_void)
    )
    DELETE FROM circuits USING judged
    WHERE circuits.job_type = judged.job_type AND judged.status = 'succeeded'
    RETURNING circuits.job_type"""
)

_CANDIDATES = f"""
    SELECT id FROM jobs AS held
    WHERE hold = 'circuit' AND held.job_type = circuits.job_type AND NOT {is_paused("held")}
      AND ({limit_of("held.organization_id")} = 0 OR {room_of("held.organization_id")} > 0)
    ORDER BY priority DESC, created_at, id LIMIT 1"""

PROBE = text(
    f"""
    WITH named AS (
        SELECT circuits.job_type, candidate.id
        FROM circuits CROSS JOIN LATERAL ({_CANDIDATES}) AS candidate
        WHERE probe_id IS NULL AND probe_at <= clock_timestamp()
    )
    UPDATE circuits SET probe_id = named.id FROM named
    WHERE circuits.job_type = named.job_type AND probe_id IS NULL
    RETURNING probe_id"""
)
