"""What is told of a workflow: that a run has begun, and how it has ended, each once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from tests.tracking.workflows.conftest import Created
from tests.workflowing import Flow, cancel_job, node
from tracking import jobs
from tracking.workflows import concluding


def told(flow: Flow) -> list[tuple[str, int]]:
    """The events of a workflow in their order, each with its run."""
    rows = flow.tracked.connection.execute(
        text("SELECT event, detail FROM events WHERE subject_id = :id ORDER BY id"), {"id": flow.id}
    )
    return [(row.event.removeprefix("workflow."), row.detail["run"]) for row in rows]


def detail(flow: Flow) -> dict[str, Any]:
    """What the last one says."""
    rows = flow.tracked.connection.execute(text("SELECT detail FROM events ORDER BY id DESC LIMIT 1"))
    said: dict[str, Any] = rows.scalar_one()
    return said


def look(flow: Flow) -> None:
    """Do what the leader does each second."""
    with flow.pool.begin() as connection:
        concluding.tell_begun(connection, 100)
    flow.conclude()


def test_a_run_is_told_when_its_first_job_begins_and_when_all_have_ended(created: Created) -> None:
    """Nothing is told of one that waits, its start when a job has begun, its end when the last has ended: each once."""
    flow = created(node("a"), node("b", "a"))
    look(flow)
    assert told(flow) == []
    running = flow.tracked.start(flow.job("a"))
    look(flow)
    look(flow)
    assert told(flow) == [("started", 1)]
    flow.tracked.end(running)
    flow.follow()
    look(flow)
    assert told(flow) == [("started", 1)]
    flow.run("b")
    look(flow)
    look(flow)
    assert told(flow) == [("started", 1), ("completed", 1)]
    said = detail(flow)
    assert 0 <= said.pop("duration") < 60_000
    assert said == {"name": "nightly", "run": 1, "jobs": {"succeeded": 2}}


def test_one_that_is_over_before_anybody_has_looked_is_told_to_have_begun(created: Created) -> None:
    """The start of a workflow that is over already is told before its end, in the same transaction."""
    flow = created(node("a"))
    flow.run("a")
    assert [*flow.conclude()] == [flow.id]
    assert told(flow) == [("started", 1), ("completed", 1)]


def test_a_failure_names_the_jobs_that_have_failed(created: Created) -> None:
    """The end of a workflow that has failed tells which of its jobs have, and how many have ended how."""
    flow = created(node("a"), node("b"), node("c", "a"))
    flow.run("a", "failed")
    flow.run("b")
    look(flow)
    assert told(flow)[-1] == ("failed", 1)
    assert (detail(flow)["failed"], detail(flow)["jobs"]) == (["a"], {"failed": 1, "succeeded": 1, "skipped": 1})


def test_who_cancels_the_whole_is_told_with_its_end(created: Created) -> None:
    """A workflow that nobody has begun is told as cancelled at once, by whom and why, and not as begun."""
    flow = created(node("a"), node("b", "a"))
    flow.cancel("not today")
    assert told(flow) == [("cancelled", 1)]
    said = detail(flow)
    assert (said["by"], said["reason"], said["duration"], said["jobs"]) == ("u1", "not today", None, {"cancelled": 2})


def test_a_cancel_is_told_when_the_last_body_is_over(created: Created) -> None:
    """While a cancelled body still runs nothing is told of an end; a cancel of one job alone names nobody."""
    flow = created(node("a"))
    running = flow.tracked.start(flow.job("a"))
    cancel_job(flow, "a")
    look(flow)
    assert told(flow) == [("started", 1)]
    assert jobs.stopped(flow.tracked.connection, running.fence, actor="worker-1", how="interrupted")
    look(flow)
    assert told(flow) == [("started", 1), ("cancelled", 1)]
    assert detail(flow)["by"] is None


def test_each_run_is_told_anew(created: Created) -> None:
    """The retry of the failed part is told as the next run: that it has begun, and how it ends."""
    flow = created(node("a"), node("b"))
    flow.run("a", "failed")
    flow.run("b")
    look(flow)
    flow.retry()
    look(flow)
    assert told(flow) == [("started", 1), ("failed", 1)]
    flow.run("a")
    look(flow)
    assert told(flow) == [("started", 1), ("failed", 1), ("started", 2), ("completed", 2)]


def test_a_job_that_is_retried_by_itself_lets_the_end_be_told_again(created: Created) -> None:
    """The run goes on: it is not told to begin again, and its new end is told."""
    flow = created(node("a"))
    flow.run("a", "failed")
    look(flow)
    flow.tracked.retry(flow.job("a"))
    flow.run("a")
    look(flow)
    assert told(flow) == [("started", 1), ("failed", 1), ("completed", 1)]


@pytest.mark.parametrize("rolled_back", [True, False])
def test_what_is_told_is_what_is_so(created: Created, *, rolled_back: bool) -> None:
    """Whoever dies with its transaction has told nothing, and the next one tells it."""
    flow = created(node("a"))
    flow.run("a")
    with flow.pool.begin() as connection:
        concluding.conclude(connection, 100)
        if rolled_back:
            connection.rollback()
    assert told(flow) == ([] if rolled_back else [("started", 1), ("completed", 1)])
    look(flow)
    assert told(flow) == [("started", 1), ("completed", 1)]


def test_several_that_look_at_once_tell_each_start_and_end_once(created: Created) -> None:
    """Four leaders, as there may be for a moment, tell of fifty workflows what one would tell."""
    flows = [created(node("a")) for _ in range(50)]
    for flow in flows[:25]:
        flow.tracked.start(flow.job("a"))
    for flow in flows[25:]:
        flow.run("a")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: look(flows[0]), range(8)))
    assert all(told(flow) == [("started", 1)] for flow in flows[:25])
    assert all(told(flow) == [("started", 1), ("completed", 1)] for flow in flows[25:])
