"""Cancel and retry: from which states, by whom, and what is left to do."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from tests.tracked import (
    ACME,
    HOUR,
    OTHERS,
    Tracked,
)
from tracking import jobs
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED
from tracking.errors import IllegalMove, JobNotFound
from tracking.models import (
    Owner,
    Scope,
)
from tracking.states import Status

# cancel and its end


@pytest.mark.parametrize("situation", ["queued", "scheduled", "retrying", "backoff"])
def test_cancelling_a_waiting_job_ends_it_at_once(tracked: Tracked, situation: str) -> None:
    """The cancel of a waiting job ends it at once, without a body to stop."""
    waiting = tracked.put_into(situation)
    cancelled = jobs.cancel(tracked.connection, waiting.id, ACME, actor="u9", reason="not needed")
    assert not cancelled.was_running
    job = cancelled.job
    assert (job.status, job.hold, job.due_at, job.stopping) == (Status.CANCELLED, None, None, False)
    assert tracked.last_detail(job) == {"by": "u9", "reason": "not needed"}
    assert holds.lift_due(tracked.connection, UNLIMITED, 10) == []


def test_cancelling_a_running_job_leaves_a_body_to_stop(tracked: Tracked) -> None:
    """The row of a cancelled running job is stopping until its body's end is reported."""
    running = tracked.start(tracked.submit())
    cancelled = jobs.cancel(tracked.connection, running.id, ACME, actor="u1")
    assert cancelled.was_running
    assert (cancelled.job.status, cancelled.job.stopping) == (Status.CANCELLED, True)


def test_a_cancelled_job_cannot_be_cancelled_again(tracked: Tracked) -> None:
    """A second cancel is told that the job is finished."""
    job = tracked.put_into("cancelled")
    with pytest.raises(IllegalMove, match="is cancelled: it is finished and cannot be cancelled"):
        jobs.cancel(tracked.connection, job.id, ACME, actor="u1")


@pytest.mark.parametrize("scope", OTHERS)
@pytest.mark.parametrize("verb", [jobs.cancel, partial(jobs.retry, limits=UNLIMITED)])
def test_somebody_elses_job_does_not_exist(tracked: Tracked, verb: Any, scope: Scope) -> None:
    """Cancel and retry of another organization's job raise JobNotFound."""
    job = tracked.put_into("queued" if verb is jobs.cancel else "failed")
    for unreachable in (job.id, uuid4()):
        with pytest.raises(JobNotFound, match=r"^There is no such job\.$"):
            verb(tracked.connection, unreachable, scope, actor="u2")
    assert tracked.get(job.id) == job


def test_that_a_worker_has_heard_of_a_cancel_is_recorded_once(tracked: Tracked) -> None:
    """That a worker has seen a cancel is recorded once, by whoever reports it first."""
    job = tracked.put_into("stopping")
    assert jobs.seen(tracked.connection, job.fence, actor="worker-1")
    assert not jobs.seen(tracked.connection, job.fence, actor="worker-1")
    assert jobs.stopped(tracked.connection, job.fence, actor="worker-1", how="killed")
    assert tracked.events(job) == ["created", "started", "cancelled", "seen", "stopped"]


def test_a_lost_worker_has_not_heard_of_a_cancel(tracked: Tracked) -> None:
    """No `seen` is recorded of a worker that was lost."""
    job = tracked.put_into("stopping")
    assert jobs.stopped(tracked.connection, job.fence, actor="upkeep", how="worker lost")
    assert tracked.events(job) == ["created", "started", "cancelled", "stopped"]


def test_a_worker_finds_what_it_runs_and_what_it_has_to_stop(tracked: Tracked) -> None:
    """A worker finds the jobs that it runs or has to stop, and none of another worker."""
    ours, theirs = tracked.register_worker(), tracked.register_worker()
    running, stopping = (tracked.start(tracked.submit(), lease=ours) for _ in range(2))
    tracked.start(tracked.submit(), lease=theirs)
    tracked.cancel(stopping)
    assert jobs.running(tracked.connection, ours) == [running.fence]
    [body] = jobs.stopping(tracked.connection, ours)
    assert (body.fence, body.seen_for) == (stopping.fence, None)
    assert jobs.stopping(tracked.connection, theirs) == []


def test_of_a_queue_only_the_oldest_jobs_can_be_missing(tracked: Tracked) -> None:
    """The oldest jobs of a queue count as lost, as many as messages are missing, but no young ones."""
    jobs_sent = [tracked.submit() for _ in range(3)]
    for job in jobs_sent:
        jobs.mark_dispatched(tracked.connection, [job.fence])
    [(queue, at)] = jobs.waiting_queues(tracked.connection, timedelta(0))
    ids = [job.fence for job in jobs_sent]
    for ready in range(5):
        found = jobs.missing(tracked.connection, queue, at, timedelta(0), ready=ready, limit=10)
        assert found == ids[: max(0, 3 - ready)]
    assert jobs.missing(tracked.connection, queue, at, HOUR, ready=0, limit=10) == []
    assert jobs.waiting_queues(tracked.connection, HOUR) == []


def test_a_job_that_is_sent_again_keeps_its_number(tracked: Tracked) -> None:
    """A job that is sent again keeps its dispatch number, and a running one is not sent."""
    waiting, running = tracked.submit(), tracked.start(tracked.submit())
    jobs.mark_dispatched(tracked.connection, [waiting.fence])
    assert jobs.send_again(tracked.connection, [waiting.fence, running.fence]) == [waiting.id]
    after = tracked.get(waiting.id)
    assert (after.dispatch, after.dispatched_at) == (waiting.dispatch, None)


def test_what_was_released_is_sent_at_once(tracked: Tracked) -> None:
    """A released job is among those to be sent at once."""
    fresh, released = tracked.submit(), tracked.run("released")
    found = jobs.undispatched(tracked.connection, HOUR, 10)
    assert [job.id for job in found] == [released.id]
    assert fresh.dispatched_at is None


def test_the_end_of_a_cancelled_body_is_recorded_once(tracked: Tracked) -> None:
    """The end of a cancelled body is recorded once, with how and the milliseconds since the cancel."""
    job = tracked.put_into("stopping")
    assert jobs.stopped(tracked.connection, job.fence, actor="worker-1", how="interrupted")
    assert not jobs.stopped(tracked.connection, job.fence, actor="worker-1", how="killed")
    assert tracked.events(job) == ["created", "started", "cancelled", "seen", "stopped"]
    detail = tracked.last_detail(job)
    assert detail["how"] == "interrupted"
    assert detail["after"] >= 0


def test_a_revoke_from_outside_is_recorded_with_its_actor(tracked: Tracked) -> None:
    """A revoke is recorded with its actor, whoever owns the job."""
    job = tracked.submit(owner=Owner("globex", "u7"))
    assert jobs.cancel_dispatch(tracked.connection, job.fence, actor="flower", reason="revoked")
    assert tracked.get(job.id).status is Status.CANCELLED
    assert tracked.last_detail(job) == {"by": "flower", "reason": "revoked"}


# retry


def test_a_retried_job_starts_over_as_a_new_dispatch(tracked: Tracked) -> None:
    """A retry forgets error, progress and times, takes a new dispatch, and keeps counting attempts."""
    failed = tracked.put_into("failed")
    job = tracked.retry(failed)
    assert (job.status, job.hold, job.dispatched_at, job.retry_count) == (Status.QUEUED, None, None, 1)
    assert job.dispatch == failed.dispatch + 1
    assert (job.error_type, job.error_message, job.result, job.progress) == (None, None, None, 0)
    assert (job.started_at, job.completed_at) == (None, None)
    assert tracked.start(job).attempt == failed.attempt + 1


def test_a_retried_job_may_lose_three_workers_again(tracked: Tracked) -> None:
    """A retry by hand sets the count of losses back."""
    job = tracked.submit()
    for _ in range(3):
        job = tracked.end(tracked.start(job), "lost")
    assert tracked.retry(job).losses == 0


def test_a_job_without_a_retry_left_is_refused_with_the_numbers(tracked: Tracked) -> None:
    """A retry beyond the limit is refused with the numbers, and force allows it."""
    job = tracked.put_into("exhausted")
    with pytest.raises(IllegalMove, match="has used 0 of 0 retries; force it to retry anyway") as refused:
        tracked.retry(job)
    assert refused.value.retry_after is None
    assert tracked.retry(job, force=True).status is Status.QUEUED


def test_automatic_retries_count_towards_the_limit(tracked: Tracked) -> None:
    """Automatic retries and those by hand have one limit."""
    job = tracked.end(tracked.start(tracked.submit(max_retries=1)), "retry")
    failed = tracked.end(tracked.start(tracked.release(job)), "failed")
    with pytest.raises(IllegalMove, match="has used 1 of 1 retries"):
        tracked.retry(failed)


def test_a_job_whose_body_is_still_stopping_can_be_retried_later(tracked: Tracked) -> None:
    """The retry of a stopping job is refused with a time to ask again, also by force."""
    job = tracked.put_into("stopping")
    for force in (False, True):
        with pytest.raises(IllegalMove, match="still stopping") as refused:
            tracked.retry(job, force=force)
        assert refused.value.retry_after == 2
    jobs.stopped(tracked.connection, job.fence, actor="worker-1", how="interrupted")
    assert tracked.retry(job).status is Status.QUEUED


@pytest.mark.parametrize("situation", ["queued", "running", "retrying", "succeeded"])
def test_a_job_in_no_state_for_a_retry_is_refused(tracked: Tracked, situation: str) -> None:
    """The retry of a job in another state is refused with that state."""
    job = tracked.put_into(situation)
    with pytest.raises(IllegalMove, match=f"is {job.status}: it cannot be retried") as refused:
        tracked.retry(job)
    assert refused.value.retry_after is None


def test_a_retry_tells_who_asked_for_it(tracked: Tracked) -> None:
    """History says who asked for a retry, and whether by force."""
    job = tracked.put_into("failed")
    tracked.retry(job, force=True)
    assert tracked.last_detail(job) == {"by": "u1", "force": True}
