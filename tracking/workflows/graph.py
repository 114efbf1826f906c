"""Whether jobs that wait for each other can all come to an end, and in which order they are made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter

from tracking.models import JsonObject
from tracking.values import MOST_DEPENDENCIES
from tracking.workflows.references import Misfit, Place, references
from tracking.workflows.values import MOST_JOBS, Node

MOST_CYCLES = 20  # that are told of


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a workflow, and where: such as `jobs.load.after.0`."""

    place: str
    message: str


def problems(nodes: Sequence[Node]) -> list[Problem]:
    """All that is wrong with these jobs beside their types and the values of their payloads; none: they are fit."""
    if len(nodes) > MOST_JOBS:
        return [Problem("jobs", f"a workflow has {MOST_JOBS} jobs at most, not {len(nodes)}")]
    known = {node.key: node for node in nodes}
    found = [problem for node in nodes for problem in _of_edges(node, known)]
    cycles = list(_cycles(known))
    found += [Problem(f"jobs.{cycle[0]}.after", f"they wait for each other: {' → '.join(cycle)}") for cycle in cycles]
    if not cycles:
        before = _before(known)
        found += [problem for node in nodes for problem in _of_references(node, known, before[node.key])]
    return found


def in_order(nodes: Iterable[Node]) -> list[Node]:
    """The jobs of a graph without problems, each after all that it waits for."""
    known = {node.key: node for node in nodes}
    return [known[key] for key in TopologicalSorter(_edges(known)).static_order()]


def following(nodes: Sequence[Node], keys: Iterable[str]) -> set[str]:
    """These keys, and those of all jobs that follow them, directly or through others; `nodes` are in order."""
    found = set(keys)
    for node in nodes:
        if any(after.key in found for after in node.after):
            found.add(node.key)
    return found


def misplaced(nodes: Iterable[Node], key: str, payload: JsonObject) -> list[tuple[Place, str]]:
    """What is wrong with the references of this payload for a job of a graph without problems, and where."""
    known = {node.key: node for node in nodes}
    return list(_misplaced(replace(known[key], payload=payload), known, _before(known)[key]))


def _edges(known: Mapping[str, Node]) -> dict[str, list[str]]:
    return {key: [after.key for after in node.after if after.key in known] for key, node in known.items()}


def _of_edges(node: Node, known: Mapping[str, Node]) -> Iterator[Problem]:
    place, seen = f"jobs.{node.key}.after", set[str]()
    if len(node.after) > MOST_DEPENDENCIES:
        yield Problem(place, f"a job waits for {MOST_DEPENDENCIES} others at most, not {len(node.after)}")
    for index, after in enumerate(node.after):
        if after.key not in known:
            yield Problem(f"{place}.{index}.key", f"there is no job {after.key!r} in this workflow")
        elif after.key in seen:
            yield Problem(f"{place}.{index}.key", f"it waits for {after.key!r} already")
        seen.add(after.key)


def _cycles(known: Mapping[str, Node]) -> Iterator[list[str]]:
    """One after the other: an edge of each that was found is taken away, and it is looked again."""
    edges = _edges(known)
    for _ in range(MOST_CYCLES):
        try:
            TopologicalSorter(edges).prepare()
        except CycleError as error:
            cycle: list[str] = error.args[1]
            yield cycle[::-1]  # each waits for the next one
            edges[cycle[1]] = [key for key in edges[cycle[1]] if key != cycle[0]]
        else:
            return


def _before(known: Mapping[str, Node]) -> dict[str, set[str]]:
    """What each job waits for, directly or through others."""
    edges, before = _edges(known), dict[str, set[str]]()
    for key in TopologicalSorter(edges).static_order():
        before[key] = {*edges[key], *(each for earlier in edges[key] for each in before[earlier])}
    return before


def _of_references(node: Node, known: Mapping[str, Node], before: set[str]) -> Iterator[Problem]:
    for place, message in _misplaced(node, known, before):
        yield Problem(".".join(map(str, ("jobs", node.key, "payload", *place))), message)


def _misplaced(node: Node, known: Mapping[str, Node], before: set[str]) -> Iterator[tuple[Place, str]]:
    for found in references(node.payload):
        if isinstance(found, Misfit):
            yield found.place, found.reason
        elif found.key not in known:
            yield found.place, f"there is no job {found.key!r} in this workflow"
        elif found.key not in before:
            yield found.place, f"{node.key!r} does not wait for {found.key!r}, whose result may not be there then"
