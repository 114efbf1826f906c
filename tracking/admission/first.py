"""Who gets the free slots of an organization: the first in line, of each queue as many as its workers have room for.

An organization may have lines for hundreds of queues. What is to be known of their workers is asked once for all queues
that have the same ones.
"""

from __future__ import annotations

from tracking.admission.rule import ALIVE, in_flight, is_contended, is_served, limit_of, room_in, shared_with


def first_in_line(which: str = "true", besides: str = "", ahead: str = "0") -> str:
    """SQL, common table expressions: `first`, the jobs that get the free slots of :organization_id, at most :batch.

    Of its line they are those that are so: `waiting`. `besides`: a query of more candidates, as if they stood in it.
    The rooms of queues that share a worker are one and the same. `ahead`: SQL for how many jobs of served.queue may be
    sent whatever slots its workers have; `rooms.contended`: whether others have jobs for these.
    """
    columns = "id, queue, priority, created_at"
    return f"""
    queues AS (
        (SELECT queue FROM jobs WHERE organization_id = :organization_id AND hold = 'organization_limit'
         ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT next.queue FROM queues CROSS JOIN LATERAL (
            SELECT queue FROM jobs
            WHERE organization_id = :organization_id AND hold = 'organization_limit' AND jobs.queue > queues.queue
            ORDER BY queue LIMIT 1) AS next
    ), served AS MATERIALIZED (
        SELECT queue, {servers_of("queues.queue")} AS servers
        FROM (SELECT queue FROM queues {besides and f"UNION SELECT queue FROM ({besides}) AS more"}) AS queues
        WHERE {is_served("queues")} OR {limit_of(":organization_id")} = 0
    ), alike AS MATERIALIZED (
        SELECT servers, first AS queue, shared, dense_rank() OVER (ORDER BY shared) AS pool,
               {room_in(":organization_id", "first")} AS room, {is_contended(":organization_id", "first")} AS contended
        FROM (SELECT *, coalesce(nullif({shared_with("first")}, '{{}}'), ARRAY[first]) AS shared
              FROM (SELECT servers, min(queue) AS first FROM served GROUP BY {ALIKE}) AS firsts) AS firsts
    ), rooms AS MATERIALIZED (
        SELECT served.queue, greatest({ahead}, room) AS room, pool, shared, contended
        FROM served JOIN alike ON alike.servers = served.servers
                              AND (served.servers <> '{{}}' OR alike.queue = served.queue)
    ), candidates AS (
        SELECT room, pool, candidate.*
        FROM rooms CROSS JOIN LATERAL (
            SELECT {columns} FROM jobs AS waiting
            WHERE organization_id = :organization_id AND hold = 'organization_limit' AND waiting.queue = rooms.queue
              AND {which}
            ORDER BY priority DESC, created_at, id
            LIMIT greatest(0, least(:batch, room))) AS candidate
        {besides and f"UNION ALL SELECT room, pool, more.* FROM ({besides}) AS more JOIN rooms USING (queue)"}
    ), first AS (
        SELECT id, queue, place FROM (
            SELECT *, row_number() OVER (PARTITION BY pool ORDER BY priority DESC, created_at, id) AS place
            FROM candidates) AS placed
        WHERE place <= room
        ORDER BY priority DESC, created_at, id
        LIMIT least(:batch, CASE WHEN {limit_of(":organization_id")} = 0 THEN :batch ELSE
                            greatest(0, {limit_of(":organization_id")} - {in_flight(":organization_id")}) END)
    )"""


def servers_of(queue: str) -> str:
    """SQL: the leases of a queue's living workers: what is asked of one queue holds for all that have the same."""
    return f"ARRAY(SELECT lease FROM workers WHERE {ALIVE} AND {queue} = ANY(workers.queues) ORDER BY lease)"


# Queues without a worker have nothing in common.
ALIKE = "servers, CASE WHEN servers = '{}' THEN queue END"
