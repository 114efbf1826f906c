"""Who is within the limits of types and keys (job_limits.py): what counts in them, and whose turn it is.

A job that is limited waits with the hold `limit` until the line of its organization is looked at: there it gets its
place and its slot together (line.py), so that none of them is kept idle. What executes is counted from the rows. Of
organizations that share a limit, that goes first whose last turn is the longest ago.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.admission.first import has_place, pools_of
from tracking.admission.job_limits import LIMITS, SHARED, JobLimit, Per, key_of, limit_of_row
from tracking.admission.rule import SENT, free_in, has_own_room, is_before, is_served
from tracking.columns import columns_of
from tracking.limit_tables import job_limits
from tracking.schema import IN_FLIGHT


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit as one job meets it: `key`, whose count it is; `executing` and `sent`, what counts there now."""

    limit: JobLimit
    key: str | None
    executing: int
    sent: int

    @property
    def room(self) -> int | None:
        """How many more jobs it lets through now; None = any number."""
        rooms = [
            most - taken
            for most, taken in ((self.limit.concurrency, self.executing), (self.limit.rate, self.sent))
            if most is not None
        ]
        return min(rooms, default=None)


def bounds(connection: Connection, job_id: UUID) -> list[Bound]:
    """The limits that a job meets, with what counts in each of them now."""
    rows = connection.execute(BOUNDS, {"id": job_id}).mappings()
    return [
        Bound(limit_of_row(row), row["limit_key"] if row["per"] == Per.KEY else None, row["executing"], row["sent"])
        for row in rows
    ]


def is_within(connection: Connection, job_id: UUID, met: Sequence[Bound], parameters: Mapping[str, Any]) -> bool:
    """Whether what a waiting job meets has room for it, besides those of its kind that come before it."""
    room = min((room for bound in met if (room := bound.room) is not None), default=None)
    if room is None:
        return True
    return room > 0 and room > int(connection.execute(BEFORE, {"id": job_id, "most": room, **parameters}).scalar_one())


def choose(
    connection: Connection, organization_id: str, parameters: Mapping[str, Any], most: int, *, has_turn: bool = True
) -> list[UUID]:
    """Which of an organization's limited jobs there is room for, the most urgent first; at most so many.

    `has_turn`: whether it may have a place that organizations share. Together they stay within every limit. Wants the
    lock of the organization's line, and takes those of the limits that others share: what was counted stays so until
    the transaction ends.
    """
    about = {"organization_id": organization_id, "batch": most, "has_turn": has_turn, **parameters}
    connection.execute(BESIDE_OTHERS, {"limits": LIMITS})
    connection.execute(LOOK_AT_KEYS, about)
    connection.execute(LOCK_SHARED, {"organization_id": organization_id, "shared": SHARED})
    left: dict[tuple[object, ...], int] = {}
    chosen: list[UUID] = []
    for row in connection.execute(CANDIDATES, about):
        rooms: dict[tuple[object, ...], int] = {
            (bound["limit"], *bound["whose"]): bound["room"] for bound in row.bounds if bound["room"] is not None
        }
        if row.free is not None:
            rooms["queue", row.queue] = row.free
        for count, room in rooms.items():
            left.setdefault(count, room)
        if len(chosen) < most and all(left[count] > 0 for count in rooms):
            left |= {count: left[count] - 1 for count in rooms}
            chosen.append(row.id)
    return chosen


def count(connection: Connection, sent: Sequence[UUID]) -> None:
    """Count jobs that were let through in the rates of their limits, and as the turn of their organizations."""
    if sent:
        connection.execute(COUNT, {"ids": list(sent)})
        connection.execute(SERVED, {"ids": list(sent)})


def with_room(
    connection: Connection, parameters: Mapping[str, Any], most: int, *, is_shared: bool = False
) -> list[str]:
    """The organizations with limited jobs that could be sent, whose last turn is the longest ago first.

    `is_shared`: only for what shares a limit with other organizations.
    """
    about = {**parameters, "most": most, "is_shared": is_shared}
    return [*dict.fromkeys(connection.execute(WITH_ROOM, about).scalars())]


def seconds_to_room(connection: Connection) -> float | None:
    """After how many seconds the first job counts in its rate no more; None: nothing waits, or no job counts."""
    seconds = connection.execute(SECONDS_TO_ROOM).scalar_one()
    return None if seconds is None else float(seconds)


def forget_expired(connection: Connection, batch: int) -> int:
    """Remove what counts in no rate any more; returns how many rows."""
    return connection.execute(FORGET, {"batch": batch}).rowcount


def _meeting(which: str) -> str:
    """SQL, an item of a FROM: the limits that jobs meet which have the organization, type and key of `which`."""
    return f"""LATERAL (
        SELECT DISTINCT ON (per, job_type) {columns_of(job_limits)} FROM job_limits
        WHERE (job_limits.job_type = {which}.job_type OR job_limits.job_type IS NULL)
          AND (job_limits.organization_id = {which}.organization_id OR job_limits.organization_id IS NULL)
          AND (per <> 'key' OR {which}.limit_key <> '')
        ORDER BY per, job_type, job_limits.organization_id NULLS LAST)"""


def _executing(which: str, most: str) -> str:
    """SQL: how many jobs, up to `most`, execute that count in the limit `met` with one of `which`."""
    counted = f"""SELECT count(*) FROM (
            SELECT FROM jobs WHERE limit_key IS NOT NULL AND {IN_FLIGHT} AND job_type = {which}.job_type{{}}
            LIMIT {most}) AS counted"""
    of_organization = f" AND organization_id = {which}.organization_id"
    return f"""CASE met.per
        WHEN '{Per.PLATFORM}' THEN ({counted.format("")})
        WHEN '{Per.ORGANIZATION}' THEN ({counted.format(of_organization)})
        ELSE ({counted.format(f"{of_organization} AND limit_key = {which}.limit_key")}) END"""


def _whose(which: str) -> tuple[str, str]:
    """SQL: the organization and the key of the count in the limit `met` in which a job of `which` counts."""
    return (
        f"CASE met.per WHEN '{Per.PLATFORM}' THEN '' ELSE {which}.organization_id END",
        f"CASE met.per WHEN '{Per.KEY}' THEN {which}.limit_key ELSE '' END",
    )


def _sent(which: str) -> str:
    """SQL: how many jobs, up to the rate, were sent in the last period that count in the limit `met`."""
    organization, key = _whose(which)
    return f"""(SELECT count(*) FROM (
            SELECT FROM limit_admissions AS sent
            WHERE sent.limit_id = met.id AND sent.organization_id = {organization} AND sent.key = {key}
              AND sent.expires_at > clock_timestamp()
            LIMIT met.rate) AS counted)"""


def _room(which: str) -> str:
    """SQL: how many more jobs of this kind the limit `met` lets through; null = any number."""
    return f"""least(CASE WHEN met.concurrency IS NOT NULL
                           THEN met.concurrency - {_executing(which, "met.concurrency")} END,
                      CASE WHEN met.rate IS NOT NULL THEN met.rate - {_sent(which)} END)"""


# A kind of jobs that meet the same limits; one probe of the index finds the next.
_CLASSES = """(
            SELECT organization_id, limit_key, job_type FROM jobs
            WHERE organization_id {} AND hold = 'limit' AND limit_key IS NOT NULL{}
            ORDER BY limit_key, job_type LIMIT 1)"""
_FRESH = """(
            SELECT organization_id, limit_key, job_type FROM jobs
            WHERE organization_id = whose.organization_id AND hold = 'limit' AND limit_key IS NULL{}
            ORDER BY job_type LIMIT 1)"""
_AFTER = " AND (jobs.limit_key, jobs.job_type) > (classes.limit_key, classes.job_type)"


def _first_of(key: str) -> str:
    """SQL: the queue of the first of `kinds` that a living worker would run."""
    return f"""(
                   SELECT queue FROM jobs
                   WHERE jobs.organization_id = kinds.organization_id AND hold = 'limit' AND {key}
                     AND jobs.job_type = kinds.job_type AND {is_served("jobs")}
                   ORDER BY priority DESC, created_at, id LIMIT 1)"""


BESIDE_OTHERS = text("SELECT pg_advisory_xact_lock_shared(:limits, 0)")

# Of what its organization has in line. Always after the lock of the line, and in the order of their ids.
LOCK_SHARED = text(
    f"""
    SELECT pg_advisory_xact_lock(:shared, number) FROM (
        SELECT hashtext(CAST(id AS text)) AS number FROM job_limits
        WHERE per = '{Per.PLATFORM}'
          AND EXISTS (SELECT FROM jobs WHERE organization_id = :organization_id AND hold = 'limit'
                                         AND jobs.job_type = job_limits.job_type)
        ORDER BY 1) AS shared"""
)

LOOK_AT_KEYS = text(
    f"""
    UPDATE jobs SET limit_key = {key_of("jobs")}
    WHERE id IN (SELECT id FROM jobs
                 WHERE organization_id = :organization_id AND hold = 'limit' AND limit_key IS NULL
                 ORDER BY job_type, priority DESC, created_at, id
                 LIMIT greatest(1000, :batch)
                 FOR UPDATE SKIP LOCKED)"""
)

_ORGANIZATION, _KEY = _whose("classes")

# Under a rate no more are sent than start at once: what waits at the broker would start together later. One may. Each
# of these has room by itself, so that the first always gets it, and what is cut off has its turn at another look.
CANDIDATES = text(
    f"""
    WITH RECURSIVE classes AS (
        {_CLASSES.format("= :organization_id", "")}
        UNION ALL
        SELECT next.* FROM classes CROSS JOIN LATERAL {_CLASSES.format("= :organization_id", _AFTER)} AS next
    ), open AS (
        SELECT classes.*, found.* FROM classes CROSS JOIN LATERAL (
            SELECT least(min(room), CAST(:batch AS bigint)) AS room, bool_or(rate IS NOT NULL) AS is_rate,
                   bool_or(per = '{Per.PLATFORM}') AS is_shared,
                   coalesce(jsonb_agg(jsonb_build_object(
                       'limit', id, 'whose', jsonb_build_array({_ORGANIZATION}, {_KEY}), 'room', room)), '[]') AS bounds
            FROM (SELECT met.*, {_room("classes")} AS room FROM {_meeting("classes")} AS met) AS met) AS found
        WHERE found.room > 0 AND (CAST(:has_turn AS boolean) OR found.is_shared IS NOT TRUE)
    )
    SELECT first.id, first.queue, open.bounds, served.free
    FROM open CROSS JOIN LATERAL (
        SELECT id, queue, priority, created_at FROM jobs AS waiting
        WHERE organization_id = :organization_id AND hold = 'limit' AND limit_key = open.limit_key
          AND job_type = open.job_type AND {is_served("waiting")}
        ORDER BY priority DESC, created_at, id LIMIT open.room) AS first
    CROSS JOIN LATERAL (
        SELECT CASE WHEN slots IS NOT NULL THEN greatest(slots, CASE WHEN EXISTS (
                   SELECT FROM jobs WHERE organization_id = :organization_id AND {SENT} AND job_type = open.job_type)
               THEN 0 ELSE 1 END) END AS free
        FROM (SELECT CASE WHEN open.is_rate THEN {free_in("first.queue")} END AS slots) AS found) AS served
    WHERE coalesce(served.free, 1) > 0
    ORDER BY priority DESC, created_at, id
    LIMIT 10 * :batch"""
)

# Those of one limit in the order of their organizations' turns. What has the same turn of an organization is one row:
# many kinds of its jobs take no other's place. For which keys there is room, of jobs that nobody has looked at yet, is
# found out when they are chosen.
WITH_ROOM = text(
    f"""
    WITH RECURSIVE shared AS MATERIALIZED (
        SELECT id, job_type, {_room("met")} AS room
        FROM (SELECT *, '' AS limit_key FROM job_limits WHERE per = '{Per.PLATFORM}') AS met
    ), whose AS (
        (SELECT organization_id FROM jobs WHERE hold = 'limit' ORDER BY organization_id LIMIT 1)
        UNION ALL
        SELECT next.organization_id FROM whose CROSS JOIN LATERAL (
            SELECT organization_id FROM jobs WHERE hold = 'limit' AND organization_id > whose.organization_id
            ORDER BY organization_id LIMIT 1) AS next
    ), kinds AS MATERIALIZED (
        SELECT kinds.*, shared.id AS limit_id, served_at,
               coalesce({_first_of("jobs.limit_key = kinds.limit_key")}, {_first_of("jobs.limit_key IS NULL")}) AS queue
        FROM (SELECT organization_id FROM whose WHERE {has_own_room("whose.organization_id")} OFFSET 0) AS whose
        CROSS JOIN LATERAL (
            WITH RECURSIVE classes AS (
                {_CLASSES.format("= whose.organization_id", "")}
                UNION ALL
                SELECT next.* FROM classes
                CROSS JOIN LATERAL {_CLASSES.format("= whose.organization_id", _AFTER)} AS next
            ), fresh AS (
                {_FRESH.format("")}
                UNION ALL
                SELECT next.* FROM fresh CROSS JOIN LATERAL {_FRESH.format(" AND job_type > fresh.job_type")} AS next
            )
            SELECT * FROM classes
            UNION ALL
            SELECT * FROM fresh) AS kinds
        LEFT JOIN shared USING (job_type)
        LEFT JOIN limit_turns ON limit_id = shared.id AND limit_turns.organization_id = kinds.organization_id
        WHERE coalesce(shared.room, 1) > 0 AND (shared.id IS NOT NULL OR NOT CAST(:is_shared AS boolean))
    ), {pools_of("kinds")}, waiting AS (
        SELECT organization_id, array_agg(limit_key) AS limit_keys, array_agg(job_type) AS job_types,
               array_agg(queue) AS queues
        FROM kinds
        GROUP BY organization_id, limit_id, served_at
        ORDER BY served_at NULLS FIRST, organization_id
        OFFSET 0
    )
    SELECT organization_id FROM waiting
    WHERE EXISTS (
        SELECT FROM (SELECT waiting.organization_id, each.*
                     FROM unnest(limit_keys, job_types, queues) AS each (limit_key, job_type, queue)) AS kind
        JOIN pools USING (queue)
        WHERE {has_place("kind.organization_id", "pools")}
          AND coalesce((SELECT min({_room("kind")}) FROM {_meeting("kind")} AS met
                        WHERE per <> '{Per.PLATFORM}'), 1) > 0)
    LIMIT :most"""
)

BOUNDS = text(
    f"""
    SELECT met.*, this.limit_key,
           CASE WHEN met.concurrency IS NULL THEN 0 ELSE {_executing("this", "NULL")} END AS executing,
           CASE WHEN met.rate IS NULL THEN 0 ELSE {_sent("this")} END AS sent
    FROM (SELECT organization_id, job_type, coalesce(limit_key, {key_of("jobs")}) AS limit_key
          FROM jobs WHERE id = :id) AS this
    CROSS JOIN {_meeting("this")} AS met"""
)

BEFORE = text(
    f"""
    SELECT count(*) FROM (
        SELECT FROM jobs AS this JOIN jobs AS earlier USING (organization_id, job_type)
        WHERE this.id = :id AND earlier.hold = 'limit' AND earlier.limit_key IS NOT DISTINCT FROM this.limit_key
          AND {is_before("earlier", "this")} AND {is_served("earlier")}
        LIMIT :most) AS before"""
)

_COUNTED = f"FROM jobs CROSS JOIN {_meeting('jobs')} AS met WHERE jobs.id = ANY(CAST(:ids AS uuid[]))"

COUNT = text(
    f"""
    INSERT INTO limit_admissions (limit_id, organization_id, key, expires_at)
    SELECT met.id, {_whose("jobs")[0]}, {_whose("jobs")[1]}, clock_timestamp() + met.period
    {_COUNTED} AND met.rate IS NOT NULL"""
)

SERVED = text(
    f"""
    INSERT INTO limit_turns (organization_id, limit_id)
    SELECT DISTINCT jobs.organization_id, met.id {_COUNTED} AND met.per = '{Per.PLATFORM}'
    ON CONFLICT (organization_id, limit_id) DO UPDATE SET served_at = clock_timestamp()"""
)

SECONDS_TO_ROOM = text(
    """
    SELECT CASE WHEN EXISTS (SELECT FROM jobs WHERE hold = 'limit')
           THEN extract(EPOCH FROM min(expires_at) - clock_timestamp()) END
    FROM limit_admissions WHERE expires_at > clock_timestamp()"""
)

FORGET = text(
    """
    DELETE FROM limit_admissions
    WHERE id IN (SELECT id FROM limit_admissions WHERE expires_at < clock_timestamp()
                 ORDER BY expires_at LIMIT :batch)"""
)
