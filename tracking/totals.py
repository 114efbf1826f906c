"""What has happened so far, in numbers that only grow: jobs created and ended, how long they waited and ran.

The leader counts the rows of the history, each once: where it is stands in the transaction of what it has counted. So
nothing is counted where jobs are run, a restart loses nothing, and all who ask get the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, text

from tracking.sql import in_life, listed
from tracking.states import FINISHED, IN_LINE, Event, Status

# Seconds: from what is at once to what takes a night. Those of stored rows are in the rows.
BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, math.inf)
MOST_PAIRS = 200  # of a type and a queue that are told apart
OTHERS = "(others)"  # the type and the queue of all further ones


class Measure(StrEnum):
    """What is counted. WAITED and RAN have seconds, in buckets."""

    CREATED = "created"
    ENDED = "ended"
    ATTEMPTS = "attempts"
    REFUSED = "refused"
    WAITED = "waited"
    RAN = "ran"


class Ended(StrEnum):
    """How an attempt ended. LOST: its worker died, or its handler gave it up; RELEASED: it was handed back."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "retried"
    CANCELLED = "cancelled"
    LOST = "lost"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Total:
    """A number of one type in one queue. `outcome`: of ENDED a status, of ATTEMPTS an Ended, of REFUSED the reason.

    `up_to`: seconds, the upper bound of a bucket; `number` is that bucket's alone.
    """

    measure: Measure
    job_type: str
    queue: str
    outcome: str
    up_to: float
    number: int
    seconds: float


def count(connection: Connection, until: int, *, most: int) -> bool:
    """Count at most `most` further rows of the history, up to this id; whether there are more.

    `until`: every row up to it is committed. Wants a transaction, and has others wait who count at the same time. The
    first call only begins: it counts nothing that was there before.
    """
    position = connection.execute(POSITION).scalar()
    if position is None:
        connection.execute(BEGIN, {"until": until})
        return False
    if position >= until:
        return False
    row = connection.execute(COUNT, {"after": position, "until": until, "most": most, "pairs": MOST_PAIRS}).one()
    has_more: bool = row.number >= most
    connection.execute(ADVANCE, {"to": row.last if has_more else until})
    return has_more


def read(connection: Connection) -> Sequence[Total]:
    """Each total as it was counted last."""
    rows = connection.execute(TOTALS)
    return [Total(Measure(row.measure), *row[1:]) for row in rows]


def uncounted(connection: Connection) -> int:
    """How many rows of the history, about, are still to be counted."""
    return int(connection.execute(UNCOUNTED).scalar() or 0)


POSITION = text("SELECT history_id FROM totals_position FOR UPDATE")
BEGIN = text("INSERT INTO totals_position (history_id) VALUES (:until) ON CONFLICT DO NOTHING")
ADVANCE = text("UPDATE totals_position SET history_id = :to, moved_at = clock_timestamp()")
TOTALS = text("SELECT measure, job_type, queue, outcome, up_to, number, seconds FROM totals")
UNCOUNTED = text(
    "SELECT greatest(coalesce(pg_sequence_last_value('history_id_seq'), 0) - history_id, 0) FROM totals_position"
)

_ENDS = (Event.COMPLETED, Event.FAILED, Event.CANCELLED)
_COUNTED = (Event.CREATED, Event.STARTED, *_ENDS, Event.RELEASED, Event.DUPLICATE_REFUSED)
_BOUNDS = ", ".join(f"'{bound}'" for bound in BOUNDS)

_ENDS_AN_ATTEMPT = f"from_status = '{Status.RUNNING}' AND to_status <> '{Status.RUNNING}'"

# Since when a job could run that has started: it was created, handed back or retried, or what it waited for was over. A
# line for a slot, or under a limit, is no such wait: it is what people wait for.
_COULD_RUN = f"""(event IN ({listed((Event.CREATED, Event.RELEASED, Event.RETRIED))})
                       OR event = '{Event.DUE}' AND coalesce(detail ->> 'hold', '') NOT IN ({listed(IN_LINE)}))"""

# Each job is looked up by itself: however few there are, the plan must not read all of them.
COUNT = text(
    f"""
    WITH chunk AS MATERIALIZED (
        SELECT id, job_id, job_type, event, from_status, to_status, detail, at
        FROM history WHERE id > :after AND id <= :until ORDER BY id LIMIT :most
    ), happened AS (
        SELECT chunk.*, coalesce(queue, '') AS queue, created_at
        FROM chunk LEFT JOIN LATERAL (
            SELECT queue, created_at FROM jobs WHERE jobs.id = chunk.job_id LIMIT 1
        ) AS job ON true
        WHERE event IN ({listed(_COUNTED)})
    ), measured AS MATERIALIZED (
        SELECT job_type, queue, found.*
        FROM happened LEFT JOIN LATERAL (
            SELECT greatest(extract(EPOCH FROM happened.at - at), 0) AS seconds
            FROM history AS earlier
            WHERE happened.event = '{Event.STARTED}' AND earlier.job_id = happened.job_id AND id < happened.id
              AND {in_life("happened")} AND {_COULD_RUN}
            ORDER BY id DESC LIMIT 1
        ) AS waited ON true
        CROSS JOIN LATERAL (VALUES
            (CASE event WHEN '{Event.CREATED}' THEN '{Measure.CREATED}' END, '', NULL),
            (CASE WHEN to_status IN ({listed(FINISHED)}) AND event IN ({listed(_ENDS)}) THEN '{Measure.ENDED}' END,
             to_status, NULL),
            (CASE WHEN {_ENDS_AN_ATTEMPT} THEN '{Measure.ATTEMPTS}' END,
             CASE WHEN detail -> 'lost' IS NOT NULL THEN '{Ended.LOST}'
                  WHEN event = '{Event.COMPLETED}' THEN '{Ended.SUCCEEDED}'
                  WHEN event = '{Event.CANCELLED}' THEN '{Ended.CANCELLED}'
                  WHEN event = '{Event.RELEASED}' THEN '{Ended.RELEASED}'
                  WHEN to_status = '{Status.RETRYING}' THEN '{Ended.RETRIED}'
                  ELSE '{Ended.FAILED}' END, NULL),
            (CASE event WHEN '{Event.DUPLICATE_REFUSED}' THEN '{Measure.REFUSED}' END, detail ->> 'reason', NULL),
            (CASE WHEN waited.seconds IS NOT NULL THEN '{Measure.WAITED}' END, '', waited.seconds),
            (CASE WHEN from_status = '{Status.RUNNING}' AND detail -> 'duration' IS NOT NULL THEN '{Measure.RAN}' END,
             '', greatest(CAST(detail ->> 'duration' AS numeric) / 1000, 0))
        ) AS found (measure, outcome, seconds)
        WHERE measure IS NOT NULL
    ), known AS MATERIALIZED (
        SELECT DISTINCT job_type, queue FROM totals
    ), pairs AS (
        SELECT job_type, queue, is_known IS NOT NULL
               OR (SELECT count(*) FROM known)
                  + count(*) FILTER (WHERE is_known IS NULL) OVER (ORDER BY job_type, queue)
                  <= CAST(:pairs AS int) AS is_told
        FROM (SELECT DISTINCT job_type, queue FROM measured) AS seen
        LEFT JOIN (SELECT *, true AS is_known FROM known) AS known USING (job_type, queue)
    ), added AS (
        INSERT INTO totals (measure, job_type, queue, outcome, up_to, number, seconds)
        SELECT measure, CASE WHEN is_told THEN job_type ELSE '{OTHERS}' END,
               CASE WHEN is_told THEN queue ELSE '{OTHERS}' END, coalesce(outcome, ''),
               CASE WHEN seconds IS NULL THEN 'Infinity' ELSE (
                   SELECT min(bound) FROM unnest(CAST(ARRAY[{_BOUNDS}] AS double precision[])) AS bound
                   WHERE bound >= seconds) END,
               count(*), coalesce(sum(seconds), 0)
        FROM measured JOIN pairs USING (job_type, queue)
        GROUP BY 1, 2, 3, 4, 5
        ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (measure, job_type, queue, outcome, up_to) DO UPDATE
        SET number = totals.number + excluded.number, seconds = totals.seconds + excluded.seconds
    )
    SELECT count(*) AS number, max(id) AS last FROM chunk"""
)
