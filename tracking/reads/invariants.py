"""What must be true of the rows at every instant, asked of a live database without changing or locking anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Uuid, column, func, select, text
from sqlalchemy.exc import OperationalError

from tracking.admission.rule import Limits
from tracking.db import Database, is_too_slow
from tracking.models import Scope
from tracking.reads import lists
from tracking.reads.answers import Stats
from tracking.schema import jobs
from tracking.states import ACTIVE, FINISHED, MOVES, Event, Status

EXAMPLES = 5
CHECK_TIMEOUT = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    `guarantee` is the number of the promise that it belongs to. `violations` counts the jobs that break it (the
    organizations, for `stats`); None means that the check did not finish in its time. `examples` are the first few ids.
    """

    name: str
    guarantee: int
    sentence: str
    violations: int | None
    examples: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether it was checked and nothing breaks it."""
        return self.violations == 0


def verify(database: Database, limits: Limits, *, timeout: timedelta = CHECK_TIMEOUT) -> Iterator[Finding]:
    """Check every invariant on one consistent snapshot, read-only; each check may take `timeout`.

    `limits`: those of the organizations that have none of their own.

    The database sorts what is large on its own disk, so that neither side needs memory for the whole history. The
    statement timeout of `database` must be the longer one, or its end of patience ends the verification with
    OperationalError.
    """
    with database.engine.connect() as connection:
        snapshot = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with snapshot.begin():
            _set(snapshot, max_parallel_workers_per_gather="0")  # jobs need the other cores
            for check in CHECKS:
                yield _run(snapshot, check, timeout, limits)


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant: `find` returns how many break it and the first few of them, or raises TimeoutError."""

    name: str
    guarantee: int
    sentence: str
    find: Callable[[Connection, timedelta, Limits], tuple[int, tuple[str, ...]]]


def _run(snapshot: Connection, check: Check, timeout: timedelta, limits: Limits) -> Finding:
    about = (check.name, check.guarantee, check.sentence)
    savepoint = snapshot.begin_nested()
    try:
        _set(snapshot, statement_timeout=str(max(1, round(timeout / timedelta(milliseconds=1)))))
        violations, examples = check.find(snapshot, timeout, limits)
    except TimeoutError:
        return Finding(*about, violations=None)
    except OperationalError as error:
        if not is_too_slow(error):
            raise
        return Finding(*about, violations=None)
    finally:
        if savepoint.is_active:
            savepoint.rollback()  # takes back the check's own settings, and ends what a time-out has spoilt
    return Finding(*about, violations, examples)


def _set(connection: Connection, **options: str) -> None:
    for name, value in options.items():
        connection.execute(select(func.set_config(name, value, True)))  # noqa: FBT003 - "local", by position only


def _broken_jobs(
    connection: Connection, _timeout: timedelta, limits: Limits, *, sql: str
) -> tuple[int, tuple[str, ...]]:
    broken = text(sql).columns(column("job_id", Uuid)).subquery("broken")
    once = select(broken.c.job_id).distinct().subquery("once")
    found = select(once.c.job_id, func.count().over()).order_by(once.c.job_id).limit(EXAMPLES)
    rows = connection.execute(found, {**PARAMETERS, **limits.parameters}).all()
    return (rows[0][1] if rows else 0), tuple(str(row.job_id) for row in rows)


def _wrong_stats(connection: Connection, timeout: timedelta, _limits: Limits) -> tuple[int, tuple[str, ...]]:
    """Compare what the API would answer, read through the indexes, with a count of the table itself."""
    deadline = time.monotonic() + timeout.total_seconds()
    _set(connection, enable_indexscan="off", enable_indexonlyscan="off", enable_bitmapscan="off")
    violations, examples = 0, list[str]()
    with connection.execute(_COUNTED) as counted:
        _set(connection, enable_indexscan="on", enable_bitmapscan="on", enable_seqscan="off")
        for row in counted:
            if time.monotonic() > deadline:
                raise TimeoutError
            if _counts(lists.stats(connection, Scope(row.organization_id, None))) != tuple(row[1:]):
                violations += 1
                examples += [row.organization_id] if len(examples) < EXAMPLES else []
    return violations, tuple(examples)


def _counts(stats: Stats) -> tuple[int, ...]:
    queued = stats.total_active - stats.running - stats.retrying
    return (queued, stats.running, stats.retrying, stats.completed, stats.failed, stats.cancelled, stats.held)


def _count(status: Status) -> Any:
    recently = jobs.c.status.in_(ACTIVE) | (jobs.c.completed_at > func.now() - lists.RECENT_WINDOW)
    return func.count().filter(jobs.c.status == status, recently)


_COUNTED = (
    select(
        jobs.c.organization_id,
        *(_count(status) for status in Status),
        func.count().filter(jobs.c.hold.is_not(None), ~jobs.c.external),
    )
    .group_by(jobs.c.organization_id)
    .execution_options(yield_per=1000)  # organizations at a time
)

PARAMETERS = {
    "finished": [str(status) for status in FINISHED],
    "moving": [str(Event.CREATED), *sorted({str(move.event) for move in MOVES})],
    "moves": [f"{move.source} {move.target} {move.event}" for move in MOVES],
}

CREATED_ONCE = """
    SELECT id AS job_id FROM jobs
    LEFT JOIN (SELECT job_id, count(*) AS times FROM history WHERE event = 'created' GROUP BY job_id) AS created
           ON created.job_id = jobs.id
    WHERE times IS DISTINCT FROM 1"""

# The history of a job that was kept for a week or longer may stay for a while after its removal.
NOT_LOST = """
    SELECT job_id FROM history
    WHERE NOT EXISTS (SELECT FROM jobs WHERE jobs.id = history.job_id)
    GROUP BY job_id
    HAVING (array_agg(to_status ORDER BY id DESC))[1] <> ALL(:finished)
        OR max(at) FILTER (WHERE from_status IS DISTINCT FROM to_status) > now() - interval '7 days'"""

KEYS = """
    SELECT id AS job_id
    FROM (SELECT id, count(*) OVER (PARTITION BY organization_id, user_id, idempotency_key) AS sharing
          FROM jobs WHERE idempotency_key IS NOT NULL) AS keyed
    WHERE sharing > 1"""

PATH = """
    SELECT job_id
    FROM (SELECT job_id, from_status, lag(to_status) OVER (PARTITION BY job_id ORDER BY id) AS before
          FROM history) AS steps
    WHERE from_status IS DISTINCT FROM before"""

LEGAL_MOVES = """
    SELECT job_id FROM history
    WHERE CASE
        WHEN from_status IS NULL THEN (event, to_status) <> ('created', 'queued')
        WHEN from_status = to_status THEN event = ANY(:moving)
        ELSE concat_ws(' ', from_status, to_status, event) <> ALL(:moves)
    END"""

STATUS = """
    SELECT jobs.id AS job_id
    FROM jobs, LATERAL (SELECT to_status FROM history WHERE job_id = jobs.id ORDER BY id DESC LIMIT 1) AS last
    WHERE jobs.status <> last.to_status"""

ONE_END = """
    SELECT job_id FROM history
    WHERE from_status = 'running' AND to_status <> 'running'
    GROUP BY job_id, attempt HAVING count(*) > 1
    UNION ALL
    SELECT job_id FROM history
    WHERE to_status = ANY(:finished) AND from_status <> to_status
    GROUP BY job_id, dispatch HAVING count(*) > 1"""

ATTEMPTS = """
    SELECT job_id
    FROM (SELECT job_id, attempt, row_number() OVER (PARTITION BY job_id ORDER BY id) AS place
          FROM history WHERE event = 'started') AS claims
    WHERE attempt <> place
    UNION ALL
    SELECT id FROM jobs
    LEFT JOIN (SELECT job_id, count(*) AS times FROM history WHERE event = 'started' GROUP BY job_id) AS claims
           ON claims.job_id = jobs.id
    WHERE jobs.attempt <> coalesce(times, 0)"""

FENCE = """
    SELECT job_id
    FROM (SELECT job_id, count(*) OVER (PARTITION BY job_id, dispatch) AS sharing
          FROM history WHERE event = 'started') AS claims
    WHERE sharing > 1
    UNION ALL
    SELECT job_id
    FROM (SELECT job_id, dispatch, lag(dispatch) OVER (PARTITION BY job_id ORDER BY id) AS before
          FROM history) AS steps
    WHERE dispatch < before
    UNION ALL
    SELECT job_id FROM history AS ended
    WHERE from_status = 'running' AND to_status <> 'running'
      AND NOT EXISTS (SELECT FROM history AS claim
                      WHERE claim.event = 'started' AND claim.job_id = ended.job_id
                        AND claim.attempt = ended.attempt AND claim.dispatch = ended.dispatch)
    UNION ALL
    SELECT id FROM jobs
    WHERE status = 'running'
      AND NOT EXISTS (SELECT FROM history AS claim
                      WHERE claim.event = 'started' AND claim.job_id = jobs.id
                        AND claim.attempt = jobs.attempt AND claim.dispatch = jobs.dispatch)"""

CANCELLED = """
    SELECT job_id
    FROM (SELECT job_id, event,
                 count(*) FILTER (WHERE event = 'cancelled') OVER past
                 - count(*) FILTER (WHERE event = 'retried' AND from_status = 'cancelled') OVER past AS in_force
          FROM history WHERE event IN ('started', 'cancelled', 'retried')
          WINDOW past AS (PARTITION BY job_id ORDER BY id)) AS steps
    WHERE event = 'started' AND in_force > 0
    UNION ALL
    SELECT id FROM jobs WHERE cancel_requested_at < started_at"""

PROGRESS = """
    SELECT job_id
    FROM (SELECT job_id, percentage, lag(percentage) OVER (PARTITION BY job_id, attempt ORDER BY id) AS before
          FROM (SELECT id, job_id, attempt,
                       CASE jsonb_typeof(detail -> 'percentage')
                           WHEN 'number' THEN CAST(detail ->> 'percentage' AS numeric) END AS percentage
                FROM history WHERE event = 'progress') AS reports) AS steps
    WHERE percentage IS NULL OR percentage NOT BETWEEN 0 AND 99 OR percentage < before
    UNION ALL
    SELECT id FROM jobs WHERE progress NOT BETWEEN 0 AND 100 OR (progress = 100) <> (status = 'succeeded')"""

TIMES = """
    SELECT id AS job_id FROM jobs
    WHERE started_at < created_at OR completed_at < created_at OR completed_at < started_at
       OR (completed_at IS NULL) = (status = ANY(:finished)) OR status = 'running' AND started_at IS NULL
    UNION ALL
    SELECT job_id
    FROM (SELECT job_id, at, lag(at) OVER (PARTITION BY job_id ORDER BY id) AS before FROM history) AS steps
    WHERE at < before"""

# From here on the rules of admission are written a second time, from the tables and without tracking.admission, so that
# a mistake there shows here.
_ALIVE = "workers.seen_at > clock_timestamp() - CAST(:lease_timeout AS interval)"
_LONG_AGO = "now() - interval '1 minute'"

# What was started before the limit was last changed may go on.
LIMIT = """
    SELECT job_id
    FROM (SELECT id AS job_id, organization_id, started_at, count(*) OVER (PARTITION BY organization_id) AS executing
          FROM jobs WHERE (status = 'running' OR stopping) AND NOT external) AS bodies
    LEFT JOIN organizations ON organizations.id = organization_id
    WHERE executing > nullif(coalesce(concurrency, CAST(:limit AS int)), 0)
      AND started_at > coalesce(changed_at, '-infinity')"""

# While jobs of it are let through every other minute, a long line is in order. Without a worker that has lived for a
# minute no hold is lifted, and no held job would be run.
#
# `open`: the lines whose first job could be sent. A living worker consumes their queue, less of the organization's jobs
# are sent, running or stopping than its limit says, and its workers have a free slot; or the organization has nothing
# there that waits; or it has no limit, and no other organization has something that waits.
HELD = f"""
    WITH living AS MATERIALIZED (
        SELECT queues, concurrency, started_at FROM workers WHERE {_ALIVE}
    ), taken AS MATERIALIZED (
        SELECT organization_id, queue, hold IS NULL AND status IN ('queued', 'retrying') AS waits
        FROM jobs
        WHERE (hold IS NULL AND status IN ('queued', 'retrying') OR status = 'running' OR stopping) AND NOT external
    ), lines AS MATERIALIZED (
        SELECT waiting.*, coalesce(organizations.concurrency, CAST(:limit AS int)) AS most, slots, shared
        FROM (SELECT DISTINCT organization_id, queue FROM jobs WHERE hold = 'organization_limit') AS waiting
        LEFT JOIN organizations ON organizations.id = waiting.organization_id
        CROSS JOIN LATERAL (
            SELECT (SELECT sum(concurrency) FROM living WHERE waiting.queue = ANY(queues)) AS slots,
                   ARRAY(SELECT unnest(queues) FROM living WHERE waiting.queue = ANY(queues)) AS shared) AS served
    ), open AS (
        SELECT organization_id, queue FROM lines
        WHERE slots IS NOT NULL
          AND (most = 0 OR most > (SELECT count(*) FROM taken WHERE taken.organization_id = lines.organization_id))
          AND (slots > (SELECT count(*) FROM taken WHERE taken.queue = ANY(shared))
               OR NOT EXISTS (SELECT FROM taken WHERE waits AND taken.organization_id = lines.organization_id
                                                  AND taken.queue = ANY(shared))
               OR most = 0
                  AND NOT EXISTS (SELECT FROM taken WHERE waits AND taken.organization_id <> lines.organization_id)
                  AND NOT EXISTS (SELECT FROM lines AS other WHERE other.organization_id <> lines.organization_id))
    )
    SELECT id AS job_id FROM jobs AS held
    WHERE hold IS NOT NULL AND NOT external AND updated_at < {_LONG_AGO}
      AND EXISTS (SELECT FROM living WHERE started_at < {_LONG_AGO})
      AND CASE hold
          WHEN 'dependency' THEN (
              SELECT bool_and(dependency.status IS NOT DISTINCT FROM 'succeeded' AND completed_at < {_LONG_AGO})
                     OR bool_or(dependency.status IS NULL
                                OR dependency.status IN ('failed', 'cancelled') AND completed_at < {_LONG_AGO})
              FROM unnest(held.depends_on) AS wanted (id) LEFT JOIN jobs AS dependency ON dependency.id = wanted.id)
              OR EXISTS (SELECT FROM jobs AS followed
                         WHERE followed.id = held.follows AND followed.completed_at < {_LONG_AGO})
              OR EXISTS (SELECT FROM jobs AS member
                         WHERE member.group_id = held.follows_group AND member.status IN ('failed', 'cancelled')
                           AND member.completed_at < {_LONG_AGO}
                           AND member.follows_group IS DISTINCT FROM held.follows_group)
          WHEN 'paused' THEN NOT EXISTS (
              SELECT FROM pauses
              WHERE (pauses.organization_id IS NULL OR pauses.organization_id = held.organization_id)
                AND (pauses.job_type IS NULL OR pauses.job_type = held.job_type))
          WHEN 'circuit' THEN NOT EXISTS (
              SELECT FROM circuits
              WHERE circuits.job_type = held.job_type AND circuits.key = held.circuit_key
                AND circuits.organization_id IN ('', held.organization_id)
                AND (circuits.probe_id IS NULL OR circuits.probe_id <> held.id))
          WHEN 'organization_limit' THEN
              (held.organization_id, held.queue) IN (SELECT organization_id, queue FROM open)
              AND NOT EXISTS (SELECT FROM organizations WHERE id = held.organization_id AND changed_at > {_LONG_AGO})
              AND NOT EXISTS (SELECT FROM workers WHERE started_at > {_LONG_AGO})
          ELSE due_at < {_LONG_AGO}
      END
      AND (hold NOT IN ('paused', 'circuit', 'organization_limit')
           OR coalesce((SELECT at FROM history
                        WHERE history.organization_id = held.organization_id AND event <> 'progress'
                        ORDER BY history.id DESC LIMIT 1), '-infinity') < {_LONG_AGO})"""

# A worker compares its rows with its bodies every few seconds, and the leading worker releases the rows of dead ones.
# Nobody does where no worker has lived for a minute.
BODIES = f"""
    SELECT id AS job_id
    FROM (SELECT id, lease, count(*) OVER (PARTITION BY lease) AS bodies
          FROM jobs WHERE status = 'running' AND NOT external AND started_at < {_LONG_AGO}) AS claimed
    LEFT JOIN workers USING (lease)
    WHERE bodies > concurrency
       OR (workers.lease IS NULL OR NOT {_ALIVE})
          AND EXISTS (SELECT FROM workers WHERE {_ALIVE} AND started_at < {_LONG_AGO})"""

CHECKS = (
    Check("created_once", 1, "Every job was created exactly once.", partial(_broken_jobs, sql=CREATED_ONCE)),
    Check("not_lost", 1, "Every job that was accepted still has its row.", partial(_broken_jobs, sql=NOT_LOST)),
    Check("keys", 1, "An idempotency key of a user stands for one job.", partial(_broken_jobs, sql=KEYS)),
    Check("held", 2, "No job waits on when what it waited for is over.", partial(_broken_jobs, sql=HELD)),
    Check("path", 3, "History has no gap: each row begins where the last one ended.", partial(_broken_jobs, sql=PATH)),
    Check("legal_moves", 3, "Every move is one that is allowed.", partial(_broken_jobs, sql=LEGAL_MOVES)),
    Check("status", 3, "A job's status is the last one in its history.", partial(_broken_jobs, sql=STATUS)),
    Check("one_end", 4, "No attempt and no dispatch ended twice.", partial(_broken_jobs, sql=ONE_END)),
    Check("attempts", 5, "Attempts are numbered 1, 2, 3, one for each claim.", partial(_broken_jobs, sql=ATTEMPTS)),
    Check("fence", 5, "Whatever ran or ended did so under its claim's dispatch.", partial(_broken_jobs, sql=FENCE)),
    Check("cancelled", 6, "No cancelled job started unless it was retried.", partial(_broken_jobs, sql=CANCELLED)),
    Check("limit", 7, "No organization runs more jobs than its limit allows.", partial(_broken_jobs, sql=LIMIT)),
    Check("progress", 8, "Progress never falls and is 100 only with success.", partial(_broken_jobs, sql=PROGRESS)),
    Check("times", 9, "Created, started, completed: times follow that order.", partial(_broken_jobs, sql=TIMES)),
    Check("bodies", 16, "No job runs without a body, as far as rows tell.", partial(_broken_jobs, sql=BODIES)),
    Check("stats", 10, "The counts that the API gives are those of the rows.", _wrong_stats),
)
