"""The graph of a workflow, in layers from left to right, as boxes and lines that a template writes as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tracking.states import When
from tracking.workflows.values import NodeState

WIDE, HIGH = 176, 50  # of a box
BETWEEN, BELOW = 76, 18  # two layers; two boxes of one
MARGIN = 12
MOST = 200  # boxes that are drawn
LONGEST = 18  # characters of a key in a box


@dataclass(frozen=True, slots=True)
class Box:
    """A job."""

    x: int
    y: int
    label: str
    state: NodeState


@dataclass(frozen=True, slots=True)
class Line:
    """What a job waits for: the path from the other one, and where the word for the end stands."""

    path: str
    when: When
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Graph:
    """What is drawn, and how large it is."""

    boxes: Sequence[Box]
    lines: Sequence[Line]
    width: int
    height: int


def graph(jobs: Sequence[NodeState]) -> Graph | None:
    """A drawing of these jobs, each of which comes after all that it waits for; None: they are too many."""
    if len(jobs) > MOST:
        return None
    layers = _layers(jobs)
    tallest = max(map(len, layers))
    boxes: dict[str, Box] = {}
    for number, layer in enumerate(layers):
        top = MARGIN + (tallest - len(layer)) * (HIGH + BELOW) // 2
        for row, job in enumerate(layer):
            x, y = MARGIN + number * (WIDE + BETWEEN), top + row * (HIGH + BELOW)
            boxes[job.node.key] = Box(x, y, _short(job.node.key), job)
    lines = [
        _line(boxes[after.key], boxes[job.node.key], after.when, place, len(job.node.after))
        for job in jobs
        for place, after in enumerate(job.node.after)
    ]
    width = 2 * MARGIN + len(layers) * WIDE + (len(layers) - 1) * BETWEEN
    return Graph(list(boxes.values()), lines, width, 2 * MARGIN + tallest * (HIGH + BELOW) - BELOW)


def _layers(jobs: Sequence[NodeState]) -> list[list[NodeState]]:
    """Each job in the layer after the last one of those that it waits for, near to these."""
    depth: dict[str, int] = {}
    for job in jobs:
        depth[job.node.key] = 1 + max((depth[after.key] for after in job.node.after), default=-1)
    layers: list[list[NodeState]] = [[] for _ in range(1 + max(depth.values()))]
    for job in jobs:
        layers[depth[job.node.key]].append(job)
    rows: dict[str, float] = {}
    for layer in layers:
        layer.sort(key=lambda job: _middle(job, rows))
        rows |= {job.node.key: row - len(layer) / 2 for row, job in enumerate(layer)}
    return layers


def _middle(job: NodeState, rows: Mapping[str, float]) -> float:
    """The mean row of what a job waits for: so lines cross less."""
    before = [rows[after.key] for after in job.node.after]
    return sum(before) / len(before) if before else 0.0


def _line(start: Box, end: Box, when: When, place: int, of: int) -> Line:
    x1, y1 = start.x + WIDE, start.y + HIGH // 2
    x2, y2 = end.x, end.y + HIGH * (place + 1) // (of + 1)
    bend = min(BETWEEN, (x2 - x1) // 2)
    return Line(f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}", when, (x1 + x2) // 2, (y1 + y2) // 2 - 4)


def _short(key: str) -> str:
    return key if len(key) <= LONGEST else f"{key[: LONGEST - 1]}…"
