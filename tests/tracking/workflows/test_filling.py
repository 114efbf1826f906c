"""Payloads that are filled in with results, once the jobs that have them have ended."""

from __future__ import annotations

import pytest

from tests.tracked import ACME
from tests.tracking.workflows.conftest import Created
from tests.workflowing import fill, node
from tracking import jobs
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED
from tracking.errors import IllegalMove
from tracking.models import Changes, Failure
from tracking.states import Hold
from tracking.workflows import filling
from tracking.workflows.filling import unfilled


def test_a_job_is_not_let_through_before_its_payload_is_filled_in(created: Created) -> None:
    """With what it waits for at its end, a job with an unfilled payload still waits, then gets it, and runs."""
    flow = created(node("a"), node("b", "a", payload={"rows": {"$from": "a", "path": "/result/rows"}}))
    connection = flow.tracked.connection
    assert unfilled(connection, 10) == []
    flow.tracked.end(flow.tracked.start(flow.job("a")), "succeeded", result={"rows": [1, 2]})
    assert holds.lift_dependents(connection, UNLIMITED, 10) == []
    [waiting] = unfilled(connection, 10)
    assert [each.fence for each in unfilled(connection, 10, flow.job("a").id)] == [waiting.fence]
    assert unfilled(connection, 10, flow.job("b").id) == []
    assert fill(connection, waiting)
    assert not fill(connection, waiting)
    assert flow.job("b").payload == {"rows": [1, 2]}
    assert [job.id for job in holds.lift_dependents(connection, UNLIMITED, 10)] == [flow.job("b").id]
    assert flow.tracked.events(flow.job("b")) == ["created", "edited", "due"]


def test_a_failure_can_be_told_of(created: Created) -> None:
    """A job that runs after a failure may take its type and message, and the status."""
    payload = {name: {"$from": "a", "path": f"/{name}"} for name in ("status", "errorType", "errorMessage", "jobId")}
    flow = created(node("a"), node("alarm", "a!", payload=payload))
    flow.run("a", "failed", failure=Failure("ValueError", "wrong"))
    assert flow.job("alarm").payload == {
        "status": "failed",
        "errorType": "ValueError",
        "errorMessage": "wrong",
        "jobId": str(flow.job("a").id),
    }


def test_a_skipped_job_needs_no_payload(created: Created) -> None:
    """A job whose condition cannot come is skipped with its payload unfilled."""
    flow = created(node("a"), node("b", "a", payload={"x": {"$from": "a"}}))
    flow.run("a", "failed")
    assert flow.states["b"] == "skipped"
    assert unfilled(flow.tracked.connection, 10) == []


def test_what_fails_while_it_waits_can_be_retried_and_is_filled_in_then(created: Created) -> None:
    """A job that failed because its values did not fit waits for its payload again after a retry."""
    flow = created(node("a"), node("b", "a", payload={"x": {"$from": "a"}}), node("alarm", "b!"))
    flow.tracked.end(flow.tracked.start(flow.job("a")), "succeeded", result=5)
    failed = jobs.fail_waiting(
        flow.tracked.connection, flow.job("b").fence, actor="workflow", error_type="UnfitPayload", message="no"
    )
    assert failed
    flow.tracked.retry(flow.job("b"))
    assert flow.job("b").hold is Hold.DEPENDENCY
    flow.follow()
    assert (flow.job("b").hold, flow.job("b").payload) == (None, {"x": 5})


def test_an_edited_payload_is_not_filled_in(created: Created) -> None:
    """Who gives a waiting job another payload has said all: it is not replaced."""
    flow = created(node("a"), node("b", "a", payload={"x": {"$from": "a"}}))
    jobs.edit(flow.tracked.connection, flow.job("b").id, ACME, Changes(payload={"x": 7}), actor="u1", limits=UNLIMITED)
    flow.run("a", result=5)
    assert (flow.job("b").hold, flow.job("b").payload) == (None, {"x": 7})


def test_an_edited_payload_that_names_results_is_filled_in(created: Created) -> None:
    """Another payload that names results still is filled in as it is now, also when the one before was read already."""
    flow = created(node("a"), node("b", "a", payload={"x": {"$from": "a"}}))
    connection, job = flow.tracked.connection, flow.job("b")
    flow.tracked.end(flow.tracked.start(flow.job("a")), "succeeded", result=5)
    [read] = unfilled(connection, 10)
    changes = Changes(payload={"y": {"$from": "a"}}, unresolved=True)
    jobs.edit(connection, job.id, ACME, changes, actor="u1", limits=UNLIMITED)
    assert not fill(connection, read)
    flow.follow()
    assert (flow.job("b").hold, flow.job("b").payload) == (None, {"y": 5})
    with pytest.raises(IllegalMove, match="are filled in already"):
        jobs.edit(connection, job.id, ACME, changes, actor="u1", limits=UNLIMITED)


def test_values_come_from_the_latest_run(created: Created) -> None:
    """After a retry of the failed part, values are those of the jobs that stand for their keys now."""
    flow = created(node("a"), node("b", "a"), node("c", "b", payload={"a": {"$from": "a"}, "b": {"$from": "b"}}))
    flow.run("a", result="a1")
    flow.run("b", "failed")
    flow.retry()
    flow.run("b", result="b2")
    assert flow.job("c").payload == {"a": "a1", "b": "b2"}


def test_what_was_removed_has_nothing_to_tell(created: Created) -> None:
    """Of a job that is gone no value is told."""
    flow = created(node("a"))
    assert filling.told(flow.tracked.connection, flow.id, ["a"])["a"]["status"] == "queued"
    assert filling.told(flow.tracked.connection, flow.id, ["nobody"]) == {}
