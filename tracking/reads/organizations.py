"""All organizations with what they may do and what they do, for the operators of the platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, text

from tracking.admission.rule import Limits, limit_of, lines_of, weight_of
from tracking.schema import IN_FLIGHT
from tracking.sql import listed
from tracking.states import WAITING, Hold, Status


@dataclass(frozen=True, slots=True)
class OrganizationState:
    """An organization: what it may do, and what it does.

    `limit`: how many of its jobs may execute at once, 0 = any number; `executing`: those that hold a slot, `in_line`
    those that wait for one. `waiting`: all that wait, of `waiting_limit` (None: as many as by default).
    `finished`, `failed` and `worker_time`, that of the last attempts: of the jobs that ended within the window.
    `oldest`: how long the first of those in line has waited.
    """

    id: str
    limit: int
    is_default_limit: bool
    weight: int
    waiting_limit: int | None
    executing: int
    in_line: int
    waiting: int
    oldest: timedelta | None
    finished: int
    failed: int
    worker_time: timedelta

    @property
    def is_full(self) -> bool:
        """Whether jobs of it wait because all its slots are taken."""
        return 0 < self.limit <= self.executing and self.in_line > 0


def page(
    connection: Connection, limits: Limits, *, window: timedelta, after: str, size: int
) -> Sequence[OrganizationState]:
    """The organizations that have a job, or a limit or weight of their own, by name, after this one ("": the first)."""
    parameters = {"window": window, "after": after, "size": size, **limits.parameters}
    return [OrganizationState(**row._mapping) for row in connection.execute(PAGE, parameters)]  # noqa: SLF001 - a public name


def one(connection: Connection, organization_id: str, limits: Limits, *, window: timedelta) -> OrganizationState:
    """The same of one organization, whether it has a job or not."""
    parameters = {"window": window, "organization_id": organization_id, **limits.parameters}
    return OrganizationState(**connection.execute(ONE, parameters).one()._mapping)  # noqa: SLF001 - as above


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another organization in the same queues: `taken` of their slots are its, and `in_line` jobs of it wait there.

    `oldest`: how long the first of these has waited.
    """

    id: str
    queues: Sequence[str]
    taken: int
    in_line: int
    oldest: timedelta | None


def neighbours(connection: Connection, organization_id: str) -> Sequence[Neighbour]:
    """Who shares the queues in which it has jobs in line or in slots, at most MOST_NEIGHBOURS: most slots first."""
    parameters = {"organization_id": organization_id, "most": MOST_NEIGHBOURS}
    return [Neighbour(**row._mapping) for row in connection.execute(NEIGHBOURS, parameters)]  # noqa: SLF001 - as above


MOST_NEIGHBOURS = 20

_OF_THIS = "organization_id = this.id"
_WAITS = f"status IN ({listed(WAITING)}) AND hold IS DISTINCT FROM '{Hold.EXTERNAL}'"

# now(), not clock_timestamp(): an index is searched for what stays the same throughout a statement.
_STATE = f"""
    SELECT this.id, {limit_of("this.id")} AS "limit",
           NOT EXISTS (SELECT FROM organizations WHERE organizations.id = this.id) AS is_default_limit,
           {weight_of("this.id")} AS weight,
           (SELECT most FROM waiting_limits WHERE {_OF_THIS}) AS waiting_limit,
           (SELECT count(*) FROM jobs WHERE {_OF_THIS} AND {IN_FLIGHT}) AS executing,
           line.in_line, (SELECT count(*) FROM jobs WHERE {_OF_THIS} AND {_WAITS}) AS waiting, line.oldest,
           ended.finished, ended.failed, ended.worker_time"""
_BESIDE = f"""
    CROSS JOIN LATERAL (
        SELECT count(*) AS in_line, clock_timestamp() - min(created_at) AS oldest
        FROM jobs WHERE {_OF_THIS} AND hold = '{Hold.ORGANIZATION_LIMIT}'
    ) AS line
    CROSS JOIN LATERAL (
        SELECT count(*) AS finished, count(*) FILTER (WHERE status = '{Status.FAILED}') AS failed,
               coalesce(sum(completed_at - started_at), interval '0') AS worker_time
        FROM jobs WHERE {_OF_THIS} AND completed_at IS NOT NULL AND completed_at > now() - CAST(:window AS interval)
    ) AS ended"""

ONE = text(f"{_STATE} FROM (SELECT CAST(:organization_id AS text) AS id) AS this {_BESIDE}")

# Those that deliver for another organization are none of their own; see webhooks.DELIVERING.
PAGE = text(
    f"""
    WITH RECURSIVE {lines_of("organization_id > :after")}, known AS (
        (SELECT organization_id AS id FROM lines WHERE organization_id NOT LIKE 'webhooks:%' LIMIT :size)
        UNION (SELECT id FROM organizations WHERE id > :after ORDER BY id LIMIT :size)
        UNION (SELECT organization_id FROM organization_weights WHERE organization_id > :after
               ORDER BY organization_id LIMIT :size)
        UNION (SELECT organization_id FROM waiting_limits WHERE organization_id > :after
               ORDER BY organization_id LIMIT :size)
    )
    {_STATE} FROM (SELECT id FROM known ORDER BY id LIMIT :size) AS this {_BESIDE}
    ORDER BY this.id"""
)

# What is in a slot or in line is little, and in two indexes of its own.
NEIGHBOURS = text(
    f"""
    WITH there AS (
        SELECT organization_id, queue, true AS is_taken, created_at FROM jobs WHERE {IN_FLIGHT}
        UNION ALL
        SELECT organization_id, queue, false, created_at FROM jobs WHERE hold = '{Hold.ORGANIZATION_LIMIT}'
    )
    SELECT organization_id AS id, array_agg(DISTINCT queue) AS queues, count(*) FILTER (WHERE is_taken) AS taken,
           count(*) FILTER (WHERE NOT is_taken) AS in_line,
           clock_timestamp() - min(created_at) FILTER (WHERE NOT is_taken) AS oldest
    FROM there
    WHERE organization_id <> :organization_id AND organization_id NOT LIKE 'webhooks:%'
      AND queue IN (SELECT queue FROM there WHERE organization_id = :organization_id)
    GROUP BY organization_id
    ORDER BY taken DESC, in_line DESC, id LIMIT :most"""
)
