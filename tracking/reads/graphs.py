"""What belongs to one root, a canvas or a workflow, and what in it waits for what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.models import JobRecord, Scope
from tracking.sql import JOB, SCOPE, in_life
from tracking.states import Event, Hold, Status, When

MOST = 1000  # jobs of a graph, the oldest

Kind = Literal["dependency", "chain", "chord", "sent"]


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A job of a graph."""

    job_id: UUID
    job_type: str
    status: Status
    hold: Hold | None
    group_id: str | None


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """The second job waits for the first, or was sent by it. chain, chord: to be called with its result."""

    before: UUID
    after: UUID
    kind: Kind
    when: When | None = None


@dataclass(frozen=True, slots=True)
class JobGraph:
    """The jobs of a root that the caller sees. `root_id`: of the first job of a canvas, or of a workflow."""

    root_id: UUID
    nodes: Sequence[GraphNode]
    edges: Sequence[GraphEdge]
    is_cut: bool


def graph_of(connection: Connection, job: JobRecord, scope: Scope, *, most: int = MOST) -> JobGraph:
    """The graph to which a job belongs; of more than so many jobs it is cut."""
    root_id = job.root_id or job.id
    scope = Scope(job.organization_id, scope.user_id)
    found = connection.execute(JOBS, {"root_id": root_id, "most": most + 1, **scope.parameters}).all()
    rows = found[:most]
    known = {row.id for row in rows}
    edges = [edge for row in rows for edge in _edges(row, rows) if edge.before in known]
    nodes = [
        GraphNode(row.id, row.job_type, Status(row.status), Hold(row.hold) if row.hold else None, row.group_id)
        for row in rows
    ]
    return JobGraph(root_id, nodes, edges, is_cut=len(found) > most)


def _edges(row: Any, rows: Sequence[Any]) -> Iterator[GraphEdge]:
    for place, awaited in enumerate(row.depends_on):
        when = When(row.depends_when[place]) if row.depends_when else When.SUCCEEDED
        yield GraphEdge(awaited, row.id, "dependency", when)
    if row.followed is not None:
        yield GraphEdge(row.followed, row.id, "chain")
    elif row.followed_group is not None:
        for member in rows:
            if member.group_id == row.followed_group and member.id != row.id:
                yield GraphEdge(member.id, row.id, "chord")
    elif row.parent_id is not None and row.parent_id not in row.depends_on:
        yield GraphEdge(row.parent_id, row.id, "sent")


# What a job followed is in its first row of history: its own row forgets that with its call.
JOBS = text(
    f"""
    SELECT {JOB}, coalesce(follows, CAST(born.detail ->> 'follows' AS uuid)) AS followed,
           coalesce(follows_group, born.detail ->> 'followsGroup') AS followed_group
    FROM jobs LEFT JOIN LATERAL (
        SELECT detail FROM history
        WHERE history.job_id = jobs.id AND {in_life("jobs")} AND event = '{Event.CREATED}'
        ORDER BY history.id LIMIT 1) AS born ON true
    WHERE (jobs.id = :root_id OR root_id = :root_id AND root_id <> jobs.id) AND {SCOPE}
    ORDER BY jobs.created_at, jobs.id
    LIMIT :most"""
)
