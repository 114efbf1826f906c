"""The leader and schedules: their jobs are those of handlers, each made once though leaders die; what fails, alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tasks import app
from tasks.leader.pruning import Pruning
from tasks.leader.schedules import Scheduling
from tests import sample_handlers
from tests.handling import workplace
from tests.scheduled import TWICE, Scheduled
from tests.tracked import Tracked
from tracking import clean_ups
from tracking.crashpoints import DUE, FIRED, VARIABLE
from tracking.db import Database
from tracking.models import Owner
from tracking.schedules.values import CatchUp, Overlap

MINUTE = timedelta(minutes=1)
MOMENT = timedelta(seconds=1)
assert sample_handlers.count_words.name == "count_words"  # it is known here


@pytest.fixture
def scheduled(pool: Database, tracked: Tracked, tmp_path: Path) -> Iterator[Scheduled]:
    """No schedules yet; platform code works on their database."""
    with workplace(pool.engine.url.render_as_string(hide_password=False), tmp_path):
        yield Scheduled(pool)


def test_a_due_time_makes_the_job_of_its_handler(scheduled: Scheduled, tracked: Tracked) -> None:
    """A due time makes the job that its handler takes, with what the schedule says, in its owner's name."""
    schedule = scheduled.create(
        payload={"words": ["a"]}, priority=7, max_retries=2, project_id="p", metadata={"why": "night"}
    )
    scheduled.let_pass(schedule, MINUTE + MOMENT)
    assert Scheduling(app.platform).turn() is False
    [job] = tracked.all()
    assert (job.organization_id, job.user_id, job.job_type) == ("acme", "u1", "count_words")
    assert (job.payload, job.priority, job.max_retries) == ({"words": ["a"], "witness": None}, 7, 2)
    [outcome] = scheduled.outcomes(schedule)
    due_at = outcome.due_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert job.metadata == {"why": "night", "scheduleId": str(schedule.id), "dueAt": due_at}
    assert tracked.history(job)[0].actor == "schedule nightly"


def test_a_schedule_that_does_not_fit_fails_alone(scheduled: Scheduled, tracked: Tracked) -> None:
    """A type or a template that is gone, a payload that fits no more and a permission not shown fail alone."""
    wrong: dict[str, dict[str, Any]] = {
        "gone": {"job_type": "forgotten"},
        "lost": {"template": "removed"},
        "unfit": {"payload": {"words": 7, "secret": "s3cret"}},
        "denied": {"job_type": "export_report", "payload": {"reportType": "jobs"}},
    }
    schedules = {name: scheduled.create(name, **plan) for name, plan in wrong.items()}
    for schedule in (*schedules.values(), scheduled.create("well", owner=Owner("globex", "u1"))):
        scheduled.let_pass(schedule, MINUTE + MOMENT)
    Scheduling(app.platform).turn()
    assert [job.organization_id for job in tracked.all()] == ["globex"]
    told = {name: scheduled.told(schedule) for name, schedule in schedules.items()}
    assert {name: (became, count) for name, [(became, count, _)] in told.items()} == dict.fromkeys(wrong, ("failed", 1))
    reasons = {name: reason or "" for name, [(_, _, reason)] in told.items()}
    assert "no handler is registered for 'forgotten'" in reasons["gone"]
    assert reasons["lost"] == "there is no template 'removed'"
    assert reasons["unfit"].startswith("payload.words: ")
    assert "s3cret" not in reasons["unfit"]
    assert "reports.export_reports" in reasons["denied"]


def test_what_the_database_refuses_of_one_schedule_is_its_outcome(scheduled: Scheduled, tracked: Tracked) -> None:
    """A schedule whose job the database refuses for good has that as its outcome, and the others make theirs."""
    refused, other = scheduled.create("refused", project_id="forbidden"), scheduled.create("other")
    for schedule in (refused, other):
        scheduled.let_pass(schedule, MINUTE + MOMENT)
    tracked.connection.execute(text("ALTER TABLE jobs ADD CONSTRAINT refuse CHECK (project_id <> 'forbidden')"))
    try:
        Scheduling(app.platform).turn()
    finally:
        tracked.connection.execute(text("ALTER TABLE jobs DROP CONSTRAINT refuse"))
    [(became, _, reason)] = scheduled.told(refused)
    assert (became, "refuse" in str(reason)) == ("failed", True)
    assert [job.metadata["scheduleId"] for job in tracked.all()] == [str(other.id)]


def test_a_schedule_that_somebody_holds_is_passed_over(scheduled: Scheduled, pool: Database, tracked: Tracked) -> None:
    """A schedule that somebody else has locked keeps no other waiting."""
    held, other = scheduled.create("held"), scheduled.create("other")
    for schedule in (held, other):
        scheduled.let_pass(schedule, MINUTE + MOMENT)
    with pool.begin() as connection:
        connection.execute(text("SELECT FROM schedules WHERE id = :id FOR UPDATE"), {"id": held.id})
        Scheduling(app.platform).turn()
        assert [job.metadata["scheduleId"] for job in tracked.all()] == [str(other.id)]
    Scheduling(app.platform).turn()
    assert len(tracked.all()) == 2


def test_the_zones_are_looked_at_in_batches(scheduled: Scheduled) -> None:
    """The look at the rules of time zones sets anew what is wrong."""
    schedule = scheduled.create(cron="0 3 * * *", timezone="Europe/Berlin")
    scheduled.run("UPDATE schedules SET next_at = next_at + interval '1 hour'")
    Scheduling(app.platform).zones()
    assert scheduled.get(schedule).next_at == schedule.next_at


def test_a_cancelled_job_for_the_next_one_lets_others_through(scheduled: Scheduled, tracked: Tracked) -> None:
    """With `cancel_previous` the leader cancels the job that runs, and makes the next one."""
    schedule = scheduled.create(overlap=Overlap.CANCEL_PREVIOUS)
    for number in range(2):
        scheduled.let_pass(schedule, MINUTE + (MOMENT if number == 0 else timedelta(0)))
        Scheduling(app.platform).turn()
    assert [str(job.status) for job in tracked.all()] == ["cancelled", "queued"]


def test_clean_ups_say_how_they_went(scheduled: Scheduled, tracked: Tracked) -> None:
    """Each clean-up of the leader's is written down with its interval, what it removed, and an error when it fails."""
    works = {duty.name: duty.work for duty in Pruning(app.platform).duties(breath=0)}
    for work in works.values():
        assert not work()
    found = {each.name: each for each in clean_ups.every(tracked.connection)}
    assert found.keys() == works.keys()
    assert {(each.every_seconds, each.removed, each.error) for each in found.values()} == {(60, 0, None)}
    tracked.connection.execute(text("ALTER TABLE dead_letters RENAME TO gone"))
    try:
        with pytest.raises(Exception, match="dead_letters"):
            works["retention of letters"]()
    finally:
        tracked.connection.execute(text("ALTER TABLE gone RENAME TO dead_letters"))
    failed = {each.name: each for each in clean_ups.every(tracked.connection)}["retention of letters"]
    assert (failed.removed, "dead_letters" in str(failed.error)) == (None, True)


def test_two_leaders_that_die_again_and_again_make_each_job_once(scheduled: Scheduled, tracked: Tracked) -> None:
    """Over 500 due times two leaders, killed within the transaction and after it, make each job once, and all."""
    schedules = [scheduled.create(f"s{number}", catch_up=CatchUp.ALL) for number in range(50)]
    for schedule in schedules:
        scheduled.let_pass(schedule, 10 * MINUTE + MOMENT)
    environment = {**os.environ, VARIABLE: f"{DUE}:0.1,{FIRED}:0.1"}
    ended = subprocess.run(
        [sys.executable, "-m", "tests.leaders", "2"], env=environment, capture_output=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr.decode()
    assert int(ended.stdout) >= 2
    assert len(tracked.all()) == 500
    assert scheduled.run(TWICE) == []
    assert {len(scheduled.made_at(schedule)) for schedule in schedules} == {10}
    assert scheduled.run("SELECT FROM schedules WHERE next_at <= clock_timestamp()") == []
