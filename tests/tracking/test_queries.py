"""The reads of one job: who sees it, its timeline and its attempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import uuid4

import pytest

from tests.tracked import OTHERS, Tracked, ids, wish
from tracking import jobs
from tracking.errors import JobNotFound
from tracking.models import JobRecord, Owner, Progress, Scope
from tracking.reads import lists
from tracking.states import Event

# one job


def test_a_job_is_found_by_its_id_within_the_scope(tracked: Tracked) -> None:
    """A job is found by its id within the scope of its user or organization."""
    job = tracked.submit()
    for scope in (Scope("acme", None), Scope("acme", "u1")):
        assert lists.get(tracked.connection, job.id, scope) == job


@pytest.mark.parametrize("scope", OTHERS)
def test_a_job_outside_of_the_scope_does_not_exist(tracked: Tracked, scope: Scope) -> None:
    """A job outside of the scope raises the same JobNotFound as one that never existed."""
    for unreachable in (tracked.submit().id, uuid4()):
        with pytest.raises(JobNotFound, match=r"^There is no such job\.$"):
            lists.get(tracked.connection, unreachable, scope)


def test_the_platform_finds_a_job_whatever_its_owner(tracked: Tracked) -> None:
    """The platform's own code finds any job by its id."""
    job = tracked.submit(owner=Owner("globex", "u7"))
    assert lists.find(tracked.connection, job.id) == job
    assert lists.find(tracked.connection, uuid4()) is None


READS: dict[str, Callable[[Tracked, Scope], Sequence[JobRecord]]] = {
    "page": lambda tracked, scope: lists.page(tracked.connection, scope, number=1, size=100).jobs,
    "after": lambda tracked, scope: lists.after(tracked.connection, scope, cursor=None, size=100).jobs,
    "recent": lambda tracked, scope: lists.recent(tracked.connection, scope, limit=100),
    "finished": lambda tracked, scope: lists.finished(tracked.connection, scope, cursor=None, size=100).jobs,
}


@pytest.mark.parametrize("name", READS)
def test_a_list_holds_the_jobs_of_its_scope_only(tracked: Tracked, name: str) -> None:
    """A list holds the jobs of its scope only."""
    owners = [Owner(organization, user) for organization in ("acme", "globex") for user in ("u1", "u2")]
    of = {owner: tracked.run(owner=owner).id for owner in owners}
    for organization in ("acme", "globex"):
        everybody = {job_id for owner, job_id in of.items() if owner.organization_id == organization}
        assert set(ids(READS[name](tracked, Scope(organization, None)))) == everybody
        assert ids(READS[name](tracked, Scope(organization, "u2"))) == [of[Owner(organization, "u2")]]


# timeline and attempts


def test_a_timeline_is_the_history_oldest_first(tracked: Tracked) -> None:
    """A timeline is the history of one job, oldest first."""
    tracked.run()
    job = tracked.run("failed")
    entries = lists.timeline(tracked.connection, job.id)
    assert [entry.event for entry in entries] == [Event.CREATED, Event.STARTED, Event.FAILED]
    assert {entry.job_id for entry in entries} == {job.id}


def test_attempts_are_put_together_from_the_history(tracked: Tracked) -> None:
    """Attempts are made of the history, with worker, times and outcome."""
    job = tracked.back_off(tracked.start(tracked.submit(), worker="worker-7"))
    job = tracked.end(tracked.start(tracked.release(job), worker="worker-8"), "lost")
    job = tracked.cancel(tracked.start(job, worker="worker-9"))
    first, second, third = lists.attempts(tracked.history(job))
    assert [(attempt.attempt, attempt.worker) for attempt in (first, second, third)] == [
        (1, "worker-7"),
        (2, "worker-8"),
        (3, "worker-9"),
    ]
    assert [attempt.outcome for attempt in (first, second, third)] == [Event.FAILED, Event.RELEASED, Event.CANCELLED]
    assert (first.error_type, first.error_message) == ("ConnectionError", "away")
    assert all(attempt.completed_at and attempt.completed_at >= attempt.started_at for attempt in (first, second))


def test_an_attempt_that_runs_has_no_outcome_yet(tracked: Tracked) -> None:
    """An attempt that runs has no outcome."""
    job = tracked.start(tracked.submit())
    jobs.report(tracked.connection, Progress(job.fence, 1, percent=50))
    jobs.claim(tracked.connection, [wish(job.fence)])
    [attempt] = lists.attempts(tracked.history(job))
    assert (attempt.attempt, attempt.outcome, attempt.completed_at) == (1, None, None)


def test_a_long_timeline_shows_its_end(tracked: Tracked) -> None:
    """A long timeline has the last thousand reports in their order."""
    job = _talkative_job(tracked)
    reports = [entry for entry in lists.timeline(tracked.connection, job.id) if entry.event is Event.PROGRESS]
    assert len(reports) == lists.TIMELINE_LIMIT
    assert [entry.detail["current"] for entry in reports] == list(range(1, lists.TIMELINE_LIMIT + 1))


def test_a_job_that_reports_a_lot_keeps_its_attempts(tracked: Tracked) -> None:
    """The attempts of a job stay complete, however many reports it has."""
    job = _talkative_job(tracked)
    assert [attempt.attempt for attempt in lists.attempts(tracked.history(job))] == [1]


def _talkative_job(tracked: Tracked) -> JobRecord:
    job = tracked.start(tracked.submit())
    for number in range(lists.TIMELINE_LIMIT + 1):
        jobs.report(tracked.connection, Progress(job.fence, 1, current_step=number))
    return job
