"""What due times become: one job each, whoever looks, or an outcome that says why there is none."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.scheduled import TWICE, Scheduled, job_ids, job_of
from tests.tracked import ACME, Tracked, check_rows, new_job
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.errors import ScheduleUnfit
from tracking.models import NewJob, Owner
from tracking.origins import By
from tracking.schedules import firing, keeping, outcomes
from tracking.schedules.values import CatchUp, Overlap, Schedule

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
MOMENT = timedelta(seconds=1)


@pytest.fixture
def scheduled(pool: Database, tracked: Tracked) -> Iterator[Scheduled]:
    """No schedules yet. Afterwards the rows of the jobs must tell no lie."""
    yield Scheduled(pool)
    check_rows(tracked)


def refuse(_: Schedule, __: datetime) -> NewJob:
    raise ScheduleUnfit("its type is gone")


def test_a_due_time_makes_one_job_that_names_it(scheduled: Scheduled, tracked: Tracked) -> None:
    """A schedule that is due makes a job, whose outcome names it, and is due again after its interval."""
    schedule = scheduled.let_pass(scheduled.create(), MINUTE + MOMENT)
    [made] = job_ids(scheduled.fire(schedule))
    [job] = tracked.all()
    assert (job.id, job.metadata["scheduleId"]) == (made, str(schedule.id))
    [outcome] = scheduled.outcomes(schedule)
    assert (outcome.job_id, outcome.status, outcome.due_at) == (job.id, job.status, schedule.next_at)
    after = scheduled.get(schedule)
    assert after.next_at is not None
    assert schedule.next_at is not None
    assert after.next_at - schedule.next_at == MINUTE
    assert scheduled.fire(schedule) is None


def test_what_is_not_due_makes_nothing(scheduled: Scheduled) -> None:
    """A schedule before its time, one that is paused, and one that was removed make no job."""
    early, paused = scheduled.create("early"), scheduled.create("paused", paused=True)
    scheduled.let_pass(paused, HOUR)
    assert [scheduled.fire(each) for each in (early, paused)] == [None, None]
    assert scheduled.do(firing.waiting, 10) == []


def test_the_schedule_of_one_organization_holds_up_no_other(scheduled: Scheduled) -> None:
    """Of those that are due each organization has its first one in the batch, however many another one has."""
    for number in range(5):
        scheduled.let_pass(scheduled.create(f"each {number}"), HOUR)
    other = scheduled.let_pass(scheduled.create("one", owner=Owner("globex", "u1")), MINUTE + MOMENT)
    assert other.id in scheduled.do(firing.waiting, 2)


@pytest.mark.parametrize(
    ("catch_up", "told"),
    [
        (CatchUp.SKIP, [("skipped", 9, "late"), ("job", 1, None)]),
        (CatchUp.ONCE, [("skipped", 9, "late"), ("job", 1, None)]),
        (CatchUp.ALL, [("job", 1, None)] * 10),
    ],
)
def test_after_an_outage_what_is_due_now_is_made(
    scheduled: Scheduled, catch_up: CatchUp, told: list[tuple[str, int, str | None]]
) -> None:
    """After an outage of ten due times, the last of them just now, each kind of catching up makes its jobs."""
    schedule = scheduled.let_pass(scheduled.create(catch_up=catch_up), 10 * MINUTE + MOMENT)
    scheduled.fire(schedule)
    assert scheduled.told(schedule) == told


@pytest.mark.parametrize(
    ("catch_up", "told"),
    [
        (CatchUp.SKIP, [("skipped", 3, "late")]),
        (CatchUp.ONCE, [("skipped", 2, "late"), ("job", 1, None)]),
        (CatchUp.ALL, [("job", 1, None)] * 3),
    ],
)
def test_after_an_outage_what_was_missed_is_caught_up_with(
    scheduled: Scheduled, catch_up: CatchUp, told: list[tuple[str, int, str | None]]
) -> None:
    """After an outage of three due times, the last of them half an hour ago, each kind makes none, one or all."""
    schedule = scheduled.let_pass(scheduled.create(catch_up=catch_up, every_seconds=3600), 3 * HOUR + 30 * MINUTE)
    scheduled.fire(schedule)
    assert scheduled.told(schedule) == told
    made = scheduled.made_at(schedule)
    assert [later - sooner for sooner, later in pairwise(made)] == [HOUR] * (len(made) - 1)


def test_at_most_a_hundred_are_caught_up_with(scheduled: Scheduled) -> None:
    """Of more than a hundred that were missed the latest hundred are made, and the others skipped."""
    schedule = scheduled.let_pass(scheduled.create(catch_up=CatchUp.ALL, every_seconds=3600), 250 * HOUR + 30 * MINUTE)
    scheduled.fire(schedule)
    assert scheduled.told(schedule) == [("skipped", 150, "late"), *[("job", 1, None)] * 100]


def test_skipped_ones_in_a_row_are_one_outcome(scheduled: Scheduled) -> None:
    """Due times to which the same happens one after the other are one outcome, with their number and both ends."""
    schedule = scheduled.create(catch_up=CatchUp.SKIP, every_seconds=3600)
    for _ in range(3):
        scheduled.fire(scheduled.let_pass(schedule, 2 * HOUR + 25 * MINUTE))
    [outcome] = scheduled.outcomes(schedule)
    assert outcome.count == (outcome.last_due_at - outcome.due_at) / HOUR + 1 == 7


def test_earlier_jobs_that_run_may_overlap(scheduled: Scheduled, tracked: Tracked) -> None:
    """With `allow` a due time makes its job beside one that runs."""
    schedule = scheduled.create(overlap=Overlap.ALLOW)
    scheduled.fire(scheduled.let_pass(schedule, MINUTE + MOMENT))
    tracked.start(tracked.all()[0])
    scheduled.fire(scheduled.let_pass(schedule, MINUTE))
    assert [str(job.status) for job in tracked.all()] == ["running", "queued"]


@pytest.mark.parametrize("situation", ["queued", "running", "backoff", "stopping"])
def test_while_an_earlier_job_is_not_over_a_due_time_is_skipped(
    scheduled: Scheduled, tracked: Tracked, situation: str
) -> None:
    """With `skip` a due time is skipped while an earlier job waits, runs, is to be repeated, or is still stopping."""
    schedule = scheduled.create(overlap=Overlap.SKIP)
    scheduled.fire(scheduled.let_pass(schedule, MINUTE + MOMENT))
    tracked.bring(tracked.all()[0], situation)
    for _ in range(2):
        scheduled.fire(scheduled.let_pass(schedule, MINUTE))
    assert scheduled.told(schedule) == [("job", 1, None), ("skipped", 2, "overlap")]


def test_when_it_is_over_the_next_one_is_made(scheduled: Scheduled, tracked: Tracked) -> None:
    """With `skip` an earlier job that has ended lets the next due time make one, until it is retried by hand."""
    schedule = scheduled.create(overlap=Overlap.SKIP)
    scheduled.fire(scheduled.let_pass(schedule, MINUTE + MOMENT))
    first = tracked.fail(tracked.start(tracked.all()[0]))
    scheduled.fire(scheduled.let_pass(schedule, MINUTE))
    tracked.cancel(tracked.all()[1])
    tracked.retry(first)
    scheduled.fire(scheduled.let_pass(schedule, MINUTE))
    assert scheduled.told(schedule) == [("job", 1, None), ("job", 1, None), ("skipped", 1, "overlap")]


def test_earlier_jobs_are_cancelled_for_the_next_one(scheduled: Scheduled, tracked: Tracked) -> None:
    """With `cancel_previous` earlier jobs that have not ended are cancelled, and what ran is to be stopped."""
    schedule = scheduled.create(overlap=Overlap.CANCEL_PREVIOUS)
    scheduled.fire(scheduled.let_pass(schedule, MINUTE + MOMENT))
    tracked.start(tracked.all()[0])
    fired = scheduled.fire(scheduled.let_pass(schedule, MINUTE))
    assert fired is not None
    assert [(str(job.status), was_running) for job, was_running in fired.cancelled] == [("cancelled", True)]
    assert [str(job.status) for job in tracked.all()] == ["cancelled", "queued"]
    assert tracked.history(tracked.all()[0])[-1].detail["reason"] == "the next one of its schedule is due"


def test_what_does_not_fit_any_more_fails_alone(scheduled: Scheduled, tracked: Tracked) -> None:
    """A due time whose job cannot be made has that as its outcome with the reason, and the next one is due."""
    schedule = scheduled.create()
    for _ in range(2):
        scheduled.fire(scheduled.let_pass(schedule, MINUTE), refuse)
    scheduled.fire(scheduled.let_pass(schedule, MINUTE))
    assert scheduled.told(schedule) == [("failed", 2, "its type is gone"), ("job", 1, None)]
    assert len(tracked.all()) == 1


def test_a_job_that_the_database_refuses_takes_its_outcome_with_it(scheduled: Scheduled, tracked: Tracked) -> None:
    """When the job of a due time cannot be written, nothing is: it is due still."""
    schedule = scheduled.let_pass(scheduled.create(), MINUTE + MOMENT)
    with pytest.raises(DBAPIError):
        scheduled.fire(schedule, lambda *_: new_job(priority=77))
    assert (tracked.all(), scheduled.outcomes(schedule), scheduled.get(schedule)) == ([], [], schedule)


def test_what_runs_by_hand_changes_no_due_time(scheduled: Scheduled, tracked: Tracked) -> None:
    """A job that somebody has made now is an outcome with their name, and due times stay as they were."""
    schedule = scheduled.create(paused=True)
    job = scheduled.do(firing.run_now, schedule.id, ACME, job_of, UNLIMITED, by=By("u2")).job
    [outcome] = scheduled.outcomes(schedule)
    assert (outcome.job_id, outcome.actor) == (job.id, "u2")
    assert scheduled.get(schedule).next_at == schedule.next_at
    assert [each.id for each in tracked.all()] == [job.id]


def test_leaders_at_the_same_time_make_each_job_once(scheduled: Scheduled, tracked: Tracked) -> None:
    """Several leaders that look at the same schedules at the same time make each due time's job once."""
    schedules = [
        scheduled.let_pass(scheduled.create(f"s{number}", catch_up=CatchUp.ALL), 5 * MINUTE) for number in range(10)
    ]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: [scheduled.fire(each) for each in schedules], range(4)))
    assert len(tracked.all()) == 50
    assert scheduled.run(TWICE) == []
    assert all(len(scheduled.made_at(each)) == 5 for each in schedules)


def test_a_due_time_of_which_something_has_become_makes_no_second_job(scheduled: Scheduled, tracked: Tracked) -> None:
    """Even a schedule that was set back makes no second job of a due time."""
    schedule = scheduled.let_pass(scheduled.create(), MINUTE + MOMENT)
    scheduled.fire(schedule)
    sql = "UPDATE schedules SET since = :since, next_at = :next_at WHERE id = :id"
    scheduled.run(sql, since=schedule.since, next_at=schedule.next_at, id=schedule.id)
    assert job_ids(scheduled.fire(schedule)) == []
    assert len(tracked.all()) == 1


def test_due_times_follow_the_rules_of_their_zone_when_these_change(scheduled: Scheduled) -> None:
    """A next due time that is not by the rules of its zone any more is set anew, and no other."""
    right, wrong = (scheduled.create(name, cron="30 6 * * *", timezone="Europe/Berlin") for name in ("a", "b"))
    at_interval = scheduled.create("c")
    later = "UPDATE schedules SET next_at = next_at + interval '1 hour' WHERE id <> :id"
    scheduled.run(later, id=right.id)
    assert scheduled.do(firing.recompute, None, 100) == (1, None)
    assert [scheduled.get(each).next_at for each in (right, wrong)] == [right.next_at, wrong.next_at]
    assert scheduled.get(at_interval).next_at != at_interval.next_at
    changed, last = scheduled.do(firing.recompute, None, 1)
    assert (changed, last) == (0, min(right.id, wrong.id))


def test_old_outcomes_go_and_jobs_that_went_leave_theirs(scheduled: Scheduled, tracked: Tracked) -> None:
    """Outcomes go by their age; one whose job was removed stays, without a status."""
    schedule = scheduled.create()
    for _ in range(2):
        scheduled.fire(scheduled.let_pass(schedule, MINUTE))
    scheduled.run("UPDATE schedule_outcomes SET at = at - interval '2 days' WHERE due_at < :at", at=schedule.next_at)
    scheduled.run("DELETE FROM jobs")
    scheduled.run("DELETE FROM history")
    assert [each.status for each in scheduled.outcomes(schedule)] == [None, None]
    assert scheduled.do(outcomes.forget, timedelta(days=1), 1) == 1


def test_a_schedules_jobs_are_submitted_like_all_others(scheduled: Scheduled, tracked: Tracked) -> None:
    """The job of a due time has the history of any other, made by the schedule."""
    schedule = scheduled.let_pass(scheduled.create(), MINUTE + MOMENT)
    scheduled.fire(schedule)
    [job] = tracked.all()
    assert [str(each) for each in tracked.events(job)] == ["created"]


def test_what_becomes_of_due_times_is_told_once(scheduled: Scheduled, tracked: Tracked) -> None:
    """A due time that made a job is told with it, those that were skipped with how many, and a failure with why."""
    schedule = scheduled.let_pass(scheduled.create(project_id="p1"), 3 * MINUTE + MOMENT)
    [made] = job_ids(scheduled.fire(schedule))
    scheduled.fire(scheduled.let_pass(schedule, MINUTE), refuse)
    scheduled.do(keeping.skip_next, schedule.id, ACME, By("u2"))
    rows = tracked.connection.execute(text("SELECT * FROM events ORDER BY id")).all()
    assert {(row.organization_id, row.user_id, row.project_id, row.job_type, row.subject_id) for row in rows} == {
        ("acme", "u1", "p1", "count_words", schedule.id)
    }
    assert [(row.event, row.detail["name"]) for row in rows] == [
        ("schedule.skipped", "nightly"),
        ("schedule.fired", "nightly"),
        ("schedule.failed", "nightly"),
        ("schedule.skipped", "nightly"),
    ]
    late, fired, failed, asked = (row.detail for row in rows)
    assert (late["reason"], late["count"], late["dueAt"] < late["lastDueAt"] < fired["dueAt"]) == ("late", 2, True)
    assert fired["jobId"] == str(made)
    assert failed["reason"] == "its type is gone"
    assert (asked["reason"], asked["by"], "count" in asked) == ("asked", "u2", False)


def test_a_due_time_that_was_rolled_back_is_not_told(scheduled: Scheduled, tracked: Tracked, pool: Database) -> None:
    """What a leader has written when it dies is not told, and what the next one makes of it is, once."""
    schedule = scheduled.let_pass(scheduled.create(), MINUTE + MOMENT)
    with pool.begin() as connection:
        firing.fire(connection, schedule.id, job_of, UNLIMITED)
        connection.rollback()
    scheduled.fire(schedule)
    scheduled.fire(schedule)
    assert tracked.connection.execute(text("SELECT event FROM events")).scalars().all() == ["schedule.fired"]
