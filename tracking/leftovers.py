"""What a cleanup job looks for in the rows of an organization: results without a file, and old idempotency keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

BATCH = 500  # rows of one statement


@dataclass(frozen=True, slots=True)
class Exported:
    """A job that has succeeded with a file."""

    job_id: UUID
    download_url: str


def exported(
    connection: Connection, organization_id: str, job_types: Sequence[str], younger_than: timedelta
) -> Iterator[Exported]:
    """The jobs of an organization, of these types, that have succeeded with a file since then, newest first."""
    parameters: dict[str, Any] = {
        "organization_id": organization_id,
        "job_types": list(job_types),
        "age": younger_than,
        "most": BATCH,
    }
    place: dict[str, Any] = {"before": None, "before_id": UUID(int=0)}
    while True:
        rows = connection.execute(EXPORTED, {**parameters, **place}).all()
        for row in rows:
            if row.download_url is not None:
                yield Exported(row.id, row.download_url)
        if len(rows) < BATCH:
            return
        place = {"before": rows[-1].created_at, "before_id": rows[-1].id}


def old_keys(connection: Connection, organization_id: str, older_than: timedelta) -> int:
    """How many idempotency keys are of what ended longer ago."""
    return int(connection.execute(OLD_KEYS, {"organization_id": organization_id, "age": older_than}).scalar_one())


def forget_keys(connection: Connection, organization_id: str, older_than: timedelta) -> int:
    """Forget some of these keys, so that they can be used again. Returns how many; 0: there are none left."""
    parameters = {"organization_id": organization_id, "age": older_than, "most": BATCH}
    return int(connection.execute(FORGET_KEYS, parameters).scalar_one())


EXPORTED = text(
    """
    SELECT id, created_at, CASE WHEN status = 'succeeded' AND jsonb_typeof(result) = 'object'
                                THEN result ->> 'downloadUrl' END AS download_url
    FROM jobs
    WHERE organization_id = :organization_id AND job_type = ANY(CAST(:job_types AS text[]))
      AND created_at >= clock_timestamp() - CAST(:age AS interval)
      AND (CAST(:before AS timestamptz) IS NULL
           OR (created_at, id) < (CAST(:before AS timestamptz), CAST(:before_id AS uuid)))
    ORDER BY created_at DESC, id DESC LIMIT :most"""
)

# Of jobs alone: bulk operations and workflows are kept for less long, and their keys with them.
_OLD = """organization_id = :organization_id AND idempotency_key IS NOT NULL
      AND status IN ('succeeded', 'failed', 'cancelled') AND NOT stopping
      AND completed_at < clock_timestamp() - CAST(:age AS interval)"""

OLD_KEYS = text(f"SELECT count(*) FROM jobs WHERE {_OLD}")

FORGET_KEYS = text(
    f"""
    WITH old AS (
        SELECT id FROM jobs WHERE {_OLD} LIMIT :most FOR UPDATE SKIP LOCKED
    ), forgotten AS (
        UPDATE jobs SET idempotency_key = NULL, request_hash = NULL FROM old WHERE jobs.id = old.id RETURNING jobs.id
    )
    SELECT count(*) FROM forgotten"""
)
