"""Which job types and organizations have rows, any other name being probably misspelt; and which jobs have ended."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.admission.rule import lines_of
from tracking.sql import listed, own
from tracking.states import ACTIVE, FINISHED


def job_types(connection: Connection) -> set[str]:
    """The types of all jobs that are kept, and of all pauses."""
    return set(connection.execute(JOB_TYPES).scalars())


def has_job_type(connection: Connection, job_type: str, organization_id: str | None) -> bool:
    """Whether there is a job of this type; of the organization, unless that is None."""
    if organization_id is None:
        return job_type in job_types(connection)
    of = {"organization_id": organization_id, "job_type": job_type}
    return bool(connection.execute(HAS_JOB_TYPE, of).scalar())


def organizations(connection: Connection) -> set[str]:
    """The organizations that have a job."""
    return set(connection.execute(ORGANIZATIONS).scalars())


def ended(connection: Connection, job_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these jobs that have ended."""
    return set(connection.execute(ENDED, {"ids": list(job_ids)}).scalars())


ENDED = text(f"SELECT id FROM jobs WHERE id = ANY(:ids) AND status IN ({listed(FINISHED)})")

# One step of an index for each name, however many jobs bear it.
JOB_TYPES = text(
    f"""
    WITH RECURSIVE ended AS (
        (SELECT job_type FROM jobs WHERE completed_at IS NOT NULL ORDER BY job_type LIMIT 1)
        UNION ALL
        SELECT (SELECT job_type FROM jobs WHERE completed_at IS NOT NULL AND job_type > ended.job_type
                ORDER BY job_type LIMIT 1)
        FROM ended WHERE job_type IS NOT NULL
    )
    SELECT job_type FROM ended WHERE job_type IS NOT NULL
    UNION SELECT job_type FROM jobs WHERE status IN ({listed(ACTIVE)})
    UNION SELECT job_type FROM pauses WHERE job_type IS NOT NULL"""
)
_IS_ONE = f"{own()} AND job_type = :job_type"
HAS_JOB_TYPE = text(
    f"""
    SELECT EXISTS (SELECT FROM jobs WHERE {_IS_ONE} AND completed_at IS NOT NULL)
        OR EXISTS (SELECT FROM jobs WHERE {_IS_ONE} AND status IN ({listed(ACTIVE)}))"""
)
ORGANIZATIONS = text(
    f"""
    WITH RECURSIVE {lines_of("true")}
    SELECT organization_id FROM lines WHERE organization_id IS NOT NULL"""
)
