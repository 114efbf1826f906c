"""Filling payloads in with the results that they name, once the jobs that have them have ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.admission.holds import FIRST, IN_WINDOW, WINDOW
from tracking.admission.rule import is_dependent
from tracking.models import Changes, Fence, JsonObject
from tracking.sql import jsonb, move
from tracking.states import Event, Hold

ACTOR = "workflow"


@dataclass(frozen=True, slots=True)
class Unfilled:
    """A job that only waits for its payload. `workflow_id`: where the jobs are that have its values.

    `changed_at`: its last change, when its payload was read.
    """

    fence: Fence
    changed_at: datetime
    workflow_id: UUID
    organization_id: str
    job_type: str
    payload: JsonObject


def unfilled(connection: Connection, batch: int, job_id: UUID | None = None, after: UUID = FIRST) -> Sequence[Unfilled]:
    """Those of which all that they wait for has ended as it has to; of what waits for this job, or `after` an id.

    Of the latter, a window, as of `holds.lift_dependents`.
    """
    if job_id is not None:
        rows = connection.execute(UNFILLED, {"batch": batch, "job_id": job_id})
    else:
        rows = connection.execute(UNFILLED_IN_WINDOW, {"batch": batch, "after": after, "window": WINDOW})
    return [
        Unfilled(
            Fence(row.id, row.dispatch), row.updated_at, row.root_id, row.organization_id, row.job_type, row.payload
        )
        for row in rows
    ]


def told(connection: Connection, workflow_id: UUID, keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
    """What payloads may take from these jobs of a workflow, by their keys."""
    rows = connection.execute(TOLD, {"workflow_id": workflow_id, "keys": sorted(keys)})
    return {row.key: row.told for row in rows}


def fill(connection: Connection, waiting: Unfilled, changes: Changes) -> bool:
    """Give a job the payload that it has waited for. False: it waits no more, or was changed since it was read."""
    parameters = {
        **waiting.fence.parameters,
        "changed_at": waiting.changed_at,
        "payload": jsonb(changes.payload),
        "delivery": jsonb(changes.delivery),
        "circuit_key": changes.circuit_key,
        "actor": ACTOR,
    }
    return connection.execute(FILL, parameters).first() is not None


_WAITS = f"hold = '{Hold.DEPENDENCY}' AND unresolved"


def _unfilled(which: str) -> Any:
    return text(
        f"""
    SELECT id, dispatch, updated_at, root_id, organization_id, job_type, payload FROM jobs
    WHERE {_WAITS} AND {which} AND NOT {is_dependent("jobs")}
    LIMIT :batch"""
    )


UNFILLED = _unfilled("depends_on @> ARRAY[CAST(:job_id AS uuid)]")
UNFILLED_IN_WINDOW = _unfilled(IN_WINDOW)

# A job that was removed has nothing to tell.
TOLD = text(
    """
    SELECT key, CASE WHEN jobs.id IS NULL THEN '{}' ELSE
                jsonb_build_object('jobId', jobs.id, 'status', jobs.status, 'result', jobs.result,
                                   'errorType', jobs.error_type, 'errorMessage', jobs.error_message) END AS told
    FROM workflow_jobs LEFT JOIN jobs ON jobs.id = job_id
    WHERE workflow_id = :workflow_id AND key = ANY(CAST(:keys AS text[]))"""
)

FILL = text(
    move(
        Event.EDITED,
        """payload = :payload, delivery = coalesce(delivery || CAST(:delivery AS jsonb), delivery),
            circuit_key = coalesce(CAST(:circuit_key AS text), circuit_key), unresolved = false""",
        "jsonb_build_object('payload', true, 'hold', hold)",
        find=f"""id = :id AND dispatch = :dispatch AND updated_at = :changed_at
          AND {_WAITS} AND NOT {is_dependent("jobs")}""",
        answer="SELECT id FROM moved",
    )
)
