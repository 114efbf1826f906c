"""Claims and reports: who gets an attempt, and what is kept of what it says of itself."""

from __future__ import annotations

import time
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from tests.properties import ON_ONE_DATABASE
from tests.tracked import Tracked, wish
from tracking import jobs
from tracking.models import (
    Attempt,
    Fence,
    Milestone,
    Owner,
    Progress,
    Refusal,
)
from tracking.states import Event, Status

# claim


def test_a_claim_starts_an_attempt(tracked: Tracked) -> None:
    """A claim returns what the attempt needs, and the row says who runs it."""
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
    """A claim marks its job as dispatched, though the confirmation was never written."""
    assert tracked.start(tracked.submit()).dispatched_at is not None


def test_a_second_delivery_of_a_running_job_is_refused(tracked: Tracked) -> None:
    """A second delivery of a running job is refused, and history names its worker."""
    running = tracked.start(tracked.submit())
    assert jobs.claim(tracked.connection, [wish(running.fence, worker="worker-2")]) == [Refusal.RUNNING]
    assert tracked.get(running.id) == running
    entry = tracked.history(running)[-1]
    assert (entry.event, entry.actor, entry.detail["reason"]) == (Event.DUPLICATE_REFUSED, "worker-2", "running")


def test_a_claim_whose_reply_was_lost_can_be_asked_again(tracked: Tracked) -> None:
    """A repeated claim of the same delivery gets the same attempt and writes nothing."""
    job = tracked.submit()
    delivery = wish(job.fence)
    first = jobs.claim(tracked.connection, [delivery])
    assert jobs.claim(tracked.connection, [delivery]) == first
    assert tracked.events(job) == ["created", "started"]


def test_a_claim_asked_again_after_the_end_is_refused(tracked: Tracked) -> None:
    """A claim that is repeated after the end of its attempt is refused."""
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
    """A refused claim says why, by the state of the job."""
    job = tracked.put_into(situation)
    assert jobs.claim(tracked.connection, [wish(job.fence)]) == [reason]


def test_a_message_of_an_older_dispatch_is_refused_as_stale(tracked: Tracked) -> None:
    """A claim of an older dispatch is refused as stale, and history tells it."""
    job = tracked.end(tracked.start(tracked.submit()), "released")
    assert jobs.claim(tracked.connection, [wish(Fence(job.id, 1))]) == [Refusal.STALE]
    assert tracked.last_detail(job) == {"reason": "stale", "dispatch": 1}


def test_a_message_of_no_job_is_refused_as_unknown(tracked: Tracked) -> None:
    """A claim of an unknown job is refused, and nothing is written."""
    job = tracked.submit()
    assert jobs.claim(tracked.connection, [wish(Fence(uuid4(), 1))]) == [Refusal.UNKNOWN]
    assert tracked.events(job) == ["created"]


def test_a_batch_of_claims_is_answered_in_its_order(tracked: Tracked) -> None:
    """A batch of claims is answered in its order, granted and refused ones."""
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
    """Of two claims of one job in a batch one is granted."""
    job = tracked.submit()
    answers = jobs.claim(tracked.connection, [wish(job.fence), wish(job.fence)])
    assert sorted(isinstance(answer, Attempt) for answer in answers) == [False, True]


def test_an_empty_batch_of_claims_is_answered_with_nothing(tracked: Tracked) -> None:
    """An empty batch of claims has an empty answer."""
    assert jobs.claim(tracked.connection, []) == []


def test_a_new_attempt_begins_at_no_progress(tracked: Tracked) -> None:
    """A new attempt begins with the progress at 0."""
    running = tracked.start(tracked.submit())
    jobs.report(tracked.connection, Progress(running.fence, 1, percent=70, detail={"rows": 7}, current_step=3))
    again = tracked.start(tracked.end(tracked.get(running.id), "released"))
    assert (again.attempt, again.progress, again.progress_detail, again.current_step) == (2, 0, None, 0)


# report


def test_a_report_is_in_the_row_and_in_the_history(tracked: Tracked) -> None:
    """A report is in the row and in the history: percentage, message, detail and steps."""
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
    """Milestones are in the history with their own times, before the news after them."""
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
    """Milestones of an attempt that is over are not written."""
    job = tracked.submit()
    running = tracked.start(job)
    tracked.end(running)
    before = tracked.history(job)
    late = Progress(running.fence, 1, 20, milestones=(Milestone(timedelta(0), 20),), moved_on=False)
    assert not jobs.report(tracked.connection, late)
    assert tracked.history(job) == before


def test_a_report_leaves_what_it_does_not_name(tracked: Tracked) -> None:
    """A report leaves everything as it is that it does not name."""
    running = tracked.start(tracked.submit())
    jobs.report(tracked.connection, Progress(running.fence, 1, 40, "Querying data", {"rows": 5}, 2, 6))
    before = tracked.get(running.id)
    assert jobs.report(tracked.connection, Progress(running.fence, 1))
    after = tracked.get(running.id)
    fields = ("progress", "message", "progress_detail", "current_step", "total_steps")
    assert [getattr(after, field) for field in fields] == [getattr(before, field) for field in fields]


def test_a_step_alone_is_no_progress(tracked: Tracked) -> None:
    """The beginning of the first step leaves the percentage at 0."""
    running = tracked.start(tracked.submit())
    jobs.report(tracked.connection, Progress(running.fence, 1, message="Validate", current_step=1, total_steps=6))
    assert tracked.get(running.id).progress == 0


@ON_ONE_DATABASE
@given(reports=st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 10)), min_size=1, max_size=6))
def test_progress_never_falls_and_keeps_100_for_success(tracked: Tracked, reports: list[tuple[int, int]]) -> None:
    """Progress never falls and stays below 100 before the success."""
    job = tracked.start(tracked.submit())
    highest = step = 0
    for percent, current in reports:
        assert jobs.report(tracked.connection, Progress(job.fence, 1, percent=percent, current_step=current))
        highest, step = max(highest, min(99, percent)), max(step, current)
        row = tracked.get(job.id)
        assert (row.progress, row.current_step) == (highest, step)
    assert tracked.end(row).progress == 100


def test_the_history_keeps_a_detail_as_it_was_reported(tracked: Tracked) -> None:
    """History keeps a reported detail with its nulls."""
    running = tracked.start(tracked.submit())
    jobs.report(tracked.connection, Progress(running.fence, 1, percent=1, detail={"table": None, "rows": [None]}))
    assert tracked.last_detail(running)["detail"] == {"table": None, "rows": [None]}


def test_a_report_after_the_cancel_is_not_expected(tracked: Tracked) -> None:
    """A report after the cancel is refused."""
    running = tracked.start(tracked.submit())
    tracked.cancel(running)
    assert not jobs.report(tracked.connection, Progress(running.fence, 1, percent=50))


def test_a_milestone_that_is_told_late_comes_after_what_was_written_before_it(tracked: Tracked) -> None:
    """A milestone of ten seconds ago has no earlier time than the refusal that the history has before it."""
    running = tracked.start(tracked.submit())
    tracked.connection.execute(
        text(
            "UPDATE jobs SET started_at = started_at - interval '1 minute', "
            "created_at = created_at - interval '1 minute'"
        )
    )
    tracked.connection.execute(text("UPDATE history SET at = at - interval '1 minute'"))
    jobs.refuse(tracked.connection, running.fence, running.fence, worker="worker-1")
    late = Progress(running.fence, 1, 20, milestones=(Milestone(timedelta(seconds=10), 20),), moved_on=False)
    assert jobs.report(tracked.connection, late)
    times = [entry.at for entry in tracked.history(running)]
    assert times == sorted(times)
