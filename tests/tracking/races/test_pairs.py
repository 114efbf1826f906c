"""Two verbs, or one many times, against each other on one job at a time."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from random import Random
from threading import Barrier
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from tests.racing import (
    PATIENCE,
    ROUNDS,
    THREADS,
    Racers,
    cancel,
    claim,
    kinds,
    reaping,
    report,
    retry,
    settle,
    stopped,
    submit,
)
from tests.tracked import HOUR, Tracked, accepted, outcome, wish
from tracking import groups, jobs
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.errors import IdempotencyConflict, IllegalMove
from tracking.models import Attempt, Cancelled, Fence, JobRecord, Refusal, Submitted
from tracking.settings import settings
from tracking.states import FINISHED, Status


def test_cancel_against_claim(racers: Racers, tracked: Tracked) -> None:
    """A cancel that races a claim takes effect, and knows whether a body is to be stopped."""
    for _ in range(ROUNDS):
        job = tracked.submit()
        cancelled, claimed = racers.race(cancel(job), claim(job))
        assert cancelled.was_running is isinstance(claimed, Attempt)
        assert claimed is Refusal.CANCELLED or isinstance(claimed, Attempt)
        row = tracked.get(job.id)
        assert (row.status, row.stopping) == (Status.CANCELLED, cancelled.was_running)


def test_cancel_against_the_end(racers: Racers, tracked: Tracked) -> None:
    """Of a cancel and an outcome one counts, and the loser is told."""
    for kind in ("succeeded", "failed") * (ROUNDS // 2):
        job = tracked.start(tracked.submit())
        cancelled, settled = racers.race(cancel(job), settle(job, kind))
        assert isinstance(cancelled, IllegalMove) is bool(settled)
        row = tracked.get(job.id)
        assert row.status is (Status(kind) if settled else Status.CANCELLED)
        assert row.stopping is not bool(settled)


def test_cancel_against_an_attempt_that_will_be_repeated(racers: Racers, tracked: Tracked) -> None:
    """A cancel that races a retry leaves no attempt to run."""
    for kind in ("retry", "lost", "released") * (ROUNDS // 3):
        job = tracked.start(tracked.submit())
        cancelled, settled = racers.race(cancel(job), settle(job, kind))
        assert isinstance(cancelled, Cancelled)
        assert cancelled.was_running is not bool(settled)
        assert tracked.get(job.id).status is Status.CANCELLED


def test_one_message_delivered_to_many_workers(racers: Racers, tracked: Tracked) -> None:
    """Of many workers with one message one runs it."""
    for _ in range(ROUNDS // 2):
        job = tracked.submit()
        answers = racers.race(*[claim(job) for _ in range(THREADS)])
        assert kinds(answers) == {Attempt: 1, Refusal: THREADS - 1}
        assert {answer for answer in answers if isinstance(answer, Refusal)} == {Refusal.RUNNING}
        assert tracked.events(job).count("duplicate_refused") == THREADS - 1


def test_many_submits_with_one_key(racers: Racers, tracked: Tracked) -> None:
    """Of many submits with one key one creates the job, and the others find it."""
    for number in range(ROUNDS // 2):
        answers = racers.race(*[submit(f"k{number}", "same") for _ in range(THREADS)])
        assert kinds(answers) == {Submitted: THREADS}
        assert Counter(answer.created for answer in answers) == {True: 1, False: THREADS - 1}
        assert len({answer.job.id for answer in answers}) == 1
    assert len(tracked.all()) == ROUNDS // 2


def test_two_requests_with_one_key(racers: Racers, tracked: Tracked) -> None:
    """Of two requests with one key one gets it, and the other is refused."""
    for number in range(ROUNDS // 2):
        key = f"k{number}"
        answers = racers.race(*[submit(key, request) for request in ("this", "that") * (THREADS // 2)])
        assert kinds(answers) == {Submitted: THREADS // 2, IdempotencyConflict: THREADS // 2}
        accepted = [answer for answer in answers if isinstance(answer, Submitted)]
        assert len({(answer.job.id, answer.job.request_hash) for answer in accepted}) == 1
        assert sum(answer.created for answer in accepted) == 1


def test_retry_against_retry(racers: Racers, tracked: Tracked) -> None:
    """Two simultaneous retries are one retry."""
    for _ in range(ROUNDS):
        job = tracked.put_into("failed")
        answers = racers.race(*[retry(job) for _ in range(4)])
        assert kinds(answers) == {Submitted: 1, IllegalMove: 3}
        assert tracked.get(job.id).retry_count == 1


def test_fifty_retries_at_once(pool: Database, tracked: Tracked) -> None:
    """Fifty simultaneous retries are one retry."""
    job = tracked.put_into("cancelled")
    large = Database(pool.engine.url.render_as_string(hide_password=False), settings(), pool_size=50)
    with ThreadPoolExecutor(50) as threads:
        answers = Racers(large, threads).race(*[retry(job)] * 50)
    large.close()
    assert kinds(answers) == {Submitted: 1, IllegalMove: 49}
    assert tracked.events(job) == ["created", "cancelled", "retried"]


def test_retry_against_the_end_of_the_body(racers: Racers, tracked: Tracked) -> None:
    """A retry before the end of a cancelled body is refused, and starts no second body."""
    for _ in range(ROUNDS):
        job = tracked.put_into("stopping")
        retried, is_over = racers.race(retry(job), stopped(job))
        assert is_over is True
        if isinstance(retried, IllegalMove):
            assert retried.retry_after is not None or tracked.get(job.id).status is Status.CANCELLED
        assert not tracked.get(job.id).stopping


def test_reaper_against_the_end(racers: Racers, tracked: Tracked) -> None:
    """An outcome before the reaper's look counts, and one after it is refused."""
    for _ in range(ROUNDS):
        job = tracked.start(tracked.submit(), lease=tracked.register_worker(seen=HOUR))
        reaped, settled = racers.race(reaping, settle(job, "succeeded"))
        assert len(reaped) + len(settled) == 1
        assert tracked.get(job.id).status is (Status.SUCCEEDED if settled else Status.QUEUED)


def test_reaper_against_reaper(racers: Racers, tracked: Tracked) -> None:
    """Several reapers count each loss once."""
    for _ in range(ROUNDS // 4):
        dead = tracked.register_worker(seen=HOUR)
        running = [tracked.start(tracked.submit(), lease=dead) for _ in range(10)]
        answers = racers.race(*[reaping] * 4)
        reaped = Counter(settled.job_id for answer in answers for settled in answer)
        assert reaped == {job.id: 1 for job in running}
        assert [tracked.get(job.id).losses for job in running] == [1] * 10


def test_the_end_told_by_child_and_parent_at_once(racers: Racers, tracked: Tracked) -> None:
    """A time limit that child and parent report is one outcome with one history row."""
    for _ in range(ROUNDS):
        job = tracked.start(tracked.submit())
        answers = racers.race(settle(job, "failed"), settle(job, "lost"), settle(job, "succeeded"))
        assert sum(len(answer) for answer in answers) == 1
        assert len(tracked.events(job)) == 3


def test_release_against_cancel(racers: Racers, tracked: Tracked) -> None:
    """A job that was cancelled is not sent after its release."""
    for _ in range(ROUNDS):
        job = tracked.put_into("backoff")
        tracked.make_due(job)
        _, cancelled = racers.race(lambda connection: holds.lift_due(connection, UNLIMITED, 10), cancel(job))
        assert isinstance(cancelled, Cancelled)
        assert not cancelled.was_running
        row = tracked.get(job.id)
        assert jobs.claim(tracked.connection, [wish(row.fence)]) == [Refusal.CANCELLED]


def test_batches_in_different_orders_do_not_block_each_other(racers: Racers, tracked: Tracked) -> None:
    """Batches of outcomes in different orders do not deadlock, and each outcome counts once."""
    random = Random(7)
    for _ in range(5):
        running = [tracked.start(tracked.submit()) for _ in range(30)]

        def settle_all(connection: Connection, running: list[JobRecord] = running) -> Any:
            shuffled = [outcome(job, "succeeded") for job in random.sample(running, len(running))]
            return accepted(connection, shuffled)

        answers = racers.race(*[settle_all] * 4)
        assert Counter(settled.job_id for answer in answers for settled in answer) == {job.id: 1 for job in running}


def test_claims_in_different_orders_do_not_block_each_other(racers: Racers, tracked: Tracked) -> None:
    """Batches of claims in different orders do not deadlock, and each job is granted once."""
    random = Random(7)
    for _ in range(5):
        waiting = [tracked.submit() for _ in range(20)]

        def claim_all(connection: Connection, waiting: list[JobRecord] = waiting) -> Any:
            return jobs.claim(connection, [wish(job.fence) for job in random.sample(waiting, len(waiting))])

        answers = racers.race(*[claim_all] * 4)
        granted = Counter(each.job_id for answer in answers for each in answer if isinstance(each, Attempt))
        assert granted == {job.id: 1 for job in waiting}


def test_confirmations_in_different_orders_do_not_block_each_other(racers: Racers, tracked: Tracked) -> None:
    """Batches of confirmations in different orders do not deadlock."""
    random = Random(7)
    for _ in range(5):
        sent = [tracked.submit().fence for _ in range(100)]

        def confirm_all(connection: Connection, sent: list[Fence] = sent) -> None:
            jobs.mark_dispatched(connection, random.sample(sent, len(sent)))

        racers.race(*[confirm_all] * 4)
        assert jobs.undispatched(tracked.connection, timedelta(0), 1) == []


def test_first_reports_at_once(racers: Racers, tracked: Tracked) -> None:
    """Of reports that begin a job elsewhere at the same moment one begins it, and each is written."""
    for _ in range(ROUNDS):
        job = tracked.submit(job_type="llm_agent", external=True)
        answers = racers.race(*[report(job, percent=10 + number) for number in range(THREADS)])
        assert kinds(answers) == {JobRecord: THREADS}
        assert tracked.events(job).count("started") == 1
        row = tracked.get(job.id)
        assert (row.status, row.attempt, row.progress) == (Status.RUNNING, 1, 9 + THREADS)


def test_a_first_report_against_the_last(racers: Racers, tracked: Tracked) -> None:
    """A report that begins a job elsewhere, and one that ends it, lead to its end; what comes after that is refused."""
    for target in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED) * (ROUNDS // 3):
        job = tracked.submit(job_type="llm_agent", external=True)
        begun, ended = racers.race(report(job, percent=10), report(job, status=target))
        assert isinstance(begun, JobRecord | IllegalMove)
        assert ended.status is target
        assert tracked.get(job.id).status is target


def test_one_member_of_a_group_is_the_last(pool: Database, tracked: Tracked) -> None:
    """Of members that end at once exactly one is the last of its group."""
    for _ in range(ROUNDS // 4):
        group = str(uuid4())
        members = [tracked.start(tracked.submit(group_id=group, group_index=index)) for index in range(THREADS)]
        line = Barrier(THREADS, timeout=PATIENCE)

        def settle(member: JobRecord, group: str = group, line: Barrier = line) -> bool:
            line.wait()
            with pool.begin() as connection:
                groups.lock(connection, group)
                assert accepted(connection, [outcome(member, "succeeded")])
                done = [job for job in Tracked(connection).all() if job.group_id == group]
                return all(job.status in FINISHED for job in done)

        with ThreadPoolExecutor(THREADS) as threads:
            assert sum(threads.map(settle, members)) == 1
