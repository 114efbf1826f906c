"""The graph of a canvas: chains, chords and what jobs have sent, before and after they were called."""

from __future__ import annotations

from uuid import uuid4

from tests.tracked import ACME, OTHERS, Tracked, new_job
from tracking import successors
from tracking.admission.rule import UNLIMITED
from tracking.models import NewJob
from tracking.reads.graphs import GraphEdge, graph_of


def test_a_chain_and_a_chord_are_one_graph(tracked: Tracked) -> None:
    """A chain whose end is a chord has an edge for each that waits, also when it was called, and for what was sent."""
    root = uuid4()
    second = new_job(follows=root, parent_id=root, root_id=root)
    members = [new_job(group_id="g", root_id=root, parent_id=second.id) for _ in range(2)]
    body = new_job(follows_group="g", root_id=root)
    first = successors.submit(
        tracked.connection, new_job(id=root, successors=[second, body]), UNLIMITED, scope=ACME
    ).job
    for member in members:
        tracked.submit(**_said(member))
    elsewhere = tracked.submit()
    expected = {
        GraphEdge(root, second.id, "chain"),
        *(GraphEdge(second.id, member.id, "sent") for member in members),
        *(GraphEdge(member.id, body.id, "chord") for member in members),
    }
    for _ in range(2):
        graph = graph_of(tracked.connection, tracked.get(body.id), ACME)
        assert set(graph.edges) == expected
        assert (graph.root_id, graph.is_cut) == (root, False)
        assert {node.job_id for node in graph.nodes} == {root, second.id, body.id, *(each.id for each in members)}
        if tracked.get(second.id).follows is None:
            break
        tracked.end(tracked.start(first))
        called = new_job(id=second.id, root_id=root, parent_id=root)
        assert successors.call(tracked.connection, called, UNLIMITED, [root])
    assert tracked.get(second.id).follows is None
    alone = graph_of(tracked.connection, elsewhere, ACME)
    assert ([node.job_id for node in alone.nodes], alone.edges) == ([elsewhere.id], [])


def test_nobody_else_sees_a_graph(tracked: Tracked) -> None:
    """A graph has no jobs of other users, and none of another organization."""
    first = tracked.submit()
    tracked.submit(root_id=first.id, parent_id=first.id)
    assert len(graph_of(tracked.connection, first, ACME).nodes) == 2
    others = [scope for scope in OTHERS if scope.user_id == "u2"]
    assert [graph_of(tracked.connection, first, scope).nodes for scope in others] == [[]]


def _said(job: NewJob) -> dict[str, object]:
    return {name: getattr(job, name) for name in ("id", "group_id", "root_id", "parent_id")}
