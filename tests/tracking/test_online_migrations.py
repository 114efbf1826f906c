"""A migration of a database that is in use: it holds up no writer, and one that was killed can be done again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from tests.live import eventually
from tests.migrating import configuration, differences
from tests.tracked import Tracked
from tracking import partitions
from tracking.db import Database, migrate
from tracking.reads import tail

MIGRATE = "import sys; from tracking.db import migrate; migrate(sys.argv[1])"
BEFORE = "0016"
# Between two questions its last statement is the COMMIT of the one before.
ASKING = """
    SELECT pid, query_start FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND (query LIKE 'SELECT pg_try_advisory_lock%' OR query = 'COMMIT')"""
# As any release writes: the verbs of this one want all of its columns.
WRITES = (
    """INSERT INTO jobs (id, organization_id, user_id, job_type, status, queue, max_retries)
       VALUES (gen_random_uuid(), 'globex', 'u1', 'count_words', 'queued', 'default', 3)""",
    "UPDATE jobs SET status = 'running', started_at = clock_timestamp() WHERE organization_id = 'globex'",
    """UPDATE jobs SET status = 'succeeded', progress = 100, completed_at = clock_timestamp()
       WHERE organization_id = 'globex'""",
)
INVALID = "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE NOT indisvalid"


@pytest.fixture
def older(database: Database) -> Database:
    """A database as the version before has left it, with a job."""
    downgrade(database, BEFORE)
    return database


@pytest.fixture
def whole(database: Database) -> Database:
    """A database whose history has no weeks yet, with a job."""
    downgrade(database, weeks().down_revision)
    return database


def downgrade(database: Database, version: str) -> None:
    """Add a job, and take the schema back."""
    config = configuration()
    with database.begin() as connection:
        Tracked(connection).run()
        config.attributes["connection"] = connection
        command.downgrade(config, version)


def weeks() -> Any:
    """The migration that makes the weeks of the history."""
    scripts = ScriptDirectory.from_config(configuration())
    return next(each.module for each in scripts.walk_revisions() if "history_by_week" in each.path)


@contextmanager
def snapshot(database: Database) -> Iterator[None]:
    """Hold a snapshot, for which whoever builds an index CONCURRENTLY has to wait."""
    with database.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(text("SELECT count(*) FROM jobs"))
        yield


@contextmanager
def migrating(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that migrates; killed with the block."""
    process = subprocess.Popen([sys.executable, "-c", MIGRATE, url])
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def invalid(database: Database) -> list[str]:
    """The indexes that are being built, or were left half built."""
    with database.autocommit() as connection:
        return list(connection.execute(text(INVALID)).scalars())


def asking(database: Database, times: dict[int, set[datetime]]) -> bool:
    """Whether anybody asks again and again for the end of a migration; who migrates is at one statement meanwhile.

    `times`: when they did, from one look to the next.
    """
    with database.autocommit() as connection:
        for pid, at in connection.execute(text(ASKING)).all():
            times.setdefault(pid, set()).add(at)
    return any(len(each) > 2 for each in times.values())


def test_jobs_are_accepted_and_run_while_an_index_is_built(older: Database, database_url: str) -> None:
    """While an index is built, what accepts a job, starts it and ends it waits less than a second each."""
    with snapshot(older), migrating(database_url) as process:
        eventually(lambda: invalid(older), what="the first index")
        with older.autocommit() as connection:
            connection.execute(text("SET lock_timeout = '1s'"))
            for statement in WRITES:
                assert connection.execute(text(statement)).rowcount == 1
            connection.execute(text("RESET lock_timeout"))
        assert process.poll() is None
    migrate(database_url)


def test_a_migration_that_was_killed_is_done_again(older: Database, database_url: str) -> None:
    """A migration that was killed while it built an index is done again."""
    with snapshot(older), migrating(database_url):
        assert eventually(lambda: invalid(older), what="the first index") == ["jobs_listed"]
    migrate(database_url)
    assert invalid(older) == []
    with older.autocommit() as connection:
        assert differences(connection) == []
        assert len(Tracked(connection).all()) == 1


def test_those_who_wait_for_a_migration_do_not_hold_it_up(older: Database, database_url: str) -> None:
    """A process that waits for another one's migration holds no snapshot."""
    with ExitStack() as processes:
        with snapshot(older):
            first = processes.enter_context(migrating(database_url))
            eventually(lambda: invalid(older), what="the first index")
            second = processes.enter_context(migrating(database_url))
            times: dict[int, set[datetime]] = {}
            eventually(lambda: asking(older, times), what="the second process")
        assert [first.wait(30), second.wait(30)] == [0, 0]
    assert invalid(older) == []


# As the release before writes.
WRITE = text(
    """
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt, dispatch,
                         actor)
    VALUES (gen_random_uuid(), 'globex', 'u1', 'count_words', 'created', NULL, 'queued', 0, 1, 'u1')
    RETURNING id"""
)
ROWS = text("SELECT id, job_id, event, at FROM history ORDER BY id")
PARTS = text(
    """
    SELECT relname, pg_get_expr(relpartbound, pg_class.oid) AS bounds
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = CAST('history' AS regclass) ORDER BY relname"""
)


def parts_of(connection: Connection) -> dict[str, str]:
    """The partitions of the history with their bounds."""
    return {row.relname: row.bounds for row in connection.execute(PARTS)}


@pytest.mark.parametrize("done", range(5))
def test_the_change_to_weeks_may_be_killed_between_any_two_steps(whole: Database, database_url: str, done: int) -> None:
    """Killed after any step and done again, the migration loses no row that anybody writes before, between or after."""
    steps = weeks().STEPS
    with whole.autocommit() as connection:
        connection.execute(text("GRANT SELECT ON history TO PUBLIC"))
        connection.execute(text("SET timezone = 'UTC'"))
        before = connection.execute(ROWS).all()
        for step in steps[:done]:
            step(connection)
        ids = [connection.execute(WRITE).scalar_one()]
    migrate(database_url)
    with whole.autocommit() as connection:
        ids += [connection.execute(WRITE).scalar_one(), Tracked(connection).run() and tail.last_number(connection)]
        rows = connection.execute(ROWS).all()
        parts = parts_of(connection)
        granted = "SELECT count(*) FROM aclexplode((SELECT relacl FROM pg_class WHERE relname = 'history'))"
        assert connection.execute(text(f"{granted} WHERE grantee = 0")).scalar_one() == 1
        assert differences(connection) == []
    assert rows[: len(before)] == before
    assert [row.id for row in rows] == [*range(1, len(before) + 1), ids[0], ids[1], *range(ids[1] + 1, ids[2] + 1)]
    assert {"history_past", "history_default"} < parts.keys()
    assert parts["history_past"].startswith("FOR VALUES FROM (MINVALUE) TO")


def test_those_who_write_while_the_history_gets_its_weeks_wait_less_than_a_second(
    whole: Database, database_url: str
) -> None:
    """While a report keeps the migration from its lock, and when it gets it, nobody's write waits for a second."""
    written, longest = [], 0.0
    with ExitStack() as report, migrating(database_url) as process, whole.autocommit() as connection:
        reader = report.enter_context(whole.begin())
        reader.execute(ROWS)
        tried = 0
        while process.poll() is None:
            began = time.monotonic()
            written.append(connection.execute(WRITE).scalar_one())
            longest = max(longest, time.monotonic() - began)
            tried += time.monotonic() - began > 0.2
            if tried == 3:  # the migration has given up its lock, more than once
                report.close()
        assert process.returncode == 0
        assert tried >= 3
        assert longest < 1.0
        assert {row.id for row in connection.execute(ROWS)} > set(written)
        assert "history_past" in parts_of(connection)


def test_a_bound_that_a_killed_migration_left_is_renewed_in_time(whole: Database, database_url: str) -> None:
    """A migration that is done again long after it was killed gets a bound that does not come soon."""
    bound = "ALTER TABLE history ADD CONSTRAINT history_is_past CHECK (at < timestamptz '{}') NOT VALID"
    with whole.autocommit() as connection:
        soon = connection.execute(text("SELECT CAST(now() + interval '2 days' AS date)")).scalar_one()
        connection.exec_driver_sql(bound.format(f"{soon} 00:00:00+00"))
    migrate(database_url)
    with whole.autocommit() as connection:
        past = partitions.partitions(connection)[0]
        assert past.since is None
        assert past.until > datetime.now(UTC) + timedelta(days=7)


def test_a_database_whose_history_is_empty_gets_no_part_for_the_past(database: Database, database_url: str) -> None:
    """Where nothing has happened yet, the history has weeks alone."""
    with database.autocommit() as connection:
        assert all(each.since is not None for each in partitions.partitions(connection))
