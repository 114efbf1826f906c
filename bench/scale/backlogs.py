"""How long the leader's looks take beside very many jobs of one organization that wait for the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlalchemy import Connection, text

from bench.scale import duties
from tracking.db import Database

ROUNDS = 3
# They count what is active, or what has happened, and take their time in relation to it.
COUNTING = {"metrics", "lost messages", "totals of 2,000 events"}

KINDS = {  # hold, due, sent, dependency
    "sent": ("NULL", "NULL", "now()", "'{}'"),
    "scheduled": ("'schedule'", "now() + interval '1 hour'", "NULL", "'{}'"),
    "in line": ("'organization_limit'", "NULL", "NULL", "'{}'"),
    "paused": ("'paused'", "NULL", "NULL", "'{}'"),
    "dependent": ("'dependency'", "NULL", "NULL", "ARRAY[(SELECT id FROM awaited)]"),
}
FILL = """
    WITH awaited AS (
        INSERT INTO jobs (id, organization_id, user_id, job_type, status, queue, max_retries)
        VALUES (gen_random_uuid(), 'backlog', 'bench', 'awaited', 'queued', 'elsewhere', 3)
        RETURNING id
    )
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, queue, max_retries, due_at, dispatched_at,
                      depends_on)
    SELECT gen_random_uuid(), 'backlog', 'bench', 'waits', 'queued', {}, 'elsewhere', 3, {}, {}, {}
    FROM generate_series(1, :count)"""
PAUSE = "INSERT INTO pauses (job_type, paused_by) VALUES ('waits', 'bench')"


def measure(database: Database, count: int, show: Callable[[int], None]) -> Iterator[tuple[str, str, float]]:
    """Of each kind, so many jobs, the slowest look, with its milliseconds; nothing is kept."""
    for done, (kind, columns) in enumerate(KINDS.items()):
        with database.begin() as connection:
            connection.execute(text(PAUSE))
            connection.execute(text(FILL.format(*columns)), {"count": count})
            connection.execute(text("ANALYZE jobs"))
            found = {name: _time(connection, look) for name, look in duties.looks().items() if name not in COUNTING}
            connection.rollback()
        slowest = max(found, key=lambda name: found[name])
        yield kind, slowest, found[slowest]
        show(done + 1)
    with database.autocommit() as connection:
        connection.execute(text("VACUUM jobs"))


def _time(connection: Connection, look: duties.Look) -> float:
    return sorted(duties.milliseconds(connection, look) for _ in range(ROUNDS))[ROUNDS // 2]
