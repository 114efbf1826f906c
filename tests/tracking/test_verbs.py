"""Each verb on real PostgreSQL: what it does, what the second call does, and who is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from tests.properties import ON_ONE_DATABASE
from tests.tracked import ACME, HOUR, KINDS, LEASE_TIMEOUT, Tracked, check_rows, new_job, outcome, reap, wish
from tracking import acting_as, groups, jobs, workers
from tracking.admission import holds
from tracking.admission.holds import UNLIMITED
from tracking.db import Database
from tracking.errors import IdempotencyConflict, IllegalMove, JobNotFound
from tracking.models import (
    Attempt,
    Changes,
    Failure,
    Fence,
    JobRecord,
    Milestone,
    Owner,
    Progress,
    Refusal,
    Scope,
)
from tracking.ownership import current_owner
from tracking.reads import lists
from tracking.schema import jobs as table
from tracking.states import Event, Hold, OutcomeKind, Status
from tracking.values import MAX_INTEGER

NO_TIME = timedelta(0)
OTHERS = [Scope("globex", None), Scope("globex", "u1"), Scope("acme", "u2")]

# What comes back from jsonb as it went in. A float beyond ±2^53 is the same number, but comes back as an int.
NUMBERS = st.integers(-MAX_INTEGER, MAX_INTEGER) | st.floats(-MAX_INTEGER, MAX_INTEGER)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def tracked(tracked: Tracked) -> Iterator[Tracked]:
    """No jobs yet. Afterwards the rows must tell no lie."""
    yield tracked
    check_rows(tracked)


def _last(tracked: Tracked, job: JobRecord) -> dict[str, Any]:
    return tracked.history(job)[-1].detail


# submit


def test_a_submitted_job_is_queued_with_one_history_row(tracked: Tracked) -> None:
    """Its id is the task id of its first dispatch, and the root of its canvas."""
    job = tracked.submit()
    assert (job.status, job.hold, job.attempt, job.dispatch, job.root_id) == (Status.QUEUED, None, 0, 1, job.id)
    assert [(entry.event, entry.from_status, entry.actor) for entry in tracked.history(job)] == [
        (Event.CREATED, None, "u1")
    ]


def test_the_same_id_is_the_same_job(tracked: Tracked) -> None:
    """Repeating a submit whose reply was lost writes nothing."""
    new = new_job()
    first = jobs.submit(tracked.connection, new, UNLIMITED)
    second = jobs.submit(tracked.connection, new, UNLIMITED)
    assert (first.created, second.created, second.job) == (True, False, first.job)
    assert tracked.events(first.job) == ["created"]


def test_the_id_of_another_organizations_job_is_refused(tracked: Tracked) -> None:
    """Without showing that job."""
    job = tracked.submit()
    with pytest.raises(IdempotencyConflict):
        jobs.submit(tracked.connection, new_job(id=job.id, owner=Owner("globex", "u1")), UNLIMITED)
    assert tracked.get(job.id) == job


def test_the_same_key_and_request_is_the_same_job(tracked: Tracked) -> None:
    """Though the second request has made another id for it."""
    first = tracked.submit(idempotency_key="k", request_hash="h")
    second = jobs.submit(tracked.connection, new_job(idempotency_key="k", request_hash="h"), UNLIMITED)
    assert (second.created, second.job) == (False, first)
    assert len(tracked.all()) == 1


def test_the_same_key_with_another_request_is_a_conflict(tracked: Tracked) -> None:
    """And nothing is written."""
    first = tracked.submit(idempotency_key="k", request_hash="h")
    with pytest.raises(IdempotencyConflict, match="used for another request"):
        tracked.submit(idempotency_key="k", request_hash="other")
    assert tracked.all() == [first]
    assert tracked.events(first) == ["created"]


@pytest.mark.parametrize("owner", [Owner("acme", "u2"), Owner("globex", "u1")])
def test_the_same_key_of_somebody_else_is_another_job(tracked: Tracked, owner: Owner) -> None:
    """Keys belong to one user of one organization."""
    first = tracked.submit(idempotency_key="k", request_hash="h")
    second = jobs.submit(tracked.connection, new_job(owner=owner, idempotency_key="k", request_hash="other"), UNLIMITED)
    assert second.created
    assert second.job.id != first.id


def test_a_key_stays_that_jobs_when_it_is_finished(tracked: Tracked) -> None:
    """A late repetition does not run it again."""
    done = tracked.run(idempotency_key="k", request_hash="h")
    again = jobs.submit(tracked.connection, new_job(idempotency_key="k", request_hash="h"), UNLIMITED)
    assert (again.created, again.job) == (False, done)


def test_jobs_without_a_key_are_never_the_same(tracked: Tracked) -> None:
    """However alike they are."""
    assert tracked.submit().id != tracked.submit().id


@ON_ONE_DATABASE
@given(payload=st.dictionaries(TEXTS, JSON, max_size=4))
def test_a_payload_comes_back_as_it_went_in(tracked: Tracked, payload: dict[str, Any]) -> None:
    """Any JSON within the platform's limits."""
    assert tracked.submit(payload=payload, metadata=payload, delivery=payload).payload == payload


def test_a_job_scheduled_for_later_is_held_until_then(tracked: Tracked) -> None:
    """The time that its submitter named is kept."""
    later = datetime.now(UTC) + HOUR
    job = tracked.submit(scheduled_at=later)
    assert (job.hold, job.due_at, job.scheduled_at) == (Hold.SCHEDULE, later, later)


def test_a_delay_counts_from_the_databases_clock(tracked: Tracked) -> None:
    """The clock of the submitting machine does not matter."""
    job = tracked.submit(delay=HOUR)
    assert job.hold is Hold.SCHEDULE
    assert job.due_at is not None
    assert abs(job.due_at - job.created_at - HOUR) < timedelta(seconds=5)


def test_a_job_scheduled_for_the_past_is_not_held(tracked: Tracked) -> None:
    """It can be sent at once."""
    job = tracked.submit(scheduled_at=datetime.now(UTC) - HOUR)
    assert job.hold is None
    assert tracked.start(job).status is Status.RUNNING


@pytest.mark.parametrize("priority", [-1, 10])
def test_the_database_refuses_a_priority_outside_of_0_to_9(tracked: Tracked, priority: int) -> None:
    """Row and history row alike."""
    with pytest.raises(IntegrityError, match="jobs_priority_range"):
        tracked.submit(priority=priority)
    assert tracked.all() == []


def test_a_submit_that_is_rolled_back_leaves_nothing(pool: Database, tracked: Tracked) -> None:
    """The verb is part of its caller's transaction."""
    new = new_job()
    with suppress(KeyError), pool.begin() as connection:
        jobs.submit(connection, new, UNLIMITED)
        raise KeyError
    assert tracked.all() == []
    assert lists.timeline(tracked.connection, new.id) == []


# claim


def test_a_claim_starts_an_attempt(tracked: Tracked) -> None:
    """The answer holds what the attempt must know of its job; the row says who runs it."""
    job = tracked.submit(project_id="p1", group_id="g1", max_retries=7)
    lease = uuid4()
    delivery = wish(job.fence, lease=lease)
    assert jobs.claim(tracked.connection, [delivery]) == [
        Attempt(Fence(job.id, 1), 1, Owner("acme", "u1"), "p1", "count_words", 0, 7, job.id, "g1")
    ]
    running = tracked.get(job.id)
    assert (running.status, running.attempt, running.worker) == (Status.RUNNING, 1, "worker-1")
    assert (running.lease, running.claim_id) == (lease, delivery.claim_id)
    assert running.started_at is not None


def test_a_claim_proves_that_the_message_was_sent(tracked: Tracked) -> None:
    """Though the broker's confirmation was never written."""
    assert tracked.start(tracked.submit()).dispatched_at is not None


def test_a_second_delivery_of_a_running_job_is_refused(tracked: Tracked) -> None:
    """And told in its history, with the worker that asked."""
    running = tracked.start(tracked.submit())
    assert jobs.claim(tracked.connection, [wish(running.fence, worker="worker-2")]) == [Refusal.RUNNING]
    assert tracked.get(running.id) == running
    entry = tracked.history(running)[-1]
    assert (entry.event, entry.actor, entry.detail["reason"]) == (Event.DUPLICATE_REFUSED, "worker-2", "running")


def test_a_claim_whose_reply_was_lost_can_be_asked_again(tracked: Tracked) -> None:
    """The same delivery gets the same attempt, and nothing is written."""
    job = tracked.submit()
    delivery = wish(job.fence)
    first = jobs.claim(tracked.connection, [delivery])
    assert jobs.claim(tracked.connection, [delivery]) == first
    assert tracked.events(job) == ["created", "started"]


def test_a_claim_asked_again_after_the_end_is_refused(tracked: Tracked) -> None:
    """The attempt that it was granted is over."""
    job = tracked.submit()
    delivery = wish(job.fence)
    jobs.claim(tracked.connection, [delivery])
    tracked.end(tracked.get(job.id))
    assert jobs.claim(tracked.connection, [delivery]) == [Refusal.FINISHED]


@pytest.mark.parametrize(
    ("situation", "reason"),
    [
        ("running", Refusal.RUNNING),
        ("scheduled", Refusal.HELD),
        ("backoff", Refusal.HELD),
        ("succeeded", Refusal.FINISHED),
        ("failed", Refusal.FINISHED),
        ("cancelled", Refusal.CANCELLED),
        ("stopping", Refusal.CANCELLED),
    ],
)
def test_a_refused_claim_says_why(tracked: Tracked, situation: str, reason: Refusal) -> None:
    """By the state of the job."""
    job = tracked.put_into(situation)
    assert jobs.claim(tracked.connection, [wish(job.fence)]) == [reason]


def test_a_message_of_an_older_dispatch_is_refused_as_stale(tracked: Tracked) -> None:
    """It names its job, so that job's history tells of it."""
    job = tracked.end(tracked.start(tracked.submit()), "released")
    assert jobs.claim(tracked.connection, [wish(Fence(job.id, 1))]) == [Refusal.STALE]
    assert _last(tracked, job) == {"reason": "stale", "dispatch": 1}


def test_a_message_of_no_job_is_refused_as_unknown(tracked: Tracked) -> None:
    """Nothing is written anywhere."""
    job = tracked.submit()
    assert jobs.claim(tracked.connection, [wish(Fence(uuid4(), 1))]) == [Refusal.UNKNOWN]
    assert tracked.events(job) == ["created"]


def test_a_batch_of_claims_is_answered_in_its_order(tracked: Tracked) -> None:
    """Granted ones and refused ones mixed."""
    first, second, done = tracked.submit(), tracked.submit(), tracked.run()
    wishes = [wish(fence) for fence in (second.fence, Fence(uuid4(), 1), done.fence, first.fence)]
    answers = jobs.claim(tracked.connection, wishes)
    assert [answer if isinstance(answer, Refusal) else answer.job_id for answer in answers] == [
        second.id,
        Refusal.UNKNOWN,
        Refusal.FINISHED,
        first.id,
    ]


def test_one_of_two_claims_of_a_job_in_one_batch_is_granted(tracked: Tracked) -> None:
    """Two deliveries of one message that a worker takes together start one body."""
    job = tracked.submit()
    answers = jobs.claim(tracked.connection, [wish(job.fence), wish(job.fence)])
    assert sorted(isinstance(answer, Attempt) for answer in answers) == [False, True]


def test_an_empty_batch_of_claims_is_answered_with_nothing(tracked: Tracked) -> None:
    """No error."""
    assert jobs.claim(tracked.connection, []) == []


def test_a_new_attempt_begins_at_no_progress(tracked: Tracked) -> None:
    """What the one before had reached is forgotten."""
    running = tracked.start(tracked.submit())
    jobs.report(tracked.connection, Progress(running.fence, 1, percent=70, detail={"rows": 7}, current_step=3))
    again = tracked.start(tracked.end(tracked.get(running.id), "released"))
    assert (again.attempt, again.progress, again.progress_detail, again.current_step) == (2, 0, None, 0)


# report


def test_a_report_is_in_the_row_and_in_the_history(tracked: Tracked) -> None:
    """Percentage, message, detail, step and steps."""
    running = tracked.start(tracked.submit())
    news = Progress(running.fence, 1, 40, "Querying data", {"rows": 5}, 2, 6)
    assert jobs.report(tracked.connection, news)
    job = tracked.get(running.id)
    assert (job.progress, job.message, job.progress_detail) == (40, "Querying data", {"rows": 5})
    assert (job.current_step, job.total_steps) == (2, 6)
    entry = tracked.history(job)[-1]
    assert (entry.event, entry.actor) == (Event.PROGRESS, "worker-1")
    assert entry.detail == {
        "percentage": 40,
        "message": "Querying data",
        "detail": {"rows": 5},
        "current": 2,
        "total": 6,
    }


@pytest.mark.parametrize("moved_on", [True, False])
def test_milestones_are_in_the_history_before_the_news_that_followed_them(tracked: Tracked, *, moved_on: bool) -> None:
    """With the times when they happened; the row is where the body is now."""
    running = tracked.start(tracked.submit())
    began = time.monotonic()
    tracked.get(running.id)
    passed = timedelta(seconds=time.monotonic() - began)
    milestones = (
        Milestone(passed, 0, "Validate", 1, 6),
        Milestone(passed / 2, 20, "Validate", 1, 6),
        Milestone(timedelta(0), 20, 'a "quoted" \u20ac', 2, 6),
    )
    news = Progress(running.fence, 1, 25, "Query", {"rows": 5}, 2, 6, milestones, moved_on)
    assert jobs.report(tracked.connection, news)
    job = tracked.get(running.id)
    assert (job.progress, job.message, job.current_step) == (25, "Query", 2)
    started, *told = tracked.history(job)[1:]
    assert [(entry.detail["percentage"], entry.detail["message"], entry.detail["current"]) for entry in told] == [
        (0, "Validate", 1),
        (20, "Validate", 1),
        (20, 'a "quoted" \u20ac', 2),
        *([(25, "Query", 2)] if moved_on else []),
    ]
    times = [started.at, *(entry.at for entry in told)]
    assert times == sorted(set(times))
    assert [entry.detail.get("detail") for entry in told] == [None] * 3 + [{"rows": 5}] * moved_on


def test_milestones_of_an_attempt_that_is_over_are_not_written(tracked: Tracked) -> None:
    """As any other report of it."""
    job = tracked.submit()
    running = tracked.start(job)
    tracked.end(running)
    before = tracked.history(job)
    late = Progress(running.fence, 1, 20, milestones=(Milestone(timedelta(0), 20),), moved_on=False)
    assert not jobs.report(tracked.connection, late)
    assert tracked.history(job) == before


def test_a_report_leaves_what_it_does_not_name(tracked: Tracked) -> None:
    """None leaves each as it is; the percentage, too."""
    running = tracked.start(tracked.submit())
    jobs.report(tracked.connection, Progress(running.fence, 1, 40, "Querying data", {"rows": 5}, 2, 6))
    before = tracked.get(running.id)
    assert jobs.report(tracked.connection, Progress(running.fence, 1))
    after = tracked.get(running.id)
    fields = ("progress", "message", "progress_detail", "current_step", "total_steps")
    assert [getattr(after, field) for field in fields] == [getattr(before, field) for field in fields]


def test_a_step_alone_is_no_progress(tracked: Tracked) -> None:
    """Entering the first step leaves the percentage at 0."""
    running = tracked.start(tracked.submit())
    jobs.report(tracked.connection, Progress(running.fence, 1, message="Validate", current_step=1, total_steps=6))
    assert tracked.get(running.id).progress == 0


@ON_ONE_DATABASE
@given(reports=st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 10)), min_size=1, max_size=6))
def test_progress_never_falls_and_keeps_100_for_success(tracked: Tracked, reports: list[tuple[int, int]]) -> None:
    """Whatever numbers a body reports, in whatever order."""
    job = tracked.start(tracked.submit())
    highest = step = 0
    for percent, current in reports:
        assert jobs.report(tracked.connection, Progress(job.fence, 1, percent=percent, current_step=current))
        highest, step = max(highest, min(99, percent)), max(step, current)
        row = tracked.get(job.id)
        assert (row.progress, row.current_step) == (highest, step)
    assert tracked.end(row).progress == 100


def test_the_history_keeps_a_detail_as_it_was_reported(tracked: Tracked) -> None:
    """Nulls within it included: the live events are made of it."""
    running = tracked.start(tracked.submit())
    jobs.report(tracked.connection, Progress(running.fence, 1, percent=1, detail={"table": None, "rows": [None]}))
    assert _last(tracked, running)["detail"] == {"table": None, "rows": [None]}


def test_a_report_after_the_cancel_is_not_expected(tracked: Tracked) -> None:
    """Which tells the body to stop."""
    running = tracked.start(tracked.submit())
    tracked.cancel(running)
    assert not jobs.report(tracked.connection, Progress(running.fence, 1, percent=50))


# settle


def test_a_success_keeps_its_result(tracked: Tracked) -> None:
    """Complete at 100 %, with a duration in its history."""
    running = tracked.start(tracked.submit())
    [settled] = tracked.settle(running, "succeeded", result={"rows": 3})
    assert (settled.fence, settled.organization_id) == (running.fence, "acme")
    assert settled.status is Status.SUCCEEDED
    done = tracked.get(running.id)
    assert (done.status, done.result, done.progress, done.error_message) == (Status.SUCCEEDED, {"rows": 3}, 100, None)
    assert done.completed_at is not None
    assert _last(tracked, done)["duration"] >= 0


@ON_ONE_DATABASE
@given(result=JSON)
def test_a_result_comes_back_as_it_was_returned(tracked: Tracked, result: Any) -> None:
    """Any JSON: also null, false, 0 and empty ones."""
    assert tracked.end(tracked.start(tracked.submit()), "succeeded", result=result).result == result


def test_a_failure_keeps_its_error(tracked: Tracked) -> None:
    """Type and message in the row, the traceback in the history."""
    failure = Failure("ValueError", "wrong", "Traceback …")
    job = tracked.end(tracked.start(tracked.submit()), "failed", failure=failure)
    assert (job.status, job.error_type, job.error_message) == (Status.FAILED, "ValueError", "wrong")
    detail = _last(tracked, job)
    assert (detail["errorType"], detail["error"], detail["traceback"]) == ("ValueError", "wrong", "Traceback …")
    assert detail["willRetry"] is False


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "succeeded"])
def test_the_last_words_of_a_body_are_written_with_its_outcome(tracked: Tracked, kind: OutcomeKind) -> None:
    """What it said too late for a report of its own; 100 % is kept for success."""
    running = tracked.start(tracked.submit())
    news = Progress(running.fence, 1, 100, "Closing", {"rows": 9}, 5, 6)
    job = tracked.end(running, kind, last_news=news)
    assert (job.progress, job.message, job.progress_detail) == (99, "Closing", {"rows": 9})
    assert (job.current_step, job.total_steps) == (5, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_last_words_move_nothing_backwards(tracked: Tracked, kind: OutcomeKind) -> None:
    """And an outcome without any leaves what was reported."""
    running = tracked.start(tracked.submit())
    jobs.report(tracked.connection, Progress(running.fence, 1, 70, "Formatting", {"rows": 7}, 5, 6))
    job = tracked.end(tracked.get(running.id), kind, last_news=Progress(running.fence, 1, 30, current_step=2))
    assert job.progress == (100 if kind == "succeeded" else 70)
    assert (job.message, job.progress_detail, job.current_step) == ("Formatting", {"rows": 7}, 5)


def test_a_retry_waits_in_the_row(tracked: Tracked) -> None:
    """Held until its delay is over; the error is kept until then."""
    failure = Failure("ConnectionError", "away")
    job = tracked.end(tracked.start(tracked.submit()), "retry", failure=failure, delay=HOUR)
    assert (job.status, job.hold, job.retry_count) == (Status.RETRYING, Hold.BACKOFF, 1)
    assert (job.error_message, job.completed_at) == ("away", None)
    assert job.next_retry_at is not None
    assert abs(job.next_retry_at - job.updated_at - HOUR) < timedelta(seconds=1)
    assert _last(tracked, job)["willRetry"] is True


def test_a_retry_can_change_the_payload(tracked: Tracked) -> None:
    """As Celery's retry(args=…) does; without one it stays."""
    job = tracked.end(tracked.start(tracked.submit(payload={"a": 1})), "retry", changes=Changes(payload={"a": 2}))
    assert job.payload == {"a": 2}
    assert tracked.end(tracked.start(tracked.release(job)), "retry").payload == {"a": 2}


def test_success_forgets_the_error_of_an_earlier_attempt(tracked: Tracked) -> None:
    """The history still has it."""
    job = tracked.end(tracked.start(tracked.submit()), "retry", failure=Failure("ConnectionError", "away"))
    done = tracked.end(tracked.start(tracked.release(job)))
    assert (done.error_type, done.error_message, done.attempt) == (None, None, 2)
    assert "away" in [entry.detail.get("error") for entry in tracked.history(done)]


@pytest.mark.parametrize("kind", ["lost", "released"])
def test_a_job_that_is_handed_back_runs_again_as_a_new_dispatch(tracked: Tracked, kind: OutcomeKind) -> None:
    """Its history row names the dispatch that ended; the retries are not touched."""
    running = tracked.start(tracked.submit())
    job = tracked.end(running, kind)
    assert (job.status, job.hold, job.retry_count, job.dispatched_at) == (Status.QUEUED, None, 0, None)
    assert job.dispatch == running.dispatch + 1
    entry = tracked.history(job)[-1]
    assert (entry.event, entry.dispatch) == (Event.RELEASED, running.dispatch)
    assert tracked.start(job).attempt == 2


def test_only_lost_workers_count_as_losses(tracked: Tracked) -> None:
    """A worker that hands its job back has not died of it."""
    job = tracked.end(tracked.start(tracked.submit()), "released")
    assert job.losses == 0
    assert tracked.end(tracked.start(job), "lost").losses == 1


def test_a_job_that_took_down_three_workers_fails(tracked: Tracked) -> None:
    """With that reason, instead of going on."""
    job = tracked.submit()
    for _ in range(2):
        job = tracked.end(tracked.start(job), "lost")
        assert job.status is Status.QUEUED
    job = tracked.end(tracked.start(job), "lost")
    assert (job.status, job.error_type, job.losses) == (Status.FAILED, "WorkerLost", 3)
    assert job.error_message == "the job took down 3 workers"


def test_a_job_that_its_handler_returns_each_time_fails_with_that_reason(tracked: Tracked) -> None:
    """It counts with the losses, and says what its handler said."""
    job = tracked.end(tracked.start(tracked.submit()), "lost")
    job = tracked.end(tracked.start(job), "returned", failure=Failure("Reject", "not now"))
    assert (job.status, job.losses) == (Status.QUEUED, 2)
    job = tracked.end(tracked.start(job), "returned", failure=Failure("Reject", "not now"))
    assert (job.status, job.error_type, job.error_message) == (Status.FAILED, "Reject", "not now")


def test_the_limit_of_losses_can_be_set(tracked: Tracked) -> None:
    """One is enough, if that is wanted."""
    running = tracked.start(tracked.submit())
    [settled] = jobs.settle(tracked.connection, [outcome(running, "lost")], max_losses=1)
    assert settled.status is Status.FAILED


def test_a_revoked_job_is_cancelled_with_the_reason(tracked: Tracked) -> None:
    """By somebody outside of the platform."""
    failure = Failure("Ignore", "its handler ignored the job")
    job = tracked.end(tracked.start(tracked.submit()), "cancelled", failure=failure)
    assert (job.status, job.stopping) == (Status.CANCELLED, False)
    assert job.cancel_requested_at is not None
    assert _last(tracked, job)["reason"] == "its handler ignored the job"


@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_of_two_outcomes_of_one_attempt_the_first_counts(
    tracked: Tracked, first: OutcomeKind, second: OutcomeKind
) -> None:
    """Signals repeat: the second one changes nothing, not even the time."""
    running = tracked.start(tracked.submit())
    settled = tracked.end(running, first, delay=HOUR)
    events = tracked.events(running)
    assert tracked.settle(running, second) == []
    assert tracked.get(running.id) == settled
    assert tracked.events(running) == events


def test_a_batch_of_outcomes_returns_those_that_were_accepted(tracked: Tracked) -> None:
    """Each is judged by itself."""
    first, second, cancelled = (tracked.start(tracked.submit()) for _ in range(3))
    tracked.cancel(cancelled)
    outcomes = [outcome(first, "succeeded", result=1), outcome(cancelled, "succeeded"), outcome(second, "failed")]
    accepted = jobs.settle(tracked.connection, outcomes)
    assert {settled.job_id: settled.status for settled in accepted} == {
        first.id: Status.SUCCEEDED,
        second.id: Status.FAILED,
    }


def test_two_outcomes_of_one_attempt_in_one_batch_end_it_once(tracked: Tracked) -> None:
    """One row, one history row, one answer."""
    running = tracked.start(tracked.submit())
    outcomes = [outcome(running, "failed"), outcome(running, "failed")]
    assert len(jobs.settle(tracked.connection, outcomes)) == 1
    assert tracked.events(running) == ["created", "started", "failed"]


def test_a_settle_and_what_follows_are_one_transaction(pool: Database, tracked: Tracked) -> None:
    """When the submit of a successor is rolled back, the job is still running."""
    running = tracked.start(tracked.submit())
    with suppress(KeyError), pool.begin() as connection:
        assert jobs.settle(connection, [outcome(running, "succeeded")])
        jobs.submit(connection, new_job(), UNLIMITED)
        raise KeyError
    assert tracked.all() == [running]


# cancel and its end


@pytest.mark.parametrize("situation", ["queued", "scheduled", "retrying", "backoff"])
def test_cancelling_a_waiting_job_ends_it_at_once(tracked: Tracked, situation: str) -> None:
    """No body has to be stopped, and nothing is left to become due."""
    waiting = tracked.put_into(situation)
    cancelled = jobs.cancel(tracked.connection, waiting.id, ACME, actor="u9", reason="not needed")
    assert not cancelled.was_running
    job = cancelled.job
    assert (job.status, job.hold, job.due_at, job.stopping) == (Status.CANCELLED, None, None, False)
    assert _last(tracked, job) == {"by": "u9", "reason": "not needed"}
    assert holds.lift_due(tracked.connection, UNLIMITED, 10) == []


def test_cancelling_a_running_job_leaves_a_body_to_stop(tracked: Tracked) -> None:
    """The row says so until somebody reports its end."""
    running = tracked.start(tracked.submit())
    cancelled = jobs.cancel(tracked.connection, running.id, ACME, actor="u1")
    assert cancelled.was_running
    assert (cancelled.job.status, cancelled.job.stopping) == (Status.CANCELLED, True)


def test_a_cancelled_job_cannot_be_cancelled_again(tracked: Tracked) -> None:
    """The second caller is told that it is finished."""
    job = tracked.put_into("cancelled")
    with pytest.raises(IllegalMove, match="is cancelled: it is finished and cannot be cancelled"):
        jobs.cancel(tracked.connection, job.id, ACME, actor="u1")


@pytest.mark.parametrize("scope", OTHERS)
@pytest.mark.parametrize("verb", [jobs.cancel, partial(jobs.retry, limits=UNLIMITED)])
def test_somebody_elses_job_does_not_exist(tracked: Tracked, verb: Any, scope: Scope) -> None:
    """For a cancel and a retry alike; as if the id were made up."""
    job = tracked.put_into("queued" if verb is jobs.cancel else "failed")
    for unreachable in (job.id, uuid4()):
        with pytest.raises(JobNotFound, match=r"^There is no such job\.$"):
            verb(tracked.connection, unreachable, scope, actor="u2")
    assert tracked.get(job.id) == job


def test_that_a_worker_has_heard_of_a_cancel_is_recorded_once(tracked: Tracked) -> None:
    """By whoever hears of it first: its main process, or the body that is about to end."""
    job = tracked.put_into("stopping")
    assert jobs.seen(tracked.connection, job.fence, actor="worker-1")
    assert not jobs.seen(tracked.connection, job.fence, actor="worker-1")
    assert jobs.stopped(tracked.connection, job.fence, actor="worker-1", how="killed")
    assert tracked.events(job) == ["created", "started", "cancelled", "seen", "stopped"]


def test_a_lost_worker_has_not_heard_of_a_cancel(tracked: Tracked) -> None:
    """Nobody knows, so nobody says so."""
    job = tracked.put_into("stopping")
    assert jobs.stopped(tracked.connection, job.fence, actor="upkeep", how="worker lost")
    assert tracked.events(job) == ["created", "started", "cancelled", "stopped"]


def test_a_worker_finds_what_it_runs_and_what_it_has_to_stop(tracked: Tracked) -> None:
    """And nothing of another worker."""
    ours, theirs = tracked.register_worker(), tracked.register_worker()
    running, stopping = (tracked.start(tracked.submit(), lease=ours) for _ in range(2))
    tracked.start(tracked.submit(), lease=theirs)
    tracked.cancel(stopping)
    assert jobs.running(tracked.connection, ours) == [running.fence]
    [body] = jobs.stopping(tracked.connection, ours)
    assert (body.fence, body.seen_for) == (stopping.fence, None)
    assert jobs.stopping(tracked.connection, theirs) == []


def test_of_a_queue_only_the_oldest_jobs_can_be_missing(tracked: Tracked) -> None:
    """As many as there are fewer messages than jobs; a job that was just sent is not looked for."""
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
    """So that only one of the two messages is ever claimed; one that runs is not sent again."""
    waiting, running = tracked.submit(), tracked.start(tracked.submit())
    jobs.mark_dispatched(tracked.connection, [waiting.fence])
    assert jobs.send_again(tracked.connection, [waiting.fence, running.fence]) == [waiting.id]
    after = tracked.get(waiting.id)
    assert (after.dispatch, after.dispatched_at) == (waiting.dispatch, None)


def test_what_was_released_is_sent_at_once(tracked: Tracked) -> None:
    """No producer is about to."""
    fresh, released = tracked.submit(), tracked.run("released")
    found = jobs.undispatched(tracked.connection, HOUR, 10)
    assert [job.id for job in found] == [released.id]
    assert fresh.dispatched_at is None


def test_the_end_of_a_cancelled_body_is_recorded_once(tracked: Tracked) -> None:
    """How, and how many milliseconds after the cancel; without moving the job."""
    job = tracked.put_into("stopping")
    assert jobs.stopped(tracked.connection, job.fence, actor="worker-1", how="interrupted")
    assert not jobs.stopped(tracked.connection, job.fence, actor="worker-1", how="killed")
    assert tracked.events(job) == ["created", "started", "cancelled", "seen", "stopped"]
    detail = _last(tracked, job)
    assert detail["how"] == "interrupted"
    assert detail["after"] >= 0


def test_a_revoke_from_outside_is_recorded_with_its_actor(tracked: Tracked) -> None:
    """Whoever owns the job."""
    job = tracked.submit(owner=Owner("globex", "u7"))
    assert jobs.cancel_dispatch(tracked.connection, job.fence, actor="flower", reason="revoked")
    assert tracked.get(job.id).status is Status.CANCELLED
    assert _last(tracked, job) == {"by": "flower", "reason": "revoked"}


# retry


def test_a_retried_job_starts_over_as_a_new_dispatch(tracked: Tracked) -> None:
    """Its error, progress and times are forgotten; its attempts go on counting."""
    failed = tracked.put_into("failed")
    job = tracked.retry(failed)
    assert (job.status, job.hold, job.dispatched_at, job.retry_count) == (Status.QUEUED, None, None, 1)
    assert job.dispatch == failed.dispatch + 1
    assert (job.error_type, job.error_message, job.result, job.progress) == (None, None, None, 0)
    assert (job.started_at, job.completed_at) == (None, None)
    assert tracked.start(job).attempt == failed.attempt + 1


def test_a_retried_job_may_lose_three_workers_again(tracked: Tracked) -> None:
    """A person has looked at it since."""
    job = tracked.submit()
    for _ in range(3):
        job = tracked.end(tracked.start(job), "lost")
    assert tracked.retry(job).losses == 0


def test_a_job_without_a_retry_left_is_refused_with_the_numbers(tracked: Tracked) -> None:
    """And force lifts the limit."""
    job = tracked.put_into("exhausted")
    with pytest.raises(IllegalMove, match="has used 0 of 0 retries; force it to retry anyway") as refused:
        tracked.retry(job)
    assert refused.value.retry_after is None
    assert tracked.retry(job, force=True).status is Status.QUEUED


def test_automatic_retries_count_towards_the_limit(tracked: Tracked) -> None:
    """One limit for both."""
    job = tracked.end(tracked.start(tracked.submit(max_retries=1)), "retry")
    failed = tracked.end(tracked.start(tracked.release(job)), "failed")
    with pytest.raises(IllegalMove, match="has used 1 of 1 retries"):
        tracked.retry(failed)


def test_a_job_whose_body_is_still_stopping_can_be_retried_later(tracked: Tracked) -> None:
    """The refusal says when to ask again; force does not help."""
    job = tracked.put_into("stopping")
    for force in (False, True):
        with pytest.raises(IllegalMove, match="still stopping") as refused:
            tracked.retry(job, force=force)
        assert refused.value.retry_after == 2
    jobs.stopped(tracked.connection, job.fence, actor="worker-1", how="interrupted")
    assert tracked.retry(job).status is Status.QUEUED


@pytest.mark.parametrize("situation", ["queued", "running", "retrying", "succeeded"])
def test_a_job_in_no_state_for_a_retry_is_refused(tracked: Tracked, situation: str) -> None:
    """With its state, and no hint to ask again."""
    job = tracked.put_into(situation)
    with pytest.raises(IllegalMove, match=f"is {job.status}: it cannot be retried") as refused:
        tracked.retry(job)
    assert refused.value.retry_after is None


def test_a_retry_tells_who_asked_for_it(tracked: Tracked) -> None:
    """And whether by force."""
    job = tracked.put_into("failed")
    tracked.retry(job, force=True)
    assert _last(tracked, job) == {"by": "u1", "force": True}


# waiting, due, dispatched


def test_a_job_that_nobody_can_run_fails_with_the_reason(tracked: Tracked) -> None:
    """Without an attempt."""
    job = tracked.submit()
    jobs.fail_waiting(tracked.connection, job.fence, actor="worker-1", error_type="NotRegistered", message="no handler")
    failed = tracked.get(job.id)
    assert (failed.status, failed.attempt, failed.error_message) == (Status.FAILED, 0, "no handler")


def test_a_scheduled_job_that_is_due_is_still_in_its_first_dispatch(tracked: Tracked) -> None:
    """No message of it was ever sent."""
    job = tracked.submit(delay=HOUR)
    released = tracked.release(job)
    assert (released.hold, released.status, released.dispatch) == (None, Status.QUEUED, 1)
    assert _last(tracked, job) == {"hold": "schedule"}


def test_a_retry_that_is_due_is_a_new_dispatch(tracked: Tracked) -> None:
    """The message of the failed attempt may still be on its way somewhere."""
    backoff = tracked.put_into("backoff")
    released = tracked.release(backoff)
    assert (released.hold, released.status, released.dispatched_at) == (None, Status.RETRYING, None)
    assert released.dispatch == backoff.dispatch + 1


def test_a_job_is_not_released_before_it_is_due(tracked: Tracked) -> None:
    """Nor twice afterwards."""
    job = tracked.submit(delay=HOUR)
    assert holds.lift_due(tracked.connection, UNLIMITED, 10) == []
    tracked.make_due(job)
    assert [released.id for released in holds.lift_due(tracked.connection, UNLIMITED, 10)] == [job.id]
    assert holds.lift_due(tracked.connection, UNLIMITED, 10) == []


def test_what_has_been_due_the_longest_is_released_first(tracked: Tracked) -> None:
    """Up to the limit."""
    late, early, middle = (tracked.submit(delay=timedelta(hours=hours)) for hours in (3, 1, 2))
    for job in (late, early, middle):
        assert job.due_at is not None
        statement = table.update().where(table.c.id == job.id)
        tracked.connection.execute(statement.values(due_at=job.due_at - timedelta(days=1)))
    assert {job.id for job in holds.lift_due(tracked.connection, UNLIMITED, 2)} == {early.id, middle.id}
    assert [job.id for job in holds.lift_due(tracked.connection, UNLIMITED, 2)] == [late.id]


@pytest.mark.parametrize("hold", [hold for hold in Hold if hold not in (Hold.SCHEDULE, Hold.BACKOFF)])
def test_time_alone_does_not_lift_the_other_holds(tracked: Tracked, hold: Hold) -> None:
    """They end when what they wait for has happened."""
    job = tracked.submit()
    tracked.connection.execute(table.update().where(table.c.id == job.id).values(hold=hold))
    tracked.make_due(job)
    assert holds.lift_due(tracked.connection, UNLIMITED, 10) == []
    assert jobs.claim(tracked.connection, [wish(job.fence)]) == [Refusal.HELD]


def test_a_job_is_undispatched_until_the_broker_has_confirmed_it(tracked: Tracked) -> None:
    """Held ones are not meant to be sent yet."""
    job, _held = tracked.submit(), tracked.submit(delay=HOUR)
    assert jobs.undispatched(tracked.connection, NO_TIME, 10) == [job]
    jobs.mark_dispatched(tracked.connection, [job.fence, Fence(uuid4(), 1), Fence(job.id, 2)])
    assert jobs.undispatched(tracked.connection, NO_TIME, 10) == []


def test_a_young_undispatched_job_is_left_to_its_submitter(tracked: Tracked) -> None:
    """Until it is as old as asked for; the oldest first, up to the limit."""
    first, second = tracked.submit(), tracked.submit()
    assert jobs.undispatched(tracked.connection, HOUR, 10) == []
    assert jobs.undispatched(tracked.connection, NO_TIME, 1) == [first]
    assert jobs.undispatched(tracked.connection, NO_TIME, 10) == [first, second]


def test_the_confirmation_of_an_older_dispatch_does_not_count(tracked: Tracked) -> None:
    """The job's current one has not been sent."""
    job = tracked.end(tracked.start(tracked.submit()), "released")
    jobs.mark_dispatched(tracked.connection, [Fence(job.id, 1)])
    assert jobs.undispatched(tracked.connection, NO_TIME, 10) == [job]


def test_a_job_can_be_dispatched_again(tracked: Tracked) -> None:
    """After its message was lost with the child that had taken it."""
    job = tracked.submit()
    jobs.mark_dispatched(tracked.connection, [job.fence])
    assert jobs.redispatch(tracked.connection, job.fence)
    assert [found.id for found in jobs.undispatched(tracked.connection, NO_TIME, 10)] == [job.id]


# workers


def test_the_jobs_of_a_dead_worker_run_again(tracked: Tracked) -> None:
    """Those of a living one go on."""
    dead, alive = tracked.register_worker(seen=LEASE_TIMEOUT), tracked.register_worker()
    lost, running = (tracked.start(tracked.submit(), lease=lease) for lease in (dead, alive))
    [settled] = reap(tracked.connection, LEASE_TIMEOUT, 10)
    assert (settled.job_id, settled.status) == (lost.id, Status.QUEUED)
    assert (tracked.get(lost.id).losses, tracked.history(lost)[-1].actor) == (1, "upkeep")
    assert tracked.get(running.id) == running


def test_a_worker_that_has_left_is_dead_at_once(tracked: Tracked) -> None:
    """Nobody waits for the lease of one who said goodbye."""
    lease = tracked.register_worker()
    running = tracked.start(tracked.submit(), lease=lease)
    workers.leave(tracked.connection, lease)
    assert [settled.job_id for settled in reap(tracked.connection, LEASE_TIMEOUT, 10)] == [running.id]


def test_a_heartbeat_brings_a_worker_back(tracked: Tracked) -> None:
    """If the reaper has not been quicker."""
    lease = tracked.register_worker(seen=HOUR)
    tracked.start(tracked.submit(), lease=lease)
    workers.beat(tracked.connection, lease, name="worker-1", pid=1, queues=["default"], concurrency=2)
    assert reap(tracked.connection, LEASE_TIMEOUT, 10) == []


def test_the_outcome_of_a_worker_that_was_thought_dead_is_refused(tracked: Tracked) -> None:
    """Its job may be running somewhere else already."""
    running = tracked.start(tracked.submit(), lease=tracked.register_worker(seen=HOUR))
    reap(tracked.connection, LEASE_TIMEOUT, 10)
    assert tracked.settle(running, "succeeded") == []
    assert not jobs.report(tracked.connection, Progress(running.fence, 1, percent=50))


def test_a_job_that_kills_its_workers_is_not_reaped_for_ever(tracked: Tracked) -> None:
    """The third death is the last."""
    job = tracked.submit()
    for _ in range(3):
        tracked.start(job, lease=tracked.register_worker(seen=HOUR))
        [settled] = reap(tracked.connection, LEASE_TIMEOUT, 10)
        job = tracked.get(job.id)
    assert (settled.status, job.error_message) == (Status.FAILED, "the job took down 3 workers")


def test_the_reaper_takes_no_more_than_its_limit(tracked: Tracked) -> None:
    """The rest comes with the next call."""
    for _ in range(3):
        tracked.start(tracked.submit(), lease=uuid4())
    assert [len(reap(tracked.connection, LEASE_TIMEOUT, 2)) for _ in range(3)] == [2, 1, 0]


def test_the_living_workers_are_those_with_a_recent_heartbeat(tracked: Tracked) -> None:
    """The others are forgotten after a while."""
    lease, silent = tracked.register_worker(), tracked.register_worker(seen=timedelta(days=2))
    [worker] = workers.live(tracked.connection, LEASE_TIMEOUT)
    assert (worker.lease, worker.name, worker.queues, worker.concurrency) == (lease, "worker-1", ("default",), 2)
    workers.forget_dead(tracked.connection, timedelta(days=1))
    assert {worker.lease for worker in workers.live(tracked.connection, timedelta(days=9))} == {lease} - {silent}


# canvas groups, owners


def test_the_size_of_a_group_is_unknown_until_it_is_set(tracked: Tracked) -> None:
    """The last word counts."""
    assert groups.size(tracked.connection, "g1") is None
    groups.set_size(tracked.connection, "g1", 3)
    groups.set_size(tracked.connection, "g1", 4)
    assert groups.size(tracked.connection, "g1") == 4
    assert groups.size(tracked.connection, "g2") is None


def test_the_results_of_a_group_come_in_its_order_when_all_have_succeeded(tracked: Tracked) -> None:
    """In whatever order they ended; a member that joined later counts as well."""
    groups.set_size(tracked.connection, "g1", 2)
    groups.grow(tracked.connection, "g1")
    members = [tracked.start(tracked.submit(group_id="g1", group_index=index)) for index in range(3)]
    tracked.end(tracked.start(tracked.submit(group_id="g2", group_index=0)), "succeeded", result="other")
    for member in reversed(members):
        assert groups.results(tracked.connection, "g1") is None
        tracked.end(member, "succeeded", result=member.group_index)
    assert groups.results(tracked.connection, "g1") == [0, 1, 2]


def test_the_results_of_a_saved_group_have_its_shape(tracked: Tracked) -> None:
    """A group in a group is a list in a list, whatever the places in it say."""
    members = [tracked.start(tracked.submit(group_id="g1", group_index=0)) for _ in range(3)]
    first, second, third = [[[str(member.id), None], None] for member in members]
    groups.save(tracked.connection, "g1", [["g1", None], [third, [["g2", None], [first, second]]]])
    groups.set_size(tracked.connection, "g1", 3)
    for number, member in enumerate(members):
        tracked.end(member, "succeeded", result=number)
    assert groups.results(tracked.connection, "g1") == [2, [0, 1]]
    groups.forget(tracked.connection, "g1")
    assert groups.restore(tracked.connection, "g1") is None


def test_code_acts_in_the_name_of_the_innermost_block(tracked: Tracked) -> None:
    """And of nobody outside of any, also after an error."""
    with acting_as("acme", "u1") as outer:
        assert current_owner() == outer == Owner("acme", "u1")
        with acting_as("globex", "u2") as inner:
            assert current_owner() == inner == Owner("globex", "u2")
        with pytest.raises(ValueError, match="broken"), acting_as("globex", "u3"):
            raise ValueError("broken")
        assert current_owner() == outer
    assert current_owner() is None
