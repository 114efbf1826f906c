"""The HTTP client with workflows: created once, read, waited for, cancelled and retried."""

from __future__ import annotations

from typing import Any

import pytest

from api.schemas import answers as contract
from api.schemas import workflows as theirs
from celeriac.client import ApiError
from celeriac.client import workflows as ours
from celeriac.client.answers import Answer
from tests.api.calling import Caller
from tests.celeriac.test_client import client_of

JOBS: dict[str, dict[str, Any]] = {"a": {"jobType": "open"}, "b": {"jobType": "open", "after": [{"key": "a"}]}}


@pytest.mark.parametrize(
    ("mine", "its"),
    [
        (ours.Workflow, theirs.Workflow),
        (ours.WorkflowCounts, theirs.JobCounts),
        (ours.WorkflowWithJobs, theirs.WorkflowWithJobs),
        (ours.WorkflowJob, theirs.Node),
        (ours.WorkflowAfter, theirs.AnsweredAfter),
        (ours.CreatedWorkflow, theirs.WorkflowCreated),
        (ours.MovedWorkflow, theirs.WorkflowMoved),
        (ours.Workflows, theirs.Workflows),
    ],
)
def test_answers_about_workflows_have_the_fields_of_the_contract(
    mine: type[Answer], its: type[contract.Answered]
) -> None:
    """The client's answers about workflows have the fields that the API answers."""
    assert set(mine.model_fields) == set(its.model_fields)


def test_a_workflow_is_made_waited_for_cancelled_and_retried(caller: Caller) -> None:
    """The client makes no workflow twice under a key, and reads, waits for, cancels and retries it."""
    with client_of(caller) as calling:
        created = calling.create_workflow("n", JOBS, project_id="p", idempotency_key="k")
        assert calling.create_workflow("n", JOBS, project_id="p", idempotency_key="k") == created
        found = calling.workflow(created.workflow_id)
        assert {job.key: job.job_id for job in found.jobs} == created.jobs
        assert (found.project_id, found.counts.total, found.jobs[1].after[0].when) == ("p", 2, "succeeded")
        with pytest.raises(ApiError, match="is queued at 0 %"):
            calling.wait_for_workflow(created.workflow_id, within=0)
        assert calling.cancel_workflow(created.workflow_id, reason="no").status == "cancelled"
        assert calling.wait_for_workflow(created.workflow_id, within=5).reason == "no"
        assert calling.retry_workflow(created.workflow_id).jobs.keys() == JOBS.keys()
        others = [calling.create_workflow("m", JOBS).workflow_id for _ in range(2)]
        assert [each.id for each in calling.workflows(name="m")] == others[::-1]
        assert list(calling.workflows(status=["failed"])) == []
