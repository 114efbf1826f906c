"""Reading workflows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.errors import WorkflowNotFound
from tracking.models import Scope
from tracking.sql import SCOPE, own
from tracking.states import Hold, When
from tracking.workflow_tables import WorkflowStatus
from tracking.workflows.state import SHOWN, STATE, WITH_STATE, nodes
from tracking.workflows.values import After, Node, NodeState, Workflow


@dataclass(frozen=True, slots=True)
class Workflows:
    """A page of workflows, newest first. `next_cursor`: the id after which the next one begins; None: there is none."""

    workflows: Sequence[Workflow]
    next_cursor: UUID | None


def get(connection: Connection, workflow_id: UUID, scope: Scope) -> Workflow:
    """One workflow. Raises WorkflowNotFound, also for one outside of the scope."""
    row = connection.execute(GET, {"id": workflow_id, **scope.parameters}).first()
    if row is None:
        raise WorkflowNotFound
    return Workflow.of(row)


def page(
    connection: Connection,
    scope: Scope,
    *,
    statuses: Sequence[WorkflowStatus],
    name: str | None,
    cursor: UUID | None,
    size: int,
) -> Workflows:
    """The workflows of the scope, newest first, that follow the one at `cursor`.

    `statuses`: those that are so; none: in any. `name`: all of this name.
    """
    parameters = {"statuses": [*map(str, statuses)] or None, "name": name, "cursor": cursor, "size": size + 1}
    statement = EVERYWHERE if scope.is_everywhere else PAGE
    rows = connection.execute(statement, {**parameters, **scope.parameters}).all()
    found = [Workflow.of(row) for row in rows[:size]]
    return Workflows(found, found[-1].id if len(rows) > size else None)


def jobs_of(connection: Connection, workflow_id: UUID) -> list[NodeState]:
    """Its jobs as they are now, each after all that it waits for. The caller checks who may see it."""
    return [node_of(row) for row in connection.execute(JOBS, {"id": workflow_id})]


def node_of(row: Any) -> NodeState:
    """A row of `nodes` as a value."""
    node = Node(
        key=row.key,
        job_type=row.job_type,
        payload=row.payload,
        after=tuple(After(each["key"], When(each["when"])) for each in row.after),
        priority=row.priority,
        max_retries=row.max_retries,
        scheduled_at=row.scheduled_at,
        message=row.message,
        metadata=row.metadata,
    )
    return NodeState(
        node=node,
        job_id=row.job_id,
        run=row.run,
        status=row.status_now,
        is_gone=row.is_gone,
        hold=Hold(row.hold) if row.hold else None,
        progress=row.progress,
        stopping=row.stopping,
        error_message=row.error_message,
        started_at=row.started_at,
        completed_at=row.completed_at,
    )


GET = text(f"SELECT {SHOWN} FROM {WITH_STATE} WHERE workflows.id = :id AND {SCOPE}")

# Of one that has ended its own row says how; of the others, of which there are few, their jobs are asked.
_FILTERED = f"""(CAST(:name AS text) IS NULL OR name = :name)
          AND (CAST(:cursor AS uuid) IS NULL
               OR (created_at, id) < (SELECT created_at, id FROM workflows AS last WHERE last.id = :cursor))
          AND (CAST(:statuses AS text[]) IS NULL
               OR CASE WHEN completed_at IS NOT NULL THEN status
                  ELSE (SELECT status_now FROM ({STATE}) AS state) END = ANY(CAST(:statuses AS text[])))
        ORDER BY created_at DESC, id DESC
        LIMIT :size"""

_SHOWN = f"""SELECT {SHOWN} FROM {WITH_STATE} WHERE workflows.id IN (SELECT id FROM found)
    ORDER BY workflows.created_at DESC, workflows.id DESC"""

PAGE = text(
    f"""
    WITH found AS MATERIALIZED (
        SELECT id FROM workflows
        WHERE {SCOPE} AND {_FILTERED}
    )
    {_SHOWN}"""
)

# As reads/everywhere.py: of each organization what its index answers.
EVERYWHERE = text(
    f"""
    WITH RECURSIVE whose AS (
        SELECT min(organization_id) AS id FROM workflows
        UNION ALL
        SELECT (SELECT min(organization_id) FROM workflows WHERE organization_id > whose.id)
        FROM whose WHERE whose.id IS NOT NULL
    ), found AS MATERIALIZED (
        SELECT theirs.id FROM whose CROSS JOIN LATERAL (
            SELECT id, created_at FROM workflows
            WHERE {own(asking="whose.id")} AND {_FILTERED}
        ) AS theirs
        ORDER BY theirs.created_at DESC, theirs.id DESC
        LIMIT :size
    )
    {_SHOWN}"""
)

JOBS = text(f"{nodes('node.workflow_id = :id')} ORDER BY node.place")
