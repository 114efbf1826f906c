"""Slots that a transaction frees go to the next in line in that transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from tests.holding import GLOBEX, Limited, limited
from tests.properties import ON_ONE_DATABASE
from tests.tracked import Tracked, check_rows, empty, outcome
from tracking import jobs, workers
from tracking.admission import line, within
from tracking.admission.line import NOBODY, Ahead, Filled
from tracking.db import Connection, Database
from tracking.models import JobRecord, Owner
from tracking.schema import jobs as table

OWNERS = (Owner("acme", "u1"), GLOBEX, Owner("initech", "u1"))


@pytest.fixture
def two(pool: Database, tracked: Tracked) -> Limited:
    """Two jobs of an organization may execute at once."""
    return limited(pool, tracked, 2)


def end_and_fill(of: Limited, ended: list[JobRecord], ahead: Ahead = NOBODY) -> Filled:
    """End these attempts, and give their slots away, in one transaction."""
    with of.pool.begin() as connection:
        settled = jobs.settle(connection, [outcome(job, "succeeded") for job in ended])
        freed = Counter(each.organization_id for each in settled if each is not None and each.has_line)
        return line.fill(connection, freed, of.limits, 100, ahead)


def test_the_first_in_line_have_the_slots_when_the_others_have_ended(two: Limited) -> None:
    """The slots of two jobs go to the most urgent and to the oldest in line, with the commit of their ends."""
    running = two.start(2)
    first, _, urgent = two.submit(), two.submit(), two.submit(priority=5)
    filled = end_and_fill(two, running)
    assert [job.id for job in filled.alone] == [urgent.id, first.id]
    assert (filled.others, filled.left) == ([], set())
    assert {*two.in_flight()} == {urgent.id, first.id}


def test_no_slot_is_given_away_by_a_transaction_that_is_undone(two: Limited) -> None:
    """When the outcome is not written, the next in line waits on."""
    [running, _] = two.start(2)
    waiting = two.submit()

    def fill_and_fail(connection: Connection) -> None:
        jobs.settle(connection, [outcome(running, "succeeded")])
        assert line.fill(connection, {"acme": 1}, two.limits, 100).alone
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), two.pool.begin() as connection:
        fill_and_fail(connection)
    assert two.in_line() == [waiting.id]
    assert two.tracked.get(running.id).status == "running"


def test_slots_that_somebody_else_gives_away_are_left_and_not_waited_for(two: Limited) -> None:
    """While another transaction has an organization's slots, its outcome is written, and its line is left for later."""
    [running, _] = two.start(2)
    waiting = two.submit()
    with two.pool.begin() as other:
        line.lock_line(other, "acme")
        filled = end_and_fill(two, [running])
    assert (filled.alone, filled.left) == ([], {"acme"})
    assert two.tracked.get(running.id).status == "succeeded"
    assert two.admit() == [waiting.id]


def test_a_job_that_meets_a_pause_leaves_its_slot_to_a_later_look(two: Limited) -> None:
    """The first in line is paused: it gets no slot, and the line is to be looked at once more."""
    [running, _] = two.start(2)
    two.submit(job_type="paused")
    two.pause(job_type="paused")
    filled = end_and_fill(two, [running])
    assert (filled.alone, filled.left) == ([], {"acme"})
    assert two.in_line() == []


def test_beside_other_organizations_the_next_one_takes_its_place_at_the_broker(two: Limited) -> None:
    """With jobs of another organization waiting, the slot's next job is sent in the order of arrival, not passed on."""
    [running, _] = two.start(2)
    two.submit()
    two.submit(owner=GLOBEX)
    filled = end_and_fill(two, [running])
    assert filled.alone == []
    assert [job.organization_id for job in filled.others] == ["acme"]


@pytest.fixture
def one_slot(pool: Database, tracked: Tracked) -> Limited:
    """Three jobs of an organization may execute at once, and the only worker has one slot."""
    with pool.autocommit() as connection:
        workers.beat(connection, uuid4(), name="worker-1", pid=1, queues=["default"], concurrency=1)
    return limited(pool, tracked, 3)


def test_a_worker_that_begins_short_jobs_at_once_gets_as_many_as_it_says_within_the_limit(one_slot: Limited) -> None:
    """Beside the job that was sent for its one slot it is given what it is about to begin, and never one too many."""
    [running] = one_slot.start(1)
    one_slot.submit_many(6)
    filled = end_and_fill(one_slot, [running], Ahead(["default"], 1))
    assert len(filled.alone) == 1
    running = one_slot.tracked.start(filled.alone[0])
    filled = end_and_fill(one_slot, [running], Ahead(["default"], 10))
    assert len(filled.alone) == 2
    assert len(one_slot.in_flight()) == 3


def test_a_worker_is_given_nothing_beyond_its_slots_of_queues_that_it_does_not_consume(one_slot: Limited) -> None:
    """What a worker is about to begin are jobs of its own queues."""
    [running] = one_slot.start(1)
    one_slot.submit_many(6)
    assert len(end_and_fill(one_slot, [running], Ahead(["another"], 10)).alone) == 0


def test_beside_other_organizations_a_worker_is_given_nothing_beyond_its_slots(one_slot: Limited) -> None:
    """Of organizations that take turns none has a worker's next moment for itself."""
    [running] = one_slot.start(1)
    one_slot.submit_many(6)
    one_slot.submit(owner=GLOBEX)
    filled = end_and_fill(one_slot, [running], Ahead(["default"], 10))
    assert (filled.alone, filled.others) == ([], [])


def test_organizations_share_free_slots_in_turns(pool: Database, tracked: Tracked) -> None:
    """Of two organizations whose jobs have left a worker's two slots each one gets one of them."""
    of = limited(pool, tracked, 2)
    with pool.autocommit() as connection:
        workers.beat(connection, uuid4(), name="worker-1", pid=1, queues=["default"], concurrency=2)
    running = of.start(2)
    of.submit_many(2)
    waiting = [of.submit(owner=GLOBEX) for _ in range(3)]
    running.append(tracked.start(waiting[0]))
    filled = end_and_fill(of, running)
    assert Counter(job.organization_id for job in filled.others) == {"acme": 1, "globex": 1}


@settings(ON_ONE_DATABASE, max_examples=25)
@given(
    limit=st.integers(1, 3),
    made=st.lists(st.tuples(st.sampled_from(OWNERS), st.integers(0, 9)), min_size=1, max_size=14),
    turns=st.lists(st.integers(1, 4), min_size=1, max_size=4),
)
def test_slots_filled_with_their_batch_are_those_that_single_looks_fill(
    pool: Database, tracked: Tracked, limit: int, made: list[tuple[Owner, int]], turns: list[int]
) -> None:
    """Ends in batches that fill their slots at once leave the same rows and history as ends and looks one by one."""
    seen = []
    for together in (False, True):
        empty(pool)
        of = limited(pool, tracked, limit)
        ids = [of.submit(owner=owner, priority=priority).id for owner, priority in made]
        for most in turns:
            ready = [job for job in map(tracked.get, ids) if job.status == "queued" and job.hold is None]
            running = [tracked.start(job) for job in ready][:most]
            if together:
                left = end_and_fill(of, running).left
                assert not left
            else:
                for job in running:
                    [settled] = tracked.settle(job, "succeeded")
                    if settled.has_line:
                        of.refilled(job)
            check_rows(tracked)
        seen.append([_of(tracked, job_id) for job_id in ids])
    one_by_one, at_once = seen
    assert at_once == one_by_one


QUEUES = ("default", "slow", "nobody's")
APART, TOGETHER = ((("default",), ("slow",)), (("default", "slow"),))


@dataclass
class Lines:
    """The rule for free slots, job by job, as somebody would apply it who has the list of them at hand."""

    limit: int
    weights: dict[str, int]
    workers: list[tuple[tuple[str, ...], int]]
    jobs: dict[UUID, JobRecord]
    sent: set[UUID]
    hold: str  # of those that were not sent

    def look(self, organization: str, most: int) -> None:
        """Let the first in line through, as long as there is room."""
        for job in sorted(
            self._those(lambda job: job.id not in self.sent and job.organization_id == organization), key=_place
        ):
            if most and self._has_room(job):
                self.sent.add(job.id)
                most -= 1

    def would_send(self, organization: str, *, all_of: bool) -> bool:
        """Whether one of those that wait has a worker and room; or the first of those that have a worker."""
        served = {queue for queues, _ in self.workers for queue in queues}
        waiting = self._those(
            lambda job: (
                job.id not in self.sent
                and job.organization_id == organization
                and (job.queue in served or not self.workers)
            )
        )
        return any(map(self._has_room, waiting if all_of else sorted(waiting, key=_place)[:1]))

    def _has_room(self, job: JobRecord) -> bool:
        mine = self._those(lambda each: each.id in self.sent and each.organization_id == job.organization_id)
        if self.limit and len(mine) >= self.limit:
            return False
        serving = [(queues, slots) for queues, slots in self.workers if job.queue in queues]
        shared = {queue for queues, _ in serving for queue in queues} or {job.queue}
        if not serving:
            return not self.workers or not self.limit
        if not self.limit and not self._those(lambda each: self._competes(each, job) and each.queue in shared):
            return True
        busy = self._those(lambda each: each.id in self.sent and each.queue in shared)
        entitled = self.weights[job.organization_id] - len([each for each in mine if each.queue in shared])
        return len(busy) < sum(slots for _, slots in serving) or entitled > 0

    def _competes(self, each: JobRecord, job: JobRecord) -> bool:
        is_ready = each.id in self.sent or self.hold == "organization_limit"
        return is_ready and each.organization_id != job.organization_id

    def _those(self, wanted: Callable[[JobRecord], bool]) -> list[JobRecord]:
        return [job for job in self.jobs.values() if wanted(job)]


def _place(job: JobRecord) -> tuple[int, datetime, UUID]:
    return -job.priority, job.created_at, job.id


@dataclass(frozen=True)
class Scene:
    """A limit for each organization, workers with their queues, jobs (sent already, or in line), and what is freed."""

    limit: int
    workers: list[tuple[tuple[str, ...], int]]
    weights: list[int]
    made: list[tuple[Owner, str, int, bool]]
    freed: list[int]


SCENES = st.builds(
    Scene,
    limit=st.integers(0, 4),
    workers=st.sampled_from((APART, TOGETHER)).flatmap(
        lambda kinds: st.lists(st.tuples(st.sampled_from(kinds), st.integers(1, 4)), max_size=3)
    ),
    weights=st.lists(st.sampled_from((1, 1, 2)), min_size=3, max_size=3),
    made=st.lists(
        st.tuples(st.sampled_from(OWNERS), st.sampled_from(QUEUES), st.integers(0, 3), st.booleans()),
        min_size=4,
        max_size=24,
    ),
    freed=st.lists(st.integers(0, 4), min_size=3, max_size=3),
)


@settings(ON_ONE_DATABASE, max_examples=60)
@given(scene=SCENES)
def test_free_slots_are_shared_by_the_rule_whatever_lines_and_workers_there_are(
    pool: Database, tracked: Tracked, scene: Scene
) -> None:
    """A look at several lines lets those through whom the rule does that asks about one job after the other."""
    of, lines = _made(pool, tracked, scene, "organization_limit")
    sent = {*lines.sent}
    freed = {name: number for name, number in zip(lines.weights, scene.freed, strict=True) if number}
    with pool.begin() as connection:
        filled = line.fill(connection, freed, of.limits, 100)
    for most in (100,) if len(freed) == 1 else (1, 2, 4):
        for name in sorted(name for name, number in freed.items() if number >= most or len(freed) == 1):
            lines.look(name, most)
    assert {job.id for job in (*filled.alone, *filled.others)} == lines.sent - sent


@settings(ON_ONE_DATABASE, max_examples=60)
@given(scene=SCENES, hold=st.sampled_from(("organization_limit", "limit")))
def test_the_leader_finds_whoever_has_room_whatever_lines_and_workers_there_are(
    pool: Database, tracked: Tracked, scene: Scene, hold: str
) -> None:
    """Who has room in lines, or for jobs under limits, is found as by the rule that asks about each job by itself."""
    of, lines = _made(pool, tracked, scene, hold)
    with pool.begin() as connection:
        found = (
            line.with_room(connection, of.limits)
            if hold == "organization_limit"
            else within.with_room(connection, of.limits.parameters, 100)
        )
    assert sorted(found) == sorted(name for name in lines.weights if lines.would_send(name, all_of=hold != "limit"))


def _made(pool: Database, tracked: Tracked, scene: Scene, hold: str) -> tuple[Limited, Lines]:
    empty(pool)
    of = limited(pool, tracked, scene.limit)
    with pool.autocommit() as connection:
        for number, (queues, slots) in enumerate(scene.workers):
            workers.beat(connection, uuid4(), name=f"worker-{number}", pid=1, queues=queues, concurrency=slots)
    weights = dict(zip((owner.organization_id for owner in OWNERS), scene.weights, strict=True))
    for name, weight in weights.items():
        of.weigh(name, weight)
    made = {
        job.id: job
        for owner, queue, priority, _ in scene.made
        for job in [of.submit(owner=owner, queue=queue, priority=priority)]
    }
    sent = {job_id for job_id, (*_, is_sent) in zip(made, scene.made, strict=True) if is_sent}
    in_line = [job_id for job_id in made if job_id not in sent]
    tracked.connection.execute(update(table).values(hold=None))
    tracked.connection.execute(update(table).where(table.c.id.in_(in_line)).values(hold=hold))
    return of, Lines(scene.limit, weights, scene.workers, made, sent, hold)


def _of(tracked: Tracked, job_id: UUID) -> tuple[object, ...]:
    job = tracked.get(job_id)
    return job.status, job.hold, job.dispatch, job.attempt, tracked.events(job)
