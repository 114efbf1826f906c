"""Jobs as they were: what the history says of a time is what the rows said then."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.tracked import ACME, HOUR, SITUATIONS, Tracked, ids
from tracking import jobs
from tracking.errors import JobNotFound
from tracking.models import Failure, JobRecord, Owner, Progress, Scope
from tracking.reads import lists, past
from tracking.reads.answers import Filters
from tracking.states import FINISHED, Hold, Status

DAY = timedelta(days=1)
# What the history tells of, of all that a row has.
TOLD = (
    *("status", "hold", "attempt", "dispatch", "retry_count", "worker", "error_type", "error_message"),
    *("progress", "message", "current_step", "total_steps", "result", "priority"),
)


def now(tracked: Tracked) -> datetime:
    at: datetime = tracked.connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return at


def then(tracked: Tracked, job: JobRecord, at: datetime) -> JobRecord:
    """A job as it was."""
    return lists.get_as_of(tracked.connection, job.id, ACME, at)


def told(job: JobRecord) -> dict[str, Any]:
    """What the history can tell of it."""
    return {name: getattr(job, name) for name in TOLD}


def listed(tracked: Tracked, at: datetime, *statuses: Status, **narrowed: Any) -> list[JobRecord]:
    """The list as it was, which is the same by number and by cursor."""
    filters = Filters(as_of=at, statuses=statuses, **narrowed)
    page = lists.page(tracked.connection, ACME, filters, number=1, size=100)
    deep = lists.after(tracked.connection, ACME, filters, cursor=None, size=100)
    assert (page.jobs, page.total) == (deep.jobs, len(page.jobs))
    return list(page.jobs)


def report(tracked: Tracked, job: JobRecord, **news: Any) -> None:
    """Progress of a running job."""
    jobs.report(tracked.connection, Progress(job.fence, job.attempt, **news))


def go_on(tracked: Tracked, job: JobRecord) -> None:
    """Let as much as possible happen to a job."""
    if job.status in FINISHED and job.status is not Status.SUCCEEDED and not job.stopping:
        tracked.retry(job, force=True)
    current = tracked.get(job.id)
    if current.status in (Status.QUEUED, Status.RETRYING) and current.hold in (Hold.SCHEDULE, Hold.BACKOFF):
        current = tracked.release(current)
    if current.status in (Status.QUEUED, Status.RETRYING):
        current = tracked.start(current)
    if current.status is Status.RUNNING:
        report(tracked, current, percent=70, message="later", current_step=4, total_steps=5)
        tracked.end(tracked.get(job.id))


@pytest.mark.parametrize("situation", SITUATIONS)
def test_whatever_happens_to_a_job_it_is_told_as_it_was(tracked: Tracked, situation: str) -> None:
    """What the history says of a time is what the row said then, whatever has happened since."""
    was = tracked.put_into(situation)
    at = now(tracked)
    go_on(tracked, was)
    assert told(then(tracked, was, at)) == told(was)


def test_between_two_reports_a_job_is_at_the_first(tracked: Tracked) -> None:
    """Progress is what was told last by then, and a retry that nobody has begun is a queued job."""
    job = tracked.start(tracked.submit())
    report(tracked, job, percent=40, message="half", current_step=1, total_steps=3)
    half, at = tracked.get(job.id), now(tracked)
    report(tracked, job, percent=80, message="more", current_step=2, total_steps=3)
    assert told(then(tracked, job, at)) == told(half)
    again = tracked.retry(tracked.fail(tracked.get(job.id)))
    at = now(tracked)
    tracked.start(again)
    assert told(then(tracked, job, at)) == told(again)


def test_a_job_was_not_there_before_it_was_created(tracked: Tracked) -> None:
    """Before its creation a job is not found, as one of somebody else."""
    at = now(tracked)
    job = tracked.submit()
    for scope, moment in ((ACME, at), (Scope("globex", None), now(tracked))):
        with pytest.raises(JobNotFound):
            lists.get_as_of(tracked.connection, job.id, scope, moment)


def test_lists_and_counts_are_those_of_then(tracked: Tracked) -> None:
    """Each status lists the jobs that had it then, the counts are the same; what was created since is in neither."""
    before = {situation: tracked.put_into(situation) for situation in SITUATIONS}
    counted = lists.stats(tracked.connection, ACME)
    at = now(tracked)
    for job in before.values():
        go_on(tracked, job)
    tracked.put_into("failed")
    tracked.submit(owner=Owner("globex", "u1"))
    assert {job.id for job in listed(tracked, at)} == {job.id for job in before.values()}
    for status in Status:
        expected = {job.id for job in before.values() if job.status is status}
        found = listed(tracked, at, status)
        assert {job.id for job in found} == expected, status
        assert {job.status for job in found} <= {status}
    assert len(listed(tracked, at, Status.FAILED, Status.RUNNING)) == 3
    stats = past.stats(tracked.connection, ACME, at, window=HOUR)
    assert replace(stats, oldest_pending_age=None, average_duration=None) == replace(
        counted, oldest_pending_age=None, average_duration=None
    )
    assert stats.oldest_pending_age is not None
    assert stats.average_duration is not None


def test_a_list_of_then_is_narrowed_as_any_other(tracked: Tracked) -> None:
    """A type, a user and a project narrow the list and the counts as they were; the newest come first."""
    wanted = [tracked.submit(job_type="sync", project_id="p1") for _ in range(2)]
    tracked.submit(job_type="sync", owner=Owner("acme", "u2"))
    tracked.submit(project_id="p1")
    at = now(tracked)
    for job in wanted:
        tracked.cancel(job)
    narrowed = {"job_type": "sync", "user_id": "u1", "project_id": "p1"}
    assert ids(listed(tracked, at, Status.QUEUED, **narrowed)) == [wanted[1].id, wanted[0].id]
    assert listed(tracked, at, Status.CANCELLED, **narrowed) == []
    of_project = past.stats(tracked.connection, Scope("acme", "u1"), at, window=HOUR, project_id="p1")
    assert (of_project.total, of_project.pending) == (3, 3)


def test_what_ended_before_the_window_was_not_counted(tracked: Tracked) -> None:
    """The window of the counts ends at the time that is asked for; without one, all that had ended is counted."""
    tracked.finished_ago(tracked.run(), 3 * HOUR)
    failed = tracked.finished_ago(tracked.put_into("failed"), 2 * HOUR)
    at = now(tracked) - timedelta(minutes=90)
    tracked.retry(failed)
    for window, counts in ((HOUR, (0, 1)), (2 * HOUR, (1, 1)), (timedelta(minutes=10), (0, 0)), (None, (1, 1))):
        stats = past.stats(tracked.connection, ACME, at, window=window)
        assert (stats.completed, stats.failed, stats.total_active) == (*counts, 0), window


def test_a_retried_error_was_an_error_then(tracked: Tracked) -> None:
    """A job that was retried since has the error that it had."""
    job = tracked.end(tracked.start(tracked.submit()), "failed", failure=Failure("OSError", "no space"))
    at = now(tracked)
    tracked.retry(job)
    was = then(tracked, job, at)
    assert (was.status, was.error_type, was.error_message) == (Status.FAILED, "OSError", "no space")
    assert was.completed_at is not None
    assert abs(was.completed_at - job.completed_at) < timedelta(seconds=1)  # type: ignore[operator]
