"""A database in which everything waits for something, in a thousand organizations, and nothing has been looked at."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, create_engine, text

from bench.scale.fill import Size, fill
from tests.servers import administrator
from tracking.db import Database

ORGANIZATIONS = 1000
WORKERS = 60
FINISHED = 20_000

# Autovacuum would look at them in the midst of it.
QUIET = """
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT oid::regclass FROM pg_class
                    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
            EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = false)', name);
        END LOOP;
    END $$"""
FEW_WORKERS = """
    WITH kept AS (DELETE FROM workers WHERE name NOT IN (SELECT 'worker-' || n FROM generate_series(1, :workers) AS n)),
    leases AS (SELECT array_agg(lease) AS all_of FROM workers
               WHERE name IN (SELECT 'worker-' || n FROM generate_series(1, :workers) AS n))
    UPDATE jobs SET lease = all_of[1 + get_byte(uuid_send(id), 2) % :workers] FROM leases WHERE status = 'running'"""

# Four thousand of each kind, over all organizations.
WAITING = """
    INSERT INTO jobs (id, organization_id, user_id, project_id, job_type, status, hold, queue, max_retries, due_at,
                      dispatched_at, depends_on, limit_key, created_at)
    SELECT gen_random_uuid(), 'org-' || n % 1000, 'user-' || n % 40, 'project-' || n % 20, 'type-' || n % 15, 'queued',
           hold, 'default', 3, CASE hold WHEN 'schedule' THEN now() + (n - 2000) * interval '1 second' END,
           CASE kind WHEN 'sent' THEN now() END,
           CASE hold WHEN 'dependency' THEN ARRAY[awaited[1 + n % 4000]] ELSE '{}' END,
           CASE hold WHEN 'limit' THEN 'key-' || n % 100 END, now() - n * interval '1 second'
    FROM generate_series(1, 4000) AS n,
         (SELECT array_agg(id) AS awaited FROM jobs WHERE status = 'running') AS running,
         (VALUES ('sent', NULL), ('unsent', NULL), ('scheduled', 'schedule'), ('dependent', 'dependency'),
                 ('paused', 'paused'), ('broken', 'circuit'), ('limited', 'limit'), ('in line', 'organization_limit'))
             AS kinds (kind, hold)"""
READY = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, queue, max_retries, depends_on, follows)
    SELECT gen_random_uuid(), organization_id, user_id, job_type, 'queued', 'dependency', 'default', 3,
           CASE WHEN n % 2 = 0 THEN ARRAY[id] ELSE '{}' END, CASE WHEN n % 2 = 1 THEN id END
    FROM (SELECT *, row_number() OVER () AS n FROM jobs WHERE completed_at IS NOT NULL LIMIT 8000) AS ended"""
EXTERNAL = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, external, queue, max_retries, started_at,
                      updated_at)
    SELECT gen_random_uuid(), 'org-' || n % 1000, 'user-1', 'elsewhere', 'running', 'external', true, 'default', 3,
           now() + interval '1 second', now() - interval '1 day'
    FROM generate_series(1, 2000) AS n"""
STOPPING = """
    UPDATE jobs SET stopping = true WHERE id IN (SELECT id FROM jobs WHERE status = 'cancelled' LIMIT 200)"""
GROUPS = "INSERT INTO groups (id, size) SELECT 'group-' || n, 10 FROM generate_series(0, 399) AS n"
GROUPED = """
    UPDATE jobs SET group_id = 'group-' || n % 400, group_index = n / 400, parent_id = root, root_id = root
    FROM (SELECT id AS member, row_number() OVER (ORDER BY id) AS n,
                 first_value(id) OVER (PARTITION BY organization_id ORDER BY id) AS root
          FROM jobs WHERE status IN ('succeeded', 'running') LIMIT 8000) AS members
    WHERE id = member"""
GATES = (
    """INSERT INTO organizations (id, concurrency, changed_by)
       SELECT 'org-' || n, 5, 'admin' FROM generate_series(0, 999) AS n""",
    """INSERT INTO pauses (organization_id, job_type, paused_by)
       SELECT 'org-' || n, 'type-' || n % 15, 'admin' FROM generate_series(0, 999) AS n""",
    "INSERT INTO paused_queues (queue, paused_by) SELECT 'queue-' || n, 'admin' FROM generate_series(0, 299) AS n",
    """INSERT INTO circuits (job_type, organization_id, key, failures, pause, probe_at)
       SELECT 'type-' || n % 15, 'org-' || n, '', 5, '1 minute', now() + (n - 500) * interval '1 minute'
       FROM generate_series(0, 999) AS n""",
    """INSERT INTO job_limits (id, organization_id, job_type, per, key_path, concurrency, rate, period, changed_by)
       SELECT gen_random_uuid(), CASE per WHEN 'organization' THEN 'org-' || n END, 'type-' || n % 15, per,
              CASE per WHEN 'key' THEN 'account' END, 5, 100, interval '1 minute', 'admin'
       FROM generate_series(0, 999) AS n, unnest(ARRAY['platform', 'organization', 'key']) AS per
       WHERE per = 'organization' OR n < 15""",
    """INSERT INTO limit_admissions (limit_id, organization_id, key, expires_at)
       SELECT id, 'org-' || n, '', now() + (n - 10) * interval '1 second'
       FROM job_limits, generate_series(0, 19) AS n""",
)
WORKFLOWS = (
    """INSERT INTO workflows (id, organization_id, user_id, name, status, completed_at, created_at)
       SELECT gen_random_uuid(), 'org-' || n % 1000, 'user-1', 'name',
              CASE n % 2 WHEN 0 THEN 'running' ELSE 'succeeded' END, CASE n % 2 WHEN 1 THEN at END, at
       FROM generate_series(1, 5000) AS n, LATERAL (SELECT now() - n * interval '1 minute' AS at) AS varied""",
    """INSERT INTO workflow_jobs (workflow_id, key, place, job_id, job_type, after)
       SELECT id, 'key-' || n, n, gen_random_uuid(), 'type-1', '[]' FROM workflows, generate_series(1, 4) AS n""",
    """INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, queue, max_retries, root_id, depends_on,
                         started_at, completed_at, created_at, progress, unresolved)
       SELECT job_id, organization_id, user_id, 'type-1', CASE WHEN waits THEN 'queued' ELSE 'succeeded' END,
              CASE WHEN waits THEN 'dependency' END, 'default', 3, workflow_id,
              coalesce((SELECT ARRAY[before.job_id] FROM workflow_jobs AS before
                        WHERE before.workflow_id = one.workflow_id AND before.place = one.place - 1), '{}'),
              CASE WHEN NOT waits THEN now() END, CASE WHEN NOT waits THEN now() END, created_at,
              CASE WHEN waits THEN 0 ELSE 100 END, waits AND place = 3
       FROM workflow_jobs AS one JOIN workflows ON workflows.id = workflow_id,
            LATERAL (SELECT status = 'running' AND place > 2 AS waits) AS varied""",
)
BESIDE = (
    """INSERT INTO schedules (id, organization_id, user_id, name, job_type, every_seconds, catch_up, overlap, anchor,
                              since, next_at, changed_by)
       SELECT gen_random_uuid(), 'org-' || n % 1000, 'user-1', 'schedule-' || n, 'type-1', 3600, 'latest', 'skip',
              now(), now(), now() + (n - 500) * interval '1 minute', 'user-1'
       FROM generate_series(1, 5000) AS n""",
    """INSERT INTO schedule_outcomes (schedule_id, due_at, last_due_at, became, job_id, at)
       SELECT id, at, at, 'job', gen_random_uuid(), at
       FROM schedules, LATERAL (SELECT now() - n * interval '1 hour' AS at FROM generate_series(1, 5) AS n) AS each""",
    """INSERT INTO webhooks (id, organization_id, url, events, secret, created_by)
       SELECT gen_random_uuid(), 'org-' || n % 1000, 'https://receiver.example/', '{job.completed}', 'c2VjcmV0', 'u'
       FROM generate_series(1, 3000) AS n""",
    """INSERT INTO operations (id, organization_id, user_id, action, state, matched, completed_at)
       SELECT gen_random_uuid(), 'org-' || n, 'user-1', 'cancel', CASE n % 2 WHEN 0 THEN 'running' ELSE 'completed' END,
              20, CASE n % 2 WHEN 1 THEN now() END
       FROM generate_series(0, 999) AS n""",
    """INSERT INTO operation_jobs (operation_id, job_id, outcome)
       SELECT operations.id, each.id, CASE WHEN completed_at IS NOT NULL THEN 'succeeded' END
       FROM operations CROSS JOIN LATERAL (
           SELECT id FROM jobs WHERE jobs.organization_id = operations.organization_id LIMIT 20) AS each""",
    """INSERT INTO events (id, organization_id, user_id, event, subject_id)
       SELECT 10000000 + row_number() OVER (), organization_id, 'user-1', 'workflow.started', id FROM workflows""",
    """INSERT INTO audit (id, organization_id, actor, action, target, source, outcome)
       SELECT n, 'org-' || n % 1000, 'user-1', 'job.cancel', 'target-' || n % 500, 'api', 'done'
       FROM generate_series(1, 20000) AS n""",
)
HISTORY = """
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, to_status, attempt, dispatch, actor)
    SELECT id, organization_id, user_id, job_type, 'created', 'queued', 0, 1, 'user-1'
    FROM jobs WHERE completed_at IS NULL"""


def crowd(database: Database) -> None:
    """Fill an empty database, in which nothing is looked at by itself from now on."""
    with database.autocommit() as connection:
        connection.execute(text(QUIET))
    fill(database, Size(FINISHED, ORGANIZATIONS), lambda _: None)
    with database.autocommit() as connection:
        connection.execute(text(FEW_WORKERS), {"workers": WORKERS})
        for statement in (WAITING, READY, EXTERNAL, STOPPING, GROUPS, GROUPED, *GATES, *WORKFLOWS, *BESIDE, HISTORY):
            connection.execute(text(statement))


def look_at(connection: Connection) -> None:
    """Let the database look at all of it; by a superuser."""
    connection.execute(text("VACUUM ANALYZE"))


FORGET = (
    """UPDATE pg_class SET reltuples = -1, relpages = 0, relallvisible = 0
       WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i', 'p', 'I')""",
    """DELETE FROM pg_statistic
       WHERE starelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)""",
)


def forget(connection: Connection) -> None:
    """Let the database have looked at none of it; by a superuser."""
    for statement in FORGET:
        connection.execute(text(statement))


def as_superuser(url: str, *deeds: Callable[[Connection], None]) -> None:
    """Do something to a database that only a superuser may."""
    engine = create_engine(administrator(url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for deed in deeds:
            deed(connection)
    engine.dispose()
