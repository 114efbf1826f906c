"""The graph of a root, as clients see it."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import Field

from api.schemas.answers import Answered
from tracking.states import Hold, Status, When


class GraphNode(Answered):
    """A job."""

    job_id: UUID
    job_type: str
    status: Status
    hold: Hold | None
    group_id: str | None


class GraphEdge(Answered):
    """What waits for what, or was sent by it."""

    before: UUID
    after: UUID
    kind: Literal["dependency", "chain", "chord", "sent"] = Field(
        description="chain, chord: it is called with the result; sent: the body of the first one has sent it."
    )
    when: When | None = Field(description="Of a dependency: the end that is waited for.")


class JobGraph(Answered):
    """The jobs of a canvas or a workflow that the caller sees."""

    root_id: UUID = Field(description="The first job of the canvas, or the workflow.")
    nodes: list[GraphNode]
    edges: list[GraphEdge]
    is_cut: bool = Field(description="There are more jobs, which are left out.")
