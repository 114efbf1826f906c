"""Who gets the free slots of organizations: the first in the line of each, of a queue as many as it has room for.

An organization may have lines for hundreds of queues. What is to be known of their workers is asked once for all queues
that have the same ones.
"""

from __future__ import annotations

from tracking.admission.rule import (
    ALIVE,
    SENT,
    free_in,
    in_flight,
    is_contended,
    is_served,
    limit_of,
    room_in,
    shared_with,
    weight_of,
)
from tracking.schema import COMPETES

ONE = "SELECT CAST(:organization_id AS text) AS organization_id"
# A planner that sees how many there are finds a plan for each number, and takes longer for it than the look does.
SEVERAL = "SELECT unnest((SELECT CAST(:organizations AS text[]))) AS organization_id"

_COLUMNS = "id, queue, priority, created_at"
_IN_ORDER = "ORDER BY priority DESC, created_at, id"


def first_in_line(which: str = "true", besides: str = "", ahead: str = "0", whose: str = ONE) -> str:
    """SQL, common table expressions: `first`, the jobs that get the free slots, of each organization at most :batch.

    Of their lines they are those that are so: `waiting`. `besides`: a query of more candidates, as if they stood there.
    The rooms of queues that share a worker are one and the same. Of several organizations, what the workers have free
    goes to one after the other, in the order of their names; each gets what its weight entitles it to all the same.
    `ahead`: SQL for how many jobs of places.queue may be sent whatever slots its workers have. `rooms.contended`:
    whether others have jobs for them.
    """
    is_shared = "false" if whose == ONE else "contended"  # with others of the same look
    known = "organization_id, own, pool, free, entitled, room"
    more, more_candidates = "", ""
    if besides:
        more = f"UNION SELECT organization_id, queue FROM ({besides}) AS more"
        more_candidates = f"""UNION ALL
        SELECT {known}, {_COLUMNS} FROM ({besides}) AS more JOIN rooms USING (organization_id, queue)"""
    return f"""
    {_pools(whose, more)}, asking AS MATERIALIZED (
        SELECT organization_id, first, shared, {is_contended("kinds.organization_id", "kinds.first")} AS contended
        FROM (SELECT DISTINCT organization_id, first, shared FROM places) AS kinds
    ), alike AS MATERIALIZED (
        SELECT organization_id, first, contended, {room_in("asking.organization_id", "asking.first")} AS room,
               CASE WHEN {is_shared} THEN {free_in("asking.first")} END AS free,
               CASE WHEN {is_shared} THEN {entitled_to("asking.organization_id", "asking.shared")} END AS entitled
        FROM asking
    ), rooms AS MATERIALIZED (
        SELECT organization_id, places.queue, own, pool, shared, contended, free, entitled,
               greatest({ahead}, room) AS room
        FROM places JOIN alike USING (organization_id, first)
    ), candidates AS (
        SELECT {known}, candidate.*
        FROM rooms CROSS JOIN LATERAL (
            SELECT {_COLUMNS} FROM jobs AS waiting
            WHERE waiting.organization_id = rooms.organization_id AND hold = 'organization_limit'
              AND waiting.queue = rooms.queue AND {which}
            {_IN_ORDER}
            LIMIT greatest(0, least(:batch, room))) AS candidate
        {more_candidates}
    ), numbered AS (
        SELECT *, row_number() OVER (PARTITION BY organization_id {_IN_ORDER}) AS number
        FROM (SELECT *, row_number() OVER (PARTITION BY organization_id, pool {_IN_ORDER}) AS place
              FROM candidates) AS placed
        WHERE place <= room
    ), first AS (
        SELECT id, queue, place
        FROM (SELECT *, row_number() OVER (PARTITION BY pool ORDER BY organization_id COLLATE "C", number) AS turn
              FROM numbered WHERE number <= own) AS turns
        WHERE turn <= free OR place <= entitled OR free IS NULL
    )"""


def _pools(whose: str, more: str) -> str:
    """SQL: `places`, what organizations have jobs in line for; `first` is a queue with the same workers as that one.

    `own`: how many an organization may have at most; `shared`: the queues of those workers, `pool` a number for them.
    """
    return f"""whose AS MATERIALIZED (
        SELECT organization_id, most,
               least(:batch, CASE WHEN most > 0 THEN most - {in_flight("limited.organization_id")} END) AS own
        FROM (SELECT organization_id, {limit_of("asked.organization_id")} AS most FROM ({whose}) AS asked) AS limited
    ), queues AS (
        SELECT whose.organization_id, next.queue FROM whose CROSS JOIN LATERAL (
            SELECT queue FROM jobs
            WHERE jobs.organization_id = whose.organization_id AND hold = 'organization_limit'
            ORDER BY queue LIMIT 1) AS next
        UNION ALL
        SELECT queues.organization_id, next.queue FROM queues CROSS JOIN LATERAL (
            SELECT queue FROM jobs
            WHERE jobs.organization_id = queues.organization_id AND hold = 'organization_limit'
              AND jobs.queue > queues.queue
            ORDER BY queue LIMIT 1) AS next
    ), lined AS MATERIALIZED (
        SELECT organization_id, queue FROM queues {more}
    ), {_alike("lined")}, places AS MATERIALIZED (
        SELECT organization_id, queue, own, first, shared, pool
        FROM lined JOIN whose USING (organization_id) JOIN alike_queues USING (queue)
        WHERE is_served OR most = 0
    )"""


def pools_of(queues: str) -> str:
    """SQL, common table expressions: `pools`, what `has_place` wants to know of the `queue` of each row of `queues`.

    `lowest` and `highest`: the first and the last of the organizations with jobs for those workers, by their names.
    """
    name = f"(SELECT organization_id FROM jobs WHERE {COMPETES} AND queue = each ORDER BY organization_id {{}} LIMIT 1)"
    return f"""{_alike(queues)}, offers AS MATERIALIZED (
        SELECT first, {free_in("first")} AS free, lowest, highest
        FROM (SELECT DISTINCT first, shared FROM alike_queues) AS firsts CROSS JOIN LATERAL (
            SELECT min({name.format("")}) AS lowest, max({name.format("DESC")}) AS highest
            FROM unnest(shared) AS each) AS competing
    ), pools AS MATERIALIZED (
        SELECT queue, first, shared, free, lowest, highest FROM alike_queues JOIN offers USING (first) WHERE is_served
    )"""


def has_place(organization: str, pool: str) -> str:
    """SQL: whether one more job of an organization that has room of its own may be sent to a queue, a row of `pools`.

    As `room_in` has it; what is the same for all organizations was asked once.
    """
    is_alone = f"coalesce({pool}.lowest = {organization} AND {pool}.highest = {organization}, true)"
    return f"""({pool}.free IS NULL OR {pool}.free > 0 OR {limit_of(organization)} = 0 AND {is_alone}
             OR {entitled_to(organization, f"{pool}.shared")} > 0)"""


def entitled_to(organization: str, shared: str) -> str:
    """SQL: how many more jobs an organization may always have sent to queues that share their workers."""
    return f"""({weight_of(organization)} - (
                   SELECT count(*) FROM jobs WHERE jobs.organization_id = {organization} AND {SENT}
                                               AND queue = ANY({shared})))"""


def _alike(queues: str) -> str:
    """SQL: `alike_queues`, with the first of those that have the same workers: what holds for it holds for all."""
    return f"""served AS MATERIALIZED (
        SELECT queue, {_servers_of("queues.queue")} AS servers, {is_served("queues")} AS is_served
        FROM (SELECT DISTINCT queue FROM {queues}) AS queues
    ), firsts AS MATERIALIZED (
        SELECT servers, first, shared, dense_rank() OVER (ORDER BY shared) AS pool
        FROM (SELECT *, coalesce(nullif({shared_with("first")}, '{{}}'), ARRAY[first]) AS shared
              FROM (SELECT servers, min(queue) AS first FROM served GROUP BY {_ALIKE}) AS firsts) AS firsts
    ), alike_queues AS MATERIALIZED (
        SELECT queue, is_served, first, shared, pool FROM served
        JOIN firsts ON firsts.servers = served.servers AND (served.servers <> '{{}}' OR firsts.first = served.queue)
    )"""


def _servers_of(queue: str) -> str:
    """SQL: the leases of a queue's living workers."""
    return f"ARRAY(SELECT lease FROM workers WHERE {ALIVE} AND {queue} = ANY(workers.queues) ORDER BY lease)"


# Queues without a worker have nothing in common.
_ALIKE = "servers, CASE WHEN servers = '{}' THEN queue END"
