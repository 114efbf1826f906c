"""A database as months of use leave it: finished jobs of many organizations, lines, bodies that run, and workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, text

from tracking import partitions
from tracking.db import Database

CHUNK = 20_000  # jobs in a statement
LARGE = "org-0"  # has two fifths of all jobs, and the longest line
SMALL = "org-7"
IN_LINE = 20_000  # of the large organization
IN_FLIGHT = 5  # of each of the others
WEEKS = 13  # before this one: 90 days


@dataclass(frozen=True)
class Size:
    """How much of it: `jobs` are finished ones."""

    jobs: int
    organizations: int


def fill(database: Database, size: Size, show: Callable[[int], None]) -> None:
    """Fill an empty database; `show` is told how many jobs are in it."""
    fill_finished(database, size, show)
    with database.autocommit() as connection:
        _run(connection, WORKERS, count=max(1, size.organizations * IN_FLIGHT // 4))
        _run(connection, RUNNING, organizations=size.organizations - 1, each=IN_FLIGHT)
        _run(connection, WAITING, organization=LARGE, count=IN_LINE)
        _clean_up(connection)


def fill_finished(database: Database, size: Size, show: Callable[[int], None]) -> None:
    """The finished jobs alone."""
    with database.begin() as connection:
        this_week = connection.execute(text("SELECT date_trunc('week', now(), 'UTC')")).scalar_one()
        for number in range(1, WEEKS + 1):
            partitions.add(connection, this_week - number * partitions.WEEK)
    with database.autocommit() as connection:
        for first in range(0, size.jobs, CHUNK):
            last = min(first + CHUNK, size.jobs)
            _run(connection, FINISHED, first=first, last=last - 1, jobs=size.jobs, organizations=size.organizations)
            show(last)
        _clean_up(connection)


def _clean_up(connection: Connection) -> None:
    """As it is done by itself, which leaves out the weeks to come: nothing has changed in them."""
    this_week = connection.execute(text("SELECT date_trunc('week', now(), 'UTC')")).scalar_one()
    begun = [each.name for each in partitions.partitions(connection) if each.since <= this_week]
    for table in ("jobs", *begun, "workers"):
        connection.execute(text(f"VACUUM ANALYZE {table}"))


def _run(connection: Connection, sql: str, **parameters: object) -> None:
    connection.execute(text(sql), parameters)


# Over 90 days, of 15 types, one in fifty not a success. History: created, started, a report of every second, the end.
FINISHED = """
    WITH made AS (
        INSERT INTO jobs (id, organization_id, user_id, project_id, job_type, status, queue, max_retries, attempt,
                          progress, payload, result, error_type, error_message, lease, dispatched_at, started_at,
                          completed_at, created_at, updated_at)
        SELECT gen_random_uuid(), organization, 'user-' || n / 7 % 40,
               CASE n % 3 WHEN 0 THEN 'project-' || n / 3 % 20 END,
               'type-' || n % 15, status, 'default', 3, 1, CASE status WHEN 'succeeded' THEN 100 ELSE 30 END,
               jsonb_build_object('text', repeat('x', 200), 'number', n), '{"rows": 12}',
               CASE status WHEN 'failed' THEN 'ValueError' END,
               CASE status WHEN 'failed' THEN 'the row ' || n || ' cannot be read' END,
               gen_random_uuid(), at, at, at + interval '2 seconds', at, at + interval '2 seconds'
        FROM generate_series(CAST(:first AS int), :last) AS n,
             LATERAL (SELECT CASE WHEN n % 5 < 2 THEN 'org-0'
                                  ELSE 'org-' || 1 + n / 5 % (:organizations - 1) END AS organization,
                             CASE n % 100 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'succeeded' END AS status,
                             clock_timestamp() - (:jobs - n) * interval '90 days' / :jobs
                                               - interval '1 minute' AS at) AS of_it
        RETURNING *
    )
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt, dispatch,
                         actor, detail, at)
    SELECT id, organization_id, user_id, job_type, event, was, becomes, 1, 1, 'worker', detail, created_at + after
    FROM made CROSS JOIN LATERAL (VALUES
        ('created', NULL, 'queued', '{"priority": 0}'::jsonb, interval '0'),
        ('started', 'queued', 'running', '{"worker": "worker-1", "priority": 0}', '0'),
        (CASE WHEN get_byte(uuid_send(id), 0) % 2 = 0 THEN 'progress' END, 'running', 'running',
         '{"percentage": 50}', '1 second'),
        (CASE status WHEN 'succeeded' THEN 'completed' ELSE status END, 'running', status,
         '{"duration": 2000}', '2 seconds')
    ) AS steps (event, was, becomes, detail, after)
    WHERE event IS NOT NULL"""

RUNNING = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, queue, max_retries, attempt, lease, worker,
                      dispatched_at, started_at, created_at)
    SELECT gen_random_uuid(), 'org-' || o, 'user-1', 'type-' || n, 'running', 'default', 3, 1,
           (SELECT lease FROM workers OFFSET (o * 5 + n) % (SELECT count(*) FROM workers) LIMIT 1), 'worker-1',
           now(), now(), now() - interval '1 minute'
    FROM generate_series(1, :organizations) AS o, generate_series(1, :each) AS n"""

WAITING = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, queue, max_retries, priority, created_at)
    SELECT gen_random_uuid(), :organization, 'user-' || n % 40, 'type-' || n % 15, 'queued', 'organization_limit',
           'default', 3, n % 10, now() - n * interval '1 millisecond'
    FROM generate_series(1, :count) AS n"""

# They are not alive for as long as the measurement takes, but say so.
WORKERS = """
    INSERT INTO workers (lease, name, pid, queues, concurrency, seen_at)
    SELECT gen_random_uuid(), 'worker-' || n, n, '{default,maintenance}', 4, now() + interval '1 hour'
    FROM generate_series(1, :count) AS n"""
