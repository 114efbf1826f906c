"""What the ends of a workflow's jobs mean for those that wait for them, and for the whole."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.tracking.workflows.conftest import Created
from tests.workflowing import cancel_job, node
from tracking import jobs
from tracking.models import UNCALLED
from tracking.states import Hold, Status


def test_a_job_starts_when_all_that_it_waits_for_has_succeeded(created: Created) -> None:
    """A job waits for both of two, then runs; the workflow is queued, running, and succeeds with the last of them."""
    flow = created(node("a"), node("b"), node("c", "a", "b"))
    assert (flow.now.status, flow.now.progress) == ("queued", 0)
    assert flow.job("c").hold is Hold.DEPENDENCY
    flow.run("a")
    assert (flow.now.status, flow.job("c").hold) == ("running", Hold.DEPENDENCY)
    flow.run("b")
    assert flow.job("c").hold is None
    assert (flow.now.status, flow.now.progress, flow.now.completed_at) == ("running", 66, None)
    last = flow.run("c")
    assert (flow.now.status, flow.now.progress, flow.now.completed_at) == ("succeeded", 100, last.completed_at)


@pytest.mark.parametrize(
    ("kind", "states", "status"),
    [
        ("succeeded", {"good": "queued", "bad": "skipped", "any": "queued"}, "succeeded"),
        ("failed", {"good": "skipped", "bad": "queued", "any": "queued"}, "failed"),
        ("cancelled", {"good": "skipped", "bad": "skipped", "any": "queued"}, "cancelled"),
    ],
)
def test_each_follower_decides_by_its_own_condition(
    created: Created, kind: Any, states: dict[str, str], status: str
) -> None:
    """Of those that wait for a success, a failure or any end, those run whose end has come; the others are skipped."""
    flow = created(node("a"), node("good", "a"), node("bad", "a!"), node("any", "a?"))
    flow.run("a", kind)
    assert {key: state for key, state in flow.states.items() if key != "a"} == states
    for key, state in states.items():
        if state == "queued":
            flow.run(key)
    assert flow.now.status == status


def test_what_cannot_come_any_more_ends_what_waits_for_it_and_says_so(created: Created) -> None:
    """A skipped job is cancelled with the reason, and what follows it decides by its own condition in turn."""
    flow = created(node("a"), node("b", "a"), node("c", "b"), node("d", "b!"), node("e", "c?"))
    flow.run("a", "failed")
    assert flow.states == {"a": "failed", "b": "skipped", "c": "skipped", "d": "skipped", "e": "queued"}
    skipped = flow.job("b")
    assert (skipped.status, skipped.error_type) == (Status.CANCELLED, UNCALLED)
    assert skipped.error_message == f"its dependency {flow.job('a').id} is failed"
    assert "waits for a failure" in str(flow.job("d").error_message)
    flow.run("e")
    assert flow.now.status == "failed"


def test_a_skip_alone_does_not_make_a_workflow_fail(created: Created) -> None:
    """A workflow has succeeded when the only jobs that did not run were for a failure that has not come."""
    flow = created(node("a"), node("alarm", "a!"), node("b", "a"))
    flow.run("a")
    flow.run("b")
    assert (flow.now.status, flow.now.progress) == ("succeeded", 100)
    assert (flow.now.counts["skipped"], flow.now.counts["cancelled"]) == (1, 0)


def test_any_end_waits_for_the_body_too(created: Created) -> None:
    """What runs after any end of a job does not start while the cancelled body of that is still stopping."""
    flow = created(node("a"), node("clean", "a?"))
    running = flow.tracked.start(flow.job("a"))
    cancel_job(flow, "a")
    assert (flow.states["clean"], flow.job("clean").hold, flow.now.status) == ("queued", Hold.DEPENDENCY, "running")
    assert jobs.stopped(flow.tracked.connection, running.fence, actor="worker-1", how="interrupted")
    flow.follow()
    assert flow.job("clean").hold is None
    flow.run("clean")
    assert flow.now.status == "cancelled"


def test_cost_is_of_all_attempts(created: Created) -> None:
    """The cost counts the failed attempts, what was cancelled until its body was over, and nothing that only waited."""
    flow = created(node("a"), node("b"), node("c", "a"))
    job = flow.tracked.back_off(flow.tracked.start(flow.job("a")))
    flow.tracked.end(flow.tracked.start(flow.tracked.release(job)))
    running = flow.tracked.start(flow.job("b"))
    cancel_job(flow, "b")
    jobs.stopped(flow.tracked.connection, running.fence, actor="worker-1", how="interrupted")
    # Each step of history comes a second after the one before it. Ids go on from those of earlier tests.
    later = "UPDATE history SET at = now() + (id - (SELECT min(id) FROM history)) * interval '1 second'"
    flow.tracked.connection.execute(text(later))
    ids = {key: [entry.event for entry in flow.tracked.history(flow.job(key))] for key in "ab"}
    assert ids["b"] == ["created", "started", "cancelled", "seen", "stopped"]
    expected = timedelta(0)
    for key in "ab":
        entries = flow.tracked.history(flow.job(key))
        began = None
        for entry in entries:
            if entry.event == "started":
                began = entry.at
            elif began is not None and entry.event in ("failed", "completed", "stopped"):
                expected += entry.at - began
                began = None
    assert flow.now.worker_time == expected
    assert expected > timedelta(seconds=4)


def test_the_status_is_that_of_the_rows_also_after_a_retry_of_one_job(created: Created) -> None:
    """A job that was retried by itself opens its workflow again, and what was skipped for it counts as cancelled."""
    flow = created(node("a"), node("b", "a"))
    flow.run("a", "failed")
    assert [*flow.conclude()] == [flow.id]
    assert (flow.now.status, flow.states["b"]) == ("failed", "skipped")
    flow.tracked.retry(flow.job("a"))
    assert (flow.now.status, flow.now.completed_at) == ("running", None)
    flow.run("a")
    assert (flow.now.status, flow.states["b"]) == ("cancelled", "cancelled")
    assert [*flow.conclude()] == [flow.id]
