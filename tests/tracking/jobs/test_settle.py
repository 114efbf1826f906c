"""The end of an attempt: what it leaves in the row, and which outcome counts."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given

from tests.properties import JSON, ON_ONE_DATABASE
from tests.tracked import ACME, HOUR, KINDS, Tracked, accepted, new_job, outcome
from tracking import jobs
from tracking.admission import line
from tracking.admission.rule import UNLIMITED, Limits
from tracking.db import Database
from tracking.models import (
    Changes,
    Failure,
    Progress,
)
from tracking.states import Event, Hold, OutcomeKind, Status


def test_a_success_keeps_its_result(tracked: Tracked) -> None:
    """A success has its result, 100 %, and a duration in its history."""
    running = tracked.start(tracked.submit())
    [settled] = tracked.settle(running, "succeeded", result={"rows": 3})
    assert (settled.fence, settled.organization_id) == (running.fence, "acme")
    assert settled.status is Status.SUCCEEDED
    done = tracked.get(running.id)
    assert (done.status, done.result, done.progress, done.error_message) == (Status.SUCCEEDED, {"rows": 3}, 100, None)
    assert done.completed_at is not None
    assert tracked.last_detail(done)["duration"] >= 0


@ON_ONE_DATABASE
@given(result=JSON)
def test_a_result_comes_back_as_it_was_returned(tracked: Tracked, result: Any) -> None:
    """Any JSON comes back as a result, also null, false, 0 and empty values."""
    assert tracked.end(tracked.start(tracked.submit()), "succeeded", result=result).result == result


def test_a_failure_keeps_its_error(tracked: Tracked) -> None:
    """A failure keeps type and message in the row, and the traceback in the history."""
    failure = Failure("ValueError", "wrong", "Traceback …")
    job = tracked.end(tracked.start(tracked.submit()), "failed", failure=failure)
    assert (job.status, job.error_type, job.error_message) == (Status.FAILED, "ValueError", "wrong")
    detail = tracked.last_detail(job)
    assert (detail["errorType"], detail["error"], detail["traceback"]) == ("ValueError", "wrong", "Traceback …")
    assert detail["willRetry"] is False


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "succeeded"])
def test_the_last_words_of_a_body_are_written_with_its_outcome(tracked: Tracked, kind: OutcomeKind) -> None:
    """The last report of a body is written with its outcome."""
    running = tracked.start(tracked.submit())
    news = Progress(running.fence, 1, 100, "Closing", {"rows": 9}, 5, 6)
    job = tracked.end(running, kind, last_news=news)
    assert (job.progress, job.message, job.progress_detail) == (99, "Closing", {"rows": 9})
    assert (job.current_step, job.total_steps) == (5, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_last_words_move_nothing_backwards(tracked: Tracked, kind: OutcomeKind) -> None:
    """The last report of a body moves no progress backwards."""
    running = tracked.start(tracked.submit())
    jobs.report(tracked.connection, Progress(running.fence, 1, 70, "Formatting", {"rows": 7}, 5, 6))
    job = tracked.end(tracked.get(running.id), kind, last_news=Progress(running.fence, 1, 30, current_step=2))
    assert job.progress == (100 if kind == "succeeded" else 70)
    assert (job.message, job.progress_detail, job.current_step) == ("Formatting", {"rows": 7}, 5)


def test_a_retry_waits_in_the_row(tracked: Tracked) -> None:
    """A retry waits in the row with its error until its delay is over."""
    failure = Failure("ConnectionError", "away")
    job = tracked.end(tracked.start(tracked.submit()), "retry", failure=failure, delay=HOUR)
    assert (job.status, job.hold, job.retry_count) == (Status.RETRYING, Hold.BACKOFF, 1)
    assert (job.error_message, job.completed_at) == ("away", None)
    assert job.next_retry_at is not None
    assert abs(job.next_retry_at - job.updated_at - HOUR) < timedelta(seconds=1)
    assert tracked.last_detail(job)["willRetry"] is True


def test_a_retry_can_change_the_payload(tracked: Tracked) -> None:
    """A retry with other arguments changes the payload, and one without does not."""
    job = tracked.end(tracked.start(tracked.submit(payload={"a": 1})), "retry", changes=Changes(payload={"a": 2}))
    assert job.payload == {"a": 2}
    assert tracked.end(tracked.start(tracked.release(job)), "retry").payload == {"a": 2}


def test_success_forgets_the_error_of_an_earlier_attempt(tracked: Tracked) -> None:
    """A success clears the error of an earlier attempt, which history keeps."""
    job = tracked.end(tracked.start(tracked.submit()), "retry", failure=Failure("ConnectionError", "away"))
    done = tracked.end(tracked.start(tracked.release(job)))
    assert (done.error_type, done.error_message, done.attempt) == (None, None, 2)
    assert "away" in [entry.detail.get("error") for entry in tracked.history(done)]


@pytest.mark.parametrize("kind", ["lost", "released"])
def test_a_job_that_is_handed_back_runs_again_as_a_new_dispatch(tracked: Tracked, kind: OutcomeKind) -> None:
    """A job that is handed back has a new dispatch and no retry more."""
    running = tracked.start(tracked.submit())
    job = tracked.end(running, kind)
    assert (job.status, job.hold, job.retry_count, job.dispatched_at) == (Status.QUEUED, None, 0, None)
    assert job.dispatch == running.dispatch + 1
    entry = tracked.history(job)[-1]
    assert (entry.event, entry.dispatch) == (Event.RELEASED, running.dispatch)
    assert tracked.start(job).attempt == 2


def test_only_lost_workers_count_as_losses(tracked: Tracked) -> None:
    """A job that is handed back has no loss more."""
    job = tracked.end(tracked.start(tracked.submit()), "released")
    assert job.losses == 0
    assert tracked.end(tracked.start(job), "lost").losses == 1


def test_a_job_that_took_down_three_workers_fails(tracked: Tracked) -> None:
    """A job that took down three workers fails with that reason."""
    job = tracked.submit()
    for _ in range(2):
        job = tracked.end(tracked.start(job), "lost")
        assert job.status is Status.QUEUED
    job = tracked.end(tracked.start(job), "lost")
    assert (job.status, job.error_type, job.losses) == (Status.FAILED, "WorkerLost", 3)
    assert job.error_message == "the job took down 3 workers"


def test_a_job_that_its_handler_returns_each_time_fails_with_that_reason(tracked: Tracked) -> None:
    """A job that its handler rejects with requeue fails the third time with the handler's reason."""
    job = tracked.end(tracked.start(tracked.submit()), "lost")
    job = tracked.end(tracked.start(job), "returned", failure=Failure("Reject", "not now"))
    assert (job.status, job.losses) == (Status.QUEUED, 2)
    job = tracked.end(tracked.start(job), "returned", failure=Failure("Reject", "not now"))
    assert (job.status, job.error_type, job.error_message) == (Status.FAILED, "Reject", "not now")


def test_the_limit_of_losses_can_be_set(tracked: Tracked) -> None:
    """The limit of losses can be set to one."""
    running = tracked.start(tracked.submit())
    [settled] = accepted(tracked.connection, [outcome(running, "lost")], max_losses=1)
    assert settled.status is Status.FAILED


def test_a_revoked_job_is_cancelled_with_the_reason(tracked: Tracked) -> None:
    """A job that its body cancels ends as cancelled with the reason."""
    failure = Failure("Ignore", "its handler ignored the job")
    job = tracked.end(tracked.start(tracked.submit()), "cancelled", failure=failure)
    assert (job.status, job.stopping) == (Status.CANCELLED, False)
    assert job.cancel_requested_at is not None
    assert tracked.last_detail(job)["reason"] == "its handler ignored the job"


@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_of_two_outcomes_of_one_attempt_the_first_counts(
    tracked: Tracked, first: OutcomeKind, second: OutcomeKind
) -> None:
    """Of two outcomes of one attempt the second one changes nothing."""
    running = tracked.start(tracked.submit())
    settled = tracked.end(running, first, delay=HOUR)
    events = tracked.events(running)
    assert tracked.settle(running, second) == []
    assert tracked.get(running.id) == settled
    assert tracked.events(running) == events


def test_a_batch_of_outcomes_is_answered_in_its_order(tracked: Tracked) -> None:
    """Outcomes of a batch are answered in its order, None for one that its job does not expect any more."""
    first, second, cancelled = (tracked.start(tracked.submit()) for _ in range(3))
    tracked.cancel(cancelled)
    outcomes = [outcome(first, "succeeded", result=1), outcome(cancelled, "succeeded"), outcome(second, "failed")]
    answers = jobs.settle(tracked.connection, outcomes)
    assert [settled and (settled.job_id, settled.status) for settled in answers] == [
        (first.id, Status.SUCCEEDED),
        None,
        (second.id, Status.FAILED),
    ]


def test_two_outcomes_of_one_attempt_in_one_batch_end_it_once(tracked: Tracked) -> None:
    """Two outcomes of one attempt in a batch end it once."""
    running = tracked.start(tracked.submit())
    outcomes = [outcome(running, "failed"), outcome(running, "failed")]
    assert len(accepted(tracked.connection, outcomes)) == 1
    assert tracked.events(running) == ["created", "started", "failed"]


def test_a_settle_and_what_follows_are_one_transaction(pool: Database, tracked: Tracked) -> None:
    """When the submit of a successor is rolled back, so is the outcome."""
    running = tracked.start(tracked.submit())
    with suppress(KeyError), pool.begin() as connection:
        assert accepted(connection, [outcome(running, "succeeded")])
        jobs.submit(connection, new_job(), UNLIMITED)
        raise KeyError
    assert tracked.all() == [running]


def test_an_end_says_who_waits_for_it(tracked: Tracked) -> None:
    """Who stands in line waits for a slot, and a dependent for the very job that it depends on."""
    one, connection = Limits(1), tracked.connection
    first, waiting = (jobs.submit(connection, new_job(), one, scope=ACME).job for _ in range(2))
    jobs.submit(connection, new_job(depends_on=[waiting.id]), one, scope=ACME)
    [ended] = tracked.settle(tracked.start(first), "succeeded")
    assert (ended.has_line, ended.is_awaited) == (True, False)
    [admitted] = line.admit(connection, "acme", one, 10)
    [ended] = tracked.settle(tracked.start(admitted), "succeeded")
    assert (ended.has_line, ended.is_awaited) == (False, True)
