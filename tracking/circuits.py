"""The circuit breaker of each job type: after too many failures in a row its jobs wait, and one of them tries first.

A type without a row is closed. Failures are counted from the history, not in a counter; whether the probe was a
success is read from its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, select, text

from tracking.schema import ENDED_BY_BODY, circuits


@dataclass(frozen=True, slots=True)
class Circuit:
    """A circuit that is not closed: open until `probe_at`, then half open while the job `probe_id` tries."""

    job_type: str
    failures: int
    pause: timedelta
    opened_at: datetime
    probe_at: datetime
    probe_id: UUID | None


def trip(connection: Connection, job_type: str, *, failures: int, pause: timedelta) -> bool:
    """Open the circuit when the last `failures` attempts of this type have all failed. False when not, or open."""
    parameters = {"job_type": job_type, "failures": failures, "pause": pause}
    return connection.execute(TRIP, parameters).first() is not None


def judge(connection: Connection) -> list[str]:
    """Close the circuits whose probe has succeeded, and return their types; keep those open whose probe has failed."""
    return list(connection.execute(JUDGE).scalars())


def probe(connection: Connection) -> list[UUID]:
    """For each circuit that has been open long enough, name the job that may try; returns these jobs."""
    return list(connection.execute(PROBE).scalars())


def opened(connection: Connection) -> Sequence[Circuit]:
    """All circuits that are not closed."""
    return [Circuit(**row._mapping) for row in connection.execute(select(circuits))]  # noqa: SLF001 - a public name


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

# A probe that was cancelled or removed has not tried: another one may, at once.
JUDGE = text(
    """
    WITH judged AS (
        SELECT circuits.job_type, probe.status,
               probe.status = 'failed' OR probe.hold = 'backoff' AS has_failed,
               probe.status IS NULL OR probe.status = 'cancelled' AS is_void
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

PROBE = text(
    """
    UPDATE circuits SET probe_id = (SELECT id FROM jobs
                                    WHERE hold = 'circuit' AND jobs.job_type = circuits.job_type
                                    ORDER BY priority DESC, created_at, id LIMIT 1)
    WHERE probe_id IS NULL AND probe_at <= clock_timestamp()
      AND EXISTS (SELECT FROM jobs WHERE hold = 'circuit' AND jobs.job_type = circuits.job_type)
    RETURNING probe_id"""
)
