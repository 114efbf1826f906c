"""`celeriac verify` finds nothing wrong with healthy rows, and each kind of lie by the check that is made for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from sqlalchemy import NullPool, create_engine, make_url, text
from sqlalchemy.exc import InternalError

from celeriac.commands import operations
from celeriac.commands.cli import command
from tests.holding import Platform, fill, limited
from tests.tracked import HOUR, SITUATIONS, Tracked, wish
from tracking import jobs
from tracking.admission.holds import UNLIMITED, Limits
from tracking.db import Database
from tracking.models import Fence, JobRecord, Progress
from tracking.reads import invariants
from tracking.reads.invariants import CHECKS, Check, Finding, verify
from tracking.settings import settings

NAMES = [check.name for check in CHECKS]
BRIEFLY = timedelta(milliseconds=200)


@pytest.fixture
def configured(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command works on the database of the test."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("CELERIAC_ORGANIZATION_LIMIT", "0")
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()


def broken(database: Database, limits: Limits = UNLIMITED) -> dict[str, int | None]:
    """What does not hold, with the number of violations."""
    return {finding.name: finding.violations for finding in verify(database, limits) if not finding.holds}


def live_through_everything(tracked: Tracked, times: int) -> None:
    """Jobs in every situation, some of which went through more than it takes to get there."""
    for number in range(times):
        for situation in SITUATIONS:
            tracked.put_into(situation)
        again = tracked.start(tracked.retry(tracked.put_into("failed")))
        jobs.report(tracked.connection, Progress(again.fence, again.attempt, percent=40))
        jobs.report(tracked.connection, Progress(again.fence, again.attempt, percent=30))
        tracked.end(tracked.start(tracked.end(tracked.start(tracked.submit()), "released")))
        tracked.end(tracked.start(tracked.end(tracked.start(tracked.submit()), "lost")))
        tracked.start(tracked.retry(tracked.put_into("cancelled")))
        jobs.claim(tracked.connection, [wish(tracked.run().fence)])
        jobs.fail_waiting(tracked.connection, tracked.submit().fence, actor="upkeep", error_type="E", message="m")
        stopping = tracked.put_into("stopping")
        jobs.stopped(tracked.connection, stopping.fence, actor="worker-1", how="at a step")
        tracked.submit(idempotency_key=f"k{number}", request_hash="h")


def test_healthy_rows_break_nothing(pool: Database, tracked: Tracked) -> None:
    """Some four hundred jobs that have lived through everything."""
    live_through_everything(tracked, 20)
    findings = list(verify(pool, UNLIMITED))
    assert [finding.name for finding in findings] == NAMES
    assert all(finding == Finding(finding.name, finding.guarantee, finding.sentence, 0) for finding in findings)


def test_an_empty_database_breaks_nothing(pool: Database, tracked: Tracked) -> None:
    """As on the first day."""
    assert broken(pool) == {}


@dataclass(frozen=True)
class Lie:
    """Something to be wrong with a job that is first brought into `situation`; which checks must see it."""

    situation: str
    sql: str
    caught: dict[str, int]
    schema: str = "SELECT 1"
    parameters: dict[str, Any] = field(default_factory=dict)


OLD_WORKER = """
    INSERT INTO workers (lease, name, pid, queues, concurrency, started_at)
    VALUES (gen_random_uuid(), 'worker-1', 1, '{default}', 2, clock_timestamp() - interval '1 hour')"""

LIES = {
    "a job without history": Lie("queued", "DELETE FROM history WHERE job_id = :id", {"created_once": 1}),
    "a job that was created twice": Lie(
        "queued",
        """INSERT INTO history (job_id, organization_id, user_id, job_type, event, to_status, attempt, dispatch, actor)
           SELECT job_id, organization_id, user_id, job_type, event, to_status, attempt, dispatch, actor
           FROM history WHERE job_id = :id""",
        {"created_once": 1, "path": 1},
    ),
    "a lost row": Lie("queued", "DELETE FROM jobs WHERE id = :id", {"not_lost": 1}),
    "two jobs of one key": Lie(
        "queued",
        "UPDATE jobs SET idempotency_key = 'k' WHERE id IN (:id, :other)",
        {"keys": 2},
        schema="DROP INDEX jobs_idempotency",
    ),
    "a gap in the path": Lie(
        "running",
        "UPDATE history SET from_status = 'retrying' WHERE job_id = :id AND event = 'started'",
        {"path": 1},
    ),
    "a move under a wrong name": Lie(
        "cancelled",
        "UPDATE history SET event = 'failed' WHERE job_id = :id AND event = 'cancelled'",
        {"legal_moves": 1},
    ),
    "a move that leads nowhere": Lie(
        "queued",
        """INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt,
                                dispatch, actor)
           SELECT job_id, organization_id, user_id, job_type, 'retried', to_status, to_status, attempt, dispatch, actor
           FROM history WHERE job_id = :id""",
        {"legal_moves": 1},
    ),
    "a status without a history": Lie("queued", "UPDATE jobs SET status = 'retrying' WHERE id = :id", {"status": 1}),
    "an attempt that ended twice": Lie(
        "second attempt succeeded",
        """UPDATE history SET attempt = 1, dispatch = first.dispatch
           FROM (SELECT dispatch FROM history WHERE job_id = :id AND event = 'started' AND attempt = 1) AS first
           WHERE job_id = :id AND event = 'completed'""",
        {"one_end": 1, "fence": 1},
    ),
    "a dispatch that ended twice": Lie(
        "retried and cancelled",
        """UPDATE history SET dispatch = first.dispatch
           FROM (SELECT dispatch FROM history WHERE job_id = :id AND event = 'failed') AS first
           WHERE job_id = :id AND event = 'cancelled'""",
        {"one_end": 1, "fence": 1},
    ),
    "a dispatch that was cancelled twice": Lie(
        "cancelled, retried and cancelled",
        "UPDATE history SET dispatch = 2 WHERE job_id = :id AND event = 'cancelled'",
        {"one_end": 1},
    ),
    "an attempt that nobody claimed": Lie("succeeded", "UPDATE jobs SET attempt = 2 WHERE id = :id", {"attempts": 1}),
    "two attempts of one number": Lie(
        "second attempt succeeded",
        "UPDATE history SET attempt = 1 WHERE job_id = :id AND event = 'started'",
        {"attempts": 1, "fence": 1},
    ),
    "an outcome of another dispatch": Lie(
        "succeeded",
        "UPDATE history SET dispatch = dispatch + 1 WHERE job_id = :id AND event = 'completed'",
        {"fence": 1},
    ),
    "a running job of another dispatch": Lie(
        "running", "UPDATE jobs SET dispatch = dispatch + 1 WHERE id = :id", {"fence": 1}
    ),
    "two claims of one dispatch": Lie(
        "second attempt succeeded", "UPDATE history SET dispatch = 1 WHERE job_id = :id", {"fence": 1}
    ),
    "a number that falls": Lie(
        "running", "UPDATE history SET dispatch = 2 WHERE job_id = :id AND event = 'created'", {"fence": 1}
    ),
    "a start after the cancel by the clock": Lie(
        "stopping",
        "UPDATE jobs SET cancel_requested_at = started_at - interval '1 second' WHERE id = :id",
        {"cancelled": 1},
    ),
    "a start after the cancel": Lie(
        "cancelled",
        """INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt,
                                dispatch, actor)
           SELECT job_id, organization_id, user_id, job_type, 'started', 'cancelled', 'running', 1, dispatch, actor
           FROM history WHERE job_id = :id AND event = 'cancelled'""",
        {"cancelled": 1, "legal_moves": 1, "status": 1, "attempts": 1},
    ),
    "progress that falls": Lie(
        "reported",
        """UPDATE history SET detail = '{"percentage": 30}'
           WHERE id = (SELECT max(id) FROM history WHERE job_id = :id AND event = 'progress')""",
        {"progress": 1},
    ),
    "progress that is no number": Lie(
        "reported",
        """UPDATE history SET detail = '{"percentage": "much"}' WHERE job_id = :id AND event = 'progress'""",
        {"progress": 1},
    ),
    "more running than the limit allows": Lie(
        "running",
        """WITH organization AS (INSERT INTO organizations (id, concurrency, changed_by, changed_at)
                                 VALUES ('small', 1, 'admin', '1970-01-01Z'))
           UPDATE jobs SET organization_id = 'small' WHERE id IN (:id, :other)""",
        {"limit": 2},
    ),
    "a job that is due and still waits": Lie(
        "scheduled",
        """WITH worker AS (INSERT INTO workers (lease, name, pid, queues, concurrency, started_at)
                           VALUES (:id, 'worker-1', 1, '{}', 2, clock_timestamp() - interval '1 hour'))
           UPDATE jobs SET due_at = clock_timestamp() - interval '1 hour', updated_at = updated_at - interval '1 hour'
           WHERE id = :id""",
        {"held": 1},
    ),
    "more bodies than the worker has room for": Lie(
        "running",
        """WITH worker AS (INSERT INTO workers (lease, name, pid, queues, concurrency)
                           VALUES (:id, 'worker-1', 1, '{}', 1))
           UPDATE jobs SET lease = :id, created_at = created_at - interval '1 hour',
                           started_at = started_at - interval '30 minutes'
           WHERE id IN (:id, :other)""",
        {"bodies": 2},
    ),
    "a body of a worker that is gone": Lie(
        "running",
        f"""WITH worker AS ({OLD_WORKER})
            UPDATE jobs SET lease = :other, created_at = created_at - interval '1 hour',
                            started_at = started_at - interval '30 minutes'
            WHERE id = :id""",  # noqa: S608 - our own constant
        {"bodies": 1},
    ),
    "completeness without success": Lie(
        "running",
        "UPDATE jobs SET progress = 100 WHERE id = :id",
        {"progress": 1},
        schema="ALTER TABLE jobs DROP CONSTRAINT jobs_progress_complete",
    ),
    "a start before the creation": Lie(
        "running",
        "UPDATE jobs SET started_at = created_at - interval '1 hour' WHERE id = :id",
        {"times": 1},
        schema="ALTER TABLE jobs DROP CONSTRAINT jobs_started_after_created",
    ),
    "an end without a time": Lie(
        "succeeded",
        "UPDATE jobs SET completed_at = NULL WHERE id = :id",
        {"times": 1},
        schema="ALTER TABLE jobs DROP CONSTRAINT jobs_completed_when_finished",
    ),
    "a history that goes back in time": Lie(
        "running",
        "UPDATE history SET at = at - interval '1 hour' WHERE job_id = :id AND event = 'started'",
        {"times": 1},
    ),
}


def bring(tracked: Tracked, situation: str) -> JobRecord:
    """A job in one of SITUATIONS, or with more of a past."""
    if situation == "second attempt succeeded":
        return tracked.end(tracked.start(tracked.end(tracked.start(tracked.submit()), "released")))
    if situation == "retried and cancelled":
        return tracked.cancel(tracked.retry(tracked.put_into("failed")))
    if situation == "cancelled, retried and cancelled":
        return tracked.cancel(tracked.retry(tracked.put_into("cancelled")))
    if situation == "reported":
        job = tracked.put_into("running")
        for percent in (40, 60):
            jobs.report(tracked.connection, Progress(job.fence, job.attempt, percent=percent))
        return job
    return tracked.put_into(situation)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lie_is_caught_by_its_check(database: Database, lie: Lie) -> None:
    """And by no other, unless it is several lies at once; healthy jobs around it are not named."""
    with database.autocommit() as connection:
        tracked = Tracked(connection)
        live_through_everything(tracked, 1)
        job, other = bring(tracked, lie.situation), bring(tracked, lie.situation)
        connection.execute(text(lie.schema))
        assert connection.execute(text(lie.sql), {"id": job.id, "other": other.id}).rowcount > 0
    found = {finding.name: finding for finding in verify(database, UNLIMITED) if not finding.holds}
    assert {name: finding.violations for name, finding in found.items()} == lie.caught
    assert all(set(finding.examples) <= {str(job.id), str(other.id)} for finding in found.values())
    assert all(str(job.id) in finding.examples for finding in found.values())


def test_every_check_has_a_lie_that_it_alone_catches() -> None:
    """So that none of them could be left out; `stats` has a test of its own."""
    assert {name for lie in LIES.values() if len(lie.caught) == 1 for name in lie.caught} == {*NAMES} - {"stats"}


def test_the_documented_checks_are_the_checks() -> None:
    """docs/operations.md has a row for each, and no other."""
    document = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    rows = [f"| `{check.name}` | {check.guarantee} | {check.sentence} |" for check in CHECKS]
    assert re.findall(r"^\| `\w+` \| \d+ \|.*$", document, re.MULTILINE) == rows


def test_counts_that_miss_a_row_are_caught(database: Database, database_url: str) -> None:
    """An index that has lost a row, as after a damaged disk, makes the API count wrongly."""
    administrator = create_engine(
        make_url(database_url).set(username="postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool
    )
    forget = text("UPDATE pg_index SET indisready = :ready WHERE indrelid = 'jobs'::regclass AND NOT indisunique")
    with database.autocommit() as connection:
        live_through_everything(Tracked(connection), 1)
    assert broken(database) == {}
    with administrator.connect() as connection:
        connection.execute(forget, {"ready": False})
    database.close()
    with database.autocommit() as connection:
        Tracked(connection).submit()
    with administrator.connect() as connection:
        connection.execute(forget, {"ready": True})
    database.close()
    found = [finding for finding in verify(database, UNLIMITED) if not finding.holds]
    assert [(finding.name, finding.violations, finding.examples) for finding in found] == [("stats", 1, ("acme",))]


def test_what_the_limit_was_lowered_under_may_go_on(pool: Database, tracked: Tracked) -> None:
    """But nothing may start above the limit."""
    two = limited(pool, tracked, 2)
    two.start(2)
    two.set_limit(1)
    assert broken(pool, two.limits) == {}
    jobs.claim(tracked.connection, [wish(Fence(job_id, 1)) for job_id in fill(tracked, 1)])
    assert broken(pool, two.limits) == {"limit": 1}


def test_a_body_that_is_still_stopping_counts_as_running(pool: Database, tracked: Tracked) -> None:
    """It uses what the limit is for."""
    tracked.put_into("stopping")
    tracked.put_into("running")
    assert broken(pool, Limits(2)) == {}
    assert broken(pool, Limits(1)) == {"limit": 2}


def test_without_a_limit_any_number_may_run(pool: Database, tracked: Tracked) -> None:
    """0 is the platform's way to say so."""
    for _ in range(10):
        tracked.put_into("running")
    assert broken(pool, Limits(0)) == {}


def in_line(two: Platform) -> JobRecord:
    """A job that a slot is free for."""
    running, _ = two.start(2)
    job = two.submit()
    two.tracked.end(running)
    return job


def after_a_dependency(two: Platform) -> JobRecord:
    """A job whose dependency has succeeded."""
    dependency = two.tracked.start(two.submit())
    job = two.submit(depends_on=[dependency.id])
    two.tracked.end(dependency)
    return job


def after_a_failure(two: Platform) -> JobRecord:
    """A job whose dependency has failed."""
    dependency = two.tracked.start(two.submit())
    job = two.submit(depends_on=[dependency.id])
    two.tracked.fail(dependency)
    return job


def after_a_pause(two: Platform) -> JobRecord:
    """A job whose type is not paused any more."""
    two.pause(job_type="count_words")
    job = two.submit()
    two.resume(job_type="count_words")
    return job


def after_a_circuit(two: Platform) -> JobRecord:
    """A job whose type's circuit is closed."""
    two.break_circuit()
    job = two.submit()
    two.tracked.connection.execute(text("DELETE FROM circuits"))
    return job


STALE = (in_line, after_a_dependency, after_a_failure, after_a_pause, after_a_circuit)


@pytest.mark.parametrize("wait", STALE)
def test_a_job_that_waits_for_nothing_is_caught(
    pool: Database, tracked: Tracked, wait: Callable[[Platform], JobRecord]
) -> None:
    """After a minute, and only while there is a worker that should have seen to it."""
    two = limited(pool, tracked, 2)
    job = wait(two)
    assert broken(pool, two.limits) == {}, "it may have been a moment ago"
    an_hour_passes(tracked)
    assert broken(pool, two.limits) == {}, "nobody is there to let it through"
    a_worker_runs_them(tracked)
    assert broken(pool, two.limits) == {"held": 1}
    two.turn()
    assert tracked.get(job.id).hold is None
    assert broken(pool, two.limits) == {}


def test_a_job_that_waits_with_a_reason_is_not_caught(pool: Database, tracked: Tracked) -> None:
    """However long."""
    two = limited(pool, tracked, 2)
    two.break_circuit("broken")
    two.pause(job_type="paused")
    running = two.start(2)
    for changes in ({"job_type": "broken"}, {"job_type": "paused"}, {}, {"delay": HOUR * 2}):
        two.submit(**changes)
    two.submit(depends_on=[running[0].id])
    an_hour_passes(tracked)
    a_worker_runs_them(tracked)
    assert broken(pool, two.limits) == {}
    assert len([hold for hold in two.holds() if hold is not None]) == 5


def a_worker_runs_them(tracked: Tracked) -> None:
    """One that has lived for an hour runs what runs."""
    tracked.connection.execute(text(OLD_WORKER))
    tracked.connection.execute(text("UPDATE jobs SET lease = (SELECT lease FROM workers) WHERE status = 'running'"))


def an_hour_passes(tracked: Tracked) -> None:
    """For every row."""
    for table, columns in AGING.items():
        aged = ", ".join(f"{column} = {column} - interval '1 hour'" for column in columns)
        tracked.connection.execute(text(f"UPDATE {table} SET {aged}"))  # noqa: S608 - of our own names


AGING = {
    "jobs": ("created_at", "started_at", "completed_at", "updated_at", "due_at"),
    "history": ("at",),
    "organizations": ("changed_at",),
}


def test_five_examples_are_enough(pool: Database, tracked: Tracked) -> None:
    """However many jobs there are."""
    for _ in range(7):
        tracked.submit()
    tracked.connection.execute(text("DELETE FROM history"))
    found = next(finding for finding in verify(pool, UNLIMITED) if not finding.holds)
    assert (found.name, found.violations, len(set(found.examples))) == ("created_once", 7, 5)


def test_all_checks_see_the_same_instant(pool: Database, tracked: Tracked) -> None:
    """What is committed after the first check is not seen by the others."""
    job = tracked.submit()
    findings = verify(pool, UNLIMITED)
    next(findings)
    tracked.connection.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": job.id})
    assert all(finding.holds for finding in findings)
    assert broken(pool) == {"not_lost": 1}


def test_verification_cannot_write(pool: Database, tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database itself refuses."""
    tracked.submit()

    def delete_all(connection: Any, _timeout: timedelta, _limits: Limits) -> tuple[int, tuple[str, ...]]:
        connection.execute(text("DELETE FROM jobs"))
        return 0, ()

    monkeypatch.setattr(invariants, "CHECKS", (Check("any", 1, "Any.", delete_all),))
    with pytest.raises(InternalError, match="read-only"):
        list(verify(pool, UNLIMITED))
    assert len(tracked.all()) == 1


def test_a_check_that_takes_too_long_is_said_to_be_unchecked(pool: Database, tracked: Tracked) -> None:
    """Neither ok nor broken; the others are done."""
    with pool.begin() as connection:
        connection.execute(text("LOCK TABLE history IN ACCESS EXCLUSIVE MODE"))
        findings = {finding.name: finding for finding in verify(pool, UNLIMITED, timeout=BRIEFLY)}
    assert (findings["path"].violations, findings["path"].holds) == (None, False)
    assert findings["keys"].holds
    assert findings["stats"].holds


# the command


def run(*arguments: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(command, arguments)


def spoil(database: Database) -> JobRecord:
    """A job without history."""
    with database.autocommit() as connection:
        job = Tracked(connection).submit()
        connection.execute(text("DELETE FROM history"))
    return job


@pytest.mark.usefixtures("configured")
def test_the_command_leaves_with_0_when_all_is_well(database: Database) -> None:
    """Without a terminal each check is a plain line."""
    with database.autocommit() as connection:
        live_through_everything(Tracked(connection), 1)
    result = run("verify")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split()[:3] for line in lines] == [["ok", "0", name] for name in NAMES]


@pytest.mark.usefixtures("configured")
def test_the_command_leaves_with_1_when_something_is_broken(database: Database) -> None:
    """And names the job; the checks after it are made all the same."""
    job = spoil(database)
    result = run("verify")
    assert result.exit_code == 1
    first, *others = result.output.splitlines()
    assert first.split()[:3] == ["broken", "1", "created_once"]
    assert str(job.id) in first
    assert len(others) == len(NAMES) - 1


@pytest.mark.usefixtures("configured")
def test_the_command_leaves_with_1_when_something_could_not_be_checked(database: Database) -> None:
    """Exit 0 means: checked, and well."""
    with database.begin() as connection:
        connection.execute(text("LOCK TABLE groups, jobs IN ACCESS EXCLUSIVE MODE"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        result = run("verify", "--timeout", "1")
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.output.splitlines() if " path " in line] == ["ok"]
    assert [line.split()[:4] for line in result.output.splitlines() if " keys " in line] == [
        ["timed", "out", "?", "keys"]
    ]


@pytest.mark.usefixtures("configured")
def test_json_says_the_same(database: Database) -> None:
    """For programs."""
    job = spoil(database)
    result = run("verify", "--json")
    assert result.exit_code == 1
    findings = json.loads(result.output)
    assert [finding["name"] for finding in findings] == NAMES
    assert findings[0] == {
        "name": "created_once",
        "guarantee": 1,
        "sentence": "Every job was created exactly once.",
        "violations": 1,
        "examples": [str(job.id)],
        "holds": False,
    }


@pytest.mark.usefixtures("configured")
def test_a_terminal_gets_a_table(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every check and the same exit code."""
    job = spoil(database)
    monkeypatch.setattr(operations, "Console", lambda: Console(force_terminal=True, width=80))
    result = run("verify")
    assert result.exit_code == 1
    assert all(name in result.output for name in NAMES)
    assert str(job.id) in result.output


def test_counts_of_what_is_due_later_are_those_of_the_rows(pool: Database, tracked: Tracked) -> None:
    """`verify` counts queued jobs whether they are pending, scheduled, or held up by something else."""
    tracked.submit(scheduled_at=datetime.now(UTC) + timedelta(days=365))
    tracked.submit()
    assert {finding.name: finding.holds for finding in verify(pool, UNLIMITED)}["stats"]
