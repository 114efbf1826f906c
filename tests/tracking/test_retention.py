"""Old jobs go with their history, in batches that wait for nobody; whatever is active or wanted stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, event, text, update
from sqlalchemy.exc import SQLAlchemyError

from celeriac.commands.cli import command
from tasks.leader import pruning
from tests.live import Platform, eventually
from tests.servers import Servers
from tests.tracked import ACME, SITUATIONS, Tracked, check_rows, new_job, wish
from tracking import groups, jobs, retention
from tracking.admission import holds
from tracking.admission.holds import UNLIMITED
from tracking.db import Database, database
from tracking.errors import ConfigurationError, JobNotFound, TrackingError
from tracking.models import Attempt, JobRecord, Owner, Refusal
from tracking.reads import lists
from tracking.reads.invariants import verify
from tracking.retention import _DELETE, Kind, Policy, Pruned, prune
from tracking.schema import jobs as table
from tracking.settings import Settings, settings
from tracking.states import Status

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
POLICY = Policy({Status.SUCCEEDED: 30 * DAY, Status.FAILED: 90 * DAY, Status.CANCELLED: 90 * DAY})
ENDS = [("succeeded", 30 * DAY), ("failed", 90 * DAY), ("cancelled", 90 * DAY)]
PATIENCE = 20.0
HANDICAP = 0.01  # seconds at most


@pytest.fixture
def tracked(tracked: Tracked, pool: Database) -> Iterator[Tracked]:
    """No jobs yet. Afterwards the rows must tell no lie, and no history may be without its job."""
    yield tracked
    check_rows(tracked)
    assert all(finding.holds for finding in verify(pool, UNLIMITED) if finding.name in ("not_lost", "created_once"))


def removed(pool: Database, limit: int | None = None, policy: Policy = POLICY, *, dry_run: bool = False) -> Pruned:
    """One batch, in a transaction of its own."""
    with pool.begin() as connection:
        return prune(connection, policy, limit=limit, dry_run=dry_run)


def aged(tracked: Tracked, situation: str, age: timedelta, **changes: Any) -> JobRecord:
    """A job that came to its end that long ago."""
    return tracked.finished_ago(tracked.bring(tracked.submit(**changes), situation), age)


def kind(situation: str, job_type: str = "count_words") -> Kind:
    """Such jobs."""
    return Kind(job_type, Status(situation))


@pytest.mark.parametrize(("situation", "kept"), ENDS)
def test_a_job_goes_when_it_is_older_than_its_status_is_kept(
    pool: Database, tracked: Tracked, situation: str, kept: timedelta
) -> None:
    """A minute earlier it stays."""
    aged(tracked, situation, kept + MINUTE)
    young = aged(tracked, situation, kept - MINUTE)
    assert removed(pool).jobs == {kind(situation): 1}
    assert tracked.all() == [young]


def test_a_type_may_have_a_time_of_its_own(pool: Database, tracked: Tracked) -> None:
    """Shorter or longer, however its jobs ended; other types keep theirs."""
    policy = Policy(POLICY.by_status, {"export": 7 * DAY, "audit": 1000 * DAY})
    for situation in ("succeeded", "failed", "cancelled"):
        aged(tracked, situation, 8 * DAY, job_type="export")
        aged(tracked, situation, 999 * DAY, job_type="audit")
        aged(tracked, situation, 8 * DAY)
    assert removed(pool, policy=policy).jobs == {
        kind("succeeded", "export"): 1,
        kind("failed", "export"): 1,
        kind("cancelled", "export"): 1,
    }
    assert len(tracked.all()) == 6


def test_the_history_goes_with_its_job(pool: Database, tracked: Tracked) -> None:
    """That of the others stays."""
    old, young = aged(tracked, "succeeded", 31 * DAY), tracked.run()
    assert removed(pool).history == 3
    assert tracked.events(old) == []
    assert tracked.events(young) == ["created", "started", "completed"]


@pytest.mark.parametrize("situation", ["queued", "scheduled", "running", "retrying", "backoff", "stopping"])
def test_what_is_not_over_never_goes(pool: Database, tracked: Tracked, situation: str) -> None:
    """However old it is; nor does a cancelled job whose body is still stopping."""
    job = tracked.put_into(situation)
    past = {
        column: getattr(table.c, column) - 1000 * DAY
        for column in ("created_at", "started_at", "completed_at", "cancel_requested_at", "updated_at")
    }
    tracked.connection.execute(update(table).where(table.c.id == job.id).values(past))
    assert removed(pool, dry_run=True).total == 0
    assert removed(pool) == Pruned({}, 0, 0, more=False)
    assert tracked.get(job.id).status is job.status


def test_a_stopped_job_goes_like_any_other(pool: Database, tracked: Tracked) -> None:
    """Once its body is over."""
    job = aged(tracked, "stopping", 91 * DAY)
    jobs.stopped(tracked.connection, job.fence, actor="worker-1", how="at a step")
    assert removed(pool).jobs == {kind("cancelled"): 1}


def test_jobs_of_every_organization_go(pool: Database, tracked: Tracked) -> None:
    """Retention belongs to the platform."""
    for organization in ("acme", "globex"):
        aged(tracked, "succeeded", 31 * DAY, owner=Owner(organization, "u1"))
    assert removed(pool).total == 2


def test_the_key_of_a_job_that_is_gone_is_free(pool: Database, tracked: Tracked) -> None:
    """The same request is then a new job."""
    aged(tracked, "succeeded", 31 * DAY, idempotency_key="k", request_hash="h")
    removed(pool)
    assert jobs.submit(tracked.connection, new_job(idempotency_key="k", request_hash="other"), UNLIMITED).created


def test_a_dry_run_counts_and_removes_nothing(pool: Database, tracked: Tracked) -> None:
    """What it counts is what goes then."""
    for situation, kept in ENDS:
        aged(tracked, situation, kept + DAY)
        aged(tracked, situation, kept + DAY, job_type="export")
        tracked.put_into(situation)
    before = tracked.all()
    counted = removed(pool, dry_run=True)
    assert (counted.total, counted.history) == (6, None)
    assert tracked.all() == before
    assert removed(pool).jobs == counted.jobs
    assert len(tracked.all()) == 3


def test_a_dry_run_waits_for_nobody(pool: Database, tracked: Tracked) -> None:
    """Nor does anybody wait for it."""
    job = aged(tracked, "failed", 91 * DAY)
    with pool.begin() as connection:
        assert prune(connection, POLICY, limit=None, dry_run=True).total == 1
        assert tracked.retry(job).status is Status.QUEUED


def test_a_batch_is_no_larger_than_its_limit(pool: Database, tracked: Tracked) -> None:
    """Over all kinds together; it says that there is more, until there is not."""
    for situation, kept in ENDS:
        for _ in range(3):
            aged(tracked, situation, kept + DAY)
    batches = [removed(pool, 4) for _ in range(3)]
    assert [(batch.total, batch.more) for batch in batches] == [(4, True), (4, True), (1, False)]


def test_the_oldest_go_first(pool: Database, tracked: Tracked) -> None:
    """Within a kind."""
    old = [aged(tracked, "succeeded", age * DAY) for age in (40, 60, 50)]
    removed(pool, 1)
    assert {job.id for job in tracked.all()} == {old[0].id, old[2].id}
    removed(pool, 1)
    assert {job.id for job in tracked.all()} == {old[0].id}


# while others work


def test_a_job_that_is_being_retried_is_passed_over(pool: Database, tracked: Tracked) -> None:
    """Without waiting for the retry, which then finds its job."""
    job, other = (aged(tracked, "failed", 91 * DAY) for _ in range(2))
    with pool.begin() as connection:
        jobs.retry(connection, job.id, ACME, actor="u1", limits=UNLIMITED)
        assert removed(pool).total == 1
    assert [left.id for left in tracked.all()] == [job.id] != [other.id]
    assert tracked.get(job.id).status is Status.QUEUED
    assert removed(pool).total == 0


def test_a_retry_that_comes_too_late_finds_nothing(pool: Database, tracked: Tracked) -> None:
    """It waits for the removal, and is then answered like any for an unknown job."""
    job = aged(tracked, "failed", 91 * DAY)

    def retry() -> None:
        with pool.autocommit() as connection:
            jobs.retry(connection, job.id, ACME, actor="u1", limits=UNLIMITED)

    with ThreadPoolExecutor(1) as threads:
        with pool.begin() as connection:
            assert prune(connection, POLICY, limit=None).total == 1
            answer = threads.submit(retry)
            eventually(lambda: _waiting_for_a_lock(tracked), what="the retry")
        with pytest.raises(JobNotFound):
            answer.result(PATIENCE)
    assert tracked.events(job) == []


def test_a_refusal_that_is_being_written_keeps_its_job(pool: Database, tracked: Tracked) -> None:
    """Otherwise its history row would be left without a job."""
    job = aged(tracked, "succeeded", 31 * DAY)
    with pool.begin() as connection:
        assert jobs.claim(connection, [wish(job.fence)]) == [Refusal.FINISHED]
        assert removed(pool).total == 0
    assert tracked.events(job)[-1] == "duplicate_refused"
    assert removed(pool).total == 1


def test_a_refusal_that_was_just_written_goes_with_its_job(pool: Database, tracked: Tracked) -> None:
    """Also when it was committed after the removal began."""
    job = aged(tracked, "succeeded", 31 * DAY)

    def refuse(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "SKIP LOCKED" in statement and tracked.events(job)[-1] == "completed":
            jobs.claim(tracked.connection, [wish(job.fence)])

    with _listening(pool, "before_cursor_execute", refuse):
        assert removed(pool).history == 4


def test_a_job_that_was_retried_meanwhile_is_not_deleted(pool: Database, tracked: Tracked) -> None:
    """Even if the locks of the search were lost: the deletion looks again."""
    job = aged(tracked, "failed", 91 * DAY)
    tracked.retry(job)
    row = tracked.connection.execute(_DELETE, {"ids": [job.id], "status": "failed"}).one()
    assert tuple(row) == (0, 0)
    assert tracked.get(job.id).status is Status.QUEUED


def test_two_may_remove_at_once(pool: Database, tracked: Tracked) -> None:
    """Each job is removed by one of four, and nobody waits."""
    for _ in range(60):
        aged(tracked, "succeeded", 31 * DAY)
    line = Barrier(4, timeout=PATIENCE)

    def work(_: int) -> int:
        line.wait()
        return sum(removed(pool, 7).total for _ in range(10))

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(work, range(4), timeout=PATIENCE)) == 60
    assert tracked.all() == []


def test_a_race_of_removal_and_retry_has_one_winner(pool: Database, tracked: Tracked) -> None:
    """The job is retried and runs, or it is gone without a trace."""
    chance = Random(7)
    answers = []

    def retry(job: JobRecord, handicap: float, line: Barrier) -> bool:
        with pool.autocommit() as connection:
            line.wait()
            time.sleep(handicap)
            try:
                again = jobs.retry(connection, job.id, ACME, actor="u1", limits=UNLIMITED)
            except TrackingError:
                return False
            return isinstance(jobs.claim(connection, [wish(again.fence)])[0], Attempt)

    def remove(handicap: float, line: Barrier) -> bool:
        line.wait()
        time.sleep(handicap)
        return removed(pool, 10).total == 1

    with ThreadPoolExecutor(2) as threads:
        for _ in range(40):
            job, line = aged(tracked, "failed", 91 * DAY), Barrier(2, timeout=PATIENCE)
            runs = (
                threads.submit(retry, job, chance.uniform(0, HANDICAP), line),
                threads.submit(remove, chance.uniform(0, HANDICAP), line),
            )
            retried, gone = (run.result(PATIENCE) for run in runs)
            assert retried is not gone
            assert (lists.find(tracked.connection, job.id) is None) is gone
            assert bool(tracked.events(job)) is retried
            answers.append(gone)
    assert len(set(answers)) == 2, "the race always had the same winner"


# canvas groups


@pytest.mark.parametrize("situation", ["queued", "running", "failed", "cancelled"])
def test_a_result_that_a_chord_may_still_need_stays(pool: Database, tracked: Tracked, situation: str) -> None:
    """While another member of the group may still succeed; a job of another group goes."""
    member = aged(tracked, "succeeded", 31 * DAY, group_id="g1")
    aged(tracked, "succeeded", 31 * DAY, group_id="g2")
    tracked.bring(tracked.submit(group_id="g1"), situation)
    assert removed(pool).total == 1
    assert tracked.get(member.id) == member


@pytest.mark.parametrize("situation", ["queued", "scheduled", "running", "backoff"])
def test_a_job_stays_while_an_active_one_depends_on_it(pool: Database, tracked: Tracked, situation: str) -> None:
    """Wherever that one is; a job that only finished ones depend on goes."""
    needed, other = (aged(tracked, "succeeded", 31 * DAY) for _ in range(2))
    delay = DAY if situation == "scheduled" else None
    dependent = tracked.submit(depends_on=[needed.id, tracked.run().id], delay=delay)
    if situation != "scheduled":
        holds.lift_dependents(tracked.connection, UNLIMITED, 10)
        tracked.bring(dependent, situation)
    tracked.cancel(tracked.submit(depends_on=[other.id]))
    assert (removed(pool, dry_run=True).total, removed(pool).total) == (1, 1)
    assert tracked.get(needed.id) == needed
    tracked.cancel(tracked.get(dependent.id))
    assert removed(pool).total == 1


def test_a_complete_group_goes(pool: Database, tracked: Tracked) -> None:
    """All of its members have succeeded."""
    for index in range(3):
        aged(tracked, "succeeded", 31 * DAY, group_id="g1", group_index=index)
    assert removed(pool).total == 3


def test_members_that_can_never_be_retried_go(pool: Database, tracked: Tracked) -> None:
    """First the failed ones, each by its own age, then those that waited for them."""
    for situation in ("succeeded", "failed", "failed"):
        aged(tracked, situation, 91 * DAY, group_id="g1")
    while removed(pool).total:
        pass
    assert tracked.all() == []


def _old_group(tracked: Tracked, name: str, age: timedelta) -> None:
    groups.set_size(tracked.connection, name, 2)
    statement = text("UPDATE groups SET created_at = now() - CAST(:age AS interval) WHERE id = :id")
    tracked.connection.execute(statement, {"id": name, "age": age})


def test_an_old_group_without_jobs_goes(pool: Database, tracked: Tracked) -> None:
    """Once no job of any kind could be as old."""
    _old_group(tracked, "old", 91 * DAY)
    _old_group(tracked, "young", 89 * DAY)
    _old_group(tracked, "used", 91 * DAY)
    tracked.submit(group_id="used")
    assert removed(pool, dry_run=True).groups == 1
    assert removed(pool).groups == 1
    assert groups.size(tracked.connection, "old") is None
    assert groups.size(tracked.connection, "young") == groups.size(tracked.connection, "used") == 2


def test_groups_go_in_batches_too(pool: Database, tracked: Tracked) -> None:
    """Of the same size."""
    for number in range(3):
        _old_group(tracked, f"g{number}", 91 * DAY)
    assert [(batch.groups, batch.more) for batch in (removed(pool, 2), removed(pool, 2))] == [(2, True), (1, False)]


# the plan

FILL = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, queue, max_retries, progress,
                      started_at, completed_at, created_at)
    SELECT gen_random_uuid(), 'org-' || n % 40, 'u1', 'type-' || n % 5, status, 'default', 3,
           CASE status WHEN 'succeeded' THEN 100 ELSE 0 END, at, CASE WHEN status <> 'queued' THEN at END, at
    FROM generate_series(0, 19999) AS n,
         LATERAL (SELECT now() - n * interval '5 minutes' AS at,
                         (ARRAY['queued', 'succeeded', 'failed', 'cancelled'])[1 + n / 5 % 4] AS status) AS varied"""
FILL_HISTORY = """
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, to_status, attempt, dispatch, actor)
    SELECT id, organization_id, user_id, job_type, 'created', 'queued', 0, 1, 'u1' FROM jobs"""


def test_removal_scans_no_table(database: Database) -> None:
    """Twenty thousand jobs, five types: every statement about jobs and history finds its rows by an index."""
    executed: list[tuple[str, Any]] = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        executed.append((statement, parameters))

    with database.autocommit() as connection:
        for statement in (FILL, FILL_HISTORY, "VACUUM ANALYZE jobs", "VACUUM ANALYZE history"):
            connection.execute(text(statement))
    with _listening(database, "before_cursor_execute", record):
        assert removed(database, 200).total == 200
    with database.autocommit() as connection:
        plans = ["\n".join(_plan(connection, *given)) for given in executed]
    assert len(plans) >= 4
    assert [plan for plan in plans if "Seq Scan on jobs" in plan or "Seq Scan on history" in plan] == []
    assert sum("using jobs_retained" in plan for plan in plans) >= 2
    assert all("Sort" not in plan for plan in plans if "LockRows" in plan)


def _plan(connection: Connection, statement: str, parameters: Any) -> list[str]:
    return list(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())


@contextmanager
def _listening(pool: Database, name: str, listener: Any) -> Iterator[None]:
    event.listen(pool.engine, name, listener)
    try:
        yield
    finally:
        event.remove(pool.engine, name, listener)


def _waiting_for_a_lock(tracked: Tracked) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool(tracked.connection.execute(text(waiting)).scalar_one())


# settings


def test_the_policy_is_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Days by status; by type any unit."""
    monkeypatch.setenv("CELERIAC_RETENTION_FAILED_DAYS", "10")
    monkeypatch.setenv("CELERIAC_RETENTION", "export_report=7d, sync = 12h,ping=5m")
    policy = Policy.configured(Settings())
    kept = [policy.keep("other", status) for status in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)]
    assert kept == [30 * DAY, 10 * DAY, 90 * DAY]
    assert [policy.keep(job_type, Status.FAILED) for job_type in ("export_report", "sync", "ping")] == [
        7 * DAY,
        timedelta(hours=12),
        5 * MINUTE,
    ]
    assert policy.longest == 90 * DAY


def test_jobs_that_are_only_tracked_go_after_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the settings give them another time."""
    monkeypatch.delenv("CELERIAC_RETENTION", raising=False)
    assert Policy.configured(Settings()).keep("generic", Status.FAILED) == 5 * MINUTE
    monkeypatch.setenv("CELERIAC_RETENTION", "generic=1h")
    assert Policy.configured(Settings()).keep("generic", Status.SUCCEEDED) == timedelta(hours=1)


@pytest.mark.parametrize("wrong", ["export_report", "a=7", "a=0d", "a=-1d", "=7d", "a=7d b=8d", "a=7w", "a=7d,a=8d"])
def test_a_wrong_time_of_a_type_is_one_line(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """That names the setting."""
    monkeypatch.setenv("CELERIAC_RETENTION", wrong)
    settings.cache_clear()
    with pytest.raises(ConfigurationError, match=r"\ACELERIAC_RETENTION: [^\n]*\Z"):
        settings()
    monkeypatch.undo()
    settings.cache_clear()


# who removes


@pytest.fixture
def configured(pool: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Platform code works on the database of this module."""
    database.cache_clear()
    settings.cache_clear()
    monkeypatch.setenv("DATABASE_URL", pool.engine.url.render_as_string(hide_password=False))
    yield
    database().close()
    monkeypatch.undo()
    database.cache_clear()
    settings.cache_clear()


@pytest.mark.usefixtures("configured")
def test_the_leader_removes_a_batch_at_a_turn(tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one at the next turn, until nothing is old."""
    monkeypatch.setattr(pruning, "BATCH", 2)
    for _ in range(5):
        aged(tracked, "succeeded", 31 * DAY)
    leader = pruning.Pruning()
    left = [(leader.jobs(), len(tracked.all())) for _ in range(3)]
    assert left == [(True, 3), (True, 1), (False, 0)]


@pytest.mark.usefixtures("configured")
def test_the_leader_tries_fewer_when_many_take_too_long(tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
    """The duty says that it failed, and a job with a long history goes in the end."""
    sizes: list[int] = []

    def slow(_connection: Connection, _policy: Policy, *, limit: int) -> Pruned:
        sizes.append(limit)
        if limit > 50:
            _connection.execute(text("SELECT set_config('statement_timeout', '20ms', true)"))
            _connection.execute(text("SELECT pg_sleep(1)"))
        return Pruned({}, 0, 0, more=len(sizes) < 5)

    monkeypatch.setattr(retention, "prune", slow)
    leader = pruning.Pruning()
    for _ in range(6):
        with suppress(SQLAlchemyError):
            leader.jobs()
    assert sizes == [200, 100, 50, 50, 50, 200]


def test_a_worker_removes_old_jobs_by_itself(database_url: str, servers: Servers, tmp_path: Path) -> None:
    """Nobody has to ask; young ones stay."""
    with Platform(database_url, servers.valkey_url, tmp_path) as platform:
        with platform.database.autocommit() as connection:
            tracked = Tracked(connection)
            young = tracked.run()
            old = aged(tracked, "succeeded", 31 * DAY)
            platform.start_worker(queues=f"unused-{uuid4()}")
            eventually(lambda: lists.find(connection, old.id) is None, what="the removal")
            assert tracked.all() == [young]
        assert "retention.pruned" in (tmp_path / "worker1.log").read_text()


@pytest.mark.usefixtures("configured")
def test_the_command_says_what_it_would_remove_and_removes_it(tracked: Tracked) -> None:
    """By status and type; then nothing is left to remove."""
    for situation in SITUATIONS:
        tracked.put_into(situation)
    for situation, kept in ENDS:
        aged(tracked, situation, kept + DAY)
    aged(tracked, "failed", 91 * DAY, job_type="export")
    lines = [["1", "cancelled", "count_words"], ["1", "failed", "count_words"], ["1", "failed", "export"]]
    lines.append(["1", "succeeded", "count_words"])
    would, did, again = (CliRunner().invoke(command, ["prune", *option]) for option in (["--dry-run"], [], []))
    assert [result.exit_code for result in (would, did, again)] == [0, 0, 0]
    *counted, conclusion = would.output.splitlines()
    assert ([line.split() for line in counted], conclusion) == (lines, "Would remove 4 jobs and 0 groups.")
    *counted, conclusion = did.output.splitlines()
    assert ([line.split() for line in counted], conclusion) == (lines, "Removed 4 jobs and 0 groups.")
    assert again.output == "Removed 0 jobs and 0 groups.\n"
    assert len(tracked.all()) == len(SITUATIONS)
