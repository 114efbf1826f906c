"""Verbs against verbs on real threads: exactly one winner each time, and the rows tell no lie afterwards."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from random import Random
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection

from tests.holding import Platform, fill, limited
from tests.tracked import ACME, HOUR, LEASE_TIMEOUT, Tracked, check_rows, new_job, outcome, reap, wish
from tracking import groups, jobs
from tracking.admission import holds
from tracking.admission.holds import UNLIMITED
from tracking.db import Database
from tracking.errors import IdempotencyConflict, IllegalMove, TrackingError
from tracking.models import Attempt, Cancelled, Fence, JobRecord, Outcome, Refusal, Submitted
from tracking.states import FINISHED, Event, OutcomeKind, Status

ROUNDS = 60
THREADS = 8
PATIENCE = 20.0  # seconds for one round
HANDICAP = 0.002  # seconds at most

MANY = 2000
FEW = 20  # jobs between two meetings of the racers
ENDS: tuple[OutcomeKind, ...] = ("succeeded", "succeeded", "failed", "released", "retry")

Action = Callable[[Connection], Any]
ActionOnJob = Callable[[Connection, UUID], Any]


@pytest.fixture
def tracked(tracked: Tracked) -> Iterator[Tracked]:
    """No jobs yet. Afterwards the rows must tell no lie."""
    yield tracked
    check_rows(tracked)


class Racers:
    """Threads with a connection each, which start at once, give or take a statement's time: so that each may win."""

    def __init__(self, pool: Database, threads: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._threads = threads
        self._random = Random(7)

    def race(self, *actions: Action) -> list[Any]:
        """The answers, in the order of the actions; a refusal is the answer as well."""
        line = Barrier(len(actions), timeout=PATIENCE)

        def run(action: Action, handicap: float) -> Any:
            with self._pool.autocommit() as connection:
                line.wait()
                time.sleep(handicap)
                try:
                    return action(connection)
                except TrackingError as refusal:
                    return refusal

        runs = [self._threads.submit(run, action, self._random.uniform(0, HANDICAP)) for action in actions]
        return [future.result(PATIENCE) for future in runs]


@pytest.fixture
def racers(pool: Database) -> Iterator[Racers]:
    """As many threads as any race here needs."""
    with ThreadPoolExecutor(THREADS) as threads:
        yield Racers(pool, threads)


def _claim(job: JobRecord) -> Action:
    claim = wish(job.fence)
    return lambda connection: jobs.claim(connection, [claim])[0]


def _settle(job: JobRecord, kind: Any) -> Action:
    ended = outcome(job, kind, delay=HOUR)
    return lambda connection: jobs.settle(connection, [ended])


def _cancel(job: JobRecord) -> Action:
    return lambda connection: jobs.cancel(connection, job.id, ACME, actor="u1")


def _retry(job: JobRecord) -> Action:
    return lambda connection: jobs.retry(connection, job.id, ACME, actor="u1", force=True, limits=UNLIMITED)


def _stopped(job: JobRecord) -> Action:
    return lambda connection: jobs.stopped(connection, job.fence, actor="worker-1", how="interrupted")


def _reap(connection: Connection) -> Any:
    return reap(connection, LEASE_TIMEOUT, 100)


def _submit(key: str, request: str) -> Action:
    new = new_job(idempotency_key=key, request_hash=request)
    return lambda connection: jobs.submit(connection, new, UNLIMITED)


def _kinds(answers: list[Any]) -> Counter[type]:
    return Counter(type(answer) for answer in answers)


def test_cancel_against_claim(racers: Racers, tracked: Tracked) -> None:
    """The cancel always takes effect, and knows whether there is a body to stop."""
    for _ in range(ROUNDS):
        job = tracked.submit()
        cancelled, claimed = racers.race(_cancel(job), _claim(job))
        assert cancelled.was_running is isinstance(claimed, Attempt)
        assert claimed is Refusal.CANCELLED or isinstance(claimed, Attempt)
        row = tracked.get(job.id)
        assert (row.status, row.stopping) == (Status.CANCELLED, cancelled.was_running)


def test_cancel_against_the_end(racers: Racers, tracked: Tracked) -> None:
    """Either the result or the cancel counts; the loser is told."""
    for kind in ("succeeded", "failed") * (ROUNDS // 2):
        job = tracked.start(tracked.submit())
        cancelled, settled = racers.race(_cancel(job), _settle(job, kind))
        assert isinstance(cancelled, IllegalMove) is bool(settled)
        row = tracked.get(job.id)
        assert row.status is (Status(kind) if settled else Status.CANCELLED)
        assert row.stopping is not bool(settled)


def race_through(pool: Database, rows: list[UUID], one: ActionOnJob, other: ActionOnJob) -> list[tuple[Any, Any]]:
    """What both answer for each of these jobs: pairs of threads go through them, a few at a time, in any order."""
    random = Random(7)
    shares = [rows[number :: THREADS // 2] for number in range(THREADS // 2)]
    answers: list[dict[UUID, Any]] = [{}, {}]

    def go(share: list[list[UUID]], side: int, act: ActionOnJob, line: Barrier) -> None:
        with pool.autocommit() as connection:
            for few in share:
                line.wait()
                for row in few:
                    try:
                        answers[side][row] = act(connection, row)
                    except TrackingError as refusal:
                        answers[side][row] = refusal

    with ThreadPoolExecutor(THREADS) as threads:
        runs = []
        for share in shares:
            line = Barrier(2, timeout=PATIENCE)
            for side, act in enumerate((one, other)):
                fews = [share[start : start + FEW] for start in range(0, len(share), FEW)]
                mixed = [random.sample(few, len(few)) for few in fews]
                runs.append(threads.submit(go, mixed, side, act, line))
        for run in runs:
            run.result(4 * PATIENCE)
    return [(answers[0][row], answers[1][row]) for row in rows]


def test_two_thousand_cancels_against_claims(pool: Database, tracked: Tracked) -> None:
    """None that was cancelled first has started, and none that started first was missed."""
    pairs = race_through(
        pool,
        fill(tracked, MANY),
        lambda connection, row: jobs.cancel(connection, row, ACME, actor="u1"),
        lambda connection, row: jobs.claim(connection, [wish(Fence(row, 1))])[0],
    )
    assert all(cancelled.was_running is isinstance(claimed, Attempt) for cancelled, claimed in pairs)
    won = Counter(isinstance(claimed, Attempt) for _, claimed in pairs)
    assert min(won[True], won[False]) > MANY // 20, "each side wins now and then"
    assert {claimed for _, claimed in pairs if not isinstance(claimed, Attempt)} == {Refusal.CANCELLED}
    assert Counter(job.stopping for job in tracked.all()) == won


def test_two_thousand_cancels_against_ends(pool: Database, tracked: Tracked) -> None:
    """Either the cancel or the result counts, and the loser is told."""
    rows = fill(tracked, MANY)
    jobs.claim(tracked.connection, [wish(Fence(row, 1)) for row in rows])
    pairs = race_through(
        pool,
        rows,
        lambda connection, row: jobs.cancel(connection, row, ACME, actor="u1"),
        lambda connection, row: jobs.settle(connection, [Outcome(Fence(row, 1), "succeeded", "worker-1", 1)]),
    )
    assert all(isinstance(cancelled, IllegalMove) is bool(settled) for cancelled, settled in pairs)
    won = Counter(bool(settled) for _, settled in pairs)
    assert min(won[True], won[False]) > MANY // 20, "each side wins now and then"
    assert Counter(job.status is Status.SUCCEEDED for job in tracked.all()) == won


def test_cancel_against_an_attempt_that_will_be_repeated(racers: Racers, tracked: Tracked) -> None:
    """Nobody runs it again: the cancel reaches it before or after."""
    for kind in ("retry", "lost", "released") * (ROUNDS // 3):
        job = tracked.start(tracked.submit())
        cancelled, settled = racers.race(_cancel(job), _settle(job, kind))
        assert isinstance(cancelled, Cancelled)
        assert cancelled.was_running is not bool(settled)
        assert tracked.get(job.id).status is Status.CANCELLED


def test_one_message_delivered_to_many_workers(racers: Racers, tracked: Tracked) -> None:
    """One of them runs it."""
    for _ in range(ROUNDS // 2):
        job = tracked.submit()
        answers = racers.race(*[_claim(job) for _ in range(THREADS)])
        assert _kinds(answers) == {Attempt: 1, Refusal: THREADS - 1}
        assert {answer for answer in answers if isinstance(answer, Refusal)} == {Refusal.RUNNING}
        assert tracked.events(job).count("duplicate_refused") == THREADS - 1


def test_many_submits_with_one_key(racers: Racers, tracked: Tracked) -> None:
    """One creates the job, the others find it."""
    for number in range(ROUNDS // 2):
        answers = racers.race(*[_submit(f"k{number}", "same") for _ in range(THREADS)])
        assert _kinds(answers) == {Submitted: THREADS}
        assert Counter(answer.created for answer in answers) == {True: 1, False: THREADS - 1}
        assert len({answer.job.id for answer in answers}) == 1
    assert len(tracked.all()) == ROUNDS // 2


def test_two_requests_with_one_key(racers: Racers, tracked: Tracked) -> None:
    """One of them gets it; whoever asks for the other is refused."""
    for number in range(ROUNDS // 2):
        key = f"k{number}"
        answers = racers.race(*[_submit(key, request) for request in ("this", "that") * (THREADS // 2)])
        assert _kinds(answers) == {Submitted: THREADS // 2, IdempotencyConflict: THREADS // 2}
        accepted = [answer for answer in answers if isinstance(answer, Submitted)]
        assert len({(answer.job.id, answer.job.request_hash) for answer in accepted}) == 1
        assert sum(answer.created for answer in accepted) == 1


def test_retry_against_retry(racers: Racers, tracked: Tracked) -> None:
    """Two impatient clicks are one retry."""
    for _ in range(ROUNDS):
        job = tracked.put_into("failed")
        answers = racers.race(*[_retry(job) for _ in range(4)])
        assert _kinds(answers) == {JobRecord: 1, IllegalMove: 3}
        assert tracked.get(job.id).retry_count == 1


def test_fifty_retries_at_once(pool: Database, tracked: Tracked) -> None:
    """Still one."""
    job = tracked.put_into("cancelled")
    large = Database(pool.engine.url.render_as_string(hide_password=False), pool_size=50)
    with ThreadPoolExecutor(50) as threads:
        answers = Racers(large, threads).race(*[_retry(job)] * 50)
    large.close()
    assert _kinds(answers) == {JobRecord: 1, IllegalMove: 49}
    assert tracked.events(job) == ["created", "cancelled", "retried"]


def test_retry_against_the_end_of_the_body(racers: Racers, tracked: Tracked) -> None:
    """A retry that comes too early says so; it never starts a second body beside the first."""
    for _ in range(ROUNDS):
        job = tracked.put_into("stopping")
        retried, stopped = racers.race(_retry(job), _stopped(job))
        assert stopped is True
        if isinstance(retried, IllegalMove):
            assert retried.retry_after is not None or tracked.get(job.id).status is Status.CANCELLED
        assert not tracked.get(job.id).stopping


def test_reaper_against_the_end(racers: Racers, tracked: Tracked) -> None:
    """A result that comes just in time counts; one that comes too late does not."""
    for _ in range(ROUNDS):
        job = tracked.start(tracked.submit(), lease=tracked.register_worker(seen=HOUR))
        reaped, settled = racers.race(_reap, _settle(job, "succeeded"))
        assert len(reaped) + len(settled) == 1
        assert tracked.get(job.id).status is (Status.SUCCEEDED if settled else Status.QUEUED)


def test_reaper_against_reaper(racers: Racers, tracked: Tracked) -> None:
    """Each loss counts once, whoever sees it first."""
    for _ in range(ROUNDS // 4):
        dead = tracked.register_worker(seen=HOUR)
        running = [tracked.start(tracked.submit(), lease=dead) for _ in range(10)]
        answers = racers.race(*[_reap] * 4)
        reaped = Counter(settled.job_id for answer in answers for settled in answer)
        assert reaped == {job.id: 1 for job in running}
        assert [tracked.get(job.id).losses for job in running] == [1] * 10


def test_the_end_told_by_child_and_parent_at_once(racers: Racers, tracked: Tracked) -> None:
    """A time limit is announced by both: one outcome, one history row."""
    for _ in range(ROUNDS):
        job = tracked.start(tracked.submit())
        answers = racers.race(_settle(job, "failed"), _settle(job, "lost"), _settle(job, "succeeded"))
        assert sum(len(answer) for answer in answers) == 1
        assert len(tracked.events(job)) == 3


def test_eight_sweepers_on_a_thousand_due_jobs(racers: Racers, tracked: Tracked) -> None:
    """Each job is released by one of them, once."""
    held = fill(tracked, 1000, hold="schedule", delay=-HOUR)

    def sweep(connection: Connection) -> list[JobRecord]:
        found: list[JobRecord] = []
        while batch := holds.lift_due(connection, UNLIMITED, 50):
            found += batch
        return found

    answers = racers.race(*[sweep] * THREADS)
    assert Counter(job.id for answer in answers for job in answer) == dict.fromkeys(held, 1)
    assert all(job.hold is None for job in tracked.all())


def test_eight_sweepers_on_a_thousand_due_jobs_of_one_line(pool: Database, tracked: Tracked) -> None:
    """Under a limit as well: each joins the line once, and as many go as there are slots."""
    held = fill(tracked, 1000, hold="schedule", delay=-HOUR)
    seven = limited(pool, tracked, 7)
    line = Barrier(THREADS, timeout=PATIENCE)

    def sweep(_: int) -> tuple[list[UUID], list[UUID]]:
        lifted: list[UUID] = []
        line.wait()
        with pool.autocommit() as connection:
            while batch := holds.lift_due(connection, seven.limits, 50):
                lifted += [job.id for job in batch]
        return lifted, seven.admit()

    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(sweep, range(THREADS)))
    assert Counter(row for lifted, _ in answers for row in lifted) == dict.fromkeys(held, 1)
    sent = [row for _, admitted in answers for row in admitted]
    assert sorted(sent) == sorted(seven.in_flight())
    assert len(sent) == 7


def test_a_hundred_jobs_of_one_limit_with_everything_at_once(pool: Database, tracked: Tracked) -> None:
    """Submitted, run, cancelled, failed and retried by eight threads: never more than three are under way."""
    three = limited(pool, tracked, 3)
    random = Random(7)

    def work(_: int) -> None:
        job = three.submit()
        if random.random() < 0.2:
            with suppress(IllegalMove), pool.autocommit() as connection:
                jobs.cancel(connection, job.id, ACME, actor="u1")
                jobs.stopped(connection, job.fence, actor="worker-1", how="at a step")
        run_what_was_sent(three, random)

    def run_what_was_sent(platform: Platform, random: Random) -> None:
        with pool.autocommit() as connection:
            own = replace(platform, tracked=Tracked(connection))
            for row in own.in_flight():
                fence = own.tracked.get(row).fence
                [answer] = jobs.claim(connection, [wish(fence)])
                if isinstance(answer, Attempt):
                    seen.append(len(own.in_flight()))
                    jobs.settle(connection, [Outcome(fence, random.choice(ENDS), "worker-1", answer.attempt)])
                    jobs.stopped(connection, fence, actor="worker-1", how="at a step")
                    own.after(own.tracked.get(row))

    seen: list[int] = []
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, range(100)))
    deadline = time.monotonic() + 3 * PATIENCE
    while any(job.status not in FINISHED for job in tracked.all()):
        assert time.monotonic() < deadline, three.holds()
        three.turn()
        run_what_was_sent(three, random)
    assert len(tracked.all()) == 100
    assert max(seen) <= 3
    assert three.most_executing()["acme"] <= 3


def test_release_against_cancel(racers: Racers, tracked: Tracked) -> None:
    """A job that was cancelled is not dispatched afterwards."""
    for _ in range(ROUNDS):
        job = tracked.put_into("backoff")
        tracked.make_due(job)
        _, cancelled = racers.race(lambda connection: holds.lift_due(connection, UNLIMITED, 10), _cancel(job))
        assert isinstance(cancelled, Cancelled)
        assert not cancelled.was_running
        row = tracked.get(job.id)
        assert jobs.claim(tracked.connection, [wish(row.fence)]) == [Refusal.CANCELLED]


def test_batches_in_different_orders_do_not_block_each_other(racers: Racers, tracked: Tracked) -> None:
    """Rows are locked in the order of their ids: no deadlock, and each outcome counts once."""
    random = Random(7)
    for _ in range(5):
        running = [tracked.start(tracked.submit()) for _ in range(30)]

        def settle_all(connection: Connection, running: list[JobRecord] = running) -> Any:
            shuffled = [outcome(job, "succeeded") for job in random.sample(running, len(running))]
            return jobs.settle(connection, shuffled)

        answers = racers.race(*[settle_all] * 4)
        assert Counter(settled.job_id for answer in answers for settled in answer) == {job.id: 1 for job in running}


def test_claims_in_different_orders_do_not_block_each_other(racers: Racers, tracked: Tracked) -> None:
    """Each message is granted to one worker."""
    random = Random(7)
    for _ in range(5):
        waiting = [tracked.submit() for _ in range(20)]

        def claim_all(connection: Connection, waiting: list[JobRecord] = waiting) -> Any:
            return jobs.claim(connection, [wish(job.fence) for job in random.sample(waiting, len(waiting))])

        answers = racers.race(*[claim_all] * 4)
        granted = Counter(each.job_id for answer in answers for each in answer if isinstance(each, Attempt))
        assert granted == {job.id: 1 for job in waiting}


def test_confirmations_in_different_orders_do_not_block_each_other(racers: Racers, tracked: Tracked) -> None:
    """The dispatcher and upkeep may both have sent a job."""
    random = Random(7)
    for _ in range(5):
        sent = [tracked.submit().fence for _ in range(100)]

        def confirm_all(connection: Connection, sent: list[Fence] = sent) -> None:
            jobs.mark_dispatched(connection, random.sample(sent, len(sent)))

        racers.race(*[confirm_all] * 4)
        assert jobs.undispatched(tracked.connection, timedelta(0), 1) == []


def test_one_member_of_a_group_is_the_last(pool: Database, tracked: Tracked) -> None:
    """The lock lets one member settle at a time: exactly one of them sees all the others succeeded."""
    for _ in range(ROUNDS // 4):
        group = str(uuid4())
        members = [tracked.start(tracked.submit(group_id=group, group_index=index)) for index in range(THREADS)]
        line = Barrier(THREADS, timeout=PATIENCE)

        def settle(member: JobRecord, group: str = group, line: Barrier = line) -> bool:
            line.wait()
            with pool.begin() as connection:
                groups.lock(connection, group)
                assert jobs.settle(connection, [outcome(member, "succeeded")])
                done = [job for job in Tracked(connection).all() if job.group_id == group]
                return all(job.status in FINISHED for job in done)

        with ThreadPoolExecutor(THREADS) as threads:
            assert sum(threads.map(settle, members)) == 1


def test_everything_at_once(racers: Racers, tracked: Tracked) -> None:
    """Two workers, two people, a reaper and a sweeper on one job at a time: whatever happens, the rows are true."""
    random = Random(7)
    for _ in range(ROUNDS):
        job = tracked.put_into(random.choice(["queued", "running", "retrying", "backoff", "failed", "stopping"]))
        if job.hold is not None:
            tracked.make_due(job)
        racers.race(
            _claim(job),
            _claim(job),
            _settle(job, random.choice(["succeeded", "failed", "retry", "released"])),
            _cancel(job),
            _retry(job),
            _reap,
            lambda connection: holds.lift_due(connection, UNLIMITED, 10),
        )
        ends = [entry for entry in tracked.history(job) if entry.event in (Event.COMPLETED, Event.CANCELLED)]
        assert len(ends) <= 1 + tracked.get(job.id).retry_count
