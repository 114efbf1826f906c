"""A real prefork worker on each broker: from submit to the outcome in the row."""

from __future__ import annotations

import json
from uuid import UUID

from tests.live import LivePlatform, eventually


def test_a_typed_handler_runs_and_its_result_is_in_the_row(running: LivePlatform) -> None:
    """A typed handler's payload and result are camelCase JSON in the row, with two history rows."""
    job = running.wait_for(running.submit("count_words", payload={"words": ["a", "b"]}, priority=3))
    assert (job.status, job.result, job.attempt, job.priority, job.progress) == (
        "succeeded",
        {"wordCount": 2},
        1,
        3,
        100,
    )
    assert running.events(job.id) == ["created", "started", "completed"]


def test_every_step_is_told_however_quickly_the_job_ends(running: LivePlatform) -> None:
    """Steps that end before the next write of progress are in the history."""
    job = running.wait_for(running.submit("nap", payload={"seconds": 0.01, "steps": 5}))
    assert (job.message, job.current_step, job.total_steps, job.progress) == ("nap 5", 5, 5, 100)
    told = [entry.detail for entry in running.history(job.id) if "percentage" in entry.detail]
    assert [entry["percentage"] for entry in told] == [0, 20, 20, 40, 40, 60, 60, 80, 80, 100]
    assert [entry["current"] for entry in told[:-1]] == [1, 1, 2, 2, 3, 3, 4, 4, 5]


def test_a_failing_attempt_waits_in_the_row_and_runs_again(running: LivePlatform) -> None:
    """With autoretry_for a failed attempt waits in the row with its error and runs again."""
    job_id = running.submit("flaky", payload={"failures": 1})
    waiting = running.wait_for(job_id, "retrying")
    assert (waiting.hold, waiting.retry_count, waiting.error_message) == ("backoff", 1, "failure 1")
    done = running.wait_for(job_id)
    assert (done.status, done.result, done.attempt, done.error_message) == ("succeeded", 1, 2, None)
    failed = next(entry for entry in running.history(job_id) if entry.event == "failed")
    assert failed.detail["errorType"] == "ConnectionError"
    assert failed.detail["willRetry"] is True
    assert "ConnectionError: failure 1" in failed.detail["traceback"]


def test_the_jobs_own_max_retries_replaces_the_handlers(running: LivePlatform) -> None:
    """A job's own max_retries of 0 fails at the first error, and changes no later job."""
    assert running.wait_for(running.submit("flaky", payload={"failures": 9}, max_retries=0)).attempt == 1
    job = running.wait_for(running.submit("flaky", payload={"failures": 2}))
    assert (job.status, job.attempt) == ("succeeded", 3)


CANVAS = """
import json
from celery import chain, chord, group
from tests.sample_handlers import add, total, fail, remember
from tracking import acting_as
with acting_as("acme", "u-canvas"):
    chained = chain(add.s(1, 2), add.s(10)).delay()
    grouped = group(add.s(i, i) for i in range(3)).delay()
    chorded = chord([add.s(i, i) for i in range(5)])(total.s())
    broken = fail.apply_async(("x",), link_error=remember.s())
print(json.dumps({
    "chain": chained.get(timeout=20), "group": grouped.get(timeout=20), "chord": chorded.get(timeout=20),
    "ids": [chained.parent.id, chained.id, broken.id], "status": chained.status,
    "error": repr(broken.get(timeout=20, propagate=False)), "failed": broken.status,
}))
"""


def test_canvas_is_tracked_and_async_results_answer_from_the_rows(running: LivePlatform) -> None:
    """Chain, group, chord and link_error leave rows with parents and owners."""
    answer = json.loads(running.run(CANVAS))
    assert (answer["chain"], answer["group"], answer["chord"]) == (13, [0, 2, 4], 20)
    assert (answer["status"], answer["failed"], answer["error"]) == ("SUCCESS", "FAILURE", "ValueError('x')")
    first, second, broken = answer["ids"]
    by_id = {str(job.id): job for job in running.jobs() if job.user_id == "u-canvas"}
    assert str(by_id[second].parent_id) == first
    assert {job.organization_id for job in by_id.values()} == {"acme"}
    assert len(by_id) == 2 + 3 + 6 + 1 + 1
    errback = eventually(lambda: [job for job in running.jobs() if job.job_type == "remember"])
    assert running.wait_for(errback[0].id).result == broken


BROKEN_CHAIN = """
from celery import chain
from tests.sample_handlers import add, flaky
print(chain(add.s(1, 2), flaky.s()).delay().parent.id)
"""


def test_a_successor_that_cannot_be_called_fails_with_that_reason(running: LivePlatform) -> None:
    """A chain's step that does not take the result before it fails with that reason."""
    first = running.wait_for(UUID(running.run(BROKEN_CHAIN).strip()))
    assert first.status == "succeeded", "what it did is done"
    [second] = [other for other in running.jobs() if other.parent_id == first.id]
    ended = running.wait_for(second.id)
    assert (ended.status, ended.attempt) == ("failed", 0)
    assert "1 validation error for Trouble" in str(ended.error_message)


def test_a_handler_submits_follow_up_jobs_in_its_owners_name(running: LivePlatform) -> None:
    """A job that a handler sends has its parent, organization and user."""
    parent = running.wait_for(running.submit("parent", 2, organization="acme", user="u7"))
    children = [job for job in running.jobs() if job.parent_id == parent.id]
    assert [str(child.id) for child in children] == parent.result
    assert {(child.organization_id, child.user_id) for child in children} == {("acme", "u7")}
    assert all(running.wait_for(child.id).status == "succeeded" for child in children)


def test_a_result_that_is_not_json_fails_the_job_with_that_reason(running: LivePlatform) -> None:
    """A result that is not JSON fails the job with that reason."""
    job = running.wait_for(running.submit("odd_result"))
    assert job.status == "failed"
    assert "Unable to serialize unknown type" in str(job.error_message)


def test_an_unknown_job_type_fails_with_that_reason(running: LivePlatform) -> None:
    """A job of a type without a handler fails with that reason."""
    job = running.wait_for(running.submit("nobody_knows", payload={"a": 1}))
    assert (job.status, job.attempt) == ("failed", 0)
    assert job.error_message == "no handler is registered for 'nobody_knows'"
