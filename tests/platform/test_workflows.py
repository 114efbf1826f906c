"""A workflow with a real worker on each broker: in order, with values, a failure, and what follows it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from tasks import app, workflows
from tests import sample_handlers
from tests.live import LivePlatform, eventually
from tests.tracked import Tracked
from tests.workflowing import Flow
from tracking.admission.rule import UNLIMITED
from tracking.models import Owner, Scope
from tracking.origins import By
from tracking.states import When
from tracking.workflows import keeping, reads
from tracking.workflows.values import After, NewWorkflow, Node

OWNER = Owner("default", "u1")
NODES = [
    Node("count", sample_handlers.count_words.name, {"words": ["a", "b", "c"]}),
    Node("sum", "add", {"x": {"$from": "count", "path": "/result/wordCount"}, "y": 4}, [After("count")]),
    Node("wrong", "count_words", {"words": {"$from": "sum"}}, [After("sum")]),
    Node("alarm", "count_words", {"words": [{"$from": "wrong", "path": "/status"}]}, [After("wrong", When.FAILED)]),
    Node("never", "count_words", {}, [After("wrong")]),
    Node("tidy", "count_words", {}, [After("never", When.FINISHED), After("alarm", When.FINISHED)]),
]
EXPECTED = {
    "count": "succeeded",
    "sum": "succeeded",
    "wrong": "failed",
    "alarm": "succeeded",
    "never": "skipped",
    "tidy": "succeeded",
}


def test_a_workflow_runs_to_its_end(platform: LivePlatform) -> None:
    """Jobs run in order with earlier results, one whose value does not fit fails, and what waits for that runs."""
    takers: Any = {node.job_type: app.tasks[node.job_type] for node in NODES}
    workflow_id = uuid4()
    draft = workflows.draft(takers, NODES, workflows.Asked(workflow_id, OWNER, None, "u1"))
    assert not draft.problems
    with platform.database.begin() as connection:
        new = NewWorkflow(workflow_id, OWNER, "nightly", draft.jobs)
        keeping.create(connection, new, UNLIMITED, by=By("u1"))
    platform.start_worker(concurrency=2)
    with platform.database.autocommit() as connection:
        flow = Flow(platform.database, Tracked(connection), workflow_id)
        scope = Scope("default", None)
        eventually(lambda: reads.get(connection, workflow_id, scope).is_over, within=40, what="the end of the workflow")
        assert flow.states == EXPECTED
        assert flow.job("sum").result == 7
        assert flow.job("alarm").payload["words"] == ["failed"]
        assert str(flow.job("wrong").error_message).startswith("payload.words: Input should be a valid tuple")
        starts = [flow.job(key).started_at for key in ("count", "sum", "alarm", "tidy")]
        assert starts == sorted(starts, key=str)
        now = reads.get(connection, workflow_id, scope)
        assert (now.status, now.progress) == ("failed", 100)
        assert now.worker_time.total_seconds() > 0
