"""The circuit breakers: after too many failures in a row the jobs of a circuit wait, and one of them tries first.

A circuit is that of a job type in one organization, for each key that the type's handler names for its jobs: the host
of a receiver, say. While the circuits of several organizations are open, one for all of them may be open too. A
circuit without a row is closed. Failures are counted from the history, not in a counter, and what was the payload's own
fault is not among them; whether a probe was a success is read from its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, func, or_, select, text

from tracking.admission.first import has_place, pools_of
from tracking.admission.rule import EVERYBODY, Limits, distinct, has_own_room, is_broken, is_paused
from tracking.columns import columns_of
from tracking.schema import circuits
from tracking.sql import in_life

SEVERAL = 2  # organizations with an open circuit, from which on the circuit for all opens
FORGOTTEN_AFTER = timedelta(days=1)  # of a circuit that no waiting job could probe


@dataclass(frozen=True, slots=True)
class Circuit:
    """A circuit that is not closed: open until `probe_at`, then half open until the job `probe_id` has tried."""

    job_type: str
    organization_id: str
    key: str
    failures: int
    pause: timedelta
    opened_at: datetime
    probe_at: datetime
    probe_id: UUID | None
    turn: str | None
    is_half_open: bool

    @property
    def everywhere(self) -> bool:
        """Whether it holds the jobs of all organizations."""
        return self.organization_id == EVERYBODY

    @property
    def state(self) -> Literal["open", "half_open"]:
        return "half_open" if self.is_half_open else "open"


def trip(connection: Connection, job_id: UUID, *, failures: int, pause: timedelta) -> Circuit | None:
    """Open the circuit of a job when the last `failures` attempts in it have all failed; None when not, or open.

    A failure opens it in its own transaction (`open_circuit`), which does not see those that are written at the same
    moment: this does, after its commit.
    """
    row = connection.execute(TRIP, {"job_id": job_id, "failures": failures, "pause": pause}).first()
    if row is None:
        return None
    spread(connection, row.job_type, row.key)
    return Circuit(**row._mapping)  # noqa: SLF001 - a public name


def spread(connection: Connection, job_type: str, key: str) -> None:
    """Open the circuit for all when those of several organizations are open: after one of them has opened.

    In a later transaction: of two processes that open the first circuits of their organizations at once, the later one
    sees both.
    """
    connection.execute(SPREAD, {"job_type": job_type, "key": key})


def judge(connection: Connection) -> list[str]:
    """Close the circuits whose probe has succeeded, and return their types; keep those open whose probe has failed."""
    return list(connection.execute(JUDGE, {"several": SEVERAL, "forgotten_after": FORGOTTEN_AFTER}).scalars())


def probe(connection: Connection, limits: Limits) -> list[UUID]:
    """For each circuit that has been open long enough, name the job that may try; returns these jobs.

    Nothing else holds that job: it is not paused, and its organization has a free slot. For the circuit for all, the
    organizations take turns. Within one, the job with the fewest attempts is next, then the most urgent: so a job that
    always fails is not the only one to try.
    """
    return list(connection.execute(PROBE, limits.parameters).scalars())


def opened(
    connection: Connection, organization_id: str, job_type: str | None = None, key: str | None = None
) -> Sequence[Circuit]:
    """The circuits that are not closed and hold jobs of this organization; of one type, and one key, or of all."""
    is_half_open = or_(circuits.c.probe_id.is_not(None), circuits.c.probe_at <= func.clock_timestamp())
    found = select(circuits, is_half_open.label("is_half_open")).where(
        circuits.c.organization_id.in_((organization_id, EVERYBODY))
    )
    for column, value in ((circuits.c.job_type, job_type), (circuits.c.key, key)):
        found = found if value is None else found.where(column == value)
    return [Circuit(**row._mapping) for row in connection.execute(found)]  # noqa: SLF001 - a public name


_FAILURES = "CAST(:failures AS int)"


def open_circuit(failed: str) -> str:
    """SQL: the INSERT of the circuit of `failed`, a job whose failure is about to be in the history as `counts_in`.

    It is for a breaker of `:failures` and `:pause`, and does nothing when they are null.
    """
    return _opening(failed, "counts_in", f"{_FAILURES} - 1")


def _opening(failed: str, key: str, number: str) -> str:
    """When the newest entries of the history, so many, are failures."""
    return f"""
        INSERT INTO circuits (job_type, organization_id, key, failures, pause, probe_at)
        SELECT {failed}.job_type, {failed}.organization_id, {failed}.{key}, {_FAILURES}, CAST(:pause AS interval),
               clock_timestamp() + CAST(:pause AS interval)
        FROM {failed}
        WHERE {_FAILURES} > 0 AND {failed}.{key} IS NOT NULL
          AND (SELECT count(*) FILTER (WHERE event = 'failed')
               FROM (SELECT event FROM history
                     WHERE history.job_type = {failed}.job_type AND history.organization_id = {failed}.organization_id
                       AND history.circuit_key = {failed}.{key}
                     ORDER BY history.id DESC LIMIT {number}) AS latest) = {number}
        ON CONFLICT DO NOTHING
        RETURNING {columns_of(circuits)}, false AS is_half_open"""


TRIP = text(
    f"""
    WITH tried AS (SELECT * FROM jobs WHERE id = :job_id)
    {_opening("tried", "circuit_key", _FAILURES)}"""
)

# Only when a circuit opens: after the first success of any job, circuits that are still open do not open the one for
# all again.
SPREAD = text(
    f"""
    INSERT INTO circuits (job_type, organization_id, key, failures, pause, probe_at)
    SELECT job_type, '{EVERYBODY}', key, max(failures), max(pause), max(probe_at)
    FROM circuits
    WHERE job_type = :job_type AND key = :key AND organization_id <> '{EVERYBODY}'
    GROUP BY job_type, key
    HAVING count(*) >= {SEVERAL}
    ON CONFLICT DO NOTHING"""
)

_SAME = "{other}.job_type = circuits.job_type AND {other}.key = circuits.key"
_HAS_FAILED = "(probe.status = 'failed' OR probe.hold = 'backoff')"

# Whether the end of a probe's last attempt counts: a failure that was its payload's fault says nothing.
_COUNTS = f"""EXISTS (SELECT FROM history
                     WHERE history.job_id = probe.id AND {in_life("probe")} AND history.attempt = probe.attempt
                       AND history.event = 'failed' AND history.circuit_key IS NOT NULL)"""

# A probe that was cancelled or removed, failed by its own fault, or has to wait for something else, has not tried:
# another one may, at once. A probe normally spends a moment in the organization's line; only after some seconds there
# is it given up.
JUDGE = text(
    f"""
    WITH judged AS (
        SELECT circuits.job_type, circuits.organization_id, circuits.key,
               probe.status = 'succeeded' AS has_succeeded,
               {_HAS_FAILED} AND {_COUNTS} AS has_failed,
               probe.status IS NULL OR probe.status = 'cancelled' OR {_HAS_FAILED} OR probe.hold = 'paused'
               OR probe.hold = 'circuit' AND {is_broken("probe")}
               OR probe.hold = 'organization_limit' AND probe.updated_at < clock_timestamp() - interval '5 seconds'
                   AS is_over
        FROM circuits LEFT JOIN jobs AS probe ON probe.id = circuits.probe_id
        WHERE circuits.probe_id IS NOT NULL
        FOR UPDATE OF circuits
    ), kept AS (
        UPDATE circuits
        SET probe_id = NULL,
            opened_at = CASE WHEN has_failed THEN clock_timestamp() ELSE opened_at END,
            probe_at = CASE WHEN has_failed THEN clock_timestamp() + pause ELSE probe_at END
        FROM judged
        WHERE {_SAME.format(other="judged")} AND judged.organization_id = circuits.organization_id AND is_over
          AND has_succeeded IS NOT TRUE
    ), closed AS (
        SELECT job_type, organization_id, key FROM judged WHERE has_succeeded
    )
    DELETE FROM circuits
    WHERE (circuits.job_type, circuits.organization_id, circuits.key) IN (SELECT * FROM closed)
       OR circuits.organization_id = '{EVERYBODY}'
          AND (SELECT count(*) FROM circuits AS one
               WHERE {_SAME.format(other="one")} AND one.organization_id <> '{EVERYBODY}'
                 AND (one.job_type, one.organization_id, one.key) NOT IN (SELECT * FROM closed)) < :several
       OR circuits.probe_id IS NULL AND circuits.probe_at < clock_timestamp() - CAST(:forgotten_after AS interval)
          AND NOT EXISTS (SELECT FROM jobs AS held
                          WHERE held.hold = 'circuit' AND held.job_type = circuits.job_type
                            AND held.circuit_key = circuits.key
                            AND circuits.organization_id IN (held.organization_id, '{EVERYBODY}'))
    RETURNING circuits.job_type"""
)

_GROUP = ("organization_id", "job_type", "queue", "circuit_key")

# Whether there is room is asked once for what waits in one queue, and of no more organizations than it takes: of each
# job it would cost more than a statement may take, so that nobody behind the circuit would ever try.
_CANDIDATES = f"""
    SELECT held.id, held.organization_id FROM (
        SELECT first.* FROM behind
        CROSS JOIN LATERAL unnest(organizations, queues) AS groups (organization_id, queue)
        CROSS JOIN LATERAL (
            SELECT id, organization_id, job_type, queue, attempt, priority, created_at FROM jobs AS held
            WHERE held.hold = 'circuit' AND held.organization_id = groups.organization_id
              AND held.job_type = behind.job_type AND held.queue = groups.queue
              AND held.circuit_key = behind.circuit_key
            ORDER BY attempt, priority DESC, created_at, id
            LIMIT 1) AS first
        WHERE behind.job_type = circuits.job_type AND behind.circuit_key = circuits.key
          AND circuits.organization_id IN (groups.organization_id, '{EVERYBODY}')
          AND NOT EXISTS (SELECT FROM circuits AS own
                          WHERE {_SAME.format(other="own")} AND own.organization_id = groups.organization_id
                            AND own.probe_id IS NOT NULL)
        ORDER BY first.organization_id <= coalesce(circuits.turn, ''), first.organization_id,
                 first.attempt, first.priority DESC, first.created_at, first.id
        OFFSET 0) AS held
    WHERE NOT {is_paused("held")} AND {has_own_room("held.organization_id")}
      AND (SELECT {has_place("held.organization_id", "pools")} FROM pools WHERE pools.queue = held.queue)
    LIMIT 1"""

# While the circuit for all is open, only that one has a probe: it decides for its organization's circuit as well.
PROBE = text(
    f"""
    WITH RECURSIVE {distinct("groups", _GROUP, "hold = 'circuit'")}, {pools_of("groups")}, behind AS MATERIALIZED (
        SELECT job_type, circuit_key, array_agg(organization_id) AS organizations, array_agg(queue) AS queues
        FROM groups GROUP BY job_type, circuit_key
    ), named AS (
        SELECT circuits.job_type, circuits.key, circuits.organization_id AS whose, candidate.*
        FROM circuits CROSS JOIN LATERAL ({_CANDIDATES}) AS candidate
        WHERE probe_id IS NULL AND probe_at <= clock_timestamp()
          AND (circuits.organization_id = '{EVERYBODY}'
               OR NOT EXISTS (SELECT FROM circuits AS every
                              WHERE {_SAME.format(other="every")} AND every.organization_id = '{EVERYBODY}'))
    ), tries AS (
        UPDATE circuits
        SET probe_id = named.id, turn = CASE circuits.organization_id WHEN '{EVERYBODY}' THEN named.organization_id END
        FROM named
        WHERE {_SAME.format(other="named")} AND circuits.organization_id IN (named.whose, named.organization_id)
          AND probe_id IS NULL
        RETURNING probe_id
    )
    SELECT DISTINCT probe_id FROM tries"""
)
