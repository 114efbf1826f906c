"""Jobs that wait for one another, in layers from left to right, as boxes and lines that a template writes as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from tracking.reads.graphs import JobGraph
from tracking.states import When
from tracking.workflows.values import NodeState

WIDE, HIGH = 176, 50  # of a box
BETWEEN, BELOW = 76, 18  # two layers; two boxes of one
MARGIN = 12
MOST = 200  # boxes that are drawn
ROOM = (1160, 600)  # width and height of a drawing that is seen as a whole; a larger one can be made small
TALL = 9  # boxes above one another that are seen at once: of more, each layer begins at the top
LONGEST = 18  # characters of a name in a box
WORDS = {When.FAILED: "if it fails", When.FINISHED: "at any end", "sent": "sent it"}  # at a line, where it needs one


@dataclass(frozen=True, slots=True)
class Node:
    """A job to draw. `job_id` None: it was removed. `progress`, in percent, and `error`: where they are known.

    `after`: the keys of those that come before it, and why: a When, chain, chord or sent.
    """

    key: str
    name: str
    job_type: str
    job_id: UUID | None
    status: str
    after: Sequence[tuple[str, str]]
    progress: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Box:
    """A job and its place."""

    x: int
    y: int
    label: str
    node: Node


@dataclass(frozen=True, slots=True)
class Line:
    """What a job comes after: the path from the other one, why, and where the word for that stands; "" = none."""

    path: str
    kind: str
    word: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Graph:
    """What is drawn, and how large it is."""

    boxes: Sequence[Box]
    lines: Sequence[Line]
    width: int
    height: int

    @property
    def is_large(self) -> bool:
        """Whether only a part of it is seen at once."""
        return self.width > ROOM[0] or self.height > ROOM[1]


def of_workflow(jobs: Sequence[NodeState]) -> list[Node]:
    """The jobs of a workflow, by their keys."""
    return [
        Node(
            key=job.node.key,
            name=job.node.key,
            job_type=job.node.job_type,
            job_id=None if job.is_gone else job.job_id,
            status=job.status,
            after=[(after.key, after.when) for after in job.node.after],
            progress=job.progress,
            error=job.error_message,
        )
        for job in jobs
    ]


def of_canvas(found: JobGraph) -> list[Node]:
    """The jobs of a canvas, or what jobs have sent, by their types."""
    before: dict[UUID, dict[str, str]] = {}
    for edge in found.edges:
        before.setdefault(edge.after, {}).setdefault(str(edge.before), edge.when or edge.kind)
    return [
        Node(
            key=str(node.job_id),
            name=node.job_type,
            job_type=node.job_type,
            job_id=node.job_id,
            status=node.status,
            after=list(before.get(node.job_id, {}).items()),
        )
        for node in found.nodes
    ]


def graph(nodes: Sequence[Node]) -> Graph | None:
    """A drawing of these jobs, each right of all that it comes after; None: they are too many."""
    if len(nodes) > MOST:
        return None
    layers = _layers(nodes)
    tallest = max(map(len, layers))
    boxes: dict[str, Box] = {}
    for number, layer in enumerate(layers):
        free = tallest - len(layer) if tallest <= TALL else 0
        top = MARGIN + free * (HIGH + BELOW) // 2
        for row, node in enumerate(layer):
            x, y = MARGIN + number * (WIDE + BETWEEN), top + row * (HIGH + BELOW)
            boxes[node.key] = Box(x, y, _short(node.name), node)
    lines = [
        _line(boxes[key], boxes[node.key], kind, place, len(node.after))
        for node in nodes
        for place, (key, kind) in enumerate(node.after)
    ]
    width = 2 * MARGIN + len(layers) * WIDE + (len(layers) - 1) * BETWEEN
    return Graph(list(boxes.values()), lines, width, 2 * MARGIN + tallest * (HIGH + BELOW) - BELOW)


def _layers(nodes: Sequence[Node]) -> list[list[Node]]:
    """Each job in the layer after the last one of those that it comes after, near to these."""
    by_key = {node.key: node for node in nodes}
    depths: dict[str, int] = {}
    for node in nodes:
        _measure(node, by_key, depths)
    layers: list[list[Node]] = [[] for _ in range(1 + max(depths.values()))]
    for node in nodes:
        layers[depths[node.key]].append(node)
    rows: dict[str, float] = {}
    for layer in layers:
        layer.sort(key=lambda node: _middle(node, rows))
        rows |= {node.key: row - len(layer) / 2 for row, node in enumerate(layer)}
    return layers


def _measure(node: Node, by_key: Mapping[str, Node], depths: dict[str, int]) -> int:
    """How many layers are before a job. Not as deep as MOST: of so many calls Python makes no fuss."""
    if node.key not in depths:
        depths[node.key] = 0  # rows can say anything: those of a circle have an end too
        depths[node.key] = 1 + max((_measure(by_key[key], by_key, depths) for key, _ in node.after), default=-1)
    return depths[node.key]


def _middle(node: Node, rows: Mapping[str, float]) -> float:
    """The mean row of what a job comes after: so lines cross less."""
    before = [rows.get(key, 0.0) for key, _ in node.after]
    return sum(before) / len(before) if before else 0.0


def _line(start: Box, end: Box, kind: str, place: int, of: int) -> Line:
    x1, y1 = start.x + WIDE, start.y + HIGH // 2
    x2, y2 = end.x, end.y + HIGH * (place + 1) // (of + 1)
    bend = min(BETWEEN, abs(x2 - x1) // 2)
    path = f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
    return Line(path, kind, WORDS.get(kind, ""), (x1 + x2) // 2, (y1 + y2) // 2 - 4)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
