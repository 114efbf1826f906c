"""Which jobs of a canvas wait for the result of another, and which of them wait for what is over."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.admission.rule import is_followed
from tracking.models import UNCALLED, JobRecord
from tracking.sql import JOB, listed, record
from tracking.states import ACTIVE, FINISHED, Status


def incomplete_headers(connection: Connection, age: timedelta, batch: int) -> list[str]:
    """Groups of which no member is left to end, and whose bodies have waited for `age`: not all members were sent.

    Or one of them was no new job: its signature had been frozen, and sent in another canvas before.
    """
    return list(connection.execute(INCOMPLETE_HEADERS, {"age": age, "batch": batch}).scalars())


def awaited(connection: Connection, job: JobRecord) -> list[UUID]:
    """The jobs whose results a job will be called with; none when it was, or is no successor."""
    if job.follows is not None:
        return [job.follows]
    if job.follows_group is None:
        return []
    return list(connection.execute(MEMBERS, {"group_id": job.follows_group}).scalars())


def errbacks(connection: Connection, job: JobRecord) -> list[JobRecord]:
    """What was called as the header of a chord failed, in the order of its calls; `job`: the body, which never ran.

    What follows the body has it as the parent as well, and has failed with it.
    """
    parameters = {"id": job.id, "root_id": job.root_id or job.id}
    return [record(row) for row in connection.execute(ERRBACKS, parameters)]


def are_waiting(connection: Connection, job_id: UUID) -> bool:
    """Whether a job is over that others still wait for, itself or as a member of its group."""
    return bool(connection.execute(ARE_WAITING, {"id": job_id}).scalar())


def left_behind(connection: Connection, batch: int) -> list[UUID]:
    """Jobs that are over and have successors that still wait for them."""
    return list(connection.execute(LEFT_BEHIND, {"batch": batch}).scalars())


MEMBERS = text(
    """
    SELECT id FROM jobs
    WHERE group_id = :group_id AND follows_group IS DISTINCT FROM :group_id
    ORDER BY group_index, id"""
)

ERRBACKS = text(
    f"""
    SELECT {JOB} FROM jobs
    WHERE root_id = :root_id AND root_id <> id AND parent_id = :id AND error_type IS DISTINCT FROM '{UNCALLED}'
    ORDER BY created_at, group_index, id"""
)

ARE_WAITING = text(f"""SELECT {is_followed("jobs")} FROM jobs WHERE id = :id AND status IN ({listed(FINISHED)})""")

LEFT_BEHIND = text(
    f"""
    SELECT ended.id FROM jobs AS waiting JOIN jobs AS ended ON ended.id = waiting.follows
    WHERE waiting.hold = 'dependency' AND ended.status IN ({listed(FINISHED)})
    UNION
    SELECT ended.id
    FROM (SELECT DISTINCT follows_group FROM jobs WHERE hold = 'dependency' AND follows_group IS NOT NULL) AS waiting
    JOIN jobs AS ended ON ended.group_id = waiting.follows_group
    WHERE ended.status IN ('{Status.FAILED}', '{Status.CANCELLED}')
      AND ended.follows_group IS DISTINCT FROM waiting.follows_group
    LIMIT :batch"""
)

INCOMPLETE_HEADERS = text(
    f"""
    SELECT DISTINCT body.follows_group FROM jobs AS body
    WHERE body.hold = 'dependency' AND body.follows_group IS NOT NULL
      AND body.created_at < clock_timestamp() - CAST(:age AS interval)
      AND NOT EXISTS (SELECT FROM jobs AS member
                      WHERE member.group_id = body.follows_group AND member.status IN ({listed(ACTIVE)})
                        AND member.follows_group IS DISTINCT FROM body.follows_group)
    LIMIT :batch"""
)
