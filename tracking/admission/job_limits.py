"""Limits of types and keys: how many jobs may execute at once, and how many may be sent in a second, minute or hour.

A limit counts over the whole platform, in each organization, or for each value of a key in the payload. Of these three
one each applies to a job of a type, and a fourth, a rate, to all jobs of its organization; what an organization has of
its own stands instead of what all have. Who is within them is in within.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, select, text
from sqlalchemy.dialects.postgresql import insert

from tracking import audit
from tracking.admission.rule import BY_ADMISSION, SENT
from tracking.audit import Deed
from tracking.audited import Action
from tracking.errors import LimitNotFound
from tracking.limit_tables import job_limits
from tracking.origins import Origin
from tracking.schema import IN_FLIGHT
from tracking.sql import listed, move
from tracking.states import WAITING, Event

LIMITS = 0x6C696D69  # "limi": the space of the lock of all limits; any constant will do
SHARED = LIMITS + 1  # the space of the locks of limits that all organizations share
LONGEST_KEY = 200  # bytes of a key as it is; of a longer one a digest is kept, because an index has it


class Per(StrEnum):
    """What has a count of its own: the whole platform, each organization, or each value of a key in one."""

    PLATFORM = "platform"
    ORGANIZATION = "organization"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A limit that somebody sets, of one organization (None: of each), for one type (None: for all, together).

    `key_path`: where the payload has the key, names with dots. `concurrency`: jobs that may execute at once. `rate`:
    jobs that may be sent in each `period`. None: any number; a limit with neither takes what all have off an
    organization.
    """

    organization_id: str | None
    job_type: str | None
    per: Per
    key_path: str | None
    concurrency: int | None
    rate: int | None
    period: timedelta | None


@dataclass(frozen=True, slots=True)
class JobLimit(Wanted):
    """A limit that is set."""

    id: UUID
    changed_by: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Known:
    """Whether there are limits at all, or jobs that wait for one; `shared`: limits of all organizations together."""

    any: bool
    shared: bool


def listed_limits(connection: Connection) -> list[JobLimit]:
    """All limits, those of all organizations first, by type."""
    order = (job_limits.c.organization_id.nulls_first(), job_limits.c.job_type.nulls_first(), job_limits.c.per)
    return [limit_of_row(row) for row in connection.execute(select(job_limits).order_by(*order))]


def put(connection: Connection, limit_id: UUID, wanted: Wanted, *, actor: str, origin: Origin | None) -> JobLimit:
    """Set a limit, from now on. What runs goes on and counts; what was sent and has not started waits again.

    It has this id, unless it takes the place of another one. Wants a transaction: nobody lets jobs through meanwhile.
    """
    connection.execute(ALONE, {"limits": LIMITS})
    values = {name: getattr(wanted, name) for name in Wanted.__dataclass_fields__}
    values |= {"id": limit_id, "changed_by": actor}
    given = insert(job_limits).values(values)
    changed = {name: given.excluded[name] for name in ("key_path", "concurrency", "rate", "period", "changed_by")}
    statement = given.on_conflict_do_update(
        constraint="job_limits_once", set_={**changed, "changed_at": text("clock_timestamp()")}
    ).returning(job_limits)
    limit = limit_of_row(connection.execute(statement).one())
    _look_again(connection, limit)
    audit.write(connection, origin, _deed(Action.PUT_LIMIT, limit, actor))
    return limit


def remove(connection: Connection, limit_id: UUID, *, actor: str, origin: Origin | None) -> JobLimit:
    """Take a limit away; what waited for it is let through by the next look. Raises LimitNotFound."""
    connection.execute(ALONE, {"limits": LIMITS})
    row = connection.execute(delete(job_limits).where(job_limits.c.id == limit_id).returning(job_limits)).first()
    if row is None:
        raise LimitNotFound(f"there is no limit {limit_id}")
    limit = limit_of_row(row)
    _look_again(connection, limit)
    audit.write(connection, origin, _deed(Action.REMOVE_LIMIT, limit, actor))
    return limit


def known(connection: Connection) -> Known:
    """Whether there are limits, or jobs that wait for one; and whether organizations share any."""
    return Known(*connection.execute(KNOWN).one())


def limit_of_row(row: Any) -> JobLimit:
    """The limit of a row of `job_limits`, whatever else it has."""
    values = row if isinstance(row, Mapping) else row._mapping  # noqa: SLF001 - a public name
    found = {name: values[name] for name in JobLimit.__dataclass_fields__}
    return JobLimit(**{**found, "per": Per(found["per"])})


def _look_again(connection: Connection, limit: JobLimit) -> None:
    if limit.job_type is None:
        return  # a rate, which counts what is sent from now on
    about = {"organization_id": limit.organization_id, "job_type": limit.job_type}
    connection.execute(TAKE_BACK, about)
    connection.execute(COUNT_RUNNING, about)
    if limit.per is Per.KEY:
        connection.execute(LOOK_AGAIN, about)


def _deed(action: Action, limit: JobLimit, actor: str) -> Deed:
    told = {
        "id": str(limit.id),
        "per": limit.per,
        "key": limit.key_path,
        "concurrency": limit.concurrency,
        "rate": limit.rate,
        "period": None if limit.period is None else limit.period.total_seconds(),
    }
    return Deed(action, actor, limit.organization_id, limit.job_type, detail=told)


def key_of(job: str) -> str:
    """SQL: the key of a job's payload, '' = none, by the limit that applies to it."""
    return f"""coalesce((
        SELECT CASE WHEN octet_length(key.value) > {LONGEST_KEY} THEN 'md5:' || md5(key.value) ELSE key.value END
        FROM (SELECT {job}.payload #>> string_to_array(key_path, '.') AS value FROM job_limits
              WHERE per = 'key' AND job_limits.job_type = {job}.job_type
                AND coalesce(job_limits.organization_id, {job}.organization_id) = {job}.organization_id
              ORDER BY job_limits.organization_id NULLS LAST LIMIT 1) AS key), '')"""


KNOWN = text(
    f"""
    SELECT (EXISTS (SELECT FROM job_limits) OR EXISTS (SELECT FROM jobs WHERE hold = 'limit')) AS has_any,
           EXISTS (SELECT FROM job_limits WHERE per = '{Per.PLATFORM}') AS has_shared"""
)

ALONE = text("SELECT pg_advisory_xact_lock(:limits, 0)")

_OF_TYPE = "job_type = :job_type AND coalesce(CAST(:organization_id AS text), organization_id) = organization_id"

TAKE_BACK = text(
    move(
        Event.HELD,
        "hold = 'limit', limit_key = NULL, dispatched_at = NULL",
        "jsonb_build_object('hold', hold, 'reason', 'a limit was changed')",
        locked=f"""SELECT id, status AS from_status FROM jobs
        WHERE limit_key IS NOT NULL AND {IN_FLIGHT} AND {_OF_TYPE} AND {SENT}
        FOR UPDATE""",
        guard=f"from_status IN ({listed(WAITING)})",
        by=BY_ADMISSION,
    )
)

LOOK_AGAIN = text(f"UPDATE jobs SET limit_key = NULL WHERE hold = 'limit' AND limit_key IS NOT NULL AND {_OF_TYPE}")

COUNT_RUNNING = text(
    f"""
    UPDATE jobs SET limit_key = {key_of("jobs")}
    WHERE (status = 'running' OR stopping) AND NOT external AND {_OF_TYPE}"""
)
