"""docs/workflows.md: its example is a workflow of handlers that there are, and its tables are those of the API."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from api.routes.workflows import router
from api.schemas.workflows import EXAMPLE, NewWorkflow, WorkflowJob
from tasks import app, workflows
from tests.project.test_handler_docs import DOCS, blocks
from tracking.models import Owner
from tracking.states import When
from tracking.workflow_tables import WorkflowStatus
from tracking.workflows.references import TOLD
from tracking.workflows.values import MOST_JOBS

TEXT = (DOCS / "workflows.md").read_text()


def drafted(example: Any) -> workflows.Draft:
    """What the API makes of an example."""
    nodes = NewWorkflow.model_validate(example).nodes
    takers: Any = {node.job_type: app.tasks[node.job_type] for node in nodes}
    return workflows.draft(takers, nodes, workflows.Asked(uuid4(), Owner("acme", "u1"), None, "u1"))


def test_the_examples_are_workflows() -> None:
    """The workflows of docs/workflows.md and of the API's description are accepted as they stand."""
    [block] = blocks("workflows.md", "json")
    for example in (json.loads(block), EXAMPLE):
        found = drafted(example)
        assert not found.problems
        assert {node.key for node, _ in found.jobs} == example["jobs"].keys()
        waiting = [job for node, job in found.jobs if node.after]
        assert [job.unresolved for job in waiting if "$from" in json.dumps(dict(job.payload))].count(True) >= 1


def test_every_field_and_every_route_is_told() -> None:
    """Every field of a workflow, every address of the API for them, and every word of an answer is in the page."""
    fields = {str(field.alias) for model in (NewWorkflow, WorkflowJob) for field in model.model_fields.values()}
    paths = {getattr(route, "path", "") for route in router.routes}
    words = {*map(str, When), *map(str, WorkflowStatus), *TOLD, workflows.UNFIT}
    assert {word for word in fields | words if f"`{word}`" not in TEXT} == set()
    assert {path for path in paths if path not in TEXT} == set()
    assert f"{MOST_JOBS:,}" in TEXT
