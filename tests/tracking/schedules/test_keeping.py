"""What people do with schedules: it happens once, is guarded by the version, and the audit tells it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.properties import ON_ONE_DATABASE
from tests.scheduled import U1, Scheduled
from tests.tracked import ACME, Tracked
from tracking import audit
from tracking.audit import Sought
from tracking.db import Database
from tracking.errors import ScheduleChanged, ScheduleExists, ScheduleNotFound, TooManySchedules
from tracking.models import Owner, Scope
from tracking.origins import By, Origin, Source
from tracking.reads import schedules as reads
from tracking.schedules import keeping
from tracking.schedules.times import first_after
from tracking.schedules.values import CatchUp, Plan, Schedule

MINUTE = timedelta(minutes=1)
CAME = By("u2", Origin(Source.API, "acme", "10.0.0.1", "r-1"))


@pytest.fixture
def scheduled(pool: Database, tracked: Tracked) -> Scheduled:
    return Scheduled(pool)


def change(scheduled: Scheduled, schedule: Schedule, by: By = U1, **said: Any) -> Schedule:
    """Change a schedule, as whoever has just read it."""
    plan = replace(schedule.plan, **said)
    version, scope = schedule.version, Scope(schedule.owner.organization_id, None)
    changed: Schedule = scheduled.do(keeping.change, schedule.id, scope, plan, granted=None, version=version, by=by)
    return changed


def test_a_name_is_of_one_schedule_of_an_organization(scheduled: Scheduled) -> None:
    """A second schedule of a name is refused, created or renamed; another organization may have the name as well."""
    scheduled.create("nightly")
    with pytest.raises(ScheduleExists, match="nightly"):
        scheduled.create("nightly")
    other = scheduled.create("other")
    with pytest.raises(ScheduleExists, match="nightly"):
        change(scheduled, other, name="nightly")
    scheduled.create("nightly", owner=Owner("globex", "u1"))


def test_an_organization_has_so_many_schedules_at_most(scheduled: Scheduled, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused and leaves nothing, until one is removed; another organization has its own."""
    monkeypatch.setattr(keeping, "MOST", 2)
    first = scheduled.create("first")
    scheduled.create("second")
    with pytest.raises(TooManySchedules, match="2 schedules at most"):
        scheduled.create("third")
    scheduled.create("third", owner=Owner("globex", "u1"))
    scheduled.do(keeping.remove, first.id, ACME, U1)
    scheduled.create("third")


def test_other_times_are_due_from_now_on(scheduled: Scheduled) -> None:
    """A change of the interval is counted from the change, and any other change leaves the due time."""
    schedule = scheduled.let_pass(scheduled.create(every_seconds=3600), timedelta(minutes=59))
    renamed = change(scheduled, schedule, name="hourly", priority=9)
    assert (renamed.next_at, renamed.version) == (schedule.next_at, 2)
    slower = change(scheduled, renamed, every_seconds=7200)
    assert slower.next_at is not None
    assert slower.next_at - slower.since == timedelta(seconds=7200)
    by_cron = change(scheduled, slower, every_seconds=None, cron="0 0 * * *", timezone="UTC")
    assert by_cron.next_at is not None
    assert (by_cron.next_at.hour, by_cron.next_at.minute) == (0, 0)


def test_who_has_read_an_earlier_version_changes_nothing(scheduled: Scheduled) -> None:
    """A change of a version that is not the newest is refused, and the same plan again changes nothing."""
    schedule = scheduled.create()
    newer = change(scheduled, schedule, priority=5)
    with pytest.raises(ScheduleChanged):
        change(scheduled, schedule, priority=6)
    assert change(scheduled, newer) == newer


def test_time_that_passes_in_a_pause_is_not_made_up_for(scheduled: Scheduled) -> None:
    """A schedule that is resumed is due again from then on, whatever would have been due meanwhile."""
    schedule = scheduled.create(catch_up=CatchUp.ALL)
    paused = scheduled.do(keeping.pause, schedule.id, ACME, U1)
    assert (paused.paused_by, paused.shown_next_at) == ("u1", None)
    assert scheduled.do(keeping.pause, schedule.id, ACME, By("u2")) == paused
    scheduled.let_pass(schedule, 10 * MINUTE + timedelta(seconds=30))
    assert scheduled.fire(schedule) is None
    resumed = scheduled.do(keeping.resume, schedule.id, ACME, U1)
    assert scheduled.fire(schedule) is None
    assert scheduled.do(keeping.resume, schedule.id, ACME, U1) == resumed
    assert resumed.shown_next_at is not None
    assert timedelta(0) < resumed.shown_next_at - resumed.since <= MINUTE
    assert scheduled.outcomes(schedule) == []


def test_the_next_due_times_can_be_skipped(scheduled: Scheduled) -> None:
    """Each skip takes the next due time away, with the name of who wanted it, and later ones come as they would."""
    schedule = scheduled.create(catch_up=CatchUp.ALL)
    for _ in range(2):
        scheduled.do(keeping.skip_next, schedule.id, ACME, CAME)
    scheduled.fire(scheduled.let_pass(schedule, 3 * MINUTE + timedelta(seconds=1)))
    told = [(str(each.became), each.reason, each.actor) for each in scheduled.outcomes(schedule)]
    assert told == [("skipped", "asked", "u2"), ("skipped", "asked", "u2"), ("job", None, None)]


def test_what_is_to_be_skipped_is_not_shown_as_next(scheduled: Scheduled) -> None:
    """After a pause, or a change of its times and back, the next due time is the one after what is to be skipped."""
    schedule = scheduled.create(cron="0 4 * * *", timezone="UTC")
    skipped = scheduled.do(keeping.skip_next, schedule.id, ACME, CAME)
    scheduled.do(keeping.pause, schedule.id, ACME, U1)
    resumed = scheduled.do(keeping.resume, schedule.id, ACME, U1)
    back = change(scheduled, change(scheduled, resumed, cron="0 5 * * *"), cron="0 4 * * *")
    for now in (resumed, back):
        assert first_after(now.rule, now.since) == now.next_at == skipped.next_at


def test_what_was_to_be_skipped_is_not_late_as_well(scheduled: Scheduled) -> None:
    """A due time that somebody has skipped is told once, also when the schedule was paused and resumed after that."""
    schedule = scheduled.create(catch_up=CatchUp.SKIP, every_seconds=600)
    scheduled.do(keeping.skip_next, schedule.id, ACME, CAME)
    scheduled.do(keeping.pause, schedule.id, ACME, U1)
    scheduled.do(keeping.resume, schedule.id, ACME, U1)
    scheduled.fire(scheduled.let_pass(schedule, timedelta(seconds=1810)))
    assert scheduled.told(schedule) == [("skipped", 1, "asked"), ("skipped", 1, "late"), ("job", 1, None)]


def test_a_removed_schedule_leaves_its_jobs(scheduled: Scheduled, tracked: Tracked) -> None:
    """A schedule that was removed is due no more, and its jobs stay."""
    schedule = scheduled.create()
    scheduled.fire(scheduled.let_pass(schedule, MINUTE))
    scheduled.do(keeping.remove, schedule.id, ACME, U1)
    with pytest.raises(ScheduleNotFound):
        scheduled.get(schedule)
    assert len(tracked.all()) == 1


STRANGERS = (Scope("globex", None), Scope("acme", "u2"))


@pytest.mark.parametrize("scope", STRANGERS, ids=str)
@pytest.mark.parametrize("verb", [keeping.pause, keeping.resume, keeping.skip_next, keeping.remove])
def test_outside_of_the_scope_there_is_no_schedule(scheduled: Scheduled, scope: Scope, verb: Any) -> None:
    """Who does not see a schedule can do nothing to it, and reads none."""
    schedule = scheduled.create()
    with pytest.raises(ScheduleNotFound):
        scheduled.do(verb, schedule.id, scope, U1)
    with pytest.raises(ScheduleNotFound):
        scheduled.do(keeping.change, schedule.id, scope, schedule.plan, granted=None, version=1, by=U1)
    for read in (reads.get, lambda *args: reads.outcomes_of(*args, before=None, size=1)):
        with pytest.raises(ScheduleNotFound):
            scheduled.do(read, schedule.id, scope)
    assert scheduled.do(reads.page, scope, after=None, size=10) == []
    assert scheduled.get(schedule) == schedule


def test_each_deed_is_told_once(scheduled: Scheduled, tracked: Tracked) -> None:
    """Create, change, pause, resume, skip and remove are in the audit by name, and what changed nothing is not."""
    plan = Plan("nightly", "count_words", every_seconds=60)
    schedule = scheduled.do(keeping.create, keeping.NewSchedule(uuid4(), Owner("acme", "u1"), plan, None), CAME)
    for _ in range(2):
        schedule = change(scheduled, schedule, CAME, priority=3)
    for verb in (keeping.pause, keeping.resume, keeping.skip_next):
        for _ in range(2 if verb is not keeping.skip_next else 1):
            scheduled.do(verb, schedule.id, ACME, CAME)
    scheduled.do(keeping.remove, schedule.id, ACME, CAME)
    entries = list(reversed(audit.find(tracked.connection, Sought("acme"), before_id=None, size=100)))
    assert [entry.action.partition(".")[2] for entry in entries] == [
        *("create", "change", "pause", "resume", "skip_next", "remove")
    ]
    assert {(entry.target, entry.actor, entry.detail["name"]) for entry in entries} == {
        (str(schedule.id), "u2", "nightly")
    }
    assert entries[1].detail["changed"] == ["priority"]


def test_pages_by_name_are_the_whole(scheduled: Scheduled) -> None:
    """Pages put together are all schedules of the scope, by name, each with its newest outcomes."""
    names = [f"s{number}" for number in range(5)]
    for name in names:
        scheduled.let_pass(scheduled.create(name), MINUTE)
    scheduled.create("s2", owner=Owner("globex", "u1"))
    found: list[Schedule] = []
    while page := scheduled.do(reads.page, ACME, after=found[-1].plan.name if found else None, size=2):
        found += page
    assert [each.plan.name for each in found] == names
    for _ in range(reads.SHOWN + 1):
        scheduled.fire(scheduled.let_pass(found[0], MINUTE))
    shown = scheduled.get(found[0]).last
    assert list(shown) == list(reversed(scheduled.outcomes(found[0])))[: reads.SHOWN]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(1, 20).map(lambda tens: 10 * tens)),
        st.tuples(st.sampled_from(("pause", "resume", "skip", "look")), st.just(0)),
    ),
    max_size=12,
)


@ON_ONE_DATABASE
@example(steps=[("skip", 0), ("pause", 0), ("resume", 0)], every=60)
@given(steps=STEPS, every=st.integers(2, 9).map(lambda tens: 10 * tens))
def test_due_times_are_those_of_a_clock_on_the_wall(pool: Database, steps: list[tuple[str, int]], every: int) -> None:
    """Whatever is paused, resumed and skipped meanwhile, a job is made at each due time that is left, and at no other.

    The oracle goes through the seconds one by one; whole tens of them, so that those that the test takes are none.
    """
    scheduled = Scheduled(pool)
    schedule = scheduled.create(uuid4().hex, every_seconds=every, catch_up=CatchUp.ALL)
    now, expected, due, skipped, paused = 0, [], [], set(), False
    for step, seconds in [*steps, ("look", 0)]:
        if step == "pass":
            scheduled.let_pass(schedule, timedelta(seconds=seconds))
            due += [each for each in range(now + 1, now + seconds + 1) if each % every == 0 and not paused]
            now += seconds
        elif step == "look":
            scheduled.fire(schedule)
            expected += [each for each in due if each not in skipped]
            due = []
        elif step == "skip" and not paused:
            waiting = [each for each in due if each not in skipped]
            following = (now // every + 1) * every
            while following in skipped:
                following += every
            skipped.add(waiting[0] if waiting else following)
            scheduled.do(keeping.skip_next, schedule.id, ACME, U1)
        elif step == "pause":
            due = due if paused else []
            paused = True
            scheduled.do(keeping.pause, schedule.id, ACME, U1)
        elif step == "resume" and paused:
            paused, skipped = False, {each for each in skipped if each > now}
            scheduled.do(keeping.resume, schedule.id, ACME, U1)
        shown = scheduled.get(schedule)
        assert first_after(shown.rule, shown.since) == shown.next_at  # with which the next five begin
    anchor = scheduled.get(schedule).anchor
    assert [round((each - anchor).total_seconds()) for each in scheduled.made_at(schedule)] == expected
