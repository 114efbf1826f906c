"""Priority orders inside an organization, turns decide between them: how long anybody's next job waits at most."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.holding import GLOBEX, Limited, fill, limited
from tests.properties import ON_ONE_DATABASE
from tests.tracked import HOUR, Tracked, check_rows, empty, outcome, wish
from tracking import jobs, workers
from tracking.admission import line
from tracking.admission.line import Filled
from tracking.db import Database
from tracking.models import Attempt, Fence, JobRecord, Owner

SINGLE = Owner("single", "u1")
ACME = Owner("acme", "u1")


def flooder(number: int) -> Owner:
    """One of the organizations that submit more than is run."""
    return Owner(f"flood-{number}", "u1")


@dataclass
class World:
    """A broker that hands out the most urgent message first, then the oldest, and workers with so many slots."""

    platform: Limited
    slots: int
    messages: list[tuple[int, int, Fence]] = field(default_factory=list)
    running: list[JobRecord] = field(default_factory=list)
    started: list[JobRecord] = field(default_factory=list)
    arrivals: int = 0

    def __post_init__(self) -> None:
        self.tracked = self.platform.tracked
        queues = ["default", "maintenance"]
        workers.beat(self.tracked.connection, uuid4(), name="w", pid=1, queues=queues, concurrency=self.slots)

    def submit(self, owner: Owner, **changes: Any) -> JobRecord:
        """Accept a job; its producer sends it if it is not held."""
        job = self.platform.submit(owner=owner, **changes)
        if job.hold is None:
            self.publish([job.id])
        return job

    def publish(self, ids: list[UUID]) -> None:
        """Messages reach the broker, in this order."""
        for job in map(self.tracked.get, ids):
            level = job.priority if job.sent_priority is None else job.sent_priority
            self.arrivals += 1
            self.messages.append((-level, self.arrivals, job.fence))
            jobs.mark_dispatched(self.tracked.connection, [job.fence])

    def take(self) -> None:
        while self.messages and len(self.running) < self.slots:
            self.messages.sort()
            fence = self.messages.pop(0)[2]
            [answer] = jobs.claim(self.tracked.connection, [wish(fence)])
            if isinstance(answer, Attempt):
                job = self.tracked.get(answer.job_id)
                self.running.append(job)
                self.started.append(job)
                if answer.leaves_place:
                    self.publish(self.platform.refilled(job))

    def end(self, number: int = 0) -> None:
        job = self.running.pop(number % len(self.running))
        [settled] = self.tracked.settle(job, "succeeded")
        if settled.is_awaited:
            self.publish(self.platform.after(job))
        elif settled.has_line:
            self.publish(self.platform.refilled(job))

    def look(self) -> None:
        self.publish(self.platform.turn())

    def starts_before(self, job: JobRecord, within: int) -> list[str]:
        """Let bodies end, one after the other, until this job starts; whose jobs started meanwhile."""
        begin = len(self.started)
        for _ in range(within):
            self.take()
            ids = [started.id for started in self.started]
            if job.id in ids[begin:]:
                return [started.organization_id for started in self.started[begin : ids.index(job.id)]]
            self.end()
        raise AssertionError(f"it has not started after {within} others")


@pytest.fixture
def hundred(pool: Database, tracked: Tracked) -> Limited:
    """So many jobs of an organization may execute at once."""
    return limited(pool, tracked, 100)


@settings(parent=ON_ONE_DATABASE, max_examples=8)
@given(data=st.data())
def test_a_single_job_starts_after_at_most_one_of_each_other_organization_and_what_was_sent(
    pool: Database, data: st.DataObject
) -> None:
    """A single job starts after at most slots + competing organizations others."""
    empty(pool)
    with pool.autocommit() as connection:
        limit = data.draw(st.sampled_from((2, 5, 100)), "limit")
        slots, others = data.draw(st.integers(1, 4), "slots"), data.draw(st.integers(1, 5), "others")
        world = World(limited(pool, Tracked(connection), limit), slots)
        draw = random.Random(data.draw(st.integers(0, 10**6), "seed"))
        for _ in range(6 * others):
            queue = draw.choice(("default", "default", "maintenance"))
            world.submit(flooder(draw.randrange(others)), priority=draw.choice((0, 3, 9)), queue=queue)
            if draw.random() < 0.3:
                world.take()
        for _ in range(draw.randrange(4)):
            world.take()
            world.end(draw.randrange(100))
        single = world.submit(SINGLE)
        for number in range(others):
            world.submit(flooder(number), priority=9)
        between = world.starts_before(single, within=6 * others + slots)
        assert len(between) <= slots + others, between
        check_rows(world.tracked)


def test_two_floods_at_priority_9_do_not_stop_a_third_organization(hundred: Limited) -> None:
    """Behind two floods at priority 9 a third organization's single job is among the next to start."""
    world = World(hundred, 2)
    for _ in range(30):
        for number in range(2):
            world.submit(flooder(number), priority=9)
    world.take()
    single = world.submit(SINGLE)
    assert len(world.starts_before(single, within=10)) <= 2


def test_the_organizations_start_in_turns(hundred: Limited) -> None:
    """Every second start is one of the organization with few and less urgent jobs."""
    world = World(hundred, 1)
    for _ in range(20):
        world.submit(ACME, priority=9)
    few = [world.submit(GLOBEX) for _ in range(3)]
    world.take()
    between = world.starts_before(few[-1], within=10)
    assert between.count("acme") <= 4


def test_priority_orders_the_jobs_of_an_organization(hundred: Limited) -> None:
    """A more urgent job of an organization starts first, also before one that was sent already."""
    world = World(hundred, 1)
    world.submit(ACME)
    world.take()
    low, middle, high = (world.submit(ACME, priority=priority) for priority in (1, 5, 9))
    other = world.submit(GLOBEX)
    assert hundred.holds([low, middle, high, other]) == ["organization_limit", "organization_limit", None, None]
    assert world.tracked.history(low)[-1].detail["reason"] == "a more urgent job of the organization"
    for _ in range(4):
        world.end()
        world.take()
    mine = [job.id for job in world.started if job.organization_id == "acme"]
    assert mine[1:] == [high.id, middle.id, low.id]


def test_a_job_that_comes_late_into_the_line_is_given_way_to(hundred: Limited) -> None:
    """A sent job gives way to a more urgent one that comes late into the line."""
    world = World(hundred, 1)
    world.submit(ACME)
    world.take()
    urgent = world.submit(ACME, priority=9, delay=HOUR)
    sent = world.submit(ACME)
    world.tracked.make_due(urgent)
    world.look()
    assert hundred.holds([urgent, sent]) == [None, "organization_limit"]


def test_alone_a_job_has_its_own_priority_at_the_broker(hundred: Limited) -> None:
    """A job has its own priority at the broker only while its organization is alone."""
    world = World(hundred, 4)
    alone, other = world.submit(ACME, priority=7), world.submit(GLOBEX, priority=7)
    assert [(job.sent_priority, job.priority) for job in (alone, other)] == [(7, 7), (0, 7)]


def test_free_slots_are_filled_at_once(hundred: Limited) -> None:
    """Free slots are filled by whichever organization has jobs, and one more of each waits."""
    world = World(hundred, 4)
    made = [world.submit(ACME) for _ in range(7)]
    assert hundred.holds(made) == [None] * 4 + ["organization_limit"] * 3
    world.take()
    assert len(world.running) == 4
    world.look()
    assert hundred.holds(made) == [None] * 5 + ["organization_limit"] * 2


def test_an_organization_without_a_limit_takes_turns_when_others_come(hundred: Limited) -> None:
    """The surplus of an organization without a limit goes into line when others come."""
    hundred.set_limit(0, "acme")
    world = World(hundred, 2)
    made = [world.submit(ACME, priority=9) for _ in range(10)]
    assert hundred.holds(made) == [None] * 10
    world.take()
    single = world.submit(SINGLE)
    assert world.submit(ACME, priority=9).hold == "organization_limit"
    world.look()
    assert len(hundred.in_line("acme")) == 8
    assert len(world.starts_before(single, within=10)) <= 3


def test_what_was_sent_before_a_worker_lived_is_no_crowd_for_the_next_one(hundred: Limited) -> None:
    """The first look takes back all but what the workers can start soon."""
    for number in range(3):
        for _ in range(5):
            hundred.submit(owner=flooder(number), priority=9)
    World(hundred, 2)
    hundred.turn()
    assert [len(hundred.in_flight(f"flood-{number}")) for number in range(3)] == [1, 1, 1]


def test_jobs_that_are_due_take_turns_with_the_line_of_others(pool: Database, tracked: Tracked) -> None:
    """Jobs that become due take turns with the lines of other organizations."""
    platform = limited(pool, tracked, 100)
    World(platform, 3)
    scheduled = platform.submit_many(3, owner=GLOBEX, delay=HOUR)
    fill(tracked, 3, hold="organization_limit")
    for job in scheduled:
        tracked.make_due(job)
    platform.turn()
    assert (len(platform.in_flight("acme")), len(platform.in_flight("globex"))) == (2, 1)


@dataclass
class Batched(World):
    """Claims and ends that come many at a time, and fill the slots that they free in the same transaction."""

    def take(self) -> None:
        """As many free processes as there are take messages at once."""
        self.messages.sort()
        room = self.slots - len(self.running)
        taken, self.messages = self.messages[:room], self.messages[room:]
        with self.platform.pool.begin() as connection:
            answers = jobs.claim(connection, [wish(fence) for *_, fence in taken])
            begun = [answer for answer in answers if isinstance(answer, Attempt)]
            freed = Counter(answer.owner.organization_id for answer in begun if answer.leaves_place)
            filled = line.fill(connection, freed, self.platform.limits, 100)
        self._began([answer.job_id for answer in begun])
        self._send(filled)

    def end(self, number: int = 0) -> None:  # noqa: ARG002 - which one makes no difference here
        """All bodies end at once."""
        ended, self.running = self.running, []
        with self.platform.pool.begin() as connection:
            settled = jobs.settle(connection, [outcome(job, "succeeded") for job in ended])
            freed = Counter(each.organization_id for each in settled if each is not None and each.has_line)
            filled = line.fill(connection, freed, self.platform.limits, 100)
        self._send(filled)

    def _began(self, ids: list[UUID]) -> None:
        began = [self.tracked.get(job_id) for job_id in ids]
        self.running += began
        self.started += began

    def _send(self, filled: Filled) -> None:
        self.publish([job.id for job in (*filled.alone, *line.in_turns(filled.others))])


@pytest.mark.parametrize("world", [World, Batched])
def test_weights_hold_when_slots_become_free(hundred: Limited, world: type[World]) -> None:
    """One of weight 3 has three starts for each one of another that was there before, with no look of the leader."""
    hundred.weigh("acme", 3)
    place = world(hundred, 2)
    for owner in (GLOBEX, ACME):
        for _ in range(30):
            place.submit(owner)
        place.take()
    while len(place.started) < 32:
        place.end()
        place.take()
    assert [job.organization_id for job in place.started[8:32]].count("acme") == 18
